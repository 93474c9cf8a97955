#!/usr/bin/python
"""Ansible module: one observation of the machine it runs on, read-only."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host.probe.machine import observe

DOCUMENTATION = r"""
module: gpuhost_facts
short_description: Observe a GPU host
description:
  - Reads what a plan for this host rests on (NVIDIA cards, driver, platform, kernel, Secure Boot, apt
    sources, what its archives offer of the driver, packages, Pythons, memory, disk and processor) and changes nothing.
    Where apt has read no archive yet and there is a card, the lists are read into a temporary folder.
  - It needs no root and no driver. Passwords inside apt's URIs are replaced by C(***).
options:
  kernels:
    description: Say what the archives offer of kernels as well, and of modules for these.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: The module only reads, so check mode and a normal run are the same.
author: The gpuhost project
"""

EXAMPLES = r"""
- name: Observe this host
  gpuhost_facts:
  register: seen

- name: Show its cards
  ansible.builtin.debug:
    var: seen.observation.gpus
"""

RETURN = r"""
observation:
  description: The observation; its form is src/gpuhost/data/observation.schema.json.
  returned: success
  type: dict
exit_code:
  description: The exit code that the gpuhost command has for this failure (4, the machine cannot be read).
  returned: failure
  type: int
next_step:
  description: What to do about the failure.
  returned: failure
  type: str
"""


def main():
    # type: () -> None
    """Observe and return, or fail with the sentence and the next step."""
    module = AnsibleModule(argument_spec={"kernels": {"type": "bool", "default": False}}, supports_check_mode=True)
    try:
        observation = observe(offers=True, newer=module.params["kernels"])
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, next_step=error.next_step)
    module.exit_json(changed=False, observation=observation)


if __name__ == "__main__":
    main()
