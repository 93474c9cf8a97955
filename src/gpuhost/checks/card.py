"""Checks of the driver at work: loaded, of one version with its library, reachable, and seeing every locked card."""

import re
from typing import TYPE_CHECKING, List, Optional

from ..host.driver.judge import another_kernel
from ..host.probe.driver import LIBRARIES
from .base import RELOCK, Check, Outcome, held, on_host, skipped
from .driver import MODPROBE, REBOOT, driver, unpacked_again, wanted
from .found import OUTER, WSL, is_as_found, is_ours, place
from .host import CARDS, LOADED, RUNNING, observation
from .lock import installed, obeyed

if TYPE_CHECKING:
    from ..shapes.answers import Signs
    from ..shapes.seen import Seen

LOOK = on_host("dmesg | grep -E 'NVRM|Xid'")
#: The packages that hold the driver's library, on Ubuntu and on Debian.
LIBRARY = r"libnvidia-compute-.*|libnvidia-ml1.*"
#: The kernel's words about a module whose signature Secure Boot does not accept.
REFUSED = "Loading of .*module.* is rejected|unsigned module loading is restricted"
#: The kernel's words about a card that this branch of the driver no longer serves, and about one that is lost.
OTHER_FLAVOUR = (
    "requires use of the NVIDIA open kernel modules|is not supported by open|RmInitAdapter failed! \\(0x22:0x56"
)
LEGACY = f"will ignore this GPU|is not supported by the|supported through the NVIDIA .* [Ll]egacy|{OTHER_FLAVOUR}"
FALLEN = "RmInitAdapter failed|fallen off the bus|Xid .*: 79\\b|GPU (is|has) lost"
#: The same in nvidia-smi's words, and those about a card that waits for a reset.
LOST = "fallen off the bus|GPU is lost|has lost this card|Unable to determine the device handle"
RESET = r"requires reset|Xid .*: 154,.* to 0x[0-9a-f]+ \([^)]*Reset"


def signs(seen: "Seen") -> "Signs":
    """Return what explains a failure and proves nothing: kernel_log, nodes, closed, free_mib and mig."""
    return installed(seen)["signs"]


def kernel_says(seen: "Seen", pattern: str) -> Optional[str]:
    """The last line of the kernel's log in which this stands; None also where the log may not be read."""
    lines = [line for line in signs(seen)["kernel_log"] or [] if re.search(pattern, line)]
    return str(lines[-1]) if lines else None


def closed(seen: "Seen") -> str:
    """The device nodes that whoever asked may not use, in words; "" where there are none."""
    nodes = sorted(signs(seen)["closed"].items())
    return ", ".join(f"/dev/{name} is {found['mode']} of group {found['group']}" for name, found in nodes)


def smi_says(seen: "Seen", pattern: str) -> bool:
    """Return whether this stands in what nvidia-smi says, of a card or in place of all."""
    said = [observation(seen)["nvidia"]["smi"]["message"], *(card["error"] for card in observation(seen)["gpus"])]
    return any(re.search(pattern, text or "", re.IGNORECASE) for text in said)


def loaded(seen: "Seen") -> Outcome:
    """Check that the loaded kernel module is the locked driver's, in the kernel that it was made for."""
    version, found, record = wanted(seen)["version"], observation(seen)["nvidia"], driver(seen)["record"]
    required, reboot = f"driver {version} is loaded", observation(seen)["reboot_required"]
    if not found["module_loaded"]:
        others, refused = holders(seen), kernel_says(seen, REFUSED)
        actual = f"the nvidia module is not loaded; the card is held by {', '.join(others) or 'no driver'}"
        actual += "".join(f"; {line['file']} says: {line['line']}" for line in driver(seen)["kept_out"][:3])
        actual += "; the host asks for a reboot" if reboot else ""
        actual += f"; the kernel says: {refused}" if refused else ""
        return held(False, required, actual, REBOOT)
    actual = f"driver {found['module_version'] or 'of unknown version'} is loaded"
    actual += f", the library is {driver(seen)['library']}" if are_apart(seen) else ""
    # A host without a record of gpuhost's says nowhere which kernel its driver was made for.
    other = "" if record is None else another_kernel(observation(seen)["kernel"]["running"], record["kernel"])
    actual += f", and {other}" if other else ""
    return held(found["module_version"] == version and not other, required, actual, REBOOT)


