"""What every action plugin of this project does: run its module, and let nothing of the answer through unchecked.

Controller side.
"""

from __future__ import annotations

from typing import Any, Dict

from . import answers
from .following import Followed, Result, Variables


class Asked(Followed):
    """Beside Ansible's ActionBase, before it in the bases."""

    _display: Any

    def run(self, tmp: Any = None, task_vars: Variables = None) -> Result:
        """Run the module as `ask` does, and return its checked result."""
        result: Dict[str, Any] = super().run(tmp, task_vars)  # type: ignore[misc]
        name = str(self._task.action).rpartition(".")[2]
        return {**result, **answers.of_module(name, self.ask(task_vars))}

    def ask(self, task_vars: Variables) -> Result:
        """Run the module when its turn comes; a plugin whose module works for minutes follows it instead."""
        return self.patiently(task_vars, self._display.display)
