#!/usr/bin/python
"""Put the watch over the GPU stack on a host, or take it away."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host.commands import run_command
from ansible.module_utils.gpuhost.host.edges import Edges
from ansible.module_utils.gpuhost.host.watch import install as watch_install

DOCUMENTATION = r"""
module: gpuhost_watch
short_description: Put the watch over the GPU stack on a host, or take it away
description:
  - C(present) writes a systemd service and its timer, a hook of apt and a line at each login, and switches the timer
    on. The program has to be in the store already, as C(<root>/store/<name>).
  - C(absent) takes all of it away.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  name: {description: The program's folder in the store., type: str, default: ""}
  textfile: {description: The folder of node_exporter's textfile collector; none when empty., type: str, default: ""}
  state: {description: Whether to have it., type: str, choices: [present, absent], default: present}
author: gpuhost
"""

RETURN = r"""
told: {description: One line for the user., type: str, returned: success}
"""


def main():
    """Read the arguments, do it or say what would be done."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "name": {"type": "str", "default": ""},
            "textfile": {"type": "str", "default": ""},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["name"])],
        supports_check_mode=True,
    )
    given, edges = module.params, Edges("/", run_command)
    try:
        if given["state"] == "present":
            done = watch_install.present(edges, given["root"], given["name"], given["textfile"], module.check_mode)
        else:
            done = watch_install.absent(edges, given["root"], given["textfile"], module.check_mode)
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))
    module.exit_json(changed=done.changed, told=done.told, diff=done.diff)


if __name__ == "__main__":
    main()
