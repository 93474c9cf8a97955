"""Run the module `gpuhost_tree`; with `tree`, the files are one of this project's own programs."""

from __future__ import annotations

from typing import Any, Dict, Optional

from gpuhost.errors import GpuhostError
from gpuhost.shipping import action, tree


class ActionModule(action.Asking):
    """Beside the module's arguments it takes `tree`, and `lock` for the builder, in place of name, files and digest."""

    def ask(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Put the files into the store."""
        arguments = dict(self._task.args)
        program, lock = arguments.pop("tree", None), arguments.pop("lock", None)
        try:
            more = tree.program(program, lock) if program else {}
        except GpuhostError as error:
            return {"failed": True, "msg": str(error), "exit_code": error.exit_code}
        return self.patiently(task_vars, self._display.display, {**arguments, **more})
