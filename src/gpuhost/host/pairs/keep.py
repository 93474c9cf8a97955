"""The record of the last update that was, or is to be, proved. Runs on the target: Python 3.6, standard library."""

from typing import Optional

from ...errors import EnvironmentProblem
from ...types import Json
from .. import store
from ..edges import Edges
from ..probe.guard import PAIR_RECORD

RECORD = PAIR_RECORD
#: What the record's pairs have, and its other fields by type: where one is not so, nothing is done by the record.
_PAIR = ("kernel", "version")
_FIELDS = {
    "state": str, "boot": str, "reason": str, "failed": str, "old": dict, "new": dict,
    "tries": int, "restarts": int, "restores": int, "recovered": bool, "armed": bool,
}  # fmt: skip


def read(edges: Edges, root: str) -> Optional[Json]:
    """The record; None where there is none. A damaged one is refused."""
    name = f"{root}/{RECORD}"
    if not edges.exists(name):
        return None
    found = edges.record(name)
    if found is None or not is_whole(found):
        raise EnvironmentProblem(f"{name} is damaged.", f"Look which kernel boots, then remove it: rm {name}")
    return found


def is_whole(found: Json) -> bool:
    """Return whether an object is such a record."""
    fields = all(isinstance(found.get(name), kind) for name, kind in _FIELDS.items())
    return fields and all(isinstance(found[pair].get(name), str) for pair in ("old", "new") for name in _PAIR)


def write(edges: Edges, root: str, record: Json) -> None:
    """Write the record whole, or not at all; it is on the disk when this returns."""
    store.write_record(edges.path(f"{root}/{RECORD}"), record)


def boot(edges: Edges) -> str:
    """What tells this boot from others."""
    return (edges.text("/proc/sys/kernel/random/boot_id") or "").strip()
