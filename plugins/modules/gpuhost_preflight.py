#!/usr/bin/python
"""Look on a host for what would end an installation halfway: too little space, servers that do not answer."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import preflight

DOCUMENTATION = r"""
module: gpuhost_preflight
short_description: Look for what would end an installation halfway
description:
  - Holds the room that an installation takes against what the file systems have, and connects once to each server from
    which something still has to be fetched, or to the proxy before it. Nothing is sent, and nothing is changed.
  - The action plugin of the same name does the latter on the controller for what the controller fetches.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  needs: {description: What the filter C(gpuhost_needs) says., type: dict, required: true}
attributes:
  check_mode:
    support: full
    description: The module only reads, so check mode and a normal run are the same.
author: gpuhost
"""

EXAMPLES = r"""
- name: Look for what would end it halfway
  gpuhost_preflight:
    needs: "{{ needs }}"
  register: looked
"""

RETURN = r"""
problems: {description: "What is in the way, in sentences.", type: list, returned: success}
told: {description: How much room it takes., type: str, returned: success}
"""


def main():
    """Read the arguments and look."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "needs": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        found = preflight.looked(Path(module.params["root"]), module.params["needs"])
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code)
    except OSError as error:
        module.fail_json(msg=f"The host's file systems cannot be read: {error}.", exit_code=4)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
