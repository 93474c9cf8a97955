"""Run the module `gpuhost_watch` and check its answer."""

from gpuhost.shipping import action

ActionModule = action.Asking
