"""All diagnoses, and which of them a failed check shows.

Adding one is one entry in a table of this room and one recorded host in tests/hosts/faults. Of several entries with
a sign at one check the first whose sign is seen is taken, so that a special cause stands before a general one.
"""

from typing import TYPE_CHECKING, Dict, NamedTuple, Optional

from . import build as diagnoses_build
from . import compute as diagnoses_compute
from . import driver as diagnoses_driver
from . import packages as diagnoses_packages
from . import virtualbox as diagnoses_virtualbox
from .base import Diagnosis, Remedy, always

if TYPE_CHECKING:
    from ..shapes.seen import Seen

TABLE = (
    *diagnoses_packages.TABLE,
    *diagnoses_driver.TABLE,
    *diagnoses_compute.TABLE,
    *diagnoses_build.TABLE,
    *diagnoses_virtualbox.TABLE,
)
BY_ID: Dict[str, Diagnosis] = {one.id: one for one in sorted(TABLE, key=lambda one: one.id)}


class Named(NamedTuple):
    """The diagnosis of a failed check, and the remedy that it has for this host."""

    diagnosis: str
    remedy: Optional[Remedy]


def by_hand(sign: Named, remediation: str, seen: "Seen") -> str:
    """The remedy on a host that gpuhost has not provisioned: never a command that only one that it has can obey.

    `remediation` is that of the check.
    """
    one = BY_ID[sign.diagnosis]
    if one.by_hand is not None:
        return one.by_hand(seen)
    own = sign.remedy(seen) if sign.remedy is not None else remediation
    return "" if "./run " in own else own


def named(check: str, seen: "Seen") -> Optional[Named]:
    """The diagnosis that a failed check shows; None when no sign of a known one is seen."""
    for one in TABLE:
        for sign in one.signs:
            if sign.check == check and sign.seen(seen):
                return Named(one.id, sign.remedy)
    return None


__all__ = ["BY_ID", "TABLE", "Diagnosis", "Named", "always", "by_hand", "named"]
