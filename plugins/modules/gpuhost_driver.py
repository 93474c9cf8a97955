#!/usr/bin/python
"""Install the locked NVIDIA driver, phase by phase."""

import contextlib
import socket
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import files, store
from ansible.module_utils.gpuhost.host.driver import key as module_key
from ansible.module_utils.gpuhost.host.driver import packages
from ansible.module_utils.gpuhost.host.driver.modules import NOUVEAU_FILE, NOUVEAU_TEXT
from ansible.module_utils.gpuhost.host.driver.setup import Setup
from ansible.module_utils.gpuhost.host.work import Work

DOCUMENTATION = r"""
module: gpuhost_driver
short_description: Install the locked NVIDIA driver, phase by phase
description:
  - Does one phase of a driver's installation; each may be the first after a run that was killed.
  - C(check) answers whether the locked driver is in place for the kernel that will boot, and changes nothing.
  - C(preflight) refuses what cannot end well before anything is changed; in check mode its diff lists the packages.
  - C(prefetch) brings the packages of a driver that is to come into the cache.
  - C(nouveau) writes the file that keeps nouveau from loading.
  - C(packages) installs the exact set of packages; C(runfile) runs NVIDIA's installer.
  - C(sign) signs modules that were built here, where Secure Boot is on; C(enrol) asks for the key's enrolment.
  - C(ready) fails unless the next boot will load the driver; C(record) writes down what is installed.
  - C(boot) answers whether a reboot is needed and the key is enrolled; C(remove) takes the driver down.
  - C(forget) deletes this machine's own key, unless modules of others may be signed with it.
options:
  phase:
    description: What to do.
    type: str
    required: true
    choices: [check, preflight, prefetch, nouveau, packages, runfile, sign, enrol, ready, record, boot, remove, forget]
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  driver: {description: The driver's part of the plan., type: dict, default: {}}
  boots: {description: The kernel that will boot; empty where it is not known., type: str, default: ""}
  distribution: {description: The distribution's id, such as C(debian)., type: str, default: ""}
  secure_boot: {description: Secure Boot's state as the probe says it., type: str, default: unknown}
  file: {description: The C(.run) on this host., type: path}
  mok_password: {description: The one-time password of the key's enrolment., type: str}
  kept_only: {description: Take packages from the cache alone and ask no archive., type: bool, default: false}
  wait_s: {description: How long another process may have dpkg's lock., type: int, default: 300}
author: gpuhost
"""

RETURN = r"""
differences: {description: Why the driver is not in place., type: list, elements: str, returned: phase check}
reason: {description: Why a reboot is needed., type: str, returned: phase boot}
told: {description: What a person may want to do., type: str, returned: phase forget}
enrolment: {description: What a person has to do for the key., type: str, returned: phase boot}
"""


PHASES = [
    "check", "preflight", "prefetch", "nouveau", "packages", "runfile",
    "sign", "enrol", "ready", "record", "boot", "remove", "forget",
]  # fmt: skip


#: The phases that the controller runs as a job, whose steps it tells (plugins/action/gpuhost_driver.py).
FOLLOWED = ("prefetch", "packages", "runfile", "ready", "remove")


def preflight(module, setup):
    """Check everything; in check mode with package lists of its own and the difference that would come."""
    with contextlib.ExitStack() as stack:
        if module.check_mode:
            setup.apt.lists = stack.enter_context(files.temporary())
        install, remove = setup.preflight()
    before, after = packages.listing(install, remove)
    return {"changed": module.check_mode, "diff": {"before": before, "after": after, "after_header": "packages"}}


def nouveau(module, setup):
    """Write the file, or say that it would be written."""
    path = Path(NOUVEAU_FILE)
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    changed = before != NOUVEAU_TEXT
    if changed and not module.check_mode:
        with turn(module, setup):
            setup.nouveau()
    return {"changed": changed, "diff": {"before": before, "after": NOUVEAU_TEXT, "after_header": NOUVEAU_FILE}}


