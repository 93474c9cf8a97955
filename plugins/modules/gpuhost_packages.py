#!/usr/bin/python
"""Keep account of the packages that this project brings onto a host, and take them away again."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import files, store
from ansible.module_utils.gpuhost.host.commands import run_command
from ansible.module_utils.gpuhost.host.driver import added
from ansible.module_utils.gpuhost.host.driver.apt import Apt
from ansible.module_utils.gpuhost.host.driver.packages import parse_show
from ansible.module_utils.gpuhost.host.work import Work

DOCUMENTATION = r"""
module: gpuhost_packages
short_description: Keep account of the packages that this project brings onto a host, and take them away again
description:
  - C(noted) finds out, before apt runs, which packages are not installed, and writes down that they are about to be. In
    check mode it says what apt would install.
  - C(absent) purges those, and what apt brought along with them, that nothing else on the host needs.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  names: {description: "For C(noted), what has to be installed.", type: list, elements: str, default: []}
  state: {description: What to do., type: str, choices: [noted, absent], default: noted}
  wait_s: {description: How long another process may have dpkg's lock., type: int, default: 300}
author: gpuhost
"""

EXAMPLES = r"""
- name: See which packages are missing, and write them down
  gpuhost_packages:
    names: [python3, python3-venv]
  register: missing
"""

RETURN = r"""
names: {description: "The packages that are not installed, or gone.", type: list, returned: success}
"""


def difference(before, after):
    """Return the packages before and after, as Ansible shows a difference."""
    told = {"before": "".join(f"{line}\n" for line in before), "after": "".join(f"{line}\n" for line in after)}
    return {**told, "before_header": "packages", "after_header": "packages"}


def coming(apt, missing):
    """Return what apt would install, each with its version; what its package lists do not name yet without one."""
    shown = apt.read(["apt-cache", *apt.options(), "show", "--no-all-versions", *missing], may_fail=True)
    known = {name for name, _ in parse_show(shown)}
    changes = apt.simulate([name for name in missing if name in known])[0] if known else []
    unknown = [
        f"{name} (not in apt's package lists, which are read again first)" for name in missing if name not in known
    ]
    return [*(f"{change.name} {change.new}" for change in changes), *unknown]


def main():
    """Read the arguments, do it or say what would be done."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "names": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["noted", "absent"], "default": "noted"},
            "wait_s": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    root = Path(module.params["root"])
    apt = Apt(root, "", Work(root / "log" / "packages.log", lambda _: None, module.params["wait_s"]))
    try:
        installed = apt.names_installed()
        if module.params["state"] == "noted":
            missing = [name for name in module.params["names"] if name not in installed]
            if missing and module.check_mode:
                with files.temporary() as apt.aside:
                    module.exit_json(changed=True, names=missing, diff=difference([], coming(apt, missing)))
            # Of the account itself nobody needs to hear: what changes the host is the installation.
            if missing:
                added.note(root, missing, installed)
            module.exit_json(changed=False, names=missing)
        going = added.removable(root, run_command, installed)
        if going and not module.check_mode:
            with store.changing(root, "removing packages"):
                apt.purge(going)
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))
    except OSError as error:
        failure = store.unwritable(error, root)
        module.fail_json(msg=str(failure), exit_code=failure.exit_code)
    module.exit_json(changed=bool(going), names=going, diff=difference(going, []))


if __name__ == "__main__":
    main()
