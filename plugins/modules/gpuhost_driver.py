#!/usr/bin/python
"""Have the locked NVIDIA driver on a host, keep it for later, or take it away."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.host.driver import key as module_key
from ansible.module_utils.gpuhost.host.driver import packages
from ansible.module_utils.gpuhost.host.driver.call import carry_out
from ansible.module_utils.gpuhost.host.driver.modules import NOUVEAU_FILE, NOUVEAU_TEXT
from ansible.module_utils.gpuhost.host.driver.setup import Setup, named, nouveau_text

DOCUMENTATION = r"""
module: gpuhost_driver
short_description: Have the locked NVIDIA driver on a host, keep it for later, or take it away
description:
  - Reads on the host what it rests on, as the kernel that will boot and Secure Boot. A run that was killed is finished
    by the next one.
  - C(present) installs exactly the locked driver for the kernel that will boot, and fails unless the next boot will
    load it. It refuses what cannot end well before anything is changed. NVIDIA's own file must be in the cache.
  - C(prefetched) brings the packages of a driver that is to come into the cache, and installs nothing.
  - C(enrolled) asks the firmware to offer this machine's own key at the next boot, where Secure Boot needs it.
  - C(absent) takes down what the record of C(present) names.
options:
  state:
    description: What is wanted.
    type: str
    choices: [present, prefetched, enrolled, absent]
    default: present
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  driver: {description: The driver's part of the plan; not for C(absent)., type: dict}
  kernel:
    description: >-
      A kernel that is to come with the driver, in one step: its C(release), and the versions by name of its
      C(packages). Without it the driver is for the kernel that boots.
    type: dict
  kept_only: {description: Take packages from the cache alone and ask no archive., type: bool, default: false}
  mok_password: {description: "For C(enrolled), the key's one-time password.", type: str}
  with_key:
    description: For C(absent), delete this machine's own key too, unless modules of others may be signed with it.
    type: bool
    default: false
  wait_s: {description: How long another process may have dpkg's lock., type: int, default: 300}
  progress: {description: The file in which each step is left while the work goes on., type: path}
author: gpuhost
"""

RETURN = r"""
differences: {description: Why the driver was not in place., type: list, elements: str, returned: for C(present)}
reboot_required:
  description: Why a reboot is needed before the driver is in use; empty when it is in use.
  type: str
  returned: for C(present) and C(enrolled)
console_required:
  description: What a person has to do at the console for the key; empty for nothing.
  type: str
  returned: for C(present) and C(enrolled)
told: {description: What a person may want to do., type: str, returned: for C(absent)}
"""


class Asked:
    """One call of the module."""

    def __init__(self, module, setup):
        """Keep both."""
        self.params, self.dry, self.setup = module.params, module.check_mode, setup

    def turn(self, wait=True):
        """Take the host's lock. Only while a job waits does anybody hear of it (plugins/action/gpuhost_driver.py)."""
        return self.setup.work.turn(self.setup.root, "the driver, state {}".format(self.params["state"]), wait)

    def present(self):
        """Bring the locked driver into place, or say what that would change."""
        differences, found, diff = self.setup.differences(), None, []
        if differences:
            record, nouveau = self.setup.recorded(), nouveau_text()
            if self.dry:
                found = self.setup.preflight()
            else:
                with self.turn():
                    found = self.setup.present()  # None where another run was first
        if found:
            before, after = packages.listing(found.install, found.remove)
            was = named(record) + "\n" if "version" in record else ""
            after = "{}\n{}".format(named(self.params["driver"]), after)
            diff.append({"before": was + before, "after": after, "before_header": "driver", "after_header": "driver"})
            if nouveau != NOUVEAU_TEXT:
                diff.append({"before": nouveau, "after": NOUVEAU_TEXT, "after_header": NOUVEAU_FILE})
        left = self.setup.hand_over()
        if found and self.dry and left["reboot_required"]:
            diff[0]["after"] += "and a reboot: {}\n".format(left["reboot_required"])
        answer = {"changed": found is not None, "differences": differences, "diff": diff}
        return dict(answer, **left)

    def prefetched(self):
        """Bring the packages into the cache, or say which ones that would be."""
        if self.dry:
            absent = self.setup.absent_debs()[1]
        else:
            with self.turn():
                absent = self.setup.prefetch()
        after = "".join("{name} {version}\n".format(**member) for member in absent)
        return {"changed": bool(absent), "diff": {"before": "", "after": after, "after_header": "kept packages"}}

    def enrolled(self):
        """Ask for the key's enrolment, unless the firmware has it or was asked already."""
        found = self.setup.hand_over()
        if not found["console_required"]:
            return dict(found, changed=False)
        if not self.dry:
            with self.turn(wait=False):
                self.setup.enrol(self.params["mok_password"])
            found = self.setup.hand_over()
        return dict(found, changed=True)

    def absent(self):
        """Take the driver down, or say what would go."""
        listed = self.setup.removable()
        key = [str(path) for path in self.key()]
        told = ""
        if (listed or key) and not self.dry:
            with self.turn():
                if listed:
                    self.setup.remove()
                # What DKMS still has when the driver is gone belongs to others.
                told = module_key.forget(self.key())
        diff = {"before": "".join(line + "\n" for line in listed + key), "after": "", "before_header": "the driver"}
        return {"changed": bool(listed or key), "diff": diff, "told": told}

    def key(self):
        """What is left of this machine's own key, where it is removed as well."""
        return module_key.leavings() if self.params["with_key"] else []


def main():
    """Read the arguments, do it or say what would be done; tell a failure in one paragraph."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "prefetched", "enrolled", "absent"], "default": "present"},
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "driver": {"type": "dict"},
            "kernel": {"type": "dict"},
            "kept_only": {"type": "bool", "default": False},
            "mok_password": {"type": "str", "no_log": True},
            "with_key": {"type": "bool", "default": False},
            "wait_s": {"type": "int", "default": 300},
            "progress": {"type": "path"},
        },
        required_if=[
            ("state", "present", ["driver"]),
            ("state", "prefetched", ["driver"]),
            ("state", "enrolled", ["driver", "mok_password"]),
        ],
        supports_check_mode=True,
    )
    carry_out(module, "driver", Setup, Asked)


if __name__ == "__main__":
    main()
