"""Reading the NVIDIA cards of a machine: what sysfs shows, joined with what nvidia-smi says about each.

sysfs decides which cards are there, because it needs no driver. Not each NVIDIA function on the bus is a card that this
machine may use: see `other_kind`. Runs on the target: Python 3.6, standard library only.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

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
    sort_out,
)

_PCI_DEVICES = "/sys/bus/pci/devices"
_NVIDIA_VENDOR = "10de"
# VGA controller, 3D controller, other display controller: the classes of graphics and compute cards.
_DISPLAY_CLASSES = ("0x0300", "0x0302", "0x0380")
# The class of a bridge that is neither to PCI nor to a host: NVIDIA's switches between the cards of one machine.
_BRIDGE_CLASS = "0x0680"
# Kernel drivers that keep a card for a virtual machine.
_PASSING_ON = ("vfio-pci", "nvgrace_gpu_vfio_pci", "pci-stub", "pciback", "xen-pciback")
# Without persistence mode the driver wakes each card for the query, which takes seconds a card.
_SMI_TIMEOUT_S = 90.0

Card = Dict[str, Any]


class Smi(NamedTuple):
    """What nvidia-smi says: cards by PCI address, those that it has lost with its words, warnings, and how it ended.

    `status` is absent, ok or error. It is ok as well where nvidia-smi ends with an error because of one card while it
    lists others: the fault is that card's then.
    """

    listed: Dict[str, Card]
    lost: Dict[str, str]
    warnings: List[str]
    status: str
    message: str


def read_nvidia(edges: Edges, strict: bool = True) -> Tuple[List[Card], Dict[str, Any], List[Dict[str, Any]]]:
    """The observation's `gpus`, `nvidia` and `other_functions`.

    Raises UnreadableError where sysfs shows no PCI devices at all, or a card without an id: a card that is
    there is never left out. Without `strict` that is a problem like others, and cards that nvidia-smi alone shows are
    not a contradiction: containers and WSL2 show no bus.
    """
    try:
        cards, others = functions(edges)
    except UnreadableError as error:
        if strict:
            raise
        edges.problem(_PCI_DEVICES, error.message)
        cards, others = [], []
    smi = read_smi(edges)
    for card in cards:
        _join(card, smi)
    shown = {card["pci_address"] for card in cards + others}
    unseen = sorted((set(smi.listed) | set(smi.lost)) - shown)
    status, message = smi.status, smi.message
    if unseen and (strict or cards):
        status, message = "error", "nvidia-smi names {}, which sysfs does not show.".format(", ".join(unseen))
    modules = loaded_modules(edges)
    version_text = edges.text("/proc/driver/nvidia/version")
    version = parse_module_version(version_text) if version_text is not None else None
    if version_text is not None and version is None:
        edges.problem("/proc/driver/nvidia/version", "It names no module version.")
    nvidia = {
        "module_loaded": "nvidia" in modules or version_text is not None,
        "module_version": version,
        "smi": {"status": status, "message": message},
        "unseen": unseen,
        "warnings": smi.warnings,
    }
    return cards, nvidia, others


def loaded_modules(edges: Edges) -> List[str]:
    """The names of the loaded kernel modules; none, and a problem, where they cannot be determined.

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
    """The NVIDIA cards that this machine may use, in the order of their addresses."""
    return functions(edges)[0]


def functions(edges: Edges) -> Tuple[List[Card], List[Dict[str, Any]]]:
    """NVIDIA's functions on the PCI bus: the cards that this machine may use, and others that a plan has to know of.

    Each of the others has pci_address, pci_id, class, kernel_driver and kind, as `other_kind` gives it.
    """
    names = edges.names(_PCI_DEVICES)
    if names is None:
        raise UnreadableError(
            f"The PCI devices of this machine cannot be read: {_PCI_DEVICES} is not there.",
            next_step="Run on the machine itself, not in a container without sysfs; is /sys mounted?",
        )
    cards: List[Card] = []
    others: List[Dict[str, Any]] = []
    for name in names:
        folder = f"{_PCI_DEVICES}/{name}"
        vendor = parse_hex_id(edges.text(folder + "/vendor") or "")
        pci_class = parse_pci_class(edges.text(folder + "/class") or "")
        if vendor is None or pci_class is None:
            edges.problem(folder, "The PCI device shows no readable vendor or class.")
            continue
        if vendor != _NVIDIA_VENDOR or pci_class[:6] not in (*_DISPLAY_CLASSES, _BRIDGE_CLASS):
            continue
        card = _sysfs_card(edges, folder, name, pci_class)
        kind = other_kind(edges, folder, card)
        if kind is None:
            cards.append(card)
        else:
            kept = ("pci_address", "pci_id", "class", "kernel_driver")
            others.append(dict({key: card[key] for key in kept}, kind=kind))
    return cards, others


