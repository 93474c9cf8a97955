#!/usr/bin/python
"""Put the detection service on a host, let it follow the generation in force, or take it away."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host.commands import run_command
from ansible.module_utils.gpuhost.host.edges import Edges
from ansible.module_utils.gpuhost.host.service import install
from ansible.module_utils.gpuhost.host.service.proxy import Front

DOCUMENTATION = r"""
module: gpuhost_service
short_description: Put the detection service on a host, let it follow the generation in force, or take it away
description:
  - C(checked) changes nothing and says why the service could not be served here. A port that is taken, or a site of
    the user's that nginx does not take, is refused.
  - C(present) makes the user, keys, settings, units and the site of nginx, starts the service of the generation in
    force where it does not run with these settings already, and waits until it is ready.
  - C(followed) does nothing on a host without the service. Else it lets the service of the generation in force run,
    or stops it where that generation has none.
  - C(absent) takes all of it away, with its keys and its state.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  state:
    description: What to do.
    type: str
    choices: [checked, present, followed, absent]
    default: present
  settings: {description: "For C(checked) and C(present), the service's settings.", type: dict, default: {}}
  listen: {description: The address and port of nginx's site., type: str, default: "127.0.0.1:8420"}
  certificate: {description: The certificate of TLS; plain HTTP when empty., type: str, default: ""}
  certificate_key: {description: Its key's file., type: str, default: ""}
  clients: {description: "Whose certificates clients must show; none is asked for when empty.", type: str, default: ""}
  rate: {description: Requests per second of one address., type: int, default: 20}
  connections: {description: Connections of one address., type: int, default: 8}
  memory: {description: "The most memory of the service, as systemd writes it.", type: str, default: 4G}
  device: {description: "For C(followed), the device of the generation's lock.", type: str, default: cpu}
  wait_s: {description: How long the service may take until it is ready., type: float, default: 180}
author: gpuhost
"""

RETURN = r"""
told: {description: One line for the user., type: str, returned: success}
"""


def wanted(given):
    """Return what is to be on the host."""
    settings = given["settings"]
    front = Front(
        given["listen"],
        settings["body_bytes"],
        settings["deadline_s"],
        given["rate"],
        given["connections"],
        given["certificate"],
        given["certificate_key"],
        given["clients"],
    )
    return install.Wanted(given["root"], front, settings, given["memory"], given["wait_s"])


def main():
    """Read the arguments, do it or say what would be done."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "state": {"type": "str", "choices": ["checked", "present", "followed", "absent"], "default": "present"},
            "settings": {"type": "dict", "default": {}},
            "listen": {"type": "str", "default": "127.0.0.1:8420"},
            "certificate": {"type": "str", "default": ""},
            # A path, and not the key itself.
            "certificate_key": {"type": "str", "default": "", "no_log": False},
            "clients": {"type": "str", "default": ""},
            "rate": {"type": "int", "default": 20},
            "connections": {"type": "int", "default": 8},
            "memory": {"type": "str", "default": "4G"},
            "device": {"type": "str", "default": "cpu"},
            "wait_s": {"type": "float", "default": 180},
        },
        supports_check_mode=True,
    )
    given, edges, check = module.params, Edges("/", run_command), module.check_mode
    try:
        if given["state"] == "checked":
            done = install.checked(edges, wanted(given))
        elif given["state"] == "present":
            done = install.present(edges, wanted(given), check)
        elif given["state"] == "followed":
            done = install.followed(edges, given["root"], given["device"], given["wait_s"], check)
        else:
            done = install.absent(edges, given["root"], check)
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))
    module.exit_json(changed=done.changed, told=done.told, diff=done.diff)


if __name__ == "__main__":
    main()
