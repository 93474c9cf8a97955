"""Where a system runs: on the machine itself, in a container, or in WSL2; and of which family its distribution is.

Runs on the target: Python 3.6, standard library. Reads only.
"""

import re
from typing import Dict, List

from ...types import Json
from ..edges import Edges

#: Files that container engines leave in what they run.
CONTAINERS = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
#: Where specifications stand by which container engines put the driver into containers (CDI).
CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
_OF_DRIVER = re.compile(r"lib(?:cuda|nvidia-ml)\.so\.([0-9]+(?:\.[0-9]+)+)")
_MOST_VERSIONS = 5
_CGROUP = re.compile(r"/(docker|kubepods|lxc|machine\.slice|libpod|containerd|garden)\b")
_NAMES = re.compile(r'^ID(?:_LIKE)?=["\']?([a-z0-9._ -]*)', re.MULTILINE)


def surroundings(edges: Edges) -> Json:
    """Return `place` (machine, container, wsl2), `names` (ID and those of ID_LIKE), the number of PCI devices that
    are shown (`bus`), whether there is /dev/dxg, which WSL2 has for a card, and what `cdi` gives."""
    return {
        "place": place(edges),
        "names": distribution_names(edges),
        "bus": len(edges.names("/sys/bus/pci/devices") or []),
        "dxg": edges.exists("/dev/dxg"),
        "cdi": cdi(edges),
    }


def cdi(edges: Edges) -> Dict[str, List[str]]:
    """Return the driver's versions whose libraries a CDI specification names, by its file, where it names any."""
    found = {}
    for folder in CDI_FOLDERS:
        for name in edges.names(folder) or []:
            text = edges.text(f"{folder}/{name}") if name.endswith((".yaml", ".json")) else None
            versions = sorted(set(_OF_DRIVER.findall(text or "")))[:_MOST_VERSIONS]
            if versions:
                found[f"{folder}/{name}"] = versions
    return found


def place(edges: Edges) -> str:
    """Return where the system runs."""
    if "microsoft" in (edges.text("/proc/sys/kernel/osrelease") or "").lower():
        return "wsl2"
    if any(edges.exists(name) for name in CONTAINERS) or _CGROUP.search(edges.text("/proc/self/cgroup") or ""):
        return "container"
    return "machine"


def distribution_names(edges: Edges) -> List[str]:
    """Return the distribution's ID and those it is like, as os-release says them."""
    text = edges.text("/etc/os-release") or edges.text("/usr/lib/os-release") or ""
    return [name for line in _NAMES.findall(text) for name in line.split()]
