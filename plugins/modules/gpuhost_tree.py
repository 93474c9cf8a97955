#!/usr/bin/python
"""Put a folder of text files into the store."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import store

DOCUMENTATION = r"""
module: gpuhost_tree
short_description: Put a folder of text files into the store
description:
  - Writes C(<root>/store/<name>) at once. A folder with the same digest is left alone.
  - In a task, C(tree) stands for name, files and digest of one of this project's programs (C(yolo), C(watch),
    C(opencv-builder)); the controller fills them in.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  name: {description: The folder's name in the store., type: str, required: true}
  files: {description: Relative path and content of each file., type: dict, required: true}
  digest: {description: What tells this content from another., type: str, required: true}
author: gpuhost
"""

EXAMPLES = r"""
- name: Put the detector into the store
  gpuhost_tree:
    tree: yolo

- name: Put OpenCV's builder with the recipe of a lock into the store
  gpuhost_tree:
    tree: opencv-builder
    lock: "{{ gpu_stack_lock }}"
"""

RETURN = r"""
folder: {description: The folder, relative to C(root)., type: str, returned: always}
"""


def main():
    """Read the arguments, write or say what would be written."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "name": {"type": "str", "required": True},
            "files": {"type": "dict", "required": True},
            "digest": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    relative = "store/" + module.params["name"]
    folder = Path(module.params["root"]) / relative
    changed = not store.is_whole(folder, module.params["digest"])
    try:
        store.stay_inside([module.params["name"], *module.params["files"]])
        if changed and not module.check_mode:
            store.write_tree(folder, module.params["files"], module.params["digest"])
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))
    listed = "".join(name + "\n" for name in sorted(module.params["files"]))
    diff = {"before": "" if changed else listed, "after": listed, "after_header": str(folder)}
    module.exit_json(changed=changed, folder=relative, diff=diff)


if __name__ == "__main__":
    main()
