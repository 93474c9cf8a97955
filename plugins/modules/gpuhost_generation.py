#!/usr/bin/python
"""Put a generation of the store in force."""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import generations, store

DOCUMENTATION = r"""
module: gpuhost_generation
short_description: Put a generation of the store in force
description:
  - Makes C(<root>/generations/<n>) with a stack and links into the store.
  - Lets C(<root>/current) name it, by one rename.
  - Links that are not given are kept from the generation in force. Nothing happens when that is the same already.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  stack:
    description: The lock that the generation carries out; without it, that of the generation in force.
    type: dict
  links:
    description: Names in the generation and the store folders (relative to C(root)) they lead to.
    type: dict
    required: true
  without:
    description: Names, or patterns of the shell, of links not to keep from the generation in force.
    type: list
    elements: str
    default: []
author: gpuhost
"""

RETURN = r"""
generation: {description: The number in force after the change, type: int, returned: always}
previous: {description: The number that was in force., type: int, returned: always}
"""


def wanted(module, root):
    """The stack and the links that are to be in force, as far as they are kept from what is."""
    current = store.current_generation(root)
    old = store.describe(root, current) if current is not None else {}
    links = dict(store.links_without(old.get("links", {}), module.params["without"]), **module.params["links"])
    return old.get("stack") if module.params["stack"] is None else module.params["stack"], links


def main():
    """Read the arguments, switch or say what would be switched."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "stack": {"type": "dict"},
            "links": {"type": "dict", "required": True},
            "without": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    root = Path(module.params["root"])
    before = store.current_generation(root)
    old = store.describe(root, before) if before is not None else {}
    stack, links = wanted(module, root)
    if stack is None or not store.needs_switch(root, stack, links):
        module.exit_json(changed=False, generation=before, previous=before)
    diff = {
        "before": json.dumps(old, indent=1, sort_keys=True),
        "after": json.dumps({"stack": stack, "links": links}, indent=1, sort_keys=True),
    }
    number = max(store.generations(root) or [0]) + 1
    if not module.check_mode:
        try:
            number = generations.put_in_force(root, lambda: wanted(module, root))
        except GpuhostError as error:
            module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))
    # Another run may have put the very same in force meanwhile.
    changed, number = number is not None, number or store.current_generation(root)
    module.exit_json(changed=changed, generation=number, previous=before, diff=diff)


if __name__ == "__main__":
    main()
