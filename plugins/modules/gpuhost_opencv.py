#!/usr/bin/python
"""Build OpenCV with CUDA on a host, or find the wheel that was built before."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import opencv_job, progress, store

DOCUMENTATION = r"""
module: gpuhost_opencv
short_description: Build OpenCV with CUDA, or find the wheel that was built before
description:
  - Asks the builder for the key of its wheel. Where the host's cache has a wheel of this key, nothing is done.
  - In check mode only asks.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  name: {description: How the job is called in its log and its steps., type: str, required: true}
  command: {description: The builder's command line., type: list, elements: str, required: true}
  progress: {description: The file in which each step is left while the work goes on., type: path}
author: gpuhost
"""

RETURN = r"""
key: {description: A digest of everything that changes the wheel's bytes., type: str, returned: always}
wheel: {description: "The wheel's path and facts, null where there is none.", type: dict, returned: always}
"""


def main():
    """Ask, and build what is not there."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "name": {"type": "str", "required": True},
            "command": {"type": "list", "elements": "str", "required": True},
            "progress": {"type": "path"},
        },
        supports_check_mode=True,
    )
    root, name, command = Path(module.params["root"]), module.params["name"], module.params["command"]
    try:
        found = opencv_job.ask(command)
        if found["wheel"] is not None or module.check_mode:
            module.exit_json(changed=found["wheel"] is None, **found)
        told = progress.told(module.params["progress"], name)
        with told as say, store.changing(root, "building OpenCV", say):
            found = opencv_job.ask(command)  # whoever had the lock before may have built it
            if found["wheel"] is None:
                found = opencv_job.build(command, root / "log" / f"{name}.log", say)
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code)
    module.exit_json(changed=True, **found)


if __name__ == "__main__":
    main()
