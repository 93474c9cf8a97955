"""Reading the update guard: its record, holds, pins and blacklist, and what they have to cover.

Runs on the target: Python 3.6, standard library. Reads only.
"""

from typing import Dict

from ...types import Json
from ..edges import Edges
from ..guard import rules as rules

DRIVER_RECORD = "state/driver.json"
#: That of VirtualBox, which stands beside the driver.
BESIDE_RECORD = "state/virtualbox.json"
#: That of an update that a boot has proved, or is to prove.
PAIR_RECORD = "state/pair.json"
_TIMEOUT_S = 60.0


def guard(edges: Edges, root: str) -> Json:
    """The guard's state: that of its holds, and `pins` and `blacklist`, what our two files say."""
    return {
        **holds(edges, root),
        "pins": rules.parse_preferences(edges.text(rules.PREFERENCES) or ""),
        "blacklist": rules.parse_unattended(edges.text(rules.UNATTENDED) or ""),
    }


def holds(edges: Edges, root: str) -> Json:
    """What is on hold and should be.

    `held` are all packages that dpkg has on hold, `stack` the computed hold set with its versions, and `record` what
    the guard has noted (None: there is no guard).
    """
    packages = installed_packages(edges)
    driver = edges.record(f"{root}/{DRIVER_RECORD}") or {}
    beside = edges.exists(f"{root}/{BESIDE_RECORD}")
    return {
        "record": edges.record(f"{root}/{rules.RECORD}"),
        "held": sorted(name for name, package in packages.items() if package.held),
        "stack": rules.stack(packages, driver.get("kernel"), beside),
    }


def installed_packages(edges: Edges) -> Dict[str, rules.Package]:
    """What dpkg has installed; what it does not answer becomes a problem."""
    architecture = edges.output(["dpkg", "--print-architecture"], _TIMEOUT_S, "dpkg --print-architecture")
    listing = edges.output(["dpkg-query", "-W", "-f=" + rules.FORMAT], _TIMEOUT_S, "dpkg-query")
    if architecture is None or listing is None:
        return {}
    packages, unread = rules.parse_listing(listing, architecture.strip())
    if unread:
        edges.problem("dpkg-query", f"{len(unread)} lines cannot be read, the first: {unread[0][:200]}")
    return packages