def holders(seen: "Seen") -> List[str]:
    """The kernel drivers that have the cards."""
    return sorted({c["kernel_driver"] for c in observation(seen)["gpus"] if c["kernel_driver"]})


def are_apart(seen: "Seen") -> bool:
    """Return whether the loaded module and the driver's library are both there and of different versions."""
    module_version, library = observation(seen)["nvidia"]["module_version"], driver(seen)["library"]
    return library is not None and module_version is not None and library != module_version


def match(seen: "Seen") -> Outcome:
    """Check that the driver's library and the loaded module are of one version."""
    module_version, library = observation(seen)["nvidia"]["module_version"], driver(seen)["library"]
    actual = f"the library is {library}" if library else "there is no libnvidia-ml.so.1"
    return held(
        library == module_version,
        f"the library is {module_version}, as the module",
        actual,
        unpacked_again(seen, LIBRARY),
    )


def loaded_found(seen: "Seen") -> Outcome:
    """Judge the loaded module on a host without a lock: where nothing says which version it should be, any will do."""
    if place(seen) == WSL:
        return skipped("the driver is loaded", OUTER[WSL])
    return loaded(seen)


def match_found(seen: "Seen") -> Outcome:
    """Judge library and module on a host without a lock; in WSL2 both are Windows'."""
    if place(seen) == WSL:
        return skipped("library and module are of one version", OUTER[WSL])
    return match(seen)


def nodes_found(seen: "Seen") -> Outcome:
    """Judge the device nodes on a host without a lock; WSL2 has one of its own."""
    if place(seen) == WSL:
        there = bool(seen["surroundings"]["dxg"])
        return held(there, "/dev/dxg, which WSL2 reaches the card by", "there" if there else "it is not there", "")
    return nodes(seen)


def nodes(seen: "Seen") -> Outcome:
    """Check that the driver's device nodes exist, and that CUDA's do or can be created at its first use."""
    found, count = signs(seen), len(obeyed(seen)["cards"])
    cards = [name for name in found["nodes"] if name[len("nvidia") :].isdigit()]
    told = ["/dev/nvidiactl is not there"] if "nvidiactl" not in found["nodes"] else []
    if len(cards) < count:
        told.append(f"/dev has {len(cards)} of {count} nodes nvidia0, nvidia1, ...")
    if uvm_is_missing(seen):
        loaded = "is loaded" if found["uvm"]["loaded"] else "is not loaded"
        told.append(f"/dev/nvidia-uvm cannot be used: the module nvidia_uvm {loaded}, nothing makes the node on demand")
    required = "/dev/nvidiactl, a node for each card, and nvidia-uvm there or made on demand"
    return held(not told, required, "; ".join(told) or ", ".join(found["nodes"]), REBOOT)


def uvm_is_missing(seen: "Seen") -> bool:
    """Return whether CUDA lacks both the node of unified memory and the program that would make it."""
    found = signs(seen)
    there = "nvidia-uvm" in found["nodes"] and found["uvm"]["loaded"]
    return not there and not found["uvm"]["on_demand"]


def listed(seen: "Seen") -> Outcome:
    """Check that nvidia-smi lists each locked card."""
    smi = observation(seen)["nvidia"]["smi"]
    of_lock = "on the bus" if is_as_found(seen) else "locked"
    required = f"nvidia-smi lists each of {len(obeyed(seen)['cards'])} cards ({of_lock})"
    said = kernel_says(seen, f"{LEGACY}|{FALLEN}") or kernel_says(seen, "Xid")
    more = f"; {closed(seen)}" if closed(seen) else ""
    more += f"; the kernel says: {said}" if said else ""
    if smi["status"] != "ok":
        return held(False, required, (smi["message"] or "nvidia-smi failed") + more, LOOK)
    missing = not_listed(seen)
    others = other_capabilities(seen)
    others += [f"MIG is enabled on {address}, which has no instance" for address in without_instances(seen)]
    actual = f"missing: {', '.join(missing)}{more}" if missing else "; ".join(others) or "all listed"
    return held(not missing and not others, required, actual, LOOK if is_silent(seen) else RELOCK)


