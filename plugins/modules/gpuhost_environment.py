#!/usr/bin/python
"""Make a locked virtual environment in the store of a host."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import progress, store, venvs

DOCUMENTATION = r"""
module: gpuhost_environment
short_description: Make a locked virtual environment in the store
description:
  - Makes C(<root>/store/<name>-<version>-<digest>) with exactly the packages of a lock, each file checked by sha256.
  - A folder that is complete is left alone; one that a killed run left is made again.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  name: {description: The environment's name., type: str, required: true}
  lock: {description: The environment lock with its digest., type: dict, required: true}
  python: {description: The interpreter., type: path, required: true}
  progress: {description: The file in which each step is left while the work goes on., type: path}
author: gpuhost
"""

RETURN = r"""
folder: {description: The environment's folder, relative to C(root)., type: str, returned: always}
"""


def main():
    """Read the arguments, do it or say what would be done."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "name": {"type": "str", "required": True},
            "lock": {"type": "dict", "required": True},
            "python": {"type": "path", "required": True},
            "progress": {"type": "path"},
        },
        supports_check_mode=True,
    )
    root, name, lock = Path(module.params["root"]), module.params["name"], module.params["lock"]
    folder = venvs.folder_of(root, name, lock)
    relative = str(folder.relative_to(root))
    if store.is_whole(folder, lock["digest"]):
        module.exit_json(changed=False, folder=relative)
    if module.check_mode:
        listed = "".join("{name} {version}\n".format(**p) for p in lock["packages"])
        diff = {"before": "", "after": listed, "after_header": str(folder)}
        module.exit_json(changed=True, folder=relative, diff=diff)
    try:
        with progress.told(module.params["progress"], name) as say:
            venvs.install(root, name, lock, module.params["python"], say)
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code)
    module.exit_json(changed=True, folder=relative)


if __name__ == "__main__":
    main()
