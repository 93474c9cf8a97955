"""Reading a host for the watch: records, packages, kernel, module, cards. No library is imported, no card is woken.

Runs on the target: Python 3.6, standard library. Reads only.
"""

import re
import time
from typing import List, Optional

from ...types import Json
from ..edges import Edges
from ..guard import rules as rules
from ..parse.nvidia import parse_module_version
from ..probe import store as probe_store
from ..probe.driver import library_version, module_for, record
from ..probe.gpu import loaded_modules, sysfs_cards
from ..probe.guard import BESIDE_RECORD, DRIVER_RECORD, holds
from ..probe.machine import read_kernel
from ..probe.virtualbox import in_place
from ..service import running
from ..service.places import LINK, SERVICE
from ..units import UNITS, all_hold
from .judge import NOTHING

#: What the watch found last, and its warning, which stands until it finds that nothing is wrong.
RECORD, MOTD = "state/watch.json", "/run/gpuhost/motd"
#: At a boot the watch may look before the service has opened its networks.
_STARTS_WITHIN_S = 120.0
_NODE = re.compile(r"nvidia(ctl|[0-9]+)$")


def read(edges: Edges, root: str, with_service: bool = True) -> Json:
    """What `watch.judge` takes; of a host with nothing in force only VirtualBox, and what is left there of gpuhost.

    A service that is starting is waited for; without `with_service` none is asked.
    Raises UnreadableError where no card can be looked for.
    """
    number = probe_store.in_force(edges, root)
    has_virtualbox = edges.exists(f"{root}/{BESIDE_RECORD}")
    if number is None and not has_virtualbox:
        return {"generation": None, "left": left(edges, root)}
    kernel = read_kernel(edges)
    boots = kernel["boots"]
    # Neither it nor DKMS is asked: both may want to write, and the watch must not.
    beside = {"virtualbox": in_place(edges, boots, root)} if has_virtualbox else {}
    if number is None:
        return {"generation": None, "left": left(edges, root), "guard": holds(edges, root), **beside}
    return {
        **beside,
        "generation": number,
        "stack": probe_store.stack(edges, root, number),
        "driver": {
            "record": record(edges, root),
            "kernel": boots,
            "module": module_for(edges, boots) if boots else None,
            "library": library_version(edges),
        },
        "running": kernel["running"],
        "guard": holds(edges, root),
        "cards": [card["pci_id"] for card in sysfs_cards(edges)],
        "loaded": loaded(edges),
        "service": service(edges, root) if with_service else None,
        "nodes": [name for name in edges.names("/dev") or [] if _NODE.match(name)],
    }


def service(edges: Edges, root: str) -> Optional[Json]:
    """What the detection service of the generation in force does; None where there is none. It is asked by its socket,
    and only while it runs, because asking would start it.
    """
    if not edges.exists(f"{UNITS}/{SERVICE}") or not edges.path(f"{root}/{LINK}").exists():
        return None
    if not all_hold(edges, ["is-active"], SERVICE):
        return {"generation": None, "why": running.last_words(edges) or "it does not run"}
    serving, until = running.serving(edges, root), time.monotonic() + _STARTS_WITHIN_S
    why, is_final = running.not_ready(edges)
    while why and not is_final and time.monotonic() < until:
        time.sleep(1.0)
        why, is_final = running.not_ready(edges)
    return {"generation": None if serving is None else serving.generation, "why": why}


def loaded(edges: Edges) -> Optional[str]:
    """The loaded driver's version, "" where it does not say it, None where none is loaded."""
    text = edges.text("/proc/driver/nvidia/version")
    if text is not None:
        return parse_module_version(text) or ""
    return "" if "nvidia" in loaded_modules(edges) else None


def left(edges: Edges, root: str) -> List[str]:
    """What shows that gpuhost has installed something here; what the watch itself has said counts as well.

    A VirtualBox that has never had a driver beside it has a guard, and something is said of it.
    """
    names = [f"{root}/current", f"{root}/{DRIVER_RECORD}"]
    of_driver = (edges.record(f"{root}/{rules.RECORD}") or {}).get("kernel")
    alone = of_driver is None and edges.exists(f"{root}/{BESIDE_RECORD}")
    names += [] if alone else [f"{root}/{rules.RECORD}", rules.PREFERENCES, rules.UNATTENDED, MOTD]
    found = [name for name in names if edges.exists(name)]
    generations = f"{root}/generations"
    if edges.names(generations) or (edges.exists(generations) and edges.names(generations) is None):
        found.append(generations)
    before = None if alone else edges.record(f"{root}/{RECORD}")
    if before is not None and before.get("status") != NOTHING:
        found.append(f"{root}/{RECORD}")
    return found
