"""Checks of VirtualBox: the locked one is there, once, for the kernel that will boot, signed, and machines can start.

Where gpuhost has not installed it none of them is made: it is off unless somebody asks for it.
"""

from typing import TYPE_CHECKING, Any, Mapping, cast

from ..host.guard.rules import PREFERENCES
from ..host.probe.driver import CERTIFICATE
from ..host.probe.virtualbox import AT_LOAD, DEVICE, LOADED_RELEASE, ORACLES, PROGRAM
from ..host.virtualbox import judge
from ..host.virtualbox.packages import MODULES
from ..types import present
from .base import GUARD, Check, Outcome, held, on_host, skipped
from .driver import REBOOT, UNASKED
from .host import KERNELS, LOADED, PACKAGES, RUNNING, observation
from .lock import installed

if TYPE_CHECKING:
    from ..shapes.answers import Virtualbox, VirtualboxRecord
    from ..shapes.seen import Seen

PLAYBOOK = "./run ansible-playbook playbooks/virtualbox.yml"
#: What its checks begin with.
SUBJECT = "virtualbox"
#: The record of what was installed.
RECORD = "{root}/state/virtualbox.json"
#: What asks for the key once more, at the machine.
ENROL = on_host(f"mokutil --import {CERTIFICATE} && reboot # on its blue screen: Enroll MOK")
LOAD, UNLOAD = f"modprobe -a {' '.join(MODULES)}", f"modprobe -r {' '.join(reversed(MODULES))}"
#: Readable and writable by its owner alone: the programs that reach it are root's, and let users in.
RIGHTS = 0o600


def virtualbox(seen: "Seen") -> "Virtualbox":
    """VirtualBox as the probe read it for the kernel that will boot."""
    return cast("Virtualbox", installed(seen).get("virtualbox") or {})


def is_there(seen: "Seen") -> bool:
    """Return whether gpuhost has installed VirtualBox on the host: there is a record of it, even one that is unread."""
    found: Mapping[str, Any] = seen["machine"].get("installed") or {}
    record = RECORD.replace("{root}", str(found.get("root")))
    unread = any(problem["what"] == record for problem in found.get("problems", []))
    return unread or bool((found.get("virtualbox") or {}).get("record"))


def wanted(seen: "Seen") -> "VirtualboxRecord":
    """What was installed, as the record says it."""
    return present(virtualbox(seen)["record"])


def one(seen: "Seen") -> Outcome:
    """Check that VirtualBox is there once, and as it was installed."""
    found, record = virtualbox(seen), wanted(seen)
    required = f"VirtualBox {record['version']} alone, as it was installed"
    twice = judge.together(found)
    if twice:
        return held(False, required, twice[0].what, PLAYBOOK)
    told = judge.replaced(found)
    return held(not told, required, "; ".join(told) or f"VirtualBox {record['version']}", PLAYBOOK)


def modules(seen: "Seen") -> Outcome:
    """Check that the kernel that will boot has the modules."""
    found = virtualbox(seen)
    required = f"modules of VirtualBox {wanted(seen)['version']} for kernel {found['kernel']}"
    if found["kernel"] is None:
        return skipped(required, "which kernel will boot is not known")
    lacking = judge.missing(found)
    if lacking:
        return held(False, required, lacking[0].what, on_host(lacking[0].remedy, PLAYBOOK))
    return held(True, required, ", ".join(sorted(found["modules"])), "")


def release(seen: "Seen") -> Outcome:
    """Check that modules, program and record are of one release."""
    found, record = virtualbox(seen), wanted(seen)
    required = f"modules and VBoxManage of {record['version']}"
    told = judge.other_release(found, record)
    if not told and found["loaded"] not in (None, record["version"]):
        return held(False, required, f"vboxdrv {found['loaded'] or 'of unknown release'} is loaded", REBOOT)
    return held(not told, required, told[0].what if told else f"all of {record['version']}", PLAYBOOK)


def signed(seen: "Seen") -> Outcome:
    """Check that Secure Boot will let the kernel load the modules."""
    state, found = observation(seen)["secure_boot"], virtualbox(seen)
    if state in UNASKED:
        return held(True, "a signature where the kernel asks for one", f"Secure Boot is {UNASKED[state]}", "")
    required = "the modules are signed by a key that Secure Boot accepts"
    if state == "unknown":
        return skipped(required, "Secure Boot's state cannot be read", on_host("mokutil --sb-state"))
    modules = {name: present(module) for name, module in found["modules"].items()}
    bare = sorted(name for name, module in modules.items() if module["signed"] is False)
    if bare:
        return held(False, required, f"{', '.join(bare)} is unsigned", PLAYBOOK)
    signers = sorted({module["signer"] or "a key that modinfo does not name" for module in modules.values()})
    if found["key"]["made"] and found["key"]["enrolled"] is False:
        return held(False, required, f"signed by {', '.join(signers)}, a key that is not enrolled", ENROL)
    return held(True, required, f"signed by {', '.join(signers)}", "")


