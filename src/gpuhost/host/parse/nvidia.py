"""Text to values: PCI addresses, the driver's version file and nvidia-smi's CSV.

Every function is pure and total; what is not understood is left out or given as None, and the caller says so.
Runs on the target, so Python 3.6 and the standard library only.
"""

import csv
import re
from typing import Any, Dict, Iterable, List, Optional, Tuple

# The columns asked of nvidia-smi. compute_cap came after driver 470, so it stands last and can be left out.
SMI_FIELDS = ("pci.bus_id", "uuid", "name", "memory.total", "compute_cap")
SMI_FIELDS_OLD = SMI_FIELDS[:-1]

_MODULE_VERSION = re.compile(r"^NVRM version:.*Kernel Module\b.*?\s([0-9]+(?:\.[0-9]+)+)\s", re.MULTILINE)
_NOT_A_VALUE = re.compile(r"^(\[.*\]|ERR!|N/A)?$")
_BROKEN_CARD = re.compile(r"^(\[(GPU|Unknown|Unable|Insufficient).*\]|ERR!)$")
# Releases differ in what stands between the two: "GPU 0000:0B:00.0:", "GPU0000:07:00.0:", "GPU1: 0000:18:00.0:".
_LOST_CARD = re.compile(
    r"^Unable to determine the device handle for GPU *(?:[0-9]{1,3} *: *)?"
    r"([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]) *: *(.*)$"
)


def parse_pci_address(text: str) -> Optional[str]:
    """A PCI address in sysfs' form, "0000:01:00.0"; nvidia-smi writes the domain with eight digits."""
    found = re.match(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$", text.strip().lower(), re.ASCII)
    if not found:
        return None
    domain, bus, device, function = found.groups()
    return f"{int(domain, 16):04x}:{bus}:{device}.{function}"


def parse_hex_id(text: str) -> Optional[str]:
    """Four hexadecimal digits from a sysfs file such as `vendor` or `device` ("0x10de")."""
    found = re.match(r"0x([0-9a-f]{4})$", text.strip().lower())
    return found.group(1) if found else None


def parse_pci_class(text: str) -> Optional[str]:
    """The PCI class as sysfs writes it, "0x030000": base class, subclass, programming interface."""
    found = re.match(r"0x[0-9a-f]{6}$", text.strip().lower())
    return found.group(0) if found else None


def parse_module_version(text: str) -> Optional[str]:
    """The loaded module's version from the text of /proc/driver/nvidia/version, of either flavour."""
    found = _MODULE_VERSION.search(text + "\n")
    return found.group(1) if found else None


def parse_loaded_modules(text: str) -> List[str]:
    """The names of the loaded kernel modules, from the text of /proc/modules."""
    return [line.split()[0] for line in text.splitlines() if line.split()]


def parse_smi_csv(text: str, fields: Tuple[str, ...]) -> Tuple[Dict[str, Dict[str, Any]], List[str]]:
    """The cards that `nvidia-smi --query-gpu=FIELDS --format=csv,noheader,nounits` lists; the lines not read.

    Keyed by PCI address. Each card has uuid, name, memory_mib (MiB), compute_capability ("6.1") and error; a
    value that nvidia-smi does not know is None, and `error` says what it printed in place of a value for a
    broken card.
    """
    cards = {}
    unread = []
    for line in text.splitlines():
        if not line.strip():
            continue
        row = [cell.strip() for cell in _csv_row(line)]
        address = parse_pci_address(row[0]) if len(row) == len(fields) else None
        if address is None:
            unread.append(line.strip())
            continue
        values = dict(zip(fields, row))
        broken = [cell for cell in row[1:] if _BROKEN_CARD.match(cell)]
        cards[address] = {
            "uuid": _value(values["uuid"]),
            "name": _value(values["name"]),
            "memory_mib": _integer(values["memory.total"]),
            "compute_capability": _capability(values.get("compute_cap", "")),
            "error": f"nvidia-smi reports {broken[0]} for this card." if broken else None,
        }
    return cards, unread


def sort_out(lines: Iterable[str]) -> Tuple[Dict[str, str], List[str], List[str]]:
    """Sort nvidia-smi's lines that are not rows: cards it has lost (by address, its words), warnings, and the rest."""
    lost: Dict[str, str] = {}
    warnings: List[str] = []
    rest: List[str] = []
    for line in lines:
        found = _LOST_CARD.match(line.strip())
        address = parse_pci_address(found.group(1)) if found else None
        if found and address is not None:
            lost[address] = "nvidia-smi has lost this card: " + (found.group(2).strip() or "it gives no reason.")
        elif line.strip().upper().startswith("WARNING:"):
            warnings.append(line.strip())
        elif line.strip():
            rest.append(line.strip())
    return lost, warnings, rest


def rejects_field(text: str) -> bool:
    """Whether nvidia-smi refused the query because its version does not know one of the columns."""
    return "is not a valid field to query" in text


def _csv_row(line: str) -> List[str]:
    """The cells of one CSV line; one cell, the line itself, when it is not CSV."""
    try:
        return next(csv.reader([line], skipinitialspace=True), [line])
    except csv.Error:
        return [line]


def _value(cell: str) -> Optional[str]:
    """The cell, or None where nvidia-smi printed one of its words for "no value"."""
    return None if _NOT_A_VALUE.match(cell) else cell


def _integer(cell: str) -> Optional[int]:
    """The whole number in the cell, or None."""
    return int(cell) if re.match(r"[0-9]{1,9}$", cell) else None


def _capability(cell: str) -> Optional[str]:
    """The dotted compute capability in the cell, or None."""
    return cell if re.match(r"[0-9]{1,2}\.[0-9]$", cell) else None
