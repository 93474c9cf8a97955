#!/usr/bin/python
"""Put a generation of the store in force, mark it, or delete those that are not needed."""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import generations, store

DOCUMENTATION = r"""
module: gpuhost_generation
short_description: Put a generation of the store in force, mark it, or delete those that are not needed
description:
  - C(switched) makes C(<root>/generations/<n>) with a stack and links into the store, and lets C(<root>/current) name
    it, by one rename. Links that are not given are kept from the generation in force. Nothing happens when that is the
    same already.
  - C(back) puts an earlier generation in force, by one rename.
  - C(good) writes down that verify/ has passed on the generation in force.
  - C(collected) deletes generations beyond those kept, and store folders that no kept one needs.
  - C(absent) deletes the whole store with all its generations, caches and records.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  state:
    description: What to do.
    type: str
    choices: [switched, back, good, collected, absent]
    default: switched
  stack:
    description: >-
      For C(switched), the lock that the generation carries out; without it, that of the generation in force.
    type: dict
  links:
    description: "For C(switched), names in the generation and the store folders (relative to C(root)) they lead to."
    type: dict
    default: {}
  without:
    description: "For C(switched), names, or patterns of the shell, of links not to keep from the generation in force."
    type: list
    elements: str
    default: []
  generation: {description: "For C(back), the generation to go back to.", type: int}
  keep: {description: "For C(collected), how many generations to keep.", type: int, default: 5}
author: gpuhost
"""

EXAMPLES = r"""
- name: Put TensorFlow in force beside what is there
  gpuhost_generation:
    stack: "{{ gpu_stack_lock }}"
    links:
      venvs/dl4cv: store/dl4cv-2.16.2-0123456789ab

- name: Go back
  gpuhost_generation:
    state: back
    generation: 3
"""

RETURN = r"""
generation: {description: The number in force after the change, type: int, returned: switched}
previous: {description: The number that was in force., type: int, returned: switched}
told: {description: One line for the user., type: str, returned: not switched}
"""


def wanted(module, root):
    """The stack and the links that are to be in force, as far as they are kept from what is."""
    current = store.current_generation(root)
    old = store.describe(root, current) if current is not None else {}
    links = dict(store.links_without(old.get("links", {}), module.params["without"]), **module.params["links"])
    return old.get("stack") if module.params["stack"] is None else module.params["stack"], links


def switched(module, root):
    """Switch, or say what would be switched."""
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
        number = generations.put_in_force(root, lambda: wanted(module, root))
    # Another run may have put the very same in force meanwhile.
    changed, number = number is not None, number or store.current_generation(root)
    module.exit_json(changed=changed, generation=number, previous=before, diff=diff)


def back(module, root):
    """Go back, or say that one would."""
    number, current = module.params["generation"], store.current_generation(root)
    diff = {"before": f"current -> generations/{current}\n", "after": f"current -> generations/{number}\n"}
    changed = current != number if module.check_mode else generations.go_back(root, number)
    module.exit_json(changed=changed, told=f"Generation {number} is in force.", diff=diff)


def good(module, root):
    """Write it down, or say that one would."""
    current = store.current_generation(root)
    changed = generations.good(root)[-1:] != [current] if module.check_mode else generations.mark_good(root)
    module.exit_json(changed=bool(changed), told=f"Generation {current} is known to be good.")


def collected(module, root):
    """Delete, or say what would be deleted."""
    found = generations.garbage(root, module.params["keep"])
    if (found.generations or found.folders) and not module.check_mode:
        found = generations.collect(root, module.params["keep"])
    gone = [f"generations/{number}" for number in found.generations] + found.folders
    said = ["{} deleted.".format(", ".join(gone) or "Nothing")]
    said += [f"{name} is kept: {why}." for name, why in sorted(found.kept.items())]
    diff = {"before": "".join(name + "\n" for name in gone), "after": ""}
    module.exit_json(changed=bool(gone), told=" ".join(said), diff=diff)


def absent(module, root):
    """Delete the store, or say that it would be deleted."""
    there = root.exists()
    # A line for each thing that was installed: its files would fill thousands.
    listed = [str(root), *generations.contents(root)] if there and module._diff else [str(root)]
    if there and not module.check_mode:
        generations.remove(root)
    diff = {"before": "\n".join([*listed, ""]) if there else "", "after": ""}
    module.exit_json(changed=there, told=f"{root} is gone.", diff=diff)


STATES = {"switched": switched, "back": back, "good": good, "collected": collected, "absent": absent}


def main():
    """Read the arguments, do it or say what would be done."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "state": {"type": "str", "choices": list(STATES), "default": "switched"},
            "stack": {"type": "dict"},
            "links": {"type": "dict", "default": {}},
            "without": {"type": "list", "elements": "str", "default": []},
            "generation": {"type": "int"},
            "keep": {"type": "int", "default": 5},
        },
        required_if=[("state", "back", ["generation"])],
        supports_check_mode=True,
    )
    try:
        STATES[module.params["state"]](module, Path(module.params["root"]))
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))


if __name__ == "__main__":
    main()
