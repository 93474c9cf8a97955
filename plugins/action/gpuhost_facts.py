"""Run the module `gpuhost_facts` and check its answer."""

from gpuhost.shipping import action

ActionModule = action.Asking
