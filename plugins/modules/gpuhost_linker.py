#!/usr/bin/python
"""Let the linker and the shells of a host find the toolkit in force."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import store
from ansible.module_utils.gpuhost.host.toolkit import linker as toolkits_linker

DOCUMENTATION = r"""
module: gpuhost_linker
short_description: Let the linker and the shells find the toolkit in force
description:
  - Writes C(/etc/ld.so.conf.d/gpuhost.conf) and C(/etc/profile.d/gpuhost.sh) for the links C(cuda) and C(cudnn) of the
    generation in force, and rebuilds the linker's cache when they lead elsewhere than before.
  - Without such links, and with C(state=absent), the files are not there.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  links:
    description: Links that are about to be in force beside those that are, so that check mode can tell what will come.
    type: dict
    default: {}
  state: {description: Whether to have them., type: str, choices: [present, absent], default: present}
author: gpuhost
"""

RETURN = r"""
links: {description: The links that the linker is told of., type: dict, returned: always}
"""


def main():
    """Read the arguments, do it or say what would be done."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "links": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    root, top = Path(module.params["root"]), Path("/")
    links = None
    if module.params["state"] == "present":
        links = toolkits_linker.present(root, module.params["links"])
    try:
        todo = toolkits_linker.changes(root, top, links)
        changed = bool(todo["files"] or todo["ldconfig"])
        if changed and not module.check_mode:
            with store.changing(root, "telling the linker"):
                todo = toolkits_linker.changes(root, top, links)
                toolkits_linker.apply(root, top, todo)
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))
    module.exit_json(changed=changed, links=todo["links"], diff=toolkits_linker.differences(todo))


if __name__ == "__main__":
    main()
