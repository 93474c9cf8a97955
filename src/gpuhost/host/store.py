"""The store on the target: folders that are never changed once they are complete, and generations that link into it.

Runs on the target: Python 3.6, standard library. A folder is complete only once its marker exists.
The marker is written last, so an interrupted run never looks complete.

    store/<name>/                      one installed thing, with `.gpuhost.json` as its marker
    generations/<n>/{stack.json,...}   links into the store
    current -> generations/<n>         one rename switches
"""

import contextlib
import errno
import fnmatch
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional

from .. import strict_json
from ..errors import EnvironmentProblem
from ..types import Json
from . import files

MARKER = ".gpuhost.json"
#: Held by whoever changes anything of this project on a host; open to root alone.
LOCK = "lock"
#: Where temporary files go while the lock is held.
TEMPORARY = "tmp"


@contextlib.contextmanager
def changing(root: Path, what: str, say: Optional[Callable[[str], None]] = None) -> Iterator[int]:
    """Be the only run that changes this host while the block lasts; the lock's descriptor, for children to inherit.

    One lock stands for the store, its generations and caches, their records, the driver and its guard. Whoever has to
    wait learns who holds it; without `say` that is a `files.Busy`. A thread that holds the lock already may come here
    again.

    Within the block, and in what is started there, no mode depends on the umask that was inherited, and temporary files
    go to a folder of our own: /tmp may be small, or mounted so that nothing in it can be run.
    """
    lock = files.holding(root / LOCK)
    if lock is not None:
        yield lock
        return
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(files.held(root / LOCK, what, say))
            stack.callback(os.umask, os.umask(files.UMASK))
            stack.enter_context(own_temporary(root / TEMPORARY))
        except OSError as error:
            raise unwritable(error, root) from error
        yield lock


@contextlib.contextmanager
def own_temporary(folder: Path) -> Iterator[None]:
    """Let temporary files go to an empty folder that nobody else can enter; it is empty again afterwards.

    The folder itself stays, so that a host whose disk is full can still be tidied.
    """
    before = {"tempdir": tempfile.tempdir, "TMPDIR": os.environ.get("TMPDIR")}
    files.make_private(folder)
    for stale in folder.iterdir():
        files.remove(stale)
    try:
        tempfile.tempdir, os.environ["TMPDIR"] = None, str(folder)
        yield
    finally:
        tempfile.tempdir = before["tempdir"]
        if before["TMPDIR"] is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before["TMPDIR"]
        for left in folder.iterdir() if folder.is_dir() else ():  # gone with all the rest, where gpuhost is removed
            give_up(left)


