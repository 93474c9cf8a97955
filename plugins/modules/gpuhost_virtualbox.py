#!/usr/bin/python
"""Have the locked VirtualBox on a host, or take it away."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.host.driver.call import carry_out
from ansible.module_utils.gpuhost.host.driver.packages import listing
from ansible.module_utils.gpuhost.host.virtualbox.setup import Setup

DOCUMENTATION = r"""
module: gpuhost_virtualbox
short_description: Have the locked VirtualBox on a host, or take it away
description:
  - Reads on the host what it rests on, as the kernel that will boot and Secure Boot. A run that was killed is finished
    by the next one.
  - C(present) installs exactly the locked VirtualBox, has DKMS build its modules for the kernel that will boot, signs
    them with this machine's own key where Secure Boot asks for a signature, and fails unless the next boot will load
    them. What could not be built is taken away again. Oracle's own files must be in the cache.
  - C(absent) takes down what the record of C(present) names, and what was done for users. Their machines stay.
options:
  state: {description: What is wanted., type: str, choices: [present, absent], default: present}
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  virtualbox: {description: The lock's VirtualBox; not for C(absent)., type: dict}
  gui: {description: "Have its windows too, where they are a package of their own.", type: bool, default: true}
  users:
    description: The users to let into the group C(vboxusers), whose notice of newer releases is switched off.
    type: list
    elements: str
    default: []
  extension_pack:
    description: Have Oracle's extension pack, whose licence a person has accepted.
    type: bool
    default: false
  kernel:
    description: >-
      A kernel that comes before this, its C(release). Without it the modules are for the kernel that boots.
    type: dict
  kept_only: {description: Take packages from the cache alone and ask no archive., type: bool, default: false}
  wait_s: {description: How long another process may have dpkg's lock., type: int, default: 300}
  progress: {description: The file in which each step is left while the work goes on., type: path}
author: gpuhost
"""

RETURN = r"""
differences: {description: Why it was not in place., type: list, elements: str, returned: for C(present)}
reboot_required: {description: Why a reboot is needed; empty when it is in use., type: str, returned: for C(present)}
console_required:
  description: What a person has to do at the console for the key; empty for nothing.
  type: str
  returned: for C(present)
"""


class Asked:
    """One call of the module."""

    def __init__(self, module, setup):
        """Keep both."""
        self.params, self.dry, self.setup = module.params, module.check_mode, setup

    def turn(self):
        """Take the host's lock."""
        return self.setup.work.turn(self.setup.root, "VirtualBox, state {}".format(self.params["state"]), True)

    def present(self):
        """Bring VirtualBox into place, or say what that would change."""
        differences, found, diff = self.setup.differences(), None, []
        if differences:
            if self.dry:
                found = self.setup.preflight()
            else:
                with self.turn():
                    found = self.setup.present()  # None where another run was first
        if found:
            before, after = listing(found.install, found.remove)
            head = {"before_header": "VirtualBox", "after_header": "VirtualBox"}
            diff.append(dict(head, before=before, after=after + "".join(line + "\n" for line in differences)))
        answer = {"changed": found is not None, "differences": differences, "diff": diff}
        if self.dry and found:
            return dict(answer, reboot_required="", console_required="")
        return dict(answer, **self.setup.hand_over())

    def absent(self):
        """Take it down, or say what would go."""
        listed = self.setup.removable()
        if listed and not self.dry:
            with self.turn():
                self.setup.remove()
        diff = {"before": "".join(line + "\n" for line in listed), "after": "", "before_header": "VirtualBox"}
        return {"changed": bool(listed), "diff": diff}


def main():
    """Read the arguments, do it or say what would be done; tell a failure in one paragraph."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "virtualbox": {"type": "dict"},
            "gui": {"type": "bool", "default": True},
            "users": {"type": "list", "elements": "str", "default": []},
            "extension_pack": {"type": "bool", "default": False},
            "kernel": {"type": "dict"},
            "kept_only": {"type": "bool", "default": False},
            "wait_s": {"type": "int", "default": 300},
            "progress": {"type": "path"},
        },
        required_if=[("state", "present", ["virtualbox"])],
        supports_check_mode=True,
    )
    carry_out(module, "virtualbox", Setup, Asked)


if __name__ == "__main__":
    main()
