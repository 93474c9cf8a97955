"""Diagnoses of the kernel's side: module, signature, nouveau, device nodes, and the card itself."""

import shlex

from ..checks.base import DRIVER, RELOCK, on_host
from ..checks.card import (
    FALLEN,
    LEGACY,
    LOOK,
    REFUSED,
    are_apart,
    holders,
    is_silent,
    kernel_says,
    signs,
    uvm_is_missing,
)
from ..checks.driver import REBOOT, driver, wanted
from ..checks.host import observation
from ..host.guard.rules import is_of_kernel
from ..host.probe.driver import CERTIFICATE
from ..types import Json
from .base import Diagnosis, Sign


def without_newer_kernel(seen: Json) -> str:
    """The command that lets the driver's kernel boot again; where that one is gone, what installs the driver anew."""
    made, boots = driver(seen)["record"]["kernel"], driver(seen)["kernel"]
    names = [
        name
        for name, package in sorted(observation(seen)["packages"].items())
        if is_of_kernel(name, str(boots)) and str(boots) in name and package["state"] == "installed"
    ]
    there = made in observation(seen)["kernel"]["installed"]
    return on_host(f"apt-get purge -y {' '.join(map(shlex.quote, names))}") if there and names else DRIVER


def other_flavour(seen: Json) -> bool:
    """Return whether the module is of the other flavour, open or proprietary, than the locked one."""
    module = driver(seen)["module"]
    return module is not None and module["open"] != (wanted(seen)["kernel_modules"] == "open")


def without_nouveau(seen: Json) -> str:
    """What keeps nouveau out: a new initramfs where only that is old, a reboot where all is right for the next one."""
    found = driver(seen)["nouveau"]
    if not found["blacklisted"]:
        return DRIVER
    renew = f"update-initramfs -u -k {shlex.quote(str(driver(seen)['kernel']))}"
    return on_host(renew) if found["in_initramfs"] else REBOOT


def held_by_nouveau(seen: Json) -> bool:
    """Return whether nouveau has bound the card."""
    return "nouveau" in holders(seen)


def refused(seen: Json) -> bool:
    """Return whether the kernel's log says that it refused a module."""
    return kernel_says(seen, REFUSED) is not None


def is_unsigned(seen: Json) -> bool:
    """Return whether the module for the next boot is unsigned."""
    module = driver(seen)["module"]
    return module is not None and module["signed"] is False


def not_served(seen: Json) -> bool:
    """Return whether the kernel's log says that this driver passes the card over."""
    return kernel_says(seen, LEGACY) is not None


def is_lost(seen: Json) -> bool:
    """Return whether a card is silent, the kernel's log says that it is lost, or nvidia-smi fails."""
    failing = observation(seen)["nvidia"]["smi"]["status"] != "ok"
    return kernel_says(seen, FALLEN) is not None or is_silent(seen) or failing


def only_memory_is_missing(seen: Json) -> bool:
    """Return whether the driver's own nodes are there and only CUDA's is missing."""
    return uvm_is_missing(seen) and "nvidiactl" in signs(seen)["nodes"]


TABLE = (
    Diagnosis(
        "D13",
        "This driver does not serve this card",
        "The branch has dropped the card's generation, or the module is of the wrong kind (open, closed) for it.",
        "Plan anew: the last branch that serves the card is chosen, with the modules it needs.",
        signs=(Sign("driver.module", other_flavour), Sign("driver.cards", not_served, lambda seen: RELOCK)),
        elsewhere=(
            "the plan",
            "playbooks/driver.yml",
        ),
    ),
    Diagnosis(
        "D08",
        "No module for the kernel that will boot",
        "A newer kernel came in, and the module was not packaged or built for it: no headers, or no DKMS.",
        "Install the module for that kernel, or the kernel that the module is for, and hold both.",
        signs=(
            Sign("kernel.boots", remedy=without_newer_kernel),
            Sign("kernel.headers"),
            Sign("driver.module"),
        ),
        elsewhere=(
            "playbooks/driver.yml",
            "playbooks/guard.yml",
        ),
    ),
    Diagnosis(
        "D12",
        "The machine owner's key was never enrolled",
        "The key was asked for, and the blue screen at the next start was missed.",
        f"Ask for it again (mokutil --import {CERTIFICATE}), reboot, and choose Enroll MOK on the blue screen.",
        signs=(
            Sign(
                "driver.signed",
                lambda seen: not is_unsigned(seen),
                lambda seen: on_host(f"mokutil --import {CERTIFICATE} && reboot  # on its blue screen: Enroll MOK"),
            ),
        ),
        elsewhere=("playbooks/driver.yml",),
    ),
    Diagnosis(
        "D11",
        "Secure Boot refuses the module",
        "Secure Boot is on, and the module is not signed, or not by a key that the firmware knows.",
        "Take the archive's signed modules, or sign with the machine's own key and enrol it. Secure Boot stays on.",
        signs=(Sign("driver.signed"), Sign("driver.loaded", refused)),
        elsewhere=("playbooks/driver.yml",),
    ),
    Diagnosis(
        "D10",
        "nouveau takes the card",
        "It is not blacklisted, or the initramfs was made before it was, so that it loads first.",
        "Blacklist it, make the initramfs anew and reboot: playbooks/driver.yml does.",
        signs=(Sign("driver.nouveau", remedy=without_nouveau), Sign("driver.loaded", held_by_nouveau)),
        elsewhere=("playbooks/driver.yml",),
    ),
    Diagnosis(
        "D01",
        "Driver and library are of two versions",
        "The libraries were upgraded while the older module was loaded; NVML and CUDA refuse to start.",
        "Reboot, so that the module of the new version is loaded; then hold the packages.",
        signs=(Sign("driver.loaded", are_apart), Sign("driver.match", are_apart)),
        elsewhere=("playbooks/driver.yml",),
    ),
    Diagnosis(
        "D09",
        "The new driver or kernel has not been booted yet",
        "What was installed takes effect at the next start; until then the old kernel or module runs, or none.",
        "Reboot, and verify after it.",
        signs=(Sign("driver.loaded"),),
        elsewhere=("site.yml",),
    ),
    Diagnosis(
        "D14",
        "nvidia-smi works, and CUDA says: unknown error",
        "The module nvidia_uvm is not loaded, or its device node was never made.",
        "Load it and make the node: nvidia-modprobe -u -c=0, or a reboot where the packages' rules do it.",
        signs=(
            Sign(
                "driver.nodes",
                only_memory_is_missing,
                lambda seen: on_host("nvidia-modprobe -u -c=0 || reboot"),
            ),
        ),
    ),
    Diagnosis(
        "D16",
        "The card does not answer",
        "It fell off the bus or could not be started: power, heat, its seat, firmware settings, or the card itself.",
        "Read the kernel's lines, switch the machine off, look at cables, seat and fans; then start it again.",
        signs=(Sign("driver.cards", is_lost, lambda seen: LOOK),),
    ),
)
