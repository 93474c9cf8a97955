"""Reading a host for the watch: records, packages, kernel, module, cards. No library is imported, no card is woken.

Runs on the target: Python 3.6, standard library. Reads only.
"""

import re
from pathlib import Path
from typing import Any, Dict, List, Optional

from . import store
from .parsers_nvidia import parse_loaded_modules, parse_module_version
from .probe import read_kernel
from .probe_driver import library_version, module_for, record
from .probe_edges import Edges
from .probe_gpu import sysfs_cards
from .probe_guard import guard

Json = Dict[str, Any]
_NODE = re.compile(r"nvidia(ctl|[0-9]+)$")


def read(edges: Edges, root: str) -> Json:
    """What `watch.judge` takes. Raises UnreadableError where no card can be looked for."""
    top = Path(str(edges.path(root)))
    number = store.current_generation(top)
    boots = read_kernel(edges)["boots"]
    return {
        "generation": number,
        "stack": None if number is None else store.describe(top, number)["stack"],
        "driver": {
            "record": record(edges, root),
            "kernel": boots,
            "module": module_for(edges, boots) if boots else None,
            "library": library_version(edges),
        },
        "guard": guard(edges, root),
        "cards": [card["pci_id"] for card in sysfs_cards(edges)],
        "loaded": loaded(edges),
        "nodes": [name for name in edges.names("/dev") or [] if _NODE.match(name)],
    }


def loaded(edges: Edges) -> Optional[str]:
    """The loaded driver's version, "" where it does not say it, None where none is loaded."""
    text = edges.text("/proc/driver/nvidia/version")
    if text is not None:
        return parse_module_version(text) or ""
    modules: List[str] = parse_loaded_modules(edges.text("/proc/modules") or "")
    return "" if "nvidia" in modules else None
