"""Write a lock: its PEP 751 files first, each under a name that its content gives it, and stack.json last.

So whatever is interrupted, the lock that was there is complete: none of its files is written over, and what a new lock
does not name is taken away only behind the rename that put the new lock in force.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Set, cast

from ..errors import GpuhostError, LockError
from ..host import files
from ..reading import content
from ..shapes.lock import Lock
from ..text import printable_lines
from ..types import Json
from . import contents, lock, pylocks, specs

#: What stands in for the contents of a lock whose plan alone is looked at.
EMPTY: Json = {
    "contents": {
        "pythons": {},
        "toolkits": [],
        "opencv": {"packages": [], "build": None},
        "weights": [],
        "expects": {"cuda": None, "tensorflow": None},
    },
    "environments": {},
}


def write(file: Path, value: Lock) -> bool:
    """Write a lock, if it is not there already; whether anything had to be written."""
    lock.check(value, str(file))
    with files.opened(file.parent, make=True) as folder:
        # Hosts that share a folder are written by several processes; a write takes no time, so no wait is reported.
        files.lock(folder, lambda _: None, lambda _: "")
        todo = missing(file, value)
        for path, text in todo.items():
            files.write_whole(path, text)
        sweep(file.parent)
    return bool(todo)


def difference(file: Path, value: Lock) -> List[Dict[str, str]]:
    """Return what writing a lock would change, as Ansible shows a difference: each file with its text before and after.

    A file whose name its content gives it is there or not, so it is new as a whole.
    """
    lock.check(value, str(file))
    return [
        {"before": before(path), "after": text, "before_header": str(path), "after_header": str(path)}
        for path, text in missing(file, value).items()
    ]


def missing(file: Path, value: Lock) -> Dict[Path, str]:
    """Return the texts of a lock's files that are not there yet, by their places, the lock's own last."""
    texts = {**lock.files(value), file.name: lock.text(value)}
    return {file.with_name(name): text for name, text in texts.items() if not holds(file.with_name(name), text)}


def before(path: Path) -> str:
    """Return the text of a file for a difference; "" where it is missing or cannot be shown."""
    try:
        return printable_lines(content(path, lock.LARGEST).decode("utf-8", "replace"))
    except (OSError, ValueError):
        return ""


def holds(path: Path, text: str) -> bool:
    """Return whether a file has this text."""
    try:
        return not path.is_symlink() and content(path, lock.LARGEST) == text.encode("utf-8")
    except (OSError, ValueError):
        return False


def drop_pending(file: Path) -> bool:
    """Remove the lock of a rebuild that lies beside a lock, and the files that only it names; whether there was one."""
    beside = file.with_name(file.name + lock.PENDING)
    there = beside.is_symlink() or beside.exists()
    if there:
        files.remove(beside)
        sweep(file.parent)
    return there


def sweep(folder: Path) -> None:
    """Remove the PEP 751 files of this project that no other file of the folder names.

    Where one of the others cannot be read, nothing is removed.
    """
    own = {path.name: path for path in folder.iterdir() if pylocks.NAME.fullmatch(path.name)}
    try:
        named = names_in([path for path in folder.iterdir() if path.name not in own and not path.is_dir()])
    except (OSError, ValueError):
        return
    for name in sorted(set(own) - named):
        files.remove(own[name])


def names_in(paths: List[Path]) -> Set[str]:
    """Return the names of the PEP 751 files that locks or other files mention."""
    texts = [content(path, lock.LARGEST).decode("utf-8", "replace") for path in paths]
    return {match.group() for text in texts for match in pylocks.NAME.finditer(text)}


def upgrade(file: Path) -> bool:
    """Write a lock of an earlier release again, closed with what the catalog of this one has; whether it had to be.

    Its plan stays as it is. A `LockError` where the catalog does not have what the plan names.
    """
    old = lock.written(file)
    if old.get("schema") == lock.SCHEMA:
        lock.load(file)
        return False
    if set(old) != {"schema", "host", "cards", "plan"} or old["schema"] != lock.OPEN:
        raise LockError(f"The lock {file} is damaged: it has not the form of an earlier release.", lock.AGAIN)
    head: Json = {"schema": lock.SCHEMA, **{key: old[key] for key in ("host", "cards", "plan")}}
    lock.formed({**head, **EMPTY}, str(file))
    try:
        new = cast(Lock, {**head, **contents.of(head["plan"])})
        lacking = specs.problems(new)
    except GpuhostError as error:
        lacking = [error.message]
    if lacking:
        raise LockError(f"The lock {file} cannot be upgraded. {lacking[0]}", lock.AGAIN)
    return write(file, new)
