"""Run the module `gpuhost_service` and check its answer."""

from gpuhost.shipping import action

ActionModule = action.Asking
