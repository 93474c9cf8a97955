"""Run the module `gpuhost_environment` while telling what it is at: fetching and installing takes minutes."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from gpuhost.following import Followed


class ActionModule(Followed, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_environment`."""

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Start the module, follow it, return its result. In check mode it has nothing to wait for."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            return {**result, **self._execute_module(task_vars=task_vars)}
        quick = self.check(task_vars)
        if quick.get("failed") or not quick.get("changed"):
            return {**result, **quick}
        name, host = self._task.args["name"], (task_vars or {}).get("inventory_hostname", "")
        file = f"{self._task.args.get('root', '/opt/gpuhost')}/log/{name}.progress"
        return {**result, **self.work(task_vars, file, lambda text: Display().display(f"[{host}] {text}"))}