def loaded(seen: "Seen") -> Outcome:
    """Check that the module is loaded, and reached by VirtualBox's own programs alone."""
    found, running = virtualbox(seen), observation(seen)["kernel"]["running"]
    required = f"vboxdrv is loaded, and {DEVICE} is root's alone"
    if found["loaded"] is None:
        if running != found["kernel"]:
            return held(False, required, f"kernel {running} runs, {found['kernel']} will boot", REBOOT)
        return held(False, required, "vboxdrv is not loaded", on_host(LOAD, PLAYBOOK))
    device = found["device"]
    if device is None:
        # The kernel makes the device as it loads the module, and never again. While machines run nothing is unloaded.
        return held(False, required, f"there is no {DEVICE}", on_host(f"{UNLOAD} && {LOAD}"))
    if (device["uid"], device["gid"]) != (0, 0) or device["mode"] & ~RIGHTS:
        actual = f"{DEVICE} has the rights {device['mode']:o} of {device['uid']}:{device['gid']}"
        return held(False, required, actual, on_host(f"chown root:root {DEVICE} && chmod {RIGHTS:o} {DEVICE}"))
    return held(True, required, "so it is", "")


def group(seen: "Seen") -> Outcome:
    """Check that the users who were let in are in the group."""
    found, joined = virtualbox(seen)["members"], wanted(seen)["joined"]
    required = f"in the group vboxusers: {', '.join(joined)}" if joined else "the group vboxusers"
    if found is None:
        return held(False, required, "there is no group vboxusers", PLAYBOOK)
    absent = [name for name in joined if name not in found]
    return held(not absent, required, f"not in it: {', '.join(absent)}" if absent else "so it is", PLAYBOOK)


def processor(seen: "Seen") -> Outcome:
    """Check that KVM leaves the CPU's virtualisation to VirtualBox."""
    found, running = virtualbox(seen), observation(seen)["kernel"]["running"]
    need = judge.in_the_way(found, running)
    required = "the CPU's virtualisation is free, or shared"
    if need is None:
        return held(True, required, ", ".join(found["kvm"]["loaded"]) or "KVM is not loaded", "")
    return held(False, required, need.what, on_host(need.remedy))


def kept(seen: "Seen") -> Outcome:
    """Check that updates leave VirtualBox alone."""
    guard, record = installed(seen)["guard"], wanted(seen)
    names = sorted(record["packages"])
    if not names:
        return held(True, "no package of an archive to hold", "Oracle's own file is not a package", "")
    free = [name for name in names if name not in guard["held"]]
    loose = [name for name in names if guard["pins"].get(name) != record["packages"][name]]
    told = [f"not on hold: {', '.join(free)}"] if free else []
    told += [f"not pinned: {', '.join(loose)}"] if loose else []
    return held(not told, f"{', '.join(names)} on hold and pinned", "; ".join(told) or "all of them", GUARD)


def check(name: str, title: str, purpose: str, judged: object, *sources: str, needs: str = "") -> Check:
    """Return a check of VirtualBox, which rests on its record."""
    before = (f"virtualbox.{needs}",) if needs else ("host.observed", "lock.present")
    return Check(f"virtualbox.{name}", title, purpose, judged, (RECORD, *sources), before)  # type: ignore[arg-type]


CHECKS = (
    check(
        "one",
        "The locked VirtualBox is there, once",
        "Two packagings take each other's program and modules away; an update that replaces it leaves machines behind.",
        one,
        *PACKAGES,
        f"{ORACLES}/VBoxManage",
    ),
    check(
        "modules",
        "The modules for the kernel that will boot are there",
        "A newer kernel boots without the modules that were built for the old one, and no machine starts.",
        modules,
        *KERNELS,
        "modinfo",
        needs="one",
    ),
    check(
        "release",
        "Modules and program are of one release",
        "A program refuses a module of another release.",
        release,
        "modinfo",
        PROGRAM,
        "VBoxManage --version",
        LOADED_RELEASE,
        needs="modules",
    ),
    check(
        "signed",
        "Secure Boot accepts the modules",
        "A module without an accepted signature is refused at boot.",
        signed,
        "mokutil *",
        "/sys/firmware/*",
        needs="release",
    ),
    check(
        "loaded",
        "The modules are in use",
        "Until then no machine starts; a device that others may open gives them the kernel.",
        loaded,
        *LOADED,
        *RUNNING,
        DEVICE,
        needs="signed",
    ),
    check(
        "processor",
        "KVM leaves the CPU to VirtualBox",
        "From kernel 6.12 on KVM takes the CPU's virtualisation when it is loaded, and no machine starts.",
        processor,
        "/proc/modules",
        AT_LOAD,
        needs="loaded",
    ),
    check(
        "group",
        "The users are let in",
        "Without the group their machines have no USB devices.",
        group,
        "/etc/group",
        needs="one",
    ),
    check(
        "kept",
        "Updates leave VirtualBox alone",
        "One package that is not held is enough for an update to replace it.",
        kept,
        *PACKAGES,
        PREFERENCES,
        needs="one",
    ),
)
