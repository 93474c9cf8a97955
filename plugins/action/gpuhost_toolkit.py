"""Run the module `gpuhost_toolkit`, tell its steps and check its answer."""

from gpuhost.shipping import action

ActionModule = action.Bringing
