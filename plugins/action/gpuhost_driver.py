"""Run the module `gpuhost_driver` while telling what it is at: fetching packages and building modules takes minutes."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from ansible import context
from ansible.plugins.action import ActionBase

from gpuhost.shipping.asked import Asked

PASSWORD = "nvidia_driver_mok_password"  # noqa: S105 - the variable's name
OPENLY = (
    "The password of the key's enrolment was on the command line, where every user of this machine can read it (ps). "
    f"Choose another one, write '{PASSWORD}: ...' into a file that only you can read, and give that: -e @FILE"
)


def typed_openly(extra: Sequence[str]) -> bool:
    """Return whether the key password stood on the command line itself, not in a file it names."""
    return any(PASSWORD in word and not word.startswith("@") for word in extra)


class ActionModule(Asked, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_driver`."""

    def ask(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Bring the driver into its state, as a job whose steps are reported where there is anything to do."""
        if self._task.args.get("state") != "enrolled":
            return self.bring(task_vars, self._display.display, "driver")
        if typed_openly(context.CLIARGS.get("extra_vars") or ()):
            self._display.error(OPENLY)  # the task itself has no_log, which would hide this too
            return {"failed": True, "msg": OPENLY, "exit_code": 2}
        return self.patiently(task_vars, self._display.display)
