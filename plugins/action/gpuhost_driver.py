"""Run the module `gpuhost_driver` while telling what it is at: fetching packages and building modules takes minutes."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from gpuhost.asked import Asked

LONG = ("prefetch", "packages", "runfile", "ready", "remove")


class ActionModule(Asked, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_driver`; the phases that may take minutes are followed."""

    def ask(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Run the phase; a long one as a job whose steps are told."""
        if self._task.check_mode or self._task.args.get("phase") not in LONG:
            return self._execute_module(task_vars=task_vars)
        host = (task_vars or {}).get("inventory_hostname", "")
        file = f"{self._task.args.get('root', '/opt/gpuhost')}/log/driver.progress"
        return self.work(task_vars, file, lambda text: Display().display(f"[{host}] {text}"))
