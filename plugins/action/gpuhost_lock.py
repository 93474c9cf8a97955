"""Write a host's lock with its files on the controller, or the lock of a rebuild beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from gpuhost.errors import GpuhostError
from gpuhost.planning import lock, lock_files

STATES = ("present", "pending", "adopted")


class ActionModule(ActionBase):
    """Takes `file` (the lock's), `lock` and `state`.

    `present` writes the lock, `pending` writes it beside the one that is there, where only a rebuild reads it, and
    `adopted` writes it and removes the one beside it.
    """

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"file", "lock", "state"})

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Write what is missing; in check mode say what would be written."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        state = arguments.get("state", "present")
        if state not in STATES or not isinstance(arguments.get("lock"), dict) or not arguments.get("file"):
            raise AnsibleActionFail(f"gpuhost_lock takes file, lock and state, which is one of {', '.join(STATES)}.")
        place, wanted = Path(str(arguments["file"])), arguments["lock"]
        file = place.with_name(place.name + lock.PENDING) if state == "pending" else place
        try:
            result["diff"] = lock_files.difference(file, wanted)
            if self._task.check_mode:
                return {**result, "changed": bool(result["diff"])}
            changed = lock_files.write(file, wanted)
            if state == "adopted":
                changed = lock_files.drop_pending(place) or changed
        except GpuhostError as error:
            return {**result, "failed": True, "msg": str(error), "exit_code": error.exit_code}
        except OSError as error:
            return {**result, "failed": True, "msg": f"The lock {file} cannot be written: {error.strerror}."}
        return {**result, "changed": changed}
