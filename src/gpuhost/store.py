"""The store on the target: folders that are never changed once they are whole, and generations that link into it.

Runs on the target: Python 3.6, standard library. A folder counts only when its marker is there, which is written
last, so a run that was killed leaves nothing that the next one takes for whole.

    store/<name>/                      one installed thing, with `.gpuhost.json` as its marker
    generations/<n>/{stack.json,...}   links into the store
    current -> generations/<n>         one rename switches
"""

import contextlib
import errno
import fcntl
import fnmatch
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional

from .errors import EnvironmentProblem

MARKER = ".gpuhost.json"
Json = Dict[str, Any]


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all: a temporary name beside it, flushed, then renamed."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.chmod(0o644)
    temporary.rename(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    handle = os.open(str(folder), os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def turn(path: Path, say: Callable[[str], None], waiting: str) -> Iterator[int]:
    """Be the only holder of the lock file `path` while the block lasts; its descriptor, for children to inherit.

    Whoever has to wait is told `waiting` once. The kernel's lock lasts until every copy of the file is closed: a
    command that outlives a killed run, with a copy of its own, keeps the next run waiting instead of meeting it.
    """
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(waiting)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


def remove(path: Path) -> None:
    """Remove a folder, a file or a link, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(str(path))
    elif path.exists() or path.is_symlink():
        path.unlink()


def read_json(path: Path) -> Optional[Json]:
    """A JSON object in a file, or None when there is no whole one."""
    try:
        # A pipe in a file's place would make the reader wait for ever.
        value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def write_record(path: Path, content: Json) -> None:
    """Put a JSON object into a file, whole or not at all; its folder is made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise unwritable(error, path.parent) from error


def is_whole(folder: Path, digest: str) -> bool:
    """Is the store folder there with the marker of this digest?"""
    marker = read_json(folder / MARKER)
    return marker is not None and marker.get("digest") == digest


def seal(folder: Path, content: Json) -> None:
    """Write the marker that makes a store folder count; `content` holds at least `digest`.

    What the marker vouches for must be on the disk before it: after a power cut, a whole marker beside empty files
    would lie.
    """
    os.sync()
    write_whole(folder / MARKER, json.dumps(content, indent=1, sort_keys=True) + "\n")


def unwritable(error: OSError, folder: Path) -> EnvironmentProblem:
    """A full disk or a missing permission as what it is for the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentProblem(f"There is no space left for {folder}.", "Make room and run the same command again.")
    return EnvironmentProblem(f"{folder} cannot be written: {error}.", "Run as root, or correct the permissions.")


def stay_inside(names: Iterable[str]) -> None:
    """Refuse names that lead out of the folder they are meant for."""
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).parts:
            raise EnvironmentProblem(f"The name '{name}' leads out of the store.", "Restore the project from git.")


def write_tree(folder: Path, files: Dict[str, str], digest: str) -> bool:
    """Put text files (relative path -> content) into the store folder at once; False when it was there already."""
    if is_whole(folder, digest):
        return False
    stay_inside(files)
    temporary = folder.with_name(folder.name + ".new")
    try:
        # The marker goes first, so that what is taken down is never taken for whole.
        for stale in (temporary, folder / MARKER, folder):
            remove(stale)
        temporary.mkdir(parents=True)
        for name, content in sorted(files.items()):
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        seal(temporary, {"digest": digest, "files": sorted(files)})
        temporary.rename(folder)
        flush_folder(folder.parent)
    except OSError as error:
        # On a full disk, what is half written must not stay to fill it.
        shutil.rmtree(str(temporary), ignore_errors=True)
        raise unwritable(error, folder) from error
    return True


def current_generation(root: Path) -> Optional[int]:
    """The number of the generation in force, or None on a host without one."""
    try:
        target = os.readlink(str(root / "current"))
    except OSError:
        return None
    match = re.match(r"^generations/(\d+)$", target)
    return int(match.group(1)) if match and (root / target).is_dir() else None


def generations(root: Path) -> List[int]:
    """The numbers of all whole generations, in order."""
    folder = root / "generations"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def describe(root: Path, number: int) -> Json:
    """What a generation holds: its stack and its links (name -> target below `root`)."""
    folder = root / "generations" / str(number)
    links = {}
    for top, folders, files in os.walk(str(folder)):
        for name in folders + files:
            path = Path(top) / name
            if path.is_symlink():
                links[str(path.relative_to(folder))] = os.path.relpath(str(path.resolve()), str(root.resolve()))
    return {"stack": read_json(folder / "stack.json"), "links": links}


def links_without(links: Dict[str, str], patterns: Iterable[str]) -> Dict[str, str]:
    """The links whose names match none of the patterns."""
    patterns = list(patterns)
    return {name: to for name, to in links.items() if not any(fnmatch.fnmatchcase(name, p) for p in patterns)}


def needs_switch(root: Path, stack: Json, links: Dict[str, str]) -> bool:
    """Is the generation in force another than this stack with these links?"""
    number = current_generation(root)
    return number is None or describe(root, number) != {"stack": stack, "links": links}


def switch(root: Path, stack: Json, links: Dict[str, str]) -> int:
    """Make a new generation of a stack and links (name -> store folder below `root`), put it in force; its number.

    Every link's target must be whole already. The last step is one rename: a host is in the old generation or in
    the new one.
    """
    stay_inside([*links, *links.values()])
    for target in links.values():
        if not (root / target / MARKER).exists():
            raise EnvironmentProblem(
                f"{target} is not whole, so it is not put in force.", "Run the same command again."
            )
    number = max(generations(root) or [0]) + 1
    folder = root / "generations" / str(number)
    temporary = root / "generations" / ".new"
    try:
        remove(temporary)
        temporary.mkdir(parents=True)
        for name, target in sorted(links.items()):
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # Seen from generations/<n>/<name>, the root is as many steps up as the name is deep, and two more.
            path.symlink_to(Path(*[".."] * (2 + name.count("/")), target))
        write_whole(temporary / "stack.json", json.dumps(stack, indent=2, sort_keys=True) + "\n")
        temporary.rename(folder)
        flush_folder(folder.parent)
        point_current(root, number)
    except OSError as error:
        shutil.rmtree(str(temporary), ignore_errors=True)
        raise unwritable(error, folder) from error
    return number


def point_current(root: Path, number: int) -> None:
    """Let `current` name a generation, by one rename."""
    temporary = root / ".current.new"
    remove(temporary)
    temporary.symlink_to(f"generations/{number}")
    temporary.rename(root / "current")
    flush_folder(root)
