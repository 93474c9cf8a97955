#!/usr/bin/python
"""Read the generations of a host, go back to one, and take away what none needs."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import generations, store

DOCUMENTATION = r"""
module: gpuhost_generations
short_description: Read the generations of a host, go back to one, and take away what none needs
description:
  - C(read) tells which generations are there, which was in force when, and what the caches hold. It changes nothing.
  - C(back) puts an earlier generation in force, by one rename.
  - C(good) writes down that verify/ has passed on the generation in force.
  - C(collected) deletes generations beyond those kept, and store folders that no kept one needs.
  - C(absent) deletes the whole store with all its generations, caches and records.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  state: {description: What to do., type: str, choices: [read, back, good, collected, absent], default: read}
  generation: {description: The generation to go back to., type: int}
  keep: {description: How many generations to keep., type: int, default: 5}
author: gpuhost
"""

RETURN = r"""
found: {description: "For C(read), what is there.", type: dict, returned: read}
told: {description: One line for the user., type: str, returned: not read}
"""


def names(folder):
    """The entries of a folder, [] without one."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def build_seconds(root):
    """How long each OpenCV took that was built here, by its key."""
    found = {}
    for path in sorted((root / "cache" / "opencv").glob("*/steps.json")):
        content = store.read_json(path) or {}
        steps = content.get("steps", {})
        if "wheel" in steps:
            found[str(content.get("key"))] = sum(step.get("seconds", 0) for step in steps.values())
    return found


def read(root):
    """What is there."""
    cache = root / "cache"
    return {
        "current": store.current_generation(root),
        "came_by": generations.came_by(root),
        "before": generations.before(root),
        "good": generations.good(root),
        "generations": [dict(store.describe(root, n), number=n) for n in store.generations(root)],
        "artifacts": names(cache / "artifacts"),
        "debs": names(cache / "debs"),
        "wheels": names(cache / "wheels"),
        "store": [folder.name for folder in generations.folders(root)],
        "build_seconds": build_seconds(root),
    }


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
    if there and not module.check_mode:
        generations.remove(root)
    diff = {"before": f"{root}\n" if there else "", "after": ""}
    module.exit_json(changed=there, told=f"{root} is gone.", diff=diff)


def main():
    """Read the arguments, do it or say what would be done."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "state": {"type": "str", "choices": ["read", "back", "good", "collected", "absent"], "default": "read"},
            "generation": {"type": "int"},
            "keep": {"type": "int", "default": 5},
        },
        required_if=[("state", "back", ["generation"])],
        supports_check_mode=True,
    )
    root = Path(module.params["root"])
    try:
        if module.params["state"] == "read":
            module.exit_json(changed=False, found=read(root))
        {"back": back, "good": good, "collected": collected, "absent": absent}[module.params["state"]](module, root)
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))


if __name__ == "__main__":
    main()
