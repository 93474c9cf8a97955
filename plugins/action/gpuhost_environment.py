"""Run the module `gpuhost_environment` while telling what it is at: fetching and installing takes minutes."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from gpuhost.shipping.asked import Asked


class ActionModule(Asked, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_environment`."""

    def ask(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Bring what the task names into the store, and tell how it goes."""
        return self.bring(task_vars, Display().display)
