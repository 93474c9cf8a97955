"""Checks of the driver, from what is installed to what is loaded: the cause comes before what follows from it."""

from __future__ import annotations

import re
from typing import Dict, List

from .catalog import Json
from .checks_base import INSTALL, RELOCK, Check, Outcome, held, skipped
from .checks_host import observation
from .checks_lock import installed, obeyed
from .guard import is_family

REBOOT = f"On the host: reboot. If it stays so: {INSTALL}"
#: A card that is on the bus and does not answer is mostly hardware: its seat, its power, its heat.
LOOK = "On the host: dmesg | grep -E 'NVRM|Xid' names the cause. Mostly it is power, heat or the card's seat."


def wanted(seen: Json) -> Json:
    """The lock's driver."""
    return dict(obeyed(seen)["plan"]["driver"])


def driver(seen: Json) -> Json:
    """The driver as the probe read it for the kernel that will boot."""
    return dict(installed(seen)["driver"])


def replaced(record: Json, there: Dict[str, str]) -> List[str]:
    """The recorded driver packages that are no longer at their versions, each with both."""
    told = []
    for name, version in sorted(record["packages"].items()):
        if there.get(name, version) != version:
            told.append(f"{name} is {there[name]}, installed was {version}")
        elif name not in there and is_family(name):
            told.append(f"{name} {version} is gone")
    return told


def other_branches(record: Json, there: Dict[str, str]) -> List[str]:
    """The installed driver packages of another branch; a transitional name that leads to this one is none."""
    return [
        name
        for name, version in sorted(there.items())
        if re.match(r"nvidia-driver-\d", name) and not version.startswith(f"{record['version']}-")
        if name not in record["packages"]
    ]


def is_installed(seen: Json) -> Outcome:
    """Is the locked driver installed, and still the one that was installed?"""
    lock, found, there = wanted(seen), driver(seen), installed(seen)["guard"]["stack"]
    record, required = found["record"], f"driver {lock['version']} from the {lock['source']}"
    if record is None:
        return held(False, required, "no driver was installed by gpuhost, or not to the end", INSTALL)
    if (record["version"], record["source"]) != (lock["version"], lock["source"]):
        actual = f"driver {record['version']} from the {record['source']} was installed"
        return held(False, required, actual, INSTALL, "D04" if record["branch"] != lock["branch"] else None)
    told = replaced(record, there)
    jumped = other_branches(record, there)
    told += [f"{name} {there[name]} came beside it" for name in jumped]
    loaded = observation(seen)["nvidia"]["module_version"]
    if told and loaded and found["library"] not in (None, loaded):
        told.append(f"so nvidia-smi and CUDA fail (D01: loaded is {loaded}, the library is {found['library']})")
    actual = "; ".join(told[:3] + told[3:][-1:]) or f"driver {record['version']}, as it was installed"
    return held(not told, required, actual, INSTALL, "D04" if jumped else "D02")


def boots(seen: Json) -> Outcome:
    """Is the kernel that will boot the one that the driver was made for?"""
    found = driver(seen)
    kernel, made = found["kernel"], found["record"]["kernel"]
    actual = f"{kernel or 'no kernel with an image in /boot'} will boot"
    return held(kernel == made, f"kernel {made}, which the driver was made for, will boot", actual, INSTALL, "D08")


def headers(seen: Json) -> Outcome:
    """Can DKMS build the module for the kernel that will boot?"""
    found = driver(seen)
    if found["record"]["modules_from"] != "dkms":
        return held(True, "headers only where DKMS builds the module", "the archive's own modules need none", "")
    required = f"headers of {found['kernel']} for DKMS"
    actual = "there" if found["headers"] else f"/lib/modules/{found['kernel']}/build leads nowhere"
    return held(found["headers"], required, actual, INSTALL, "D08")


def module(seen: Json) -> Outcome:
    """Is the locked module in place for the kernel that will boot, in the right flavour?"""
    lock, found = wanted(seen), driver(seen)
    required = f"the {lock['kernel_modules']} module {lock['version']} for kernel {found['kernel']}"
    if found["module"] is None:
        built = "; ".join(found["dkms"][:2])
        actual = "there is no module nvidia for it" + (f" (dkms status: {built})" if built else "")
        return held(False, required, actual, INSTALL, "D08")
    flavour = "open" if found["module"]["open"] else "proprietary"
    right = (found["module"]["version"], flavour) == (lock["version"], lock["kernel_modules"])
    actual = f"the {flavour} module {found['module']['version'] or 'of unknown version'}, {found['module']['path']}"
    return held(right, required, actual, INSTALL, "D08")


def signed(seen: Json) -> Outcome:
    """Will Secure Boot let the kernel load the module?"""
    state, found, signer = observation(seen)["secure_boot"], driver(seen), driver(seen)["module"]["signer"]
    if state in ("disabled", "unsupported"):
        return held(True, "a signature where Secure Boot asks for one", f"Secure Boot is {state}", "")
    required = "the module is signed by a key that Secure Boot accepts"
    if not signer:
        if state == "unknown":
            return skipped(
                required, "the module is unsigned and Secure Boot's state cannot be read", "mokutil --sb-state"
            )
        return held(False, required, "Secure Boot is enabled and the module is unsigned", INSTALL, "D11")
    key, loaded = found["key"], observation(seen)["nvidia"]["module_loaded"]
    if wanted(seen)["secure_boot"] == "own-key" and not key["enrolled"] and (key["enrolled"] is False or not loaded):
        remedy = f"{INSTALL} leads through the enrolment: mokutil --import, reboot, Enroll MOK on the blue screen"
        return held(False, required, f"signed by {signer}, a key that is not enrolled", remedy, "D12")
    return held(True, required, f"signed by {signer}", "")


