#!/usr/bin/python
"""Keep updates from the driver and its kernel, or let them through."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host.commands import run_command
from ansible.module_utils.gpuhost.host.edges import Edges
from ansible.module_utils.gpuhost.host.guard import hold as guard_hold
from ansible.module_utils.gpuhost.host.guard import prove as guard_prove

DOCUMENTATION = r"""
module: gpuhost_guard
short_description: Keep updates from the driver and its kernel
description:
  - C(held) holds and pins every installed package of the driver and of the kernel it was built for, and puts them on
    the blacklist of unattended-upgrades. Without a driver record there is nothing to guard.
  - C(released) lets go of exactly what C(held) has set.
  - C(proved) changes nothing but the note that it was done. It simulates the updates and fails when they would touch
    what is held, or when the guard keeps something back that does not depend on it.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  state: {description: What is wanted., type: str, choices: [held, released, proved], default: held}
  lock_timeout: {description: How many seconds to wait for the package database., type: int, default: 300}
author: gpuhost
"""

RETURN = r"""
told: {description: One line for the user., type: str, returned: success}
guarded: {description: Is there a guard in force now (or would there be)., type: bool, returned: success}
proved: {description: Was the guard in force proved since it changed., type: bool, returned: success}
kept_back: {description: "For C(proved), what waits because of the guard, and why.", type: list, returned: success}
"""


def main():
    """Read the arguments, do it or say what would be done."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "state": {"type": "str", "choices": ["held", "released", "proved"], "default": "held"},
            "lock_timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    root, edges = module.params["root"], Edges("/", run_command)
    try:
        if module.params["state"] == "proved":
            proof = guard_prove.prove(edges, root)
            if not module.check_mode:
                guard_hold.note_proof(edges, root)
            module.exit_json(changed=False, told=proof.told, kept_back=proof.kept_back, guarded=True, proved=True)
        act = guard_hold.hold if module.params["state"] == "held" else guard_hold.release
        done = act(edges, root, module.params["lock_timeout"], module.check_mode)
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))
    proved = not done.changed and guard_hold.is_proved(edges, root)
    module.exit_json(
        changed=done.changed, told=done.told, guarded=done.guarded, proved=proved, kept_back=[], diff=done.diff
    )


if __name__ == "__main__":
    main()
