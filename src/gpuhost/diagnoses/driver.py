"""Diagnoses of the kernel's side: module, signature, nouveau, device nodes, and the card itself."""

import re
import shlex
from typing import TYPE_CHECKING, Callable

from ..checks.base import DRIVER, RELOCK, on_host
from ..checks.card import (
    FALLEN,
    LEGACY,
    LOOK,
    LOST,
    REFUSED,
    RESET,
    are_apart,
    closed,
    holders,
    kernel_says,
    signs,
    smi_says,
    uvm_is_missing,
    without_instances,
)
from ..checks.cuda import COMPAT, NO_DEVICE, NOT_OPENED, OTHER_VERSION, answer, init_code
from ..checks.driver import REBOOT, driver, pinned_by, wanted
from ..checks.found import CONTAINER, is_as_found, missing_traces, place
from ..checks.host import observation
from ..host.guard.rules import is_of_kernel
from ..host.probe.driver import CERTIFICATE
from ..types import present
from . import by_hand
from .base import Diagnosis, Sign

if TYPE_CHECKING:
    from ..shapes.seen import Seen


def without_newer_kernel(seen: "Seen") -> str:
    """The command that lets the driver's kernel boot again; where that one is gone, what installs the driver again.

    A kernel that runs is not removed: its package asks first, and advises against it. The driver is brought to it.
    """
    record, boots = driver(seen)["record"], driver(seen)["kernel"]
    made = present(record)["kernel"]
    if boots is not None and observation(seen)["kernel"]["running"] == boots:
        return DRIVER if present(record)["modules_from"] == "dkms" else RELOCK
    names = [
        name
        for name, package in sorted(observation(seen)["packages"].items())
        if is_of_kernel(name, str(boots)) and str(boots) in name and package["state"] == "installed"
    ]
    there = made in observation(seen)["kernel"]["installed"]
    return on_host(f"apt-get purge {' '.join(map(shlex.quote, names))}") if there and names else DRIVER


def other_flavour(seen: "Seen") -> bool:
    """Return whether the module is of the other flavour, open or proprietary, than the locked one."""
    module = driver(seen)["module"]
    return module is not None and module["open"] != (wanted(seen)["kernel_modules"] == "open")


def without_nouveau(seen: "Seen") -> str:
    """What keeps nouveau out: a new initramfs where only that is old, a reboot where all is right for the next one."""
    found = driver(seen)["nouveau"]
    if not found["blacklisted"]:
        return DRIVER
    renew = f"update-initramfs -u -k {shlex.quote(str(driver(seen)['kernel']))}"
    return on_host(renew) if found["in_initramfs"] else REBOOT


def held_by_nouveau(seen: "Seen") -> bool:
    """Return whether nouveau has bound the card."""
    return "nouveau" in holders(seen)


def is_pinned_past_the_driver(seen: "Seen") -> bool:
    """Return whether the boot loader passes over the newest kernel, which gpuhost has made the driver for."""
    record, installed = driver(seen)["record"], observation(seen)["kernel"]["installed"]
    return pinned_by(seen) != "" and record is not None and installed[-1] == record["kernel"]


def is_pinned_past_a_module(seen: "Seen") -> bool:
    """Return whether the boot loader chooses a kernel without a module, while the driver works with the newest."""
    found = observation(seen)
    works = found["nvidia"]["module_loaded"] and found["kernel"]["running"] in found["kernel"]["installed"][-1:]
    return pinned_by(seen) != "" and driver(seen)["module"] is None and works


def refused(seen: "Seen") -> bool:
    """Return whether the kernel's log says that it refused a module."""
    return kernel_says(seen, REFUSED) is not None


def is_unsigned(seen: "Seen") -> bool:
    """Return whether the module for the next boot is unsigned."""
    module = driver(seen)["module"]
    return module is not None and module["signed"] is False


def not_served(seen: "Seen") -> bool:
    """Return whether the kernel's log says that this driver passes the card over."""
    return kernel_says(seen, LEGACY) is not None


def is_kept_out(seen: "Seen") -> bool:
    """Return whether a setting keeps the driver itself out."""
    return bool(driver(seen)["kept_out"])


def is_lost(seen: "Seen") -> bool:
    """Return whether the kernel's log or nvidia-smi reports a lost card; that nvidia-smi fails is not enough."""
    return kernel_says(seen, FALLEN) is not None or smi_says(seen, LOST)


def waits_for_reset(seen: "Seen") -> bool:
    """Return whether nvidia-smi, or the last word of the kernel about it, says that a card has to be reset."""
    return smi_says(seen, RESET) or re.search(RESET, kernel_says(seen, "Xid .*: 154,") or "") is not None


