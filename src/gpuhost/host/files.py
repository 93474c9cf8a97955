"""Write files so that each is there whole or not at all, in the folder that was meant, and by one run at a time.

Every writer of this package goes through here (tests/unit/test_files_law.py). A folder is reached one component after
the other. A symbolic link among them is followed only where nobody but root and the present user could have put it
there, so that a service user who owns a folder cannot lead root out of it. Within the folder everything is relative to
its descriptor: a new file is created exclusively, a name is taken by a rename, and no mode depends on the umask.

Python 3.6 and the standard library: modules that run on a target use it, and the detector takes it along.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Callable, Dict, Iterator, List, Optional, Tuple, Union

from .. import strict_json
from ..errors import EnvironmentProblem
from ..text import printable

Say = Callable[[str], None]

FILE, FOLDER, PRIVATE = 0o644, 0o755, 0o600
#: The umask of everything that this package starts on a target.
UMASK = 0o022
_BLOCK = 1 << 20
#: As many symbolic links as Linux follows in one path.
_LINKS = 40
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LAST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_RDWR
_NO_LINK = (errno.ELOOP, errno.ENOTDIR)


# Folders


@contextlib.contextmanager
def opened(folder: Path, make: bool = False) -> Iterator[int]:
    """Give a descriptor of a folder that was reached safely; with `make` it and its parents are made where missing."""
    at = os.open("/", _STEP)
    todo = _parts(os.path.abspath(str(folder)))
    links = 0
    try:
        while todo:
            name = todo.pop()
            try:
                step = os.open(name, _STEP, dir_fd=at)
            except FileNotFoundError:
                if not make:
                    raise
                _make(name, at)
                todo.append(name)
                continue
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                links += 1
                target = _link(name, at, folder, links)
                todo += _parts(target)
                if target.startswith("/"):
                    os.close(at)
                    at = os.open("/", _STEP)
                continue
            os.close(at)
            at = step
        last = os.open(".", _LAST, dir_fd=at)
    finally:
        os.close(at)
    try:
        yield last
    finally:
        os.close(last)


def _parts(path: str) -> List[str]:
    """Return the components of a path, the first one last."""
    return [part for part in path.split("/") if part not in ("", ".")][::-1]


def _link(name: str, at: int, folder: Path, links: int) -> str:
    """Return where a symbolic link leads; refuse one that somebody else may have put there."""
    if not stat.S_ISLNK(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "a component is not a folder", str(folder))
    if links > _LINKS or not _is_ours(name, at):
        raise OSError(
            errno.ELOOP, f"'{printable(name, 60)}' is a symbolic link that another user can change", str(folder)
        )
    return os.readlink(name, dir_fd=at)


def _is_ours(name: str, at: int) -> bool:
    """Return whether nobody but root and the present user could have put `name` into the folder `at`."""
    trusted = (0, os.geteuid())
    folder = os.fstat(at)
    shared = folder.st_mode & stat.S_IWOTH or (folder.st_mode & stat.S_IWGRP and folder.st_gid not in (0, os.getegid()))
    if folder.st_uid not in trusted:
        return False
    if not shared:
        return True
    # In a folder like /tmp only the owner of a link can replace it.
    owner = os.stat(name, dir_fd=at, follow_symlinks=False).st_uid
    return bool(folder.st_mode & stat.S_ISVTX) and owner in trusted


def _make(name: str, at: int) -> None:
    """Make one folder, with its mode whatever the umask is; another run may be making the same one."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, FOLDER, dir_fd=at)
        made = os.open(name, _LAST, dir_fd=at)
        try:
            if os.fstat(made).st_uid == os.geteuid():
                os.fchmod(made, FOLDER)
        finally:
            os.close(made)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, those that are missing, each with the mode 0755."""
    with opened(folder, make=True):
        pass


def make_private(folder: Path) -> None:
    """Have a folder that nobody else can enter."""
    with opened(folder, make=True) as at:
        os.fchmod(at, 0o700)


def make_for_group(folder: Path, group: int) -> None:
    """Have a folder that only its owner can change, and only members of a group can enter beside the owner."""
    with opened(folder, make=True) as at:
        os.fchown(at, -1, group)
        os.fchmod(at, 0o750)


def flush_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    with opened(folder) as at:
        os.fsync(at)


@contextlib.contextmanager
def temporary(mode: int = 0o700) -> Iterator[Path]:
    """Give a folder of the moment; `mode` 0755 where another user has to read what is in it."""
    folder = tempfile.mkdtemp(prefix="gpuhost-")
    try:
        os.chmod(folder, mode)
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Files


def write_whole(
    path: Path, content: Union[str, bytes], mode: Optional[int] = FILE, group: Optional[int] = None
) -> None:
    """Write a file whole or not at all; with a `group` it belongs to that group."""
    with whole(path, mode) as handle:
        if group is not None:
            os.fchown(handle.fileno(), -1, group)
        handle.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def whole(path: Path, mode: Optional[int] = FILE, replace: bool = True) -> Iterator[IO[bytes]]:
    """Open a file that takes the name `path` when the block ends well, and leaves nothing otherwise.

    `mode` None leaves the mode to the umask, as for the file that a person asked for. The file and its name are on the
    disk when this returns. What a killed process left of the same file is taken away. Without `replace` a name that is
    taken is a `FileExistsError`, also when it was taken meanwhile.
    """
    with _taking(path, replace) as (temporary, at):
        made = os.open(temporary, _NEW, 0o666 if mode is None else mode & 0o600, dir_fd=at)
        with os.fdopen(made, "w+b") as handle:
            if mode is not None:
                os.fchmod(made, mode)
            yield handle
            handle.flush()
            os.fsync(made)


@contextlib.contextmanager
def _taking(path: Path, replace: bool = True) -> Iterator[Tuple[str, int]]:
    """Give a temporary name and the descriptor of its folder; what is made there takes the name `path` at the end.

    Where the block fails it is taken away. The name is on the disk when this returns.
    """
    with opened(path.parent, make=True) as at:
        _sweep(path.name, at)
        temporary = f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.new"
        try:
            yield temporary, at
            if replace:
                os.rename(temporary, path.name, src_dir_fd=at, dst_dir_fd=at)
            else:  # a link, other than a rename, takes no name that is there
                os.link(temporary, path.name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
                os.unlink(temporary, dir_fd=at)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=at)
            raise
        os.fsync(at)


def _sweep(name: str, at: int) -> None:
    """Take away what processes that are gone have left of a file."""
    start = f".{name}."
    for entry in os.listdir(at):
        process = entry[len(start) :].partition("-")[0]
        if entry.startswith(start) and entry.endswith(".new") and process.isdigit() and not _is_alive(int(process)):
            with contextlib.suppress(OSError):
                os.unlink(entry, dir_fd=at)


def _is_alive(process: int) -> bool:
    """Return whether a process of this number is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@contextlib.contextmanager
