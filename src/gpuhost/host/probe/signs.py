"""Reading what tells one cause of a failure from another: the kernel's log, device nodes, the memory left on the cards.

Runs on the target: Python 3.6, standard library. Reads only.
"""

import grp
import os
import re
import stat
from typing import Any, Dict, List

from ...types import Json
from ..edges import Edges
from ..parse.nvidia import parse_pci_address
from .driver import MODULE_NAMES, modinfo

MODPROBE = "/usr/bin/nvidia-modprobe"
# Debian has a module of its own name for each series and lets modprobe redirect the usual name to it.
UVM_MODULES = tuple(f"{name}-uvm" for name in MODULE_NAMES)
KEPT_LINES, KEPT_CHARACTERS = 40, 300

# The kernel's words about the card, about modules that it refused, and about nouveau.
_TELLING = re.compile(r"NVRM|Xid|nouveau|Loading of .*module.* is rejected|unsigned module loading is restricted")
_TIMESTAMP = re.compile(r"^(<[0-9]+>)?\[ *[0-9]+\.[0-9]+\](\[ *[TC][0-9]+\])? ")
_NODE = re.compile(r"nvidia([0-9]+|ctl|-uvm)$")
_TIMEOUT_S = 30.0
_SMI_TIMEOUT_S = 90.0


def signs(edges: Edges, kernel: str, smi_answers: bool) -> Json:
    """The signs of a machine whose running kernel is `kernel`.

    `smi_answers` says whether nvidia-smi has just listed the cards: it is not asked again where it fails, because that
    may take minutes. What is not known is None.
    """
    nodes = sorted(name for name in edges.names("/dev") or [] if _NODE.match(name))
    return {
        "kernel_log": kernel_log(edges),
        "nodes": nodes,
        "closed": closed(edges, nodes),
        "uvm": {
            "loaded": edges.exists("/sys/module/nvidia_uvm"),
            "on_demand": is_setuid(edges, MODPROBE) and any(has_module(edges, kernel, name) for name in UVM_MODULES),
        },
        "mig": mig_instances(edges) if smi_answers else {},
        "free_mib": free_memory(edges) if smi_answers else None,
    }


def closed(edges: Edges, nodes: List[str]) -> Dict[str, Json]:
    """The device nodes that whoever runs this may not use, each with its `mode` as ls shows it and its `group`."""
    found = {}
    for name in nodes:
        path = edges.path(f"/dev/{name}")
        try:
            if not os.access(str(path), os.R_OK | os.W_OK):
                there = path.stat()
                found[name] = {"mode": stat.filemode(there.st_mode), "group": group_name(there.st_gid)}
        except OSError:
            continue  # it went away meanwhile, or is a link that leads nowhere: no permission that keeps anybody out
    return found


def group_name(number: int) -> str:
    """The name of a group; its number where it has none."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def kernel_log(edges: Edges) -> Any:
    """The telling lines of the kernel's log since the start, oldest first; None where it may not be read."""
    out = edges.output(["dmesg"], _TIMEOUT_S, "dmesg", silent=True)
    return None if out is None else telling_lines(out)


def telling_lines(text: str) -> List[str]:
    """The last telling lines of a kernel log, without their times; a line that repeats itself is kept once."""
    found: List[str] = []
    for line in text.splitlines():
        plain = " ".join(_TIMESTAMP.sub("", line).split())[:KEPT_CHARACTERS]
        if _TELLING.search(plain) and plain not in found:
            found.append(plain)
    return found[-KEPT_LINES:]


def is_setuid(edges: Edges, name: str) -> bool:
    """Return whether there is a program that runs as root whoever starts it."""
    try:
        return bool(edges.path(name).stat().st_mode & stat.S_ISUID)
    except OSError:
        return False


def has_module(edges: Edges, kernel: str, name: str) -> bool:
    """Return whether there is a module of this name for a kernel."""
    return bool(modinfo(edges, ["-k", kernel, "-F", "filename", name]))


def mig_instances(edges: Edges) -> Dict[str, int]:
    """The number of MIG instances by PCI address of each card on which MIG is enabled; {} also where nothing tells it.

    A driver from before MIG refuses the query, so that its failure is not a problem.
    """
    query = ["nvidia-smi", "--query-gpu=pci.bus_id,uuid,mig.mode.current", "--format=csv,noheader,nounits"]
    code, out, _ = edges.run(query, _SMI_TIMEOUT_S)
    rows = [[cell.strip() for cell in line.split(",")] for line in out.splitlines()] if code == 0 else []
    enabled = {row[1]: parse_pci_address(row[0]) for row in rows if len(row) == 3 and row[2] == "Enabled"}
    code, out, _ = edges.run(["nvidia-smi", "-L"], _SMI_TIMEOUT_S) if enabled else (0, "", "")
    counts = count_instances(out) if code == 0 else {}
    return {address: counts[uuid] for uuid, address in enabled.items() if address is not None and uuid in counts}


def count_instances(text: str) -> Dict[str, int]:
    """The number of MIG instances by the uuid of the card above them, as `nvidia-smi -L` lists them."""
    counts: Dict[str, int] = {}
    card = None
    for line in text.splitlines():
        found = re.match(r"GPU [0-9]+:.*\(UUID: ([\w-]+)\)", line)
        if found:
            card = found.group(1)
            counts[card] = 0
        elif card is not None and re.match(r"\s+MIG ", line):
            counts[card] += 1
    return counts


def free_memory(edges: Edges) -> Any:
    """The free memory of each card in MiB by PCI address; None when nvidia-smi does not say."""
    query = ["nvidia-smi", "--query-gpu=pci.bus_id,memory.free", "--format=csv,noheader,nounits"]
    out = edges.output(query, _SMI_TIMEOUT_S, "nvidia-smi memory.free")
    return None if out is None else parse_free_memory(out)


def parse_free_memory(text: str) -> Dict[str, int]:
    """The free memory by card from nvidia-smi's CSV; a card that has no figure is left out."""
    found = {}
    for line in text.splitlines():
        address, _, figure = line.partition(",")
        place = parse_pci_address(address.strip())
        if place is not None and re.match(r"\s*[0-9]{1,9}\s*$", figure):
            found[place] = int(figure)
    return found