def is_forbidden(seen: "Seen") -> bool:
    """Return whether NVML says that whoever asked may not use the driver."""
    return smi_says(seen, "insufficient permissions")


def library_is_ahead(seen: "Seen") -> bool:
    """Return whether only the library was replaced on a host without a lock: disk and kernel have one module."""
    module, loaded = driver(seen)["module"], observation(seen)["nvidia"]["module_version"]
    return is_as_found(seen) and module is not None and module["version"] == loaded and are_apart(seen)


def only_memory_is_missing(seen: "Seen") -> bool:
    """Return whether the driver's own nodes are there and only CUDA's is missing."""
    return uvm_is_missing(seen) and "nvidiactl" in signs(seen)["nodes"]


def loads_compat(seen: "Seen") -> bool:
    """Return whether a program loads the toolkit's libcuda instead of the driver's, and is refused."""
    return init_code(seen) in COMPAT and "/compat/" in str(answer(seen)["library"])


def in_container(seen: "Seen") -> bool:
    """Return whether this is a container."""
    return place(seen) == CONTAINER


def start_gives(*codes: int) -> "Callable[[Seen], bool]":
    """Return whether the start of CUDA has given one of these codes."""
    return lambda seen: init_code(seen) in codes


def is_hidden(seen: "Seen") -> bool:
    """Return whether a variable of the caller keeps cards from CUDA."""
    return init_code(seen) in (0, NO_DEVICE) and "CUDA_VISIBLE_DEVICES" in answer(seen)["variables"]


