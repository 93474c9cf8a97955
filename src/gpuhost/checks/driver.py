"""Checks of the driver, from what is installed to what is loaded: the cause comes before what follows from it."""

import re
import shlex
from typing import TYPE_CHECKING, Callable, cast

from ..host.driver.judge import Packages, altered, is_module, mismatch
from ..host.probe.boot import is_choice
from ..host.probe.driver import COMMAND_LINE, LIBRARIES, MODPROBE_FOLDERS
from ..host.probe.fixes import AUTOMATIC
from ..host.probe.fixes import RECORD as OFFER
from ..host.probe.fixes import told as told_of_fixes
from ..host.probe.guard import PAIR_RECORD
from ..text import few
from ..types import present
from .base import DRIVER, GUARD, NOT_AUTOMATIC, Check, Outcome, held, on_host, skipped
from .found import CONTAINER, missing_traces, place
from .host import DRIVER_RECORD, KERNELS, LOADED, PACKAGES, RUNNING, observation
from .lock import installed, obeyed

if TYPE_CHECKING:
    from ..shapes.answers import InstalledDriver
    from ..shapes.lock import PlannedDriver
    from ..shapes.seen import Seen

#: What takes effect only from the next boot on.
REBOOT = on_host("reboot")
#: An update that a boot has to prove, and the watch that notes since when one waits.
ONCE = "./run ansible-playbook playbooks/update.yml -e update_once=true"
WATCH = "./run ansible-playbook playbooks/watch.yml"
#: The states of Secure Boot in which the kernel asks for no signature, in words.
UNASKED = {"disabled": "disabled", "unsupported": "unsupported", "not-enforced": "on, but shim does not validate"}
UNKNOWN_KERNEL = "which kernel runs and which one will boot could not be read, so its modules were not looked for"
#: What the running kernel asks of modules, whatever the firmware says.
ENFORCED = ("/sys/kernel/security/lockdown", "/sys/module/module/*")
#: modprobe's configuration, and that of the running kernel, as the probe reads them.
MODPROBE = (*(f"{folder}*" for folder in MODPROBE_FOLDERS), COMMAND_LINE)


def wanted(seen: "Seen") -> "PlannedDriver":
    """The lock's driver."""
    return cast("PlannedDriver", obeyed(seen)["plan"]["driver"])


def driver(seen: "Seen") -> "InstalledDriver":
    """Return the driver for the kernel that will boot: kernel, module, dkms, library, nouveau, kept_out, key and record
    (`host.probe.driver`).
    """
    return installed(seen)["driver"]


def unpacked_again(seen: "Seen", pattern: str) -> str:
    """Return the remedy for files of the driver that are missing or changed although dpkg lists their packages.

    apt would see nothing to do. So the kept packages whose names match `pattern` are unpacked again, and then held
    again. Where none is kept, the remedy is the one that installs the driver.
    """
    record, there = driver(seen)["record"], installed(seen)["guard"]["stack"]
    if record is None:
        return DRIVER
    kept = {name: digest for name, digest in record["debs"].items() if re.fullmatch("[0-9a-f]{64}", digest)}
    names = [name for name in sorted(kept) if re.fullmatch(pattern, name)]
    if not names or any(there.get(name) != record["packages"].get(name) for name in names):
        return DRIVER
    folder = shlex.quote(f"{installed(seen)['root']}/cache/debs")
    files = " ".join(f"{folder}/{kept[name]}/*.deb" for name in names)
    return on_host(f"dpkg --install {files}", GUARD)


def module_again(seen: "Seen") -> str:
    """The same for the module of the kernel that will boot, where it is the archive's; else DKMS makes it again."""
    record, kernel = driver(seen)["record"], driver(seen)["kernel"]
    if record is None or record["modules_from"] != "signed" or kernel is None:
        return DRIVER
    return unpacked_again(seen, f"linux-(modules|objects|signatures)-nvidia-.*{re.escape(kernel)}")


def is_installed(seen: "Seen") -> Outcome:
    """Check that the locked driver is installed, and unchanged since."""
    lock, found, there = wanted(seen), driver(seen), installed(seen)["guard"]["stack"]
    record, required = found["record"], f"driver {lock['version']} from the {lock['source']}"
    if record is None:
        return held(False, required, "no driver was installed by gpuhost, or not to the end", DRIVER)
    if (record["version"], record["source"]) != (lock["version"], lock["source"]):
        actual = f"driver {record['version']} from the {record['source']} was installed"
        return held(False, required, actual, DRIVER)
    told = altered(record, Packages(there, damaged=found["damaged"]))
    follows = mismatch(observation(seen)["nvidia"]["module_version"], found["library"])
    actual = (
        "; ".join(filter(None, [few(told, 3), follows if told else ""]))
        or f"driver {record['version']}, as it was installed"
    )
    return held(not told, required, actual, DRIVER)


