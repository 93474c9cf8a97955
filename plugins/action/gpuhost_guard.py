"""Run the module `gpuhost_guard` and check its answer."""

from gpuhost.shipping import action

ActionModule = action.Asking
