"""Run the module `gpuhost_toolkit` while telling what it is at: installing a toolkit takes minutes."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from gpuhost.shipping.asked import Asked


class ActionModule(Asked, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_toolkit`."""

    def ask(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Bring what the task names into the store, and tell how it goes."""
        if self._task.args.get("state") == "absent":
            return self.patiently(task_vars, Display().display)
        return self.bring(task_vars, Display().display)
