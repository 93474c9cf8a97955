"""Run the module `gpuhost_preflight`, and look here for what this controller fetches for the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

from ansible.plugins.action import ActionBase

from gpuhost.errors import GpuhostError
from gpuhost.host import download, reach
from gpuhost.shipping import artifacts
from gpuhost.shipping.asked import Asked
from gpuhost.text import printable


class ActionModule(Asked, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_preflight`; beside the module's arguments it takes `mirror_dir`, `mirror_url` and `via`."""

    def ask(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Look on both machines; what is wrong on the controller comes last."""
        arguments = dict(self._task.args)
        folder, mirror, via = (arguments.pop(name, "") or "" for name in ("mirror_dir", "mirror_url", "via"))
        needs = dict(arguments["needs"])
        files = [{**file, "url": download.mirrored(file, mirror)} for file in needs["files"]]
        try:
            by_target = artifacts.target_fetches(via or "auto", str(self._connection.transport) == "local")
            if folder:
                here, files = absent(Path(folder), files), []
            elif by_target:
                here = []
            else:
                here, files = unreached(files), []
        except GpuhostError as error:
            return {"failed": True, "msg": str(error), "exit_code": error.exit_code}
        needs["files"] = [{"name": file["name"], "url": file["url"]} for file in files]
        answer: Dict[str, Any] = self._execute_module(module_args={**arguments, "needs": needs}, task_vars=task_vars)
        if not isinstance(answer.get("problems"), list):
            return answer
        if answer.get("told"):
            self._display.display(
                printable(f"[{(task_vars or {}).get('inventory_hostname', '')}] {answer['told']}", 400)
            )
        return {**answer, "problems": answer["problems"] + here}


def absent(folder: Path, files: List[Dict[str, Any]]) -> List[str]:
    """Say which files the folder that serves as the mirror does not hold."""
    found = []
    for file in files:
        try:
            download.in_folder(folder, file)
        except GpuhostError as error:
            found.append(str(error))
    return found


def unreached(files: List[Dict[str, Any]]) -> List[str]:
    """Say which servers this controller does not reach, of those from which it has yet to fetch."""
    wanted = [file for file in files if not download.place(artifacts.controller_cache(), file).exists()]
    return [f"From the controller: {text}" for text in reach.problems(asked(wanted))]


def asked(files: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Return files as `reach.problems` takes them."""
    return [{"what": file["name"], "urls": [file["url"]]} for file in files]
