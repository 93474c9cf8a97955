"""The action plugins whose modules need nothing but to be run: `plugins/action/` names one of these for each module.

Controller side; imported by Ansible only, whose ActionBase has no types.
"""

from __future__ import annotations

from ansible.plugins.action import ActionBase

from .asked import Asked
from .following import Result, Variables


class Asking(Asked, ActionBase):  # type: ignore[misc]
    """Run the module and check its answer."""


class Bringing(Asking):
    """Run a module that makes something of a `name`, which takes minutes, and tell its steps."""

    def ask(self, task_vars: Variables) -> Result:
        """Bring what the task names into the store; any other state than `present` is quick."""
        if self._task.args.get("state", "present") != "present":
            return self.patiently(task_vars, self._display.display)
        return self.bring(task_vars, self._display.display)