def is_there(seen: "Seen") -> Outcome:
    """Judge the driver of a host without a lock: gpuhost's own by its record, another by whether there is one."""
    if driver(seen)["record"] is not None:
        return is_installed(seen)
    required, missing = "a driver of NVIDIA's", missing_traces(seen)
    if not missing and place(seen) == CONTAINER and driver(seen)["library"] is None:
        missing = ["no libnvidia-ml.so.1 in this container"]
    elif missing and driver(seen)["kernel"] is None:
        return skipped(required, UNKNOWN_KERNEL)
    return held(not missing, required, ", ".join(missing) or f"driver {wanted(seen)['version'] or 'there'}", "")


def by_record(judge: "Callable[[Seen], Outcome]") -> "Callable[[Seen], Outcome]":
    """Return the judgement, on a host without a lock, of what gpuhost's record of the driver has to say."""

    def judged(seen: "Seen") -> Outcome:
        if driver(seen)["record"] is None:
            return skipped("as gpuhost installed it", "gpuhost has not installed this driver")
        return judge(seen)

    return judged


def pinned_by(seen: "Seen") -> str:
    """The file by which the boot loader starts another kernel than the newest; "" where it does not."""
    kernel, boots = observation(seen)["kernel"], driver(seen)["kernel"]
    by = str(kernel["boots_by"])
    return by if is_choice(by) and boots and kernel["installed"] and kernel["installed"][-1] != boots else ""


def boots(seen: "Seen") -> Outcome:
    """Check that the kernel that will boot is the one that the driver was made for."""
    found = driver(seen)
    kernel, made = found["kernel"], present(found["record"])["kernel"]
    actual = f"{kernel or 'no kernel with an image in /boot'} will boot"
    tried = observation(seen)["kernel"].get("tried")
    if kernel == made and tried and tried["told"]:
        actual += f". {tried['told']}"
    else:
        actual += f": {pinned_by(seen)} says so" if pinned_by(seen) else ""
    return held(kernel == made, f"kernel {made}, which the driver was made for, will boot", actual, DRIVER)


def fixes(seen: "Seen") -> Outcome:
    """Check that a newer kernel of the archive's runs within a day, where updates are automatic; else tell that one
    waits.
    """
    found = installed(seen).get("fixes")
    if found is None:  # an older probe's answer
        return skipped("the newest kernel of the archive runs", "what the archive offers was not read")
    if found["unknown"]:
        required = f"the newest kernel of the archive runs: {found['unknown']}"
        return skipped(required, "not known" if found["automatic"] else NOT_AUTOMATIC)
    offered, running = found["offered"], observation(seen)["kernel"]["running"]
    if offered is None:
        return held(True, "the newest kernel of the archive runs", f"{running} runs, and nothing newer is offered", "")
    told = told_of_fixes(offered)
    if offered["days"] is None:
        required = f"the newest kernel of the archive runs: {told}. The watch notes since when ({WATCH})"
        return skipped(required, "since when it waits is not known" if found["automatic"] else NOT_AUTOMATIC)
    if not found["automatic"]:
        return held(True, "it is known which kernel waits", f"{told}. {NOT_AUTOMATIC.capitalize()}", "")
    return held(offered["days"] < 1, "a newer kernel of the archive runs within a day", told, ONCE)


def headers(seen: "Seen") -> Outcome:
    """Check that DKMS can build the module for the kernel that will boot."""
    found = driver(seen)
    if present(found["record"])["modules_from"] != "dkms":
        return held(True, "headers only where DKMS builds the module", "the archive's own modules need none", "")
    required = f"headers of {found['kernel']} for DKMS"
    actual = "there" if found["headers"] else f"/lib/modules/{found['kernel']}/build leads nowhere"
    return held(found["headers"], required, actual, DRIVER)


def headers_found(seen: "Seen") -> Outcome:
    """Judge the headers on a host without a lock: they count where DKMS has still to build the module."""
    found = driver(seen)
    if found["record"] is not None:
        return headers(seen)
    required = f"headers of {found['kernel']}, where DKMS has still to build the module"
    needed = found["module"] is None and found["dkms"]
    actual = f"/lib/modules/{found['kernel']}/build leads nowhere; dkms status: {'; '.join(found['dkms'][:2])}"
    return held(found["headers"] or not needed, required, actual if needed else "not needed", "")


def module(seen: "Seen") -> Outcome:
    """Check that the kernel that will boot has the locked module, in the right flavour."""
    lock, found = wanted(seen), driver(seen)
    required = f"the {lock['kernel_modules']} module {lock['version']} for kernel {found['kernel']}"
    if found["module"] is None:
        built = "; ".join(found["dkms"][:2])
        actual = "there is no module nvidia for it" + (f" (dkms status: {built})" if built else "")
        actual += f"; that it boots, {pinned_by(seen)} says so" if pinned_by(seen) else ""
        return held(False, required, actual, module_again(seen))
    flavour = "open" if found["module"]["open"] else "proprietary"
    right = is_module(found["module"], lock["version"], lock["kernel_modules"])
    actual = f"the {flavour} module {found['module']['version'] or 'of unknown version'}, {found['module']['path']}"
    return held(right, required, actual, DRIVER)


