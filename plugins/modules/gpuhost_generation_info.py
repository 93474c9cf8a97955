#!/usr/bin/python
"""Read the generations of a host and what its caches hold."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import generations, store

DOCUMENTATION = r"""
module: gpuhost_generation_info
short_description: Read the generations of a host and what its caches hold
description:
  - Returns which generations are there, which was in force when, which of them verify/ has passed, and what the caches
    hold.
  - Changes nothing.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
author: gpuhost
"""

EXAMPLES = r"""
- name: Read the generations
  gpuhost_generation_info:
    root: /opt/gpuhost
  register: there
"""

RETURN = r"""
found: {description: What is there., type: dict, returned: success}
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


def main():
    """Read the arguments and the host."""
    module = AnsibleModule(
        argument_spec={"root": {"type": "path", "default": "/opt/gpuhost"}},
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, found=read(Path(module.params["root"])))
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code)


if __name__ == "__main__":
    main()
