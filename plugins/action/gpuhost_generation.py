"""Run the module `gpuhost_generation` and check its answer."""

from gpuhost.shipping import action

ActionModule = action.Asking
