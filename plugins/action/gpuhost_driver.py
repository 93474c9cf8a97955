"""Run the module `gpuhost_driver` while telling what it is at: fetching packages and building modules takes minutes."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from gpuhost.following import Followed

LONG = ("prefetch", "packages", "runfile", "ready", "remove")


class ActionModule(Followed, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_driver`; the phases that may take minutes are followed."""

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Run the phase; a long one as a job whose steps are told."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode or self._task.args.get("phase") not in LONG:
            return {**result, **self.patiently(task_vars, Display().display)}
        host = (task_vars or {}).get("inventory_hostname", "")
        file = f"{self._task.args.get('root', '/opt/gpuhost')}/log/driver.progress"
        return {**result, **self.work(task_vars, file, lambda text: Display().display(f"[{host}] {text}"))}