def read_json(path: Path) -> Optional[Json]:
    """A JSON object in a file, or None when there is none, or no complete one."""
    try:
        value = strict_json.load(path)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_record(path: Path, content: Json) -> None:
    """Put a JSON object into a file, whole or not at all; its folder is made."""
    try:
        files.write_whole(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise unwritable(error, path.parent) from error


def is_whole(folder: Path, digest: str) -> bool:
    """Return whether the store folder is there with the marker of this digest, and holds the files that were sealed."""
    return sealed_digest(folder, read_json(folder / MARKER)) == digest


def sealed_digest(folder: Path, marker: Optional[Json]) -> Optional[str]:
    """Return the digest in a folder's marker; None without one, and where files have come, gone or changed their size
    since. Markers of earlier releases say nothing of the files, and are believed.
    """
    if marker is None or ("tree" in marker and marker["tree"] != tree(folder)):
        return None
    digest = marker.get("digest")
    return digest if isinstance(digest, str) else None


def tree(folder: Path) -> str:
    """Return a digest of what a folder holds: the names, the sizes of files and the targets of links.

    Python's caches of compiled modules are left out: a program that root runs from there writes them.
    """
    found = hashlib.sha256()
    for top, folders, names in os.walk(str(folder)):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for path in sorted(Path(top) / name for name in [*names, *folders]):
            if path.is_symlink():
                said = os.readlink(str(path))
            elif path.is_dir() or path == folder / MARKER:
                continue
            else:
                said = str(path.lstat().st_size)
            found.update(f"{path.relative_to(folder)}\0{said}\0".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def seal(folder: Path, content: Json) -> None:
    """Write the marker that makes a store folder count; `content` holds at least `digest`.

    What the marker vouches for must be on the disk before it: after a power cut, a whole marker beside empty files
    would lie.
    """
    os.sync()
    marker = {**content, "tree": tree(folder)}
    files.write_whole(folder / MARKER, json.dumps(marker, indent=1, sort_keys=True) + "\n")


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


def write_tree(folder: Path, contents: Dict[str, str], digest: str) -> bool:
    """Put text files (relative path -> content) into the store folder at once; False when it was there already."""
    stay_inside(contents)
    if is_whole(folder, digest):
        return False
    temporary = folder.with_name(folder.name + ".new")
    with changing(folder.parent.parent, f"writing {folder.name}"):
        if is_whole(folder, digest):  # whoever had the lock before has written it
            return False
        try:
            # The marker goes first, so that what is taken down is never taken for complete.
            for stale in (temporary, folder / MARKER, folder):
                files.remove(stale)
            files.make_folder(temporary)
            for name, content in sorted(contents.items()):
                with files.new(temporary / name) as handle:
                    handle.write(content.encode("utf-8"))
            seal(temporary, {"digest": digest, "files": sorted(contents)})
            files.put_folder(temporary, folder)
        except OSError as error:
            give_up(temporary)
            raise unwritable(error, folder) from error
    return True


def give_up(temporary: Path) -> None:
    """Take away what is half written: on a full disk it must not stay to fill it."""
    with contextlib.suppress(OSError):
        files.remove(temporary)


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
    for top, folders, names in os.walk(str(folder)):
        for name in folders + names:
            path = Path(top) / name
            if path.is_symlink():
                links[str(path.relative_to(folder))] = os.path.relpath(str(path.resolve()), str(root.resolve()))
    return {"stack": read_json(folder / "stack.json"), "links": links}


def links_without(links: Dict[str, str], patterns: Iterable[str]) -> Dict[str, str]:
    """The links whose names match none of the patterns."""
    patterns = list(patterns)
    return {name: to for name, to in links.items() if not any(fnmatch.fnmatchcase(name, p) for p in patterns)}


def needs_switch(root: Path, stack: Json, links: Dict[str, str]) -> bool:
    """Return whether the generation in force is not this stack with these links."""
    number = current_generation(root)
    return number is None or describe(root, number) != {"stack": stack, "links": links}


def switch(root: Path, stack: Json, links: Dict[str, str]) -> int:
    """Make a new generation of a stack and links (name -> store folder below `root`), put it in force; its number.

    Every link's target must be complete already. The last step is one rename: a host is in the old generation or in
    the new one.
    """
    stay_inside([*links, *links.values()])
    with changing(root, "putting a generation in force"):
        for target in links.values():
            if not (root / target / MARKER).exists():
                raise EnvironmentProblem(
                    f"{target} is not complete, so it is not put in force.", "Run the same command again."
                )
        number = max(generations(root) or [0]) + 1
        folder = root / "generations" / str(number)
        temporary = root / "generations" / ".new"
        try:
            files.remove(temporary)
            files.make_folder(temporary)
            for name, target in sorted(links.items()):
                # Seen from generations/<n>/<name>, the root is as many steps up as the name is deep, and two more.
                files.link(str(Path(*[".."] * (2 + name.count("/")), target)), temporary / name)
            files.write_whole(temporary / "stack.json", json.dumps(stack, indent=2, sort_keys=True) + "\n")
            files.put_folder(temporary, folder)
            point_current(root, number)
        except OSError as error:
            give_up(temporary)
            if current_generation(root) != number:
                give_up(folder)
            raise unwritable(error, folder) from error
    return number


def point_current(root: Path, number: int) -> None:
    """Let `current` name a generation, by one rename."""
    files.link(f"generations/{number}", root / "current")
