"""Reading the NVIDIA cards of a machine: what sysfs shows, joined with what nvidia-smi says about each.

sysfs decides which cards are there, because it needs no driver. Runs on the target: Python 3.6, standard
library only.
"""

from typing import Any, Dict, List, Tuple

from ...errors import UnreadableError
from ..commands import NOT_FOUND
from ..edges import Edges
from ..parse.nvidia import (
    SMI_FIELDS,
    SMI_FIELDS_OLD,
    parse_hex_id,
    parse_loaded_modules,
    parse_module_version,
    parse_pci_address,
    parse_pci_class,
    parse_smi_csv,
    rejects_field,
)

_PCI_DEVICES = "/sys/bus/pci/devices"
_NVIDIA_VENDOR = "10de"
# VGA controller, 3D controller, other display controller: the classes of graphics and compute cards.
_DISPLAY_CLASSES = ("0x0300", "0x0302", "0x0380")
# Without persistence mode the driver wakes each card for the query, which takes seconds a card.
_SMI_TIMEOUT_S = 90.0

Card = Dict[str, Any]


def read_nvidia(edges: Edges) -> Tuple[List[Card], Dict[str, Any]]:
    """The observation's `gpus` and `nvidia`.

    Raises UnreadableError where sysfs shows no PCI devices at all, or a card without an id: a card that is
    there is never left out.
    """
    cards = sysfs_cards(edges)
    listed, smi = _smi_cards(edges)
    for card in cards:
        _join(card, listed, smi)
    unseen = sorted(set(listed) - {card["pci_address"] for card in cards})
    if unseen:
        smi = {
            "status": "error",
            "message": "nvidia-smi lists {}, which sysfs does not show.".format(", ".join(unseen)),
        }
    modules = loaded_modules(edges)
    version_text = edges.text("/proc/driver/nvidia/version")
    version = parse_module_version(version_text) if version_text is not None else None
    if version_text is not None and version is None:
        edges.problem("/proc/driver/nvidia/version", "It names no module version.")
    loaded = "nvidia" in modules or version_text is not None
    return cards, {"module_loaded": loaded, "module_version": version, "smi": smi}


def loaded_modules(edges: Edges) -> List[str]:
    """The names of the loaded kernel modules; none, and a problem, where they cannot be told.

    A kernel that cannot load modules has no /proc/modules; what is built into it stands in /sys/module then.
    """
    text = edges.text("/proc/modules")
    names = parse_loaded_modules(text) if text is not None else edges.names("/sys/module") or []
    if text is None and not names:
        edges.problem("/proc/modules", "It is not there, and /sys/module does not show the modules either.")
    elif "nvidia" not in names and edges.exists("/proc/driver/nvidia/version"):
        edges.problem("/proc/modules", "It does not list nvidia, which is loaded.")
    return names


def sysfs_cards(edges: Edges) -> List[Card]:
    """The NVIDIA display devices of sysfs, in the order of their addresses."""
    names = edges.names(_PCI_DEVICES)
    if names is None:
        raise UnreadableError(
            f"The PCI devices of this machine cannot be read: {_PCI_DEVICES} is not there.",
            next_step="Run on the machine itself, not in a container without sysfs; is /sys mounted?",
        )
    cards = []
    for name in names:
        folder = f"{_PCI_DEVICES}/{name}"
        vendor = parse_hex_id(edges.text(folder + "/vendor") or "")
        pci_class = parse_pci_class(edges.text(folder + "/class") or "")
        if vendor is None or pci_class is None:
            edges.problem(folder, "The PCI device shows no readable vendor or class.")
            continue
        if vendor == _NVIDIA_VENDOR and pci_class[:6] in _DISPLAY_CLASSES:
            cards.append(_sysfs_card(edges, folder, name, pci_class))
    return cards


def _sysfs_card(edges: Edges, folder: str, name: str, pci_class: str) -> Card:
    """One card as sysfs shows it; what only the driver knows is None."""
    address = parse_pci_address(name)
    device = parse_hex_id(edges.text(folder + "/device") or "")
    if address is None or device is None:
        raise UnreadableError(
            f"There is an NVIDIA card at PCI address {name}, but sysfs does not show its device id.",
            next_step=f"Look at `lspci -nn -s {name}`. A card that fell off the bus needs a power cycle.",
        )
    subsystem_vendor = parse_hex_id(edges.text(folder + "/subsystem_vendor") or "")
    subsystem_device = parse_hex_id(edges.text(folder + "/subsystem_device") or "")
    subsystem = None
    if subsystem_vendor and subsystem_device:
        subsystem = f"{subsystem_vendor}:{subsystem_device}"
    return {
        "pci_address": address,
        "pci_id": f"{_NVIDIA_VENDOR}:{device}",
        "class": pci_class,
        "subsystem_id": subsystem,
        "kernel_driver": edges.link_name(folder + "/driver"),
        "uuid": None,
        "name": None,
        "compute_capability": None,
        "memory_mib": None,
        "readable": None,
        "error": None,
    }


def _smi_cards(edges: Edges) -> Tuple[Dict[str, Card], Dict[str, str]]:
    """What nvidia-smi says: its cards by PCI address, and how the call itself went (absent, ok or error)."""
    fields: Tuple[str, ...] = SMI_FIELDS
    code, out, err = _query(edges, fields)
    if code not in (0, NOT_FOUND) and rejects_field(out + err):
        fields = SMI_FIELDS_OLD
        code, out, err = _query(edges, fields)
    if code == NOT_FOUND:
        return {}, {"status": "absent", "message": "nvidia-smi is not installed."}
    listed, unread = parse_smi_csv(out, fields)
    if code != 0:
        words = " ".join((err.strip() or out.strip()).split())
        return listed, {"status": "error", "message": words or f"nvidia-smi ended with status {code}."}
    if unread:
        return listed, {"status": "error", "message": "nvidia-smi printed: {}".format(" / ".join(unread))}
    return listed, {"status": "ok", "message": ""}


def _query(edges: Edges, fields: Tuple[str, ...]) -> Tuple[int, str, str]:
    """Ask nvidia-smi for these columns of every card."""
    return edges.run(["nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader,nounits"], _SMI_TIMEOUT_S)


def _join(card: Card, listed: Dict[str, Card], smi: Dict[str, str]) -> None:
    """Put what nvidia-smi says into the card. `readable` stays None where there is no nvidia-smi to ask."""
    seen = listed.get(card["pci_address"])
    if seen is not None:
        card.update(seen)
        card["readable"] = seen["error"] is None
    elif smi["status"] != "absent":
        card["readable"] = False
        card["error"] = smi["message"] or "sysfs shows this card and nvidia-smi does not list it."
