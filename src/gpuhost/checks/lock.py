"""Checks of the lock against the host: that there is one, that it was made for this machine and that it is in force."""

import shlex
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple, cast

from ..host.store import LOCK, TEMPORARY
from ..text import few
from .base import INSTALL, REBUILD, RELOCK, Check, Outcome, held, on_host, skipped
from .host import CARDS, OS_RELEASE

if TYPE_CHECKING:
    from ..shapes.answers import Installed
    from ..shapes.lock import Lock, LockedCard
    from ..shapes.observation import Observation
    from ..shapes.seen import Seen

#: So many wrong entries are named in one sentence.
FEW = 3


def installed(seen: "Seen") -> "Installed":
    """Return what the probe found of gpuhost on the host (data/installed.schema.json): root, generation, stack, links,
    driver, guard, signs and so on.
    """
    return seen["machine"]["installed"]


def in_force(seen: "Seen") -> "Optional[Lock]":
    """The lock that the generation in force was made from; None without a generation, or when its record is
    damaged.
    """
    return seen["expected"]["in_force"]


def obeyed(seen: "Seen") -> "Lock":
    """Return the lock to check the host against: the one in force, so that an edited lock shows in lock.generation
    and only there; the lock of the inventory as long as nothing is in force; without a lock what `found.expectation`
    made.
    """
    return cast("Lock", seen.get("as_found")) or in_force(seen) or seen["lock"]


def present(seen: "Seen") -> Outcome:
    """Check that there is a valid lock for this host."""
    error = seen["lock_error"]
    return held(
        seen["lock"] is not None,
        f"a lock for {seen['host']}",
        (error and error["message"]) or "present",
        (error and error["next_step"]) or INSTALL,
    )


def platform(seen: "Seen") -> Outcome:
    """Check that the host is of its lock's platform."""
    locked, found = obeyed(seen)["plan"]["platform"], seen["machine"]["observation"]["platform"]["id"]
    return held(locked == found, locked, found, RELOCK)


def cards_of(observation: "Observation") -> "List[LockedCard]":
    """What tells one card from another, by PCI address."""
    rows: List[LockedCard] = [
        {"pci_address": g["pci_address"], "pci_id": g["pci_id"], "uuid": g["uuid"]} for g in observation["gpus"]
    ]
    return sorted(rows, key=lambda r: str(r["pci_address"]))


def other_cards(locked: "Sequence[LockedCard]", present: "Sequence[LockedCard]") -> List[str]:
    """Return where the cards that are present differ from the locked ones; both as `cards_of` gives them.

    A card counts as the same when its PCI id is; its uuid decides where both are known (another card of one model).
    """
    locked_ids, present_ids = Counter(c["pci_id"] for c in locked), Counter(c["pci_id"] for c in present)
    if locked_ids != present_ids:
        return [f"cards: locked {listed(locked_ids)}, present {listed(present_ids)}"]
    locked_uuids, present_uuids = {c["uuid"] for c in locked}, {c["uuid"] for c in present}
    if None in locked_uuids | present_uuids or locked_uuids == present_uuids:
        return []
    return [
        f"cards: of the same model, but locked {', '.join(sorted(map(str, locked_uuids)))}, "
        f"present {', '.join(sorted(map(str, present_uuids)))}"
    ]


def listed(ids: Dict[str, int]) -> str:
    """Cards by id and number."""
    return ", ".join(f"{n} x {i}" if n > 1 else i for i, n in sorted(ids.items())) or "none"


def cards(seen: "Seen") -> Outcome:
    """Check that the cards in the machine are those of the lock."""
    lock = obeyed(seen)
    told = other_cards(lock["cards"], cards_of(seen["machine"]["observation"]))
    wanted = ", ".join(c["pci_id"] for c in lock["cards"]) or "no NVIDIA card"
    found = ", ".join(c["pci_id"] for c in seen["machine"]["observation"]["gpus"]) or "no NVIDIA card"
    return held(
        not told,
        wanted,
        told[0] if told else found,
        REBUILD,
    )


