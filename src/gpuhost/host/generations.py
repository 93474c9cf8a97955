"""Which generation was in force when, which of them is kept, and what of the store nobody needs any more.

`state/generations.json` is the record: in the order of time which generation came into force, by a switch or by going
back, and which were found good by `verify/`. Runs on the target: Python 3.6, standard library.

A generation that is in force and not in the record came last, by a switch: the record is written after the rename,
and a run may have been killed between the two. Going back is recorded before its rename, because only the record tells
it from a switch; what never came into force by it is recognised by `current`.
"""

import json
import os
import re
import zipfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from .. import strict_json
from ..errors import UsageError
from ..types import Json
from . import files, store

RECORD = "state/generations.json"
SWITCH, BACK = "switch", "back"
#: What generations link to. Other folders of the store are tools, which the next build takes up again.
KINDS = ("cuda", "cudnn", "opencv_cuda", "dl4cv", "yolo", "service")
#: What a wheel that was built here tells about itself (gpuhost.cvbuild.wheel).
FACTS = "cv2/gpuhost_build.json"


class Garbage(NamedTuple):
    """What can go: generations and store folders; and what stays although no kept generation links to it, with why."""

    generations: List[int]
    folders: List[str]
    kept: Dict[str, str]


def read(root: Path) -> Json:
    """The record, with what is in force as its last entry."""
    found = store.read_json(root / RECORD) or {"schema": 1, "in_force": [], "good": []}
    current = store.current_generation(root)
    if current is not None and current not in [row["generation"] for row in found["in_force"]]:
        found["in_force"].append({"generation": current, "by": SWITCH})
    return found


def note(root: Path, number: int, by: str) -> None:
    """Write down that a generation comes into force; nothing when it is the last entry already."""
    with store.changing(root, "noting which generation is in force"):
        content = read(root)
        if not content["in_force"] or content["in_force"][-1] != {"generation": number, "by": by}:
            content["in_force"].append({"generation": number, "by": by})
        store.write_record(root / RECORD, content)


def put_in_force(root: Path, wanted: Callable[[], Tuple[Json, Dict[str, str]]]) -> Optional[int]:
    """Make a generation, put it in force and note it, as one change; its number, None when it was in force already.

    `wanted` gives the stack and the links. It is asked when no other run can change any more what it rests on.
    """
    with store.changing(root, "putting a generation in force"):
        stack, links = wanted()
        if not store.needs_switch(root, stack, links):
            return None
        number = store.switch(root, stack, links)
        note(root, number, SWITCH)
    return number


def until_now(root: Path) -> List[Json]:
    """The entries of the record up to the one that is in force; what comes after never came into force."""
    current, rows = store.current_generation(root), read(root)["in_force"]
    ends = [at for at, row in enumerate(rows) if row["generation"] == current]
    return list(rows[: ends[-1] + 1]) if ends else []


def came_by(root: Path) -> Optional[str]:
    """How the generation in force came: `switch` or `back`; None without one."""
    rows = until_now(root)
    return str(rows[-1]["by"]) if rows else None


def before(root: Path) -> Optional[int]:
    """The generation that was in force before the present one, of those that are still there."""
    rows, current = until_now(root), store.current_generation(root)
    there = set(store.generations(root)) - {current}
    return next((int(row["generation"]) for row in reversed(rows) if row["generation"] in there), None)


def good(root: Path) -> List[int]:
    """The generations that verify/ has found good and that are still there, the latest last."""
    there = store.generations(root)
    return [number for number in read(root)["good"] if number in there]


def mark_good(root: Path) -> bool:
    """Write down that verify/ has passed on the generation in force; return whether that is new."""
    with store.changing(root, "noting that verify/ has passed"):
        current, content = store.current_generation(root), read(root)
        if current is None or content["good"][-1:] == [current]:
            return False
        content["good"] = [number for number in content["good"] if number != current] + [current]
        store.write_record(root / RECORD, content)
    return True


def go_back(root: Path, number: int) -> bool:
    """Put an earlier generation in force again, by one rename; False when it is."""
    with store.changing(root, f"going back to generation {number}"):
        if number not in store.generations(root):
            there = ", ".join(str(n) for n in store.generations(root)) or "none"
            raise UsageError(f"There is no generation {number} on this host.", f"Choose one of: {there}.")
        if store.current_generation(root) == number:
            return False
        for target in store.describe(root, number)["links"].values():
            if not (root / target / store.MARKER).exists():
                step = "Choose another generation, or plan again: docs/runbooks/rebuild.md."
                raise UsageError(f"Generation {number} needs {target}, which is not complete.", step)
        note(root, number, BACK)
        try:
            store.point_current(root, number)
        except OSError as error:
            raise store.unwritable(error, root) from error
    return True


