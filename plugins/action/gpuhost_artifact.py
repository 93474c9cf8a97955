"""Run the module `gpuhost_artifact`: where the file comes from is decided here, and its progress is reported.

What the target has in its cache stays. Else a local folder of this controller (`mirror_dir`) delivers it. Else it is
fetched, from the mirror or its own address, by the target (`via: target`) or into this controller's cache, once for
all hosts, and sent from there (`via: controller`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase

from gpuhost.errors import GpuhostError
from gpuhost.host import download as artifacts
from gpuhost.shipping import artifacts as fetching
from gpuhost.shipping.asked import Asked


class ActionModule(Asked, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_artifact`; beside the module's arguments it takes `mirror_dir` and `via`."""

    def ask(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Bring the file into the target's cache; in check mode only say what would come."""
        arguments = dict(self._task.args)
        folder, via = arguments.pop("mirror_dir", "") or "", arguments.pop("via", "auto") or "auto"
        host = (task_vars or {}).get("inventory_hostname", "")
        tell = lambda text: self._display.display(f"[{host}] {text}")  # noqa: E731 - too small for a method
        if self._task.check_mode:
            return self._execute_module(module_args=arguments, task_vars=task_vars)
        quick = self.check(task_vars, arguments)
        if quick.get("failed") or not quick.get("changed"):
            return quick
        try:
            source = self._source(arguments, folder, via, tell)
        except GpuhostError as error:
            return {"failed": True, "msg": str(error), "exit_code": error.exit_code}
        if source is None:
            return self.work(task_vars, f"artifact-{arguments['file']['sha256']}", tell, arguments)
        return self._send(source, arguments, task_vars, tell)

    def _local(self) -> bool:
        """Return whether the target is this machine."""
        return str(self._connection.transport) == "local"

    def _source(self, arguments: Dict[str, Any], folder: str, via: str, tell: Any) -> Optional[Path]:
        """The file on this controller to send; None when the target is to fetch it itself."""
        file, mirror = arguments["file"], arguments.get("mirror_url") or ""
        by_target = fetching.target_fetches(via, self._local())
        if folder:
            return artifacts.in_folder(Path(folder), file)
        if by_target:
            return None
        told = [""]

        def say(text: str) -> None:
            """One line a tenth of the way, not a hundred."""
            step = text.partition(" %")[0]
            if "%" not in text or step[:-1] != told[0]:
                told[0] = step[:-1]
                tell(f"controller: {text}")

        artifacts.obtain(fetching.controller_cache(), file, mirror, None, say)
        return artifacts.place(fetching.controller_cache(), file)

    def _send(self, source: Path, arguments: Dict[str, Any], task_vars: Any, tell: Any) -> Dict[str, Any]:
        """Send the file through the connection and have the module check and place it."""
        if self._local():
            return self.patiently(task_vars, self._display.display, {**arguments, "source": str(source)})
        tell(f"sending {source.name}, {source.stat().st_size / 1e6:.0f} MB")
        folder = self._make_tmp_path()
        try:
            sent = self._transfer_file(str(source), self._connection._shell.join_path(folder, source.name))
            self._fixup_perms2((folder, sent))
            answer = self.patiently(task_vars, self._display.display, {**arguments, "source": sent})
        finally:
            self._remove_tmp_path(folder, force=True)
        return answer