def new(path: Path, mode: int = FILE) -> Iterator[IO[bytes]]:
    """Open a file that is not there yet, under its own name: for a folder that counts only when it is sealed."""
    with opened(path.parent, make=True) as at:
        made = os.open(path.name, _NEW, PRIVATE, dir_fd=at)
    with os.fdopen(made, "w+b") as handle:
        os.fchmod(made, mode)
        yield handle


def appended(path: Path, mode: int = FILE) -> IO[bytes]:
    """Open a file to write behind what it holds (a log, a download); it is made where it is missing."""
    with opened(path.parent, make=True) as at:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        found = os.open(path.name, flags, mode, dir_fd=at)
    os.fchmod(found, mode)
    return os.fdopen(found, "a+b")


def put(source: Path, path: Path, mode: int = FILE) -> None:
    """Move a file that is complete to its name, with its content on the disk before the name is."""
    with opened(source.parent) as here, opened(path.parent, make=True) as there:
        found = os.open(source.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        try:
            os.fchmod(found, mode)
            os.fsync(found)
        finally:
            os.close(found)
        os.rename(source.name, path.name, src_dir_fd=here, dst_dir_fd=there)
        os.fsync(there)


def put_folder(source: Path, folder: Path) -> None:
    """Give a folder that is complete its name."""
    with opened(source.parent) as here, opened(folder.parent) as there:
        os.rename(source.name, folder.name, src_dir_fd=here, dst_dir_fd=there)
        os.fsync(there)


def link(target: str, path: Path) -> None:
    """Let `path` be a symbolic link to `target`, at once; a file or a link of that name is replaced."""
    with _taking(path) as (temporary, at):
        os.symlink(target, temporary, dir_fd=at)


def remove(path: Path) -> None:
    """Remove a folder, a file or a link, if it is there."""
    try:
        with opened(path.parent) as at:
            if not stat.S_ISDIR(os.stat(path.name, dir_fd=at, follow_symlinks=False).st_mode):
                os.unlink(path.name, dir_fd=at)
                return
    except FileNotFoundError:
        return
    shutil.rmtree(str(path))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return digest(handle)


def digest(handle: IO[bytes]) -> str:
    """Return the SHA-256 of an open file's complete content, as hex digits."""
    handle.seek(0)
    found = hashlib.sha256()
    for block in iter(lambda: handle.read(_BLOCK), b""):
        found.update(block)
    return found.hexdigest()


# One at a time


class Busy(EnvironmentProblem):
    """Another run holds the lock; `holder` is the sentence that says who."""

    def __init__(self, holder: str) -> None:
        """Keep the sentence."""
        super().__init__(holder, "Wait until it has ended, then run the same command again.")
        self.holder = holder


#: What is held, by process and thread (a fork holds nothing) and the name of the lock.
_held: Dict[Tuple[int, int, str], int] = {}


def _key(path: Path) -> Tuple[int, int, str]:
    """Return what tells one holder of a lock from another."""
    return os.getpid(), threading.get_ident(), os.path.abspath(str(path))


def holding(path: Path) -> Optional[int]:
    """Return the descriptor by which this thread holds a lock file; None where it does not."""
    return _held.get(_key(path))


@contextlib.contextmanager
def held(path: Path, what: str, say: Optional[Say] = None) -> Iterator[int]:
    """Hold the lock file `path` while the block lasts; its descriptor, which commands started here inherit.

    Where another process holds it, `say` is called with who, and it is waited for; without `say`, `Busy`. The file
    is open to its owner alone, so that no other user can hold it. The kernel's lock lasts until every copy of the
    descriptor is closed: a command that outlives a killed run keeps the next run waiting instead of meeting it.
    """
    handle = _locked(path, say)
    try:
        note = {"pid": os.getpid(), "since": int(time.time()), "what": what}
        with contextlib.suppress(OSError):  # a full disk must not keep anybody from tidying it
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(note).encode("utf-8"), 0)
        os.set_inheritable(handle, True)
        _held[_key(path)] = handle
        yield handle
    finally:
        _held.pop(_key(path), None)
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
        os.close(handle)


