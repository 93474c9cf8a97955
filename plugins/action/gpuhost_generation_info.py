"""Run the module `gpuhost_generation_info` and check its answer."""

from gpuhost.shipping import action

ActionModule = action.Asking