def kept(root: Path, count: int) -> Set[int]:
    """The generations to keep: the one in force, the one before it, the latest good one, and the last `count`."""
    numbers = set(store.generations(root)[-count:]) if count > 0 else set()
    numbers |= {n for n in (store.current_generation(root), before(root)) if n is not None}
    return numbers | set(good(root)[-1:])


def garbage(root: Path, count: int) -> Garbage:
    """What can go when `count` generations are kept. Reads only."""
    staying = kept(root, count)
    linked = {to for n in staying for to in store.describe(root, n)["links"].values()}
    named = dict(named_by_wheels(root), **named_by_environments(root, linked))
    gone: List[str] = []
    reasons: Dict[str, str] = {}
    for folder in folders(root):
        relative = f"store/{folder.name}"
        if relative in linked:
            continue
        if relative in named:
            reasons[relative] = named[relative]
        else:
            gone.append(relative)
    return Garbage([n for n in store.generations(root) if n not in staying], gone, reasons)


def folders(root: Path) -> Iterator[Path]:
    """The whole store folders of the kinds that generations link to. One that is not complete may be in the making."""
    for folder in sorted((root / "store").glob("*")):
        if folder.name.split("-")[0] in KINDS and (folder / store.MARKER).exists():
            yield folder


def named_by_wheels(root: Path) -> Dict[str, str]:
    """The store folders that a cached wheel of OpenCV looks for its libraries in, with the reason to keep them."""
    found = {}
    for path in sorted((root / "cache" / "wheels" / "opencv").glob("*/*.whl")):
        try:
            with zipfile.ZipFile(str(path)) as archive, archive.open(FACTS) as handle:
                facts = strict_json.loads(handle.read(strict_json.LIMIT + 1))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            continue  # it is not complete, so it will be built again
        found.update({name: f"the wheel {path.name} looks for its libraries there" for name in in_runpath(facts)})
    return found


def named_by_environments(root: Path, linked: Set[str]) -> Dict[str, str]:
    """The same for the OpenCV of each environment that is kept."""
    found = {}
    for relative in sorted(linked):
        for path in (root / relative).glob("lib/python*/site-packages/" + FACTS):
            facts = store.read_json(path) or {}
            found.update(
                {name: f"the OpenCV of {relative} looks for its libraries there" for name in in_runpath(facts)}
            )
    return found


def in_runpath(facts: Json) -> List[str]:
    """The store folders in the RUNPATH of a wheel's module."""
    return sorted(set(re.findall(r"store/[^/:\"]+", json.dumps(facts.get("runpath", "")))))


def contents(root: Path) -> List[str]:
    """Return what lies in the store, a line for each folder below its parts, with its size on the disk."""
    parts = sorted(path for path in root.glob("*") if not path.is_symlink())
    inner = [path for part in parts for path in (sorted(part.iterdir()) if part.name in ("store", "cache") else [part])]
    return [f"{size(path) / 1e6:>8.1f} MB  {path}" for path in inner]


def size(path: Path) -> int:
    """Return how many bytes of the disk a file or a folder takes; a link is not followed."""
    found = path.lstat().st_blocks * 512
    for folder, folders_, names in os.walk(str(path)):  # follows no link
        found += sum((Path(folder) / name).lstat().st_blocks * 512 for name in [*folders_, *names])
    return found


def remove(root: Path) -> bool:
    """Delete the whole store, first the name by which all of it is used; return whether it was there."""
    if not root.exists():
        return False
    with store.changing(root, "removing gpuhost"):
        try:
            files.remove(root / "current")
            files.remove(root)
        except OSError as error:
            raise store.unwritable(error, root) from error
    return True


def collect(root: Path, count: int) -> Garbage:
    """Delete what `garbage` names: the generations first, so that none is there with a link to nothing."""
    with store.changing(root, "deleting what no generation needs"):
        found = garbage(root, count)
        try:
            for number in found.generations:
                files.remove(root / "generations" / str(number))
            for relative in found.folders:
                # The marker goes first, so that what is taken down is never taken for complete.
                files.remove(root / relative / store.MARKER)
                files.remove(root / relative)
        except OSError as error:
            raise store.unwritable(error, root) from error
    return found
