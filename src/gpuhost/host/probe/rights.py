"""Who may change the store of a host, and who may read it.

Runs on the target: Python 3.6, standard library. Reads only, and only the upper levels: what is deeper was made by the
same hands under the same umask.
"""

import os
import stat
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

from ...types import Json
from ..store import LOCK, TEMPORARY

WRITABLE, FOREIGN, CLOSED = "writable", "foreign", "closed"
#: Folders below the root are entered as deep as this: store/NAME/PART.
DEPTH = 3
#: So many entries are looked at, and so many wrong ones are named.
MOST, NAMED = 20000, 50
#: What users of the stack have to be able to read.
READ = ("store", "generations")
#: What is root's alone.
PRIVATE = (LOCK, TEMPORARY)


def rights(root: Path) -> Optional[Json]:
    """What is wrong with the rights of the store, or None where there is none.

    `wrong` names paths with what they are: `writable` for others than root, `foreign` (of another owner), `closed` to
    users. `more` is how many others there are, `whole` whether everything was looked at.
    """
    if not root.is_dir():
        return None
    wrong: List[Json] = []
    count = 0
    for path, name in entries(root):
        count += 1
        if count > MOST:
            break
        try:
            found = faults(path.lstat(), name)
        except OSError:
            continue  # it has gone meanwhile
        if found:
            wrong.append({"path": str(path), "what": found})
    return {"wrong": wrong[:NAMED], "more": max(len(wrong) - NAMED, 0), "whole": count <= MOST}


def entries(root: Path) -> Iterator[Tuple[Path, str]]:
    """The folders above the root with the name "..", then the root ("") and what is in it, by their names there."""
    real = Path(os.path.realpath(str(root)))
    for parent in reversed(real.parents):
        yield parent, ".."
    todo = [(real, "")]
    while todo:
        path, name = todo.pop()
        yield path, name
        depth = name.count("/") + 1 if name else 0
        if depth < DEPTH and name not in PRIVATE and is_folder(path):
            todo += [(path / entry, f"{name}/{entry}" if name else entry) for entry in listed(path)]


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder and not a link to one."""
    return path.is_dir() and not path.is_symlink()


def listed(path: Path) -> List[str]:
    """The entries of a folder; of one that cannot be read its own rights tell."""
    try:
        return sorted((entry.name for entry in path.iterdir()), reverse=True)
    except OSError:
        return []


def faults(seen: os.stat_result, name: str) -> List[str]:
    """What is wrong with an entry."""
    if stat.S_ISLNK(seen.st_mode):
        return [FOREIGN] if seen.st_uid != 0 else []
    found = [FOREIGN] if seen.st_uid != 0 else []
    # Above the root a group like staff, which may write to /usr/local, is the administrator's concern.
    others = stat.S_IWOTH if name == ".." else stat.S_IWOTH | stat.S_IWGRP
    if seen.st_mode & others and not (name == ".." and seen.st_mode & stat.S_ISVTX):
        found.append(WRITABLE)
    needed = stat.S_IROTH | stat.S_IXOTH if stat.S_ISDIR(seen.st_mode) else stat.S_IROTH
    if name == "":
        needed = stat.S_IXOTH
    if (name == "" or name.split("/")[0] in READ) and seen.st_mode & needed != needed:
        found.append(CLOSED)
    return found
