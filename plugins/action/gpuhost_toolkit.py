"""Run the module `gpuhost_toolkit` while telling what it is at: installing a toolkit takes minutes."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from gpuhost.following import Followed


class ActionModule(Followed, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_toolkit`."""

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Bring what the task names into the store, and tell how it goes."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        if self._task.args.get("state") == "absent":
            return {**result, **self.patiently(task_vars, Display().display)}
        return {**result, **self.bring(task_vars, Display().display)}