def changes(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> List[str]:  # Json: any two JSON objects
    """Where two JSON objects differ, as `path: old value -> new value`."""
    found = []
    for key in sorted({*old, *new}):
        before, after, here = old.get(key), new.get(key), f"{path}{key}"
        if isinstance(before, dict) and isinstance(after, dict):
            found += changes(before, after, f"{here}.")
        elif before != after:
            found.append(f"{here}: {str(before)[:60]} in force, {str(after)[:60]} in the lock")
    return found


def provisioned(seen: "Seen") -> Outcome:
    """Check that a generation of the store is in force."""
    number = installed(seen)["generation"]
    actual = "none: the host is not provisioned" if number is None else f"generation {number}"
    return held(number is not None, f"a generation in force below {installed(seen)['root']}", actual, INSTALL)


def generation(seen: "Seen") -> Outcome:
    """Check that the stack in force is the lock's."""
    number, stack = installed(seen)["generation"], in_force(seen)
    required = "the generation in force was made from this lock"
    if stack is None:
        return held(False, required, f"the record of generation {number} (stack.json) is missing or damaged", INSTALL)
    told = changes(stack, seen["lock"])
    actual = few(told, FEW)
    remedy = f"Carry the lock out; if it was edited by mistake, restore it from git first:\n{INSTALL}"
    return held(not told, required, actual or f"generation {number}", remedy)


def whole(name: str, seen: "Seen") -> Outcome:
    """Check that the generation's link `name` leads to a complete folder with the right content."""
    link = installed(seen)["links"].get(name)
    required = f"current/{name} leads to a whole folder of the store"
    if link is None:
        return held(False, required, f"{name} is not there", INSTALL)
    expected = seen["expected"]["environments"].get(name.rpartition("/")[2])
    wanted = None if expected is None or "error" in expected else expected["digest"]
    if link["digest"] is None:
        told = f"{name} leads to {link['target']}, which is half made, or files of it are gone or changed"
    elif not link["target"].endswith(f"-{link['digest']}"):
        told = f"{name} leads to {link['target']}, whose content is {link['digest']}"
    elif wanted is not None and wanted != link["digest"]:
        told = f"{name} is {link['digest']}, the lock wants {wanted}"
    else:
        return held(True, required, link["target"], INSTALL)
    return held(False, required, told, INSTALL)


#: What a wrong entry is, in words.
RIGHTS = {"writable": "others may write to it", "foreign": "it is not root's", "closed": "users cannot read it"}


def rights(seen: "Seen") -> Outcome:
    """Check that only root can change the store, and every user can read it."""
    root, found = installed(seen)["root"], installed(seen).get("rights")
    required = f"{root} is root's, nobody else may write there, and users can read it"
    if found is None:
        return skipped(required, "the rights of the store were not read", INSTALL)
    told = [f"{row['path']}: {', '.join(RIGHTS[what] for what in row['what'])}" for row in found["wrong"]]
    actual = few(told, FEW, beside=found["more"])
    above = [row["path"] for row in found["wrong"] if root.startswith(row["path"].rstrip("/") + "/")]
    if told:
        return held(False, required, actual, rights_remedy(root, above))
    if not found["whole"]:
        return skipped(required, "there are too many files to look at all of them")
    return held(True, required, "root's, and readable", "")


def rights_remedy(root: str, above: Sequence[str]) -> str:
    """The command that sets the rights right; `above` are folders that the store lies in."""
    own, lock, temporary = (shlex.quote(f"{root}{name}") for name in ("", f"/{LOCK}", f"/{TEMPORARY}"))
    # What users may read is opened; the lock, and the folder for temporary files, stay root's alone.
    told = [f"chown root:root {shlex.quote(path)} && chmod o-w {shlex.quote(path)}" for path in above]
    told += [
        f"chown -R root:root {own}",
        f"chmod -R u=rwX,go=rX {own}",
        f"{{ test ! -e {lock} || chmod 600 {lock}; }}",
        f"{{ test ! -e {temporary} || chmod 700 {temporary}; }}",
    ]
    return on_host(" && ".join(told))


def part(
    identity: str, name: str, what: str, gpu: bool = False, needs: Tuple[str, ...] = ("lock.provisioned",)
) -> Check:
    """The check that a part of the generation is installed."""
    return Check(
        identity,
        f"{what} is installed whole",
        "A link to a half-made folder works until the first file that is missing.",
        partial(whole, name),
        (f"{{root}}/store/{name.rpartition('/')[2]}-*",),
        needs,
        gpu=gpu,
    )


CHECKS = (
    Check(
        "lock.present",
        "The host has a lock",
        "Without a lock there is nothing to hold the host against.",
        present,
        (),
        ("host.observed",),
    ),
    Check(
        "lock.platform",
        "The lock is for this platform",
        "A stack is chosen for one release.",
        platform,
        OS_RELEASE,
        ("lock.present",),
    ),
    Check(
        "lock.cards",
        "The lock is for these cards",
        "A stack is chosen, and OpenCV built, for the cards that were there.",
        cards,
        CARDS,
        ("lock.present",),
    ),
    Check(
        "lock.provisioned",
        "The host is provisioned",
        "Only what is in force can be used.",
        provisioned,
        ("{root}/current",),
        ("lock.present",),
    ),
    Check(
        "lock.generation",
        "The lock is in force",
        "A lock that was edited and not carried out promises what is not there.",
        generation,
        ("{root}/generations/*/stack.json",),
        ("lock.provisioned",),
    ),
    Check(
        "lock.rights",
        "Only root can change the store",
        "Whoever can write there runs code as root, and a user who cannot read it has no stack.",
        rights,
        ("{root}",),
        ("lock.provisioned",),
    ),
)

PARTS = (
    part("cuda.installed", "cuda", "The toolkit", gpu=True),
    part("cudnn.installed", "cudnn", "cuDNN", gpu=True),
    part("opencv.installed", "venvs/opencv_cuda", "OpenCV's environment"),
    part("tensorflow.installed", "venvs/dl4cv", "TensorFlow's environment"),
    part("detector.installed", "yolo", "The detector", needs=("opencv.installed",)),
)