def enrol(module, setup):
    """Ask for the key's enrolment, unless the firmware has it or was asked already."""
    found = setup.boot()
    wanted = bool(found["enrolment"]) and not found["pending"]
    if wanted and not module.check_mode:
        with turn(module, setup):
            module_key.request_enrolment(module.params["mok_password"], setup.work)
    return {"changed": wanted}


def removal(setup):
    """What taking the driver down would remove."""
    state = setup.root / "state"
    record = store.read_json(state / "driver.json") or store.read_json(state / "driver.pending") or {}
    listed = ["the driver {version} ({source})".format(**record)] if "version" in record else []
    listed += sorted(record.get("packages", {})) + ([NOUVEAU_FILE] if Path(NOUVEAU_FILE).exists() else [])
    diff = {"before": "".join(line + "\n" for line in listed), "after": "", "before_header": "the driver"}
    return {"changed": bool(listed), "diff": diff}


def turn(module, setup):
    """The lock of the host for one phase. Only of a phase that is followed does anybody hear while it waits."""
    phase = module.params["phase"]
    return setup.work.turn(setup.root, f"the driver, phase {phase}", phase in FOLLOWED)


def forget(module, setup):
    """Delete what is left of this machine's own key, or say that it would be deleted."""
    ours = module_key.leavings()
    diff = {"before": "".join(f"{path}\n" for path in ours), "after": "", "before_header": "the key"}
    told = ""
    if ours and not module.check_mode:
        with turn(module, setup):
            told = module_key.forget(ours)
    return {"changed": bool(ours), "diff": diff, "told": told}


def do(module, setup):
    """One phase; what it returns to Ansible."""
    phase = module.params["phase"]
    if phase == "check":
        found = setup.differences()
        return {"changed": False, "in_place": not found, "differences": found}
    if phase == "boot":
        return dict(setup.boot(), changed=False)
    if phase == "forget":
        return forget(module, setup)
    if phase == "preflight":
        return preflight(module, setup)
    if phase == "nouveau":
        return nouveau(module, setup)
    if phase == "enrol":
        return enrol(module, setup)
    # Where there is nothing to remove, taking one's turn would make the folder of the log anew.
    if phase == "remove" and (module.check_mode or not setup.removable()):
        return removal(setup)
    if module.check_mode:
        return {"changed": False}
    with turn(module, setup):
        if phase == "runfile":
            return {"changed": setup.runfile(module.params["file"])}
        return {"changed": bool(getattr(setup, phase)())}


def main():
    """Read the arguments, do the phase, tell a failure in one paragraph."""
    module = AnsibleModule(
        argument_spec={
            "phase": {
                "type": "str",
                "required": True,
                "choices": PHASES,
            },
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "driver": {"type": "dict", "default": {}},
            "boots": {"type": "str", "default": ""},
            "distribution": {"type": "str", "default": ""},
            "secure_boot": {"type": "str", "default": "unknown"},
            "file": {"type": "path"},
            "mok_password": {"type": "str", "no_log": True},
            "kept_only": {"type": "bool", "default": False},
            "wait_s": {"type": "int", "default": 300},
        },
        required_if=[("phase", "runfile", ["file"]), ("phase", "enrol", ["mok_password"])],
        supports_check_mode=True,
    )
    root = Path(module.params["root"])
    progress = root / "log" / "driver.progress"

    def say(text):
        """Leave the present step where the controller looks for it."""
        if not module.check_mode:
            files.write_whole(progress, text + "\n")

    asked = dict(module.params, hostname=socket.gethostname())
    try:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(files.temporary()) if module.check_mode else root / "log"
            work = Work(folder / "driver.log", say, module.params["wait_s"])
            answer = do(module, Setup(asked, work))
        module.exit_json(**answer)
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))
    except OSError as error:
        failure = store.unwritable(error, root)
        module.fail_json(msg=str(failure), exit_code=failure.exit_code)


if __name__ == "__main__":
    main()
