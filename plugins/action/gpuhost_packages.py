"""Run the module `gpuhost_packages` and check its answer."""

from gpuhost.shipping import action

ActionModule = action.Asking
