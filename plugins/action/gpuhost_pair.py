"""Run the module `gpuhost_pair` and check its answer."""

from gpuhost.shipping import action

ActionModule = action.Asking
