#!/usr/bin/python
"""Have an update of kernel and driver proved by one boot, and undone by the host itself where it is wrong."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import store
from ansible.module_utils.gpuhost.host.commands import run_command
from ansible.module_utils.gpuhost.host.edges import Edges
from ansible.module_utils.gpuhost.host.pairs.ask import Asked

DOCUMENTATION = r"""
module: gpuhost_pair
short_description: Have an update of kernel and driver proved by one boot
description:
  - C(prepared) names the kernel and driver that run, makes that kernel the boot loader's default, and puts a service on
    the host that judges the new ones at the boot that tries them. It refuses a host that could not come back by itself,
    such as one whose boot loader cannot start an entry once, and a pair that was tried before and undone.
  - C(armed) checks that everything for the new pair is there, and lets the next boot, and no other, be of it.
  - C(restarting) has a host that is its own controller restart a minute later into what is armed, and marks that the
    update is to be carried on with at the next boot.
  - C(settled) only tells how far it is.
  - C(absent) takes all of it away.
  - C(automatic) notes on the host that a timer updates it within C(window), and C(manual) that none does.
options:
  state:
    description: What is wanted.
    type: str
    choices: [prepared, armed, restarting, settled, absent, automatic, manual]
    default: settled
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  name: {description: "For C(prepared), the program's folder in the store.", type: str, default: ""}
  driver: {description: "For C(prepared) and C(armed), the driver's part of the new plan.", type: dict}
  kernel:
    description: "For C(prepared) and C(armed), the kernel of the new pair: its C(release), and its C(packages)."
    type: dict
  window:
    description: >-
      For C(prepared), C(armed) and C(restarting), the hours in which the host may be restarted, such as C(02:00-05:00)
      by its own clock. With it nothing is begun, or it is taken back, where a request or a program uses the card.
    type: str
    default: ""
  again: {description: Try a pair once more that was undone., type: bool, default: false}
author: gpuhost
"""

RETURN = r"""
told: {description: What is to come, or what was undone and why., type: str, returned: success}
state:
  description: How far it is, C(prepared), C(armed), C(trying), C(proved) or C(undone); empty without an update.
  type: str
  returned: success
"""


def main():
    """Read the arguments, do it or say what would be done."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["prepared", "armed", "restarting", "settled", "absent", "automatic", "manual"],
                "default": "settled",
            },
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "name": {"type": "str", "default": ""},
            "driver": {"type": "dict"},
            "kernel": {"type": "dict"},
            "window": {"type": "str", "default": ""},
            "again": {"type": "bool", "default": False},
        },
        required_if=[("state", "prepared", ["name", "driver", "kernel"]), ("state", "armed", ["driver", "kernel"])],
        supports_check_mode=True,
    )
    try:
        asked = Asked(module.params, Edges("/", run_command), module.check_mode)
        module.exit_json(**getattr(asked, module.params["state"])())
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))
    except OSError as error:
        failure = store.unwritable(error, module.params["root"])
        module.fail_json(msg=str(failure), exit_code=failure.exit_code)


if __name__ == "__main__":
    main()
