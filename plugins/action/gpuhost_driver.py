"""Run the module `gpuhost_driver` while telling what it is at: fetching packages and building modules takes minutes."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from gpuhost.shipping.asked import Asked

PASSWORD = "nvidia_driver_mok_password"  # noqa: S105 - the variable's name
OPENLY = (
    "The password of the key's enrolment was on the command line, where every user of this machine can read it (ps). "
    f"Choose another one, write '{PASSWORD}: ...' into a file that only you can read, and give that: -e @FILE"
)
LONG = ("prefetch", "packages", "runfile", "ready", "remove")


def typed_openly(extra: Sequence[str]) -> bool:
    """Return whether the key password stood on the command line itself, not in a file it names."""
    return any(PASSWORD in word and not word.startswith("@") for word in extra)


class ActionModule(Asked, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_driver`; the phases that may take minutes are followed."""

    def ask(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Run the phase; a long one as a job whose steps are told."""
        if self._task.args.get("phase") == "enrol" and typed_openly(context.CLIARGS.get("extra_vars") or ()):
            Display().error(OPENLY)  # the task itself has no_log, which would hide this too
            return {"failed": True, "msg": OPENLY, "exit_code": 2}
        if self._task.check_mode or self._task.args.get("phase") not in LONG:
            return self.patiently(task_vars, Display().display)
        host = (task_vars or {}).get("inventory_hostname", "")
        file = f"{self._task.args.get('root', '/opt/gpuhost')}/log/driver.progress"
        return self.work(task_vars, file, lambda text: Display().display(f"[{host}] {text}"))