TABLE = (
    Diagnosis(
        "D13",
        "This driver does not support this card",
        "The branch has dropped the card's generation, or the card needs the other kind: open modules from  "
        "Blackwell on, closed ones before Turing.",
        "Make a new plan, which chooses the last branch that supports the card, with the modules that it needs.",
        # A card that the driver passes over gets no node of its own, so that the nodes are missed first.
        signs=(
            Sign("driver.module", other_flavour),
            *(Sign(check, not_served, lambda seen: RELOCK) for check in ("driver.nodes", "driver.cards")),
        ),
        elsewhere=(
            "the plan",
            "playbooks/driver.yml",
        ),
        by_hand=by_hand.legacy,
        messages=(
            "will ignore this GPU",
            "Legacy drivers",
            "is not supported by the NVIDIA * driver",
            "requires use of the NVIDIA open kernel modules",
            "is not supported by open* nvidia.ko",
            "RmInitAdapter failed! (0x22:0x56",
        ),
    ),
    Diagnosis(
        "D48",
        "The toolkit's libcuda is loaded before the driver's",
        "cuda-compat lets an older driver run a newer toolkit, on some data-centre cards only; it fails elsewhere.",
        "Remove its folder from the search path, or remove the package; the driver has a matching libcuda of its own.",
        signs=(Sign("cuda.answers", loads_compat, by_hand.without_compat),),
        by_hand=by_hand.without_compat,
        messages=(
            "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
            "forward compatibility was attempted on non supported HW",
            "cudaErrorCompatNotSupportedOnDevice",
            "system has unsupported display driver / cuda driver combination",
        ),
    ),
    Diagnosis(
        "D49",
        "Containers get the libraries of another driver",
        "The CDI specification was made before the driver was upgraded, or the image has libraries of its own.",
        "Generate the specification again and restart the container; keep the driver's libraries out of images.",
        signs=(
            Sign("cuda.cdi", remedy=by_hand.specification),
            Sign("driver.loaded", lambda seen: in_container(seen) and are_apart(seen), by_hand.specification),
            Sign(
                "cuda.answers",
                lambda seen: in_container(seen) and init_code(seen) == OTHER_VERSION,
                by_hand.specification,
            ),
        ),
        by_hand=by_hand.specification,
        messages=(
            "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            "failed to fulfil mount request",
            "unresolvable CDI devices",
        ),
    ),
    Diagnosis(
        "D01",
        "Driver and library are of two versions",
        "The libraries were upgraded while the older module was loaded; NVML and CUDA refuse to start.",
        "Reboot, so that the module of the new version is loaded; then hold the packages.",
        signs=(
            Sign("driver.module", library_is_ahead),
            Sign("driver.loaded", are_apart),
            Sign("driver.match", are_apart),
            Sign("cuda.answers", start_gives(OTHER_VERSION)),
        ),
        elsewhere=("playbooks/driver.yml",),
        by_hand=by_hand.libraries,
        messages=(
            "Driver/library version mismatch",
            "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            "system has unsupported display driver / cuda driver combination",
        ),
    ),
    Diagnosis(
        "D50",
        "The boot loader starts another kernel than the driver's",
        "Its settings, a variable, or the entry that was saved last name a kernel; the driver is for the newest one.",
        "Let it start its newest entry; or, where the kernel was chosen on purpose, build the module for that one.",
        signs=(
            Sign("kernel.boots", is_pinned_past_the_driver, by_hand.unpinned),
            Sign("driver.module", is_pinned_past_a_module, by_hand.unpinned),
        ),
        by_hand=by_hand.unpinned,
        messages=("Module nvidia* not found in directory /lib/modules",),
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
        by_hand=by_hand.module_again,
        messages=(
            "no CUDA-capable device is detected",
            "couldn't communicate with the NVIDIA driver",
            "Module nvidia* not found",
            "CUDA_ERROR_NO_DEVICE",
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
        messages=(
            "is already in the enrollment request",
            "is not enrolled",
        ),
    ),
    Diagnosis(
        "D11",
        "Secure Boot refuses the module",
        "Secure Boot is on, and the module is not signed, or not by a key that the firmware knows.",
        "Take the archive's signed modules, or sign with the machine's own key and enrol it. Secure Boot stays on.",
        # A reboot alone leaves the key unknown: the role signs again, and says what to confirm at the console.
        signs=(Sign("driver.signed"), Sign("driver.loaded", refused, lambda seen: DRIVER)),
        elsewhere=("playbooks/driver.yml",),
        by_hand=by_hand.signed,
        messages=(
            "couldn't communicate with the NVIDIA driver",
            "no CUDA-capable device is detected",
            "Required key not available",
            "Key was rejected by service",
            "Loading of unsigned module is rejected",
            "Loading of module with unavailable key is rejected",
            "unsigned module loading is restricted",
        ),
    ),
    Diagnosis(
        "D10",
        "nouveau takes the card",
        "It is not blacklisted, or the initramfs was made before it was, so that it loads first.",
        "Blacklist it, rebuild the initramfs and reboot: playbooks/driver.yml does the first two.",
        signs=(Sign("driver.nouveau", remedy=without_nouveau), Sign("driver.loaded", held_by_nouveau)),
        elsewhere=("playbooks/driver.yml",),
        by_hand=by_hand.without_nouveau,
        messages=(
            "couldn't communicate with the NVIDIA driver",
            "no CUDA-capable device is detected",
            "GPU probe * not called",
            "is already bound to nouveau",
            "Kernel driver in use: nouveau",
            "conflicting with driver nouveau",
        ),
    ),
    Diagnosis(
        "D44",
        "A setting keeps the driver from loading",
        "modprobe's configuration or the kernel's command line blacklists nvidia: prime-select on a laptop, or "
        "somebody by hand, did that.",
        "Switch back with the tool that wrote the setting, or remove it by hand; a reboot alone does not help.",
        signs=(Sign("driver.loaded", is_kept_out, by_hand.let_in),),
        by_hand=by_hand.let_in,
        messages=(
            "couldn't communicate with the NVIDIA driver",
            "Module nvidia is blacklisted",
            "modprobe: FATAL: Module off not found",
            "blacklist nvidia",
        ),
    ),
    Diagnosis(
        "D09",
        "The new driver or kernel has not been booted yet",
        "What was installed takes effect at the next boot; until then the old kernel or module runs, or none.",
        "Reboot, then verify.",
        signs=(Sign("driver.loaded"),),
        elsewhere=("site.yml",),
        by_hand=by_hand.reboot,
        messages=(
            "couldn't communicate with the NVIDIA driver",
            "System restart required",
        ),
    ),
    Diagnosis(
        "D14",
        "nvidia-smi works, and CUDA says: unknown error",
        "The module nvidia_uvm is not loaded, or its device node was never made.",
        "Load it and create the node: nvidia-modprobe -u -c=0, or reboot if the packages' udev rules do it.",
        signs=(
            Sign(
                "driver.nodes",
                only_memory_is_missing,
                lambda seen: on_host("nvidia-modprobe -u -c=0 || reboot"),
            ),
        ),
        by_hand=by_hand.node,
        messages=(
            "CUDA_ERROR_UNKNOWN",
            "unknown error",
            "cuInit* 999",
            "cudaErrorUnknown",
            "CUDA unknown error",
        ),
    ),
    Diagnosis(
        "D43",
        "This user may not use the card",
        "The permissions of the device nodes let in root or one group only, or a container's device rules leave them "
        "out.",
        "Join the group that owns the nodes, or let the driver open them to everybody, which is its default.",
        signs=(
            Sign("driver.cards", is_forbidden, by_hand.open_nodes),
            Sign("cuda.answers", lambda seen: init_code(seen) in NOT_OPENED and closed(seen) != "", by_hand.open_nodes),
        ),
        by_hand=by_hand.open_nodes,
        messages=(
            "Failed to initialize NVML: Insufficient Permissions",
            "NVML: Insufficient Permissions",
            "/dev/nvidiactl: Permission denied",
        ),
    ),
    Diagnosis(
        "D46",
        "The card waits for a reset",
        "After a serious error the driver does not use the card until it is reset.",
        "End the programs that use it, then reset it; if that is refused, reboot the machine.",
        signs=(Sign("driver.cards", waits_for_reset, by_hand.reset),),
        by_hand=by_hand.reset,
        messages=("GPU requires reset", "GPU Reset Required"),
    ),
    Diagnosis(
        "D47",
        "MIG is enabled and has no instance",
        "With MIG enabled a card computes only in its instances; none was created, or a reboot removed them.",
        "Create an instance, or turn MIG off.",
        signs=(Sign("driver.cards", lambda seen: bool(without_instances(seen)), by_hand.instances),),
        by_hand=by_hand.instances,
        messages=("No MIG devices found", "no CUDA-capable device is detected", "CUDA_ERROR_NO_DEVICE"),
    ),
    Diagnosis(
        "D16",
        "The card does not answer",
        "It fell off the bus or could not be started: power, heat, its slot, firmware settings, or the card itself.",
        "Read the kernel's log, switch the machine off, check cables, slot and fans; then start it again.",
        signs=(Sign("driver.cards", is_lost, lambda seen: LOOK),),
        messages=(
            "RmInitAdapter failed",
            "has fallen off the bus",
            "No devices were found",
            "Unable to determine the device handle for GPU",
            "GPU is lost",
        ),
    ),
    Diagnosis(
        "D39",
        "The container was given no card",
        "A container shares its machine's kernel, but has no other part of the driver until its engine adds it.",
        "Start it with the cards: --gpus all and nvidia-container-toolkit, or a CDI device.",
        signs=(
            Sign("driver.installed", lambda seen: in_container(seen) and not driver(seen)["damaged"]),
            Sign("driver.nodes", in_container),
            Sign("cuda.library", in_container),
        ),
        by_hand=by_hand.into_container,
        messages=(
            "could not select device driver",
            "no CUDA-capable device is detected",
            "nvidia-smi: command not found",
            'exec: "nvidia-smi": executable file not found',
        ),
    ),
    Diagnosis(
        "D37",
        "There is no NVIDIA driver",
        "No module, no library and no tool of the driver is there; a CUDA toolkit does not bring one.",
        "Install the distribution's driver, then reboot.",
        signs=(Sign("driver.installed", lambda seen: is_as_found(seen) and bool(missing_traces(seen))),),
        by_hand=by_hand.install,
        messages=(
            "no CUDA-capable device is detected",
            "nvidia-smi: command not found",
            "Command 'nvidia-smi' not found",
            "Found no NVIDIA driver on your system",
        ),
    ),
    Diagnosis(
        "D38",
        "There is no NVIDIA card",
        "The PCI bus shows none: the card is loose or has no power, or a virtual machine was not given one.",
        "Check whether the bus lists a card; if not, check the slot, the firmware, or the virtual machine's settings.",
        signs=(Sign("gpu.present", is_as_found),),
        messages=("no CUDA-capable device is detected", "No devices were found", "No NVIDIA GPU detected"),
    ),
    Diagnosis(
        "D40",
        "Files of the driver are missing or changed",
        "libcuda.so.1 is in a separate package in most distributions; and apt takes an installed package for complete, "
        "whatever became of its files.",
        "Install that package in the driver's own version, or unpack it again.",
        signs=(
            Sign("driver.installed", lambda seen: bool(driver(seen)["damaged"])),
            Sign("cuda.library", lambda seen: answer(seen)["ended"] is None),
        ),
        by_hand=by_hand.library,
        messages=("libcuda.so.1: cannot open shared object file", "Could not load dynamic library 'libcuda.so.1'"),
    ),
    Diagnosis(
        "D41",
        "A variable hides the card",
        "CUDA_VISIBLE_DEVICES names no card, or one that is not there, so CUDA ignores the others.",
        "Unset the variable, or name a card by its number or uuid as nvidia-smi -L lists it.",
        signs=(Sign("cuda.answers", is_hidden, by_hand.shown_cards),),
        messages=("no CUDA-capable device is detected", "CUDA_ERROR_NO_DEVICE", "invalid device ordinal"),
    ),
)