def other_kind(edges: Edges, folder: str, card: Card) -> Optional[str]:
    """What a function is that is not a card for this machine to use; None for one that is.

    "nvswitch" joins the cards of one machine, a "virtual-function" is a share of a card, made for a guest, and what is
    "passed-through" is kept for a virtual machine: by the driver that has it, or that alone may have it.
    """
    if card["class"][:6] == _BRIDGE_CLASS:
        return "nvswitch"
    if edges.exists(folder + "/physfn"):
        return "virtual-function"
    driver = card["kernel_driver"] or (edges.text(folder + "/driver_override") or "").strip()
    return "passed-through" if driver in _PASSING_ON else None


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
    card: Card = {
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
    # Since Linux 5.14; what is attached to a Thunderbolt port says "removable".
    if (edges.text(folder + "/removable") or "").strip() == "removable":
        card["removable"] = True
    return card


def read_hybrid(edges: Edges) -> Optional[Dict[str, Optional[str]]]:
    """What switches the card of a laptop with two: nvidia-prime's setting and bbswitch's state; None without both.

    `prime-select query` prints intel for "off", nvidia for "on", and on-demand.
    """
    prime, switch = edges.text("/etc/prime-discrete"), edges.text("/proc/acpi/bbswitch")
    if prime is None and switch is None:
        return None
    words = {"off": "intel", "on": "nvidia", "on-demand": "on-demand"}
    state = (switch or "").split()[-1:]
    return {
        "prime": words.get((prime or "").strip()),
        "bbswitch": state[0] if state and state[0] in ("ON", "OFF") else None,
    }


def read_smi(edges: Edges) -> Smi:
    """Ask nvidia-smi for its cards."""
    fields: Tuple[str, ...] = SMI_FIELDS
    code, out, err = _query(edges, fields)
    if code not in (0, NOT_FOUND) and rejects_field(out + err):
        fields = SMI_FIELDS_OLD
        code, out, err = _query(edges, fields)
    if code == NOT_FOUND:
        return Smi({}, {}, [], "absent", "nvidia-smi is not installed.")
    listed, unread = parse_smi_csv(out, fields)
    lost, warnings, rest = sort_out([*unread, *err.splitlines()])
    if listed and (code == 0 or lost or warnings) and not rest:
        return Smi(listed, lost, warnings, "ok", "")
    if code != 0:
        words = " ".join((err.strip() or out.strip()).split())
        return Smi(listed, lost, warnings, "error", words or f"nvidia-smi ended with status {code}.")
    if unread:
        return Smi(listed, lost, warnings, "error", "nvidia-smi printed: {}".format(" / ".join(unread)))
    return Smi(listed, lost, warnings, "ok", "")


def _query(edges: Edges, fields: Tuple[str, ...]) -> Tuple[int, str, str]:
    """Ask nvidia-smi for these columns of every card."""
    return edges.run(["nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader,nounits"], _SMI_TIMEOUT_S)


def _join(card: Card, smi: Smi) -> None:
    """Put what nvidia-smi says into the card. `readable` stays None where there is no nvidia-smi to ask."""
    seen = smi.listed.get(card["pci_address"])
    lost = smi.lost.get(card["pci_address"])
    if seen is not None and lost is None:
        card.update(seen)
        card["readable"] = seen["error"] is None
    elif smi.status != "absent":
        card["readable"] = False
        card["error"] = lost or smi.message or "sysfs shows this card and nvidia-smi does not list it."