def _locked(path: Path, say: Optional[Say]) -> int:
    """Return the descriptor of the locked file; whoever had it before may have removed it meanwhile."""
    while True:
        with opened(path.parent, make=True) as at:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(path.name, flags, PRIVATE, dir_fd=at)
        try:
            os.fchmod(handle, PRIVATE)
            lock(handle, say, holder)
            if os.fstat(handle).st_ino == os.stat(str(path), follow_symlinks=False).st_ino:
                return handle
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def lock(handle: int, say: Optional[Say], who: Callable[[int], str]) -> None:
    """Lock an open file, waiting for whoever has it; without `say` that is a `Busy`."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sentence = who(handle)
        if say is None:
            raise Busy(sentence) from None
        say(sentence)
        fcntl.flock(handle, fcntl.LOCK_EX)


def holder_of(path: Path) -> str:
    """Return the sentence that says who holds a lock file; "" where nobody else does.

    The lock is shared for that moment: who comes for it meanwhile and does not wait, meets a `Busy`.
    """
    if holding(path) is not None:
        return ""
    try:
        handle = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder(handle)
    finally:
        os.close(handle)
    return ""


def holder(handle: int) -> str:
    """Return the sentence that says who holds a lock, from the note in its file."""
    try:
        note = strict_json.loads(os.pread(handle, 4096, 0))
        process, since = int(note["pid"]), time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(note["since"])))
        what = printable(note["what"], 100)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return "Another run is changing this host."
    gone = "" if _is_alive(process) else ", which has ended, while something that it started goes on"
    return f"Another run is changing this host: {what} (process {process}{gone}), since {since}."
