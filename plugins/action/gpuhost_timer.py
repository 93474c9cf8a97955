"""Have a timer on this controller that updates hosts, or none: `gpuhost.host.pairs.timer`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from gpuhost.errors import GpuhostError, RefusedError
from gpuhost.host.commands import run_command
from gpuhost.host.edges import Edges
from gpuhost.host.pairs import timer

STATES = ("present", "absent")


class ActionModule(ActionBase):
    """Takes `state`, `folder` and `root`; which hosts are updated, and when, the variables of the group gpu_hosts say.

    `update_automatic` and `update_window` are read of each host, whatever --limit leaves out.
    """

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"state", "folder", "root"})

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Do it, or in check mode say what would be done."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        given, state = task_vars or {}, self._task.args.get("state", "present")
        if state not in STATES:
            raise AnsibleActionFail(f"gpuhost_timer takes a state, which is one of {', '.join(STATES)}.")
        place = timer.here(Edges("/", run_command), str(self._task.args.get("folder") or ""))
        inventory = [str(source) for source in given["ansible_inventory_sources"]]
        try:
            if state == "absent":
                done = timer.absent(place, inventory, self._task.check_mode)
            else:
                hours = windows(given)
                own = next((host for host in hours if is_own(given, host)), "")
                root = given["hostvars"][own].get("update_root", self._task.args.get("root", "")) if own else ""
                wanted = timer.Wanted(project(str(given["playbook_dir"])), inventory, hours, own, str(root))
                done = timer.present(place, wanted, self._task.check_mode)
        except GpuhostError as error:
            return {**result, "failed": True, "msg": str(error), "exit_code": error.exit_code}
        return {**result, "changed": done.changed, "told": done.told, "diff": done.diff}


def project(playbooks: str) -> str:
    """Return the folder of ./run; a timer has nothing to start without it."""
    folder = Path(playbooks).parent
    if not (folder / "run").is_file():
        step = "Clone the project, and run playbooks/automatic.yml there."
        raise RefusedError(f"There is no {folder / 'run'}, which the timer would start.", step)
    return str(folder)


def windows(given: Dict[str, Any]) -> Dict[str, str]:
    """Return update_window of each host with update_automatic, in the inventory's order."""
    found = {}
    for host in given["groups"].get("gpu_hosts", []):
        its = given["hostvars"][host]
        if not boolean(its.get("update_automatic", False), strict=False):
            continue
        found[host] = str(its.get("update_window") or "")
    return found


def is_own(given: Dict[str, Any], host: str) -> bool:
    """Return whether a host is this controller itself."""
    return bool(given["hostvars"][host].get("ansible_connection", "ssh") == "local")