def listed_found(seen: "Seen") -> Outcome:
    """Judge what nvidia-smi says on a host without a lock; the tool itself may not be installed there.

    What no diagnosis names has no remedy there: the lines are shown, and the bundle is offered.
    """
    if observation(seen)["nvidia"]["smi"]["status"] == "absent":
        return skipped("nvidia-smi lists each card", "nvidia-smi is not installed")
    return listed(seen) if is_ours(seen) else listed(seen)._replace(remediation="")


def without_instances(seen: "Seen") -> List[str]:
    """Return the PCI addresses of the cards that have MIG enabled and no instance, so that no program can use them."""
    return sorted(address for address, count in signs(seen)["mig"].items() if count == 0)


def not_listed(seen: "Seen") -> List[str]:
    """The locked cards that nvidia-smi does not list, by uuid where the lock has it, else by PCI id."""
    cards, missing = list(observation(seen)["gpus"]), []
    for card in obeyed(seen)["cards"]:
        same = [c for c in cards if (c["uuid"] == card["uuid"] if card["uuid"] else c["pci_id"] == card["pci_id"])]
        match = [c for c in same if c["readable"]]
        if match:
            cards.remove(match[0])
        else:
            missing.append(f"{card['uuid'] or card['pci_id']} ({card['pci_address']})")
    return missing


def is_silent(seen: "Seen") -> bool:
    """Return whether a locked card is on the bus and does not answer. Such a card has no uuid, but keeps its PCI id."""
    silent = {c["pci_id"] for c in observation(seen)["gpus"] if not c["readable"]}
    return any(card["pci_id"] in silent for card in obeyed(seen)["cards"])


def other_capabilities(seen: "Seen") -> List[str]:
    """The cards whose compute capability is not the one that was planned for, as far as the driver says it."""
    planned = {g["pci_id"]: g["compute_capability"] for g in obeyed(seen)["plan"]["gpus"]}
    return [
        f"{c['pci_address']} is of capability {c['compute_capability']}, planned was {planned[c['pci_id']]}"
        for c in observation(seen)["gpus"]
        if c["compute_capability"] and planned.get(c["pci_id"], c["compute_capability"]) != c["compute_capability"]
    ]


CHECKS = (
    Check(
        "driver.loaded",
        "The driver is loaded",
        "What is installed counts only from the next boot on.",
        loaded,
        (*LOADED, *RUNNING, *MODPROBE),
        ("gpu.present", "driver.signed", "driver.nouveau"),
        gpu=True,
        found=loaded_found,
        found_sources=(*LOADED, *RUNNING),
    ),
    Check(
        "driver.match",
        "Library and module match",
        "NVML and CUDA refuse a module of another version.",
        match,
        (*LOADED, *LIBRARIES),
        ("driver.loaded",),
        gpu=True,
        found=match_found,
    ),
    Check(
        "driver.nodes",
        "The device nodes are there",
        "Programs reach the card through /dev; without nvidia-uvm nvidia-smi works and CUDA does not.",
        nodes,
        ("/dev", "/dev/dxg", "/dev/nvidia*", "/sys/module", "/sys/module/nvidia*", "modinfo", *CARDS),
        ("driver.match",),
        gpu=True,
        found=nodes_found,
    ),
    Check(
        "driver.cards",
        "The driver lists each card",
        "A driver that is loaded need not serve the card.",
        listed,
        ("nvidia-smi", *CARDS),
        ("driver.nodes", "lock.cards"),
        gpu=True,
        found=listed_found,
    ),
)
