"""Run the module `gpuhost_virtualbox` while telling what it is at: fetching and building take minutes."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase

from gpuhost.shipping.asked import Asked


class ActionModule(Asked, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_virtualbox`."""

    def ask(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Bring VirtualBox into its state, as a job whose steps are reported where there is anything to do."""
        return self.bring(task_vars, self._display.display, "virtualbox")
