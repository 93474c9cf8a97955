"""Run the module `gpuhost_tree`, and tell who holds the host's lock while it waits for its turn."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from gpuhost.following import Followed


class ActionModule(Followed, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_tree`."""

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Run it when no other run changes the host."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        return {**result, **self.patiently(task_vars, Display().display)}