def nouveau(seen: Json) -> Outcome:
    """Is nouveau kept out, now and at the next boot?"""
    found, told = driver(seen)["nouveau"], []
    if not found["blacklisted"]:
        told.append("nouveau is not blacklisted")
    if found["in_initramfs"]:
        told.append("the initramfs loads it")
    remedy = INSTALL if told else REBOOT
    if found["loaded"]:
        told.append("it is loaded now")
    return held(not told, "nouveau stays out", "; ".join(told) or "blacklisted, and not loaded", remedy, "D10")


def loaded(seen: Json) -> Outcome:
    """Is the loaded kernel module the locked driver's?"""
    version, found = wanted(seen)["version"], observation(seen)["nvidia"]
    required, reboot = f"driver {version} is loaded", observation(seen)["reboot_required"]
    if not found["module_loaded"]:
        others = sorted({c["kernel_driver"] for c in observation(seen)["gpus"] if c["kernel_driver"]})
        actual = f"the nvidia module is not loaded; the card is held by {', '.join(others) or 'no driver'}"
        actual += "; the host asks for a reboot" if reboot else ""
        return held(False, required, actual, REBOOT, "D10" if "nouveau" in others else "D09")
    library = driver(seen)["library"]
    apart = library is not None and library != found["module_version"]
    actual = f"driver {found['module_version'] or 'of unknown version'} is loaded"
    actual += f", the library is {library}" if apart else ""
    return held(found["module_version"] == version, required, actual, REBOOT, "D01" if apart else "D09")


def match(seen: Json) -> Outcome:
    """Are the driver's library and the loaded module of one version?"""
    module_version, library = observation(seen)["nvidia"]["module_version"], driver(seen)["library"]
    actual = f"the library is {library}" if library else "there is no libnvidia-ml.so.1"
    return held(library == module_version, f"the library is {module_version}, as the module", actual, INSTALL, "D01")


def listed(seen: Json) -> Outcome:
    """Does the driver's own tool list each locked card?"""
    smi = observation(seen)["nvidia"]["smi"]
    required = f"nvidia-smi lists {len(obeyed(seen)['cards'])} locked cards"
    if smi["status"] != "ok":
        return held(False, required, smi["message"] or "nvidia-smi failed", LOOK, "D16")
    cards = list(observation(seen)["gpus"])
    missing, silent = [], False
    for card in obeyed(seen)["cards"]:
        same = [c for c in cards if (c["uuid"] == card["uuid"] if card["uuid"] else c["pci_id"] == card["pci_id"])]
        match = [c for c in same if c["readable"]]
        if match:
            cards.remove(match[0])
        else:
            missing.append(f"{card['uuid'] or card['pci_id']} ({card['pci_address']})")
            # A card that does not answer has lost its uuid; on the bus it is still what it was.
            silent |= any(c["pci_id"] == card["pci_id"] and not c["readable"] for c in cards)
    actual = f"missing: {', '.join(missing)}" if missing else "all listed"
    return held(not missing, required, actual, LOOK if silent else RELOCK, "D16" if silent else None)


INSTALLED = (
    Check(
        "driver.installed",
        "The locked driver is installed",
        "An update that replaces the driver leaves a module and libraries that do not fit one another.",
        is_installed,
        ("lock.provisioned",),
        gpu=True,
    ),
)
CHECKS = (
    Check(
        "kernel.boots",
        "The driver's kernel will boot",
        "A newer kernel boots without the module that was made for the old one.",
        boots,
        ("driver.installed",),
        gpu=True,
    ),
    Check(
        "kernel.headers",
        "The module can be built",
        "DKMS skips a kernel without headers, and says so only in its log.",
        headers,
        ("kernel.boots",),
        gpu=True,
    ),
    Check(
        "driver.module",
        "The module for that kernel is there",
        "The next boot loads this one, whatever runs now.",
        module,
        ("kernel.headers",),
        gpu=True,
    ),
    Check(
        "driver.signed",
        "Secure Boot accepts the module",
        "A module without an accepted signature is refused at boot.",
        signed,
        ("driver.module",),
        gpu=True,
    ),
    Check(
        "driver.nouveau",
        "nouveau stays out",
        "It takes the card first, and the driver cannot have it then.",
        nouveau,
        ("driver.installed",),
        gpu=True,
    ),
    Check(
        "driver.loaded",
        "The locked driver is loaded",
        "What is installed counts only from the next boot on.",
        loaded,
        ("gpu.present", "driver.signed", "driver.nouveau"),
        gpu=True,
    ),
    Check(
        "driver.match",
        "Library and module match",
        "NVML and CUDA refuse a module of another version.",
        match,
        ("driver.loaded",),
        gpu=True,
    ),
    Check(
        "driver.cards",
        "The driver lists each locked card",
        "A driver that is loaded need not serve the card.",
        listed,
        ("driver.match",),
        gpu=True,
    ),
)
