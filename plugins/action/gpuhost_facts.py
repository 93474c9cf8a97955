"""Run the module `gpuhost_facts` and check its answer (gpuhost.shipping.asked)."""

from __future__ import annotations

from ansible.plugins.action import ActionBase

from gpuhost.shipping.asked import Asked


class ActionModule(Asked, ActionBase):  # type: ignore[misc]
    """The task `gpuhost_facts`."""