def module_found(seen: "Seen") -> Outcome:
    """Judge the module on a host without a lock; there nothing else has to be known before it."""
    if driver(seen)["kernel"] is None:
        return skipped("a module for the kernel that will boot", UNKNOWN_KERNEL)
    return module(seen)


def signed(seen: "Seen") -> Outcome:
    """Check that Secure Boot will let the kernel load the module."""
    state, found, module = observation(seen)["secure_boot"], driver(seen), driver(seen)["module"]
    if state in UNASKED:
        return held(True, "a signature where the kernel asks for one", f"Secure Boot is {UNASKED[state]}", "")
    required = "the module is signed by a key that Secure Boot accepts"
    if module is None:
        return skipped(required, "whether there is a module could not be read")
    signer = module["signer"]
    if module["signed"] is None and not signer:
        return skipped(required, "what modinfo says does not show whether the module is signed")
    if not module["signed"]:
        if state == "unknown":
            return skipped(
                required, "the module is unsigned and Secure Boot's state cannot be read", on_host("mokutil --sb-state")
            )
        asks = "Secure Boot is enabled" if state == "enabled" else "the kernel is locked down"
        return held(False, required, f"{asks} and the module is unsigned", module_again(seen))
    signer = signer or "a key whose name this modinfo does not tell"
    key, loaded = found["key"], observation(seen)["nvidia"]["module_loaded"]
    if wanted(seen)["secure_boot"] == "own-key" and not key["enrolled"] and (key["enrolled"] is False or not loaded):
        return held(False, required, f"signed by {signer}, a key that is not enrolled", DRIVER)
    return held(True, required, f"signed by {signer}", "")


def nouveau(seen: "Seen") -> Outcome:
    """Check that nouveau is kept out, now and at the next boot."""
    found, told = driver(seen)["nouveau"], []
    if not found["blacklisted"]:
        told.append("nouveau is not blacklisted")
    if found["in_initramfs"]:
        told.append("the initramfs loads it")
    if found["loaded"]:
        told.append("it is loaded now")
    return held(not told, "nouveau stays out", "; ".join(told) or "blacklisted, and not loaded", DRIVER)


def nouveau_found(seen: "Seen") -> Outcome:
    """Judge nouveau on a host without a lock: while NVIDIA's module has the cards, nothing else matters."""
    held_by = {card["kernel_driver"] for card in observation(seen)["gpus"]}
    strict = driver(seen)["record"] is not None
    if strict or "nouveau" in held_by or not observation(seen)["nvidia"]["module_loaded"]:
        return nouveau(seen)
    return held(True, "nouveau stays out", "NVIDIA's module is loaded, and nouveau has no card", "")


INSTALLED = (
    Check(
        "driver.installed",
        "The driver is installed",
        "An update that replaces the driver leaves a module and libraries that do not fit one another.",
        is_installed,
        (*PACKAGES, DRIVER_RECORD, "dpkg --verify"),
        ("lock.provisioned",),
        gpu=True,
        found=is_there,
        found_sources=(*LIBRARIES, "/proc/modules", "modinfo"),
    ),
)
CHECKS = (
    Check(
        "kernel.boots",
        "The driver's kernel will boot",
        "A newer kernel boots without the module that was made for the old one.",
        boots,
        (*KERNELS, DRIVER_RECORD),
        ("driver.installed",),
        gpu=True,
        found=by_record(boots),
    ),
    Check(
        "kernel.fixes",
        "Security fixes of the kernel are in force",
        "The guard keeps newer kernels away from the driver, and with them the fixes that they bring.",
        fixes,
        (*RUNNING, *PACKAGES, "apt-cache *", *(f"{{root}}/{name}" for name in (OFFER, AUTOMATIC, PAIR_RECORD))),
        ("kernel.boots",),
        gpu=True,
    ),
    Check(
        "kernel.headers",
        "The module can be built",
        "DKMS skips a kernel without headers, and says so only in its log.",
        headers,
        (*KERNELS, DRIVER_RECORD),
        ("kernel.boots",),
        gpu=True,
        found=headers_found,
    ),
    Check(
        "driver.module",
        "The module for that kernel is there",
        "The next boot loads this one, whatever runs now.",
        module,
        (*KERNELS, "modinfo"),
        ("kernel.headers",),
        gpu=True,
        found=module_found,
    ),
    Check(
        "driver.signed",
        "Secure Boot accepts the module",
        "A module without an accepted signature is refused at boot.",
        signed,
        (*KERNELS, "modinfo", "mokutil *", "/sys/firmware/*", *ENFORCED, *LOADED),
        ("driver.module",),
        gpu=True,
        found=signed,
    ),
    Check(
        "driver.nouveau",
        "nouveau stays out",
        "It takes the card first, and the driver cannot have it then.",
        nouveau,
        (*KERNELS, *MODPROBE, "lsinitramfs", "/proc/modules"),
        ("driver.installed",),
        gpu=True,
        found=nouveau_found,
        found_sources=(*KERNELS, "/proc/modules"),
    ),
)
