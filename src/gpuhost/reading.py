"""Read a file that somebody else may have put there: only a regular file, and never more than a limit.

Python 3.6 and the standard library: modules that run on a target use it too.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO, List

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnfitFile(ValueError):
    """A file that is not read; the message is one sentence about it that begins with "It"."""


def content(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file.

    `UnfitFile` says that it is something else, or larger than `limit` bytes; whatever the system refuses stays an
    `OSError`. A device is not even opened, because opening one may act on it, and a pipe is not waited for.
    """
    with _opened(path) as handle:
        found = os.fstat(handle.fileno())
        parts: List[bytes] = []
        left, block = limit + 1, min(found.st_size, limit) + 1
        while left:  # its size does not hold for a file that grows, and files of /proc have none
            data = handle.read(min(block, left))
            if not data:
                return b"".join(parts)
            parts.append(data)
            left, block = left - len(data), 1 << 20
    raise UnfitFile(f"It is larger than {limit} bytes.")


def last(path: Path, count: int) -> bytes:
    """Return the last bytes of a regular file, at most `count`. Raises what `content` raises."""
    with _opened(path) as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(0, size - count))
        return handle.read(count)


def check(path: Path) -> None:
    """Return when a path leads to a regular file. Raises what `content` raises."""
    _opened(path).close()


def _opened(path: Path) -> BinaryIO:
    """Open a regular file, and nothing else."""
    _must_be_regular(path.stat())
    handle = os.fdopen(os.open(str(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK), "rb")
    try:
        _must_be_regular(os.fstat(handle.fileno()))  # it may have been exchanged in between
    except UnfitFile:
        handle.close()
        raise
    return handle


def _must_be_regular(found: os.stat_result) -> None:
    """Refuse everything but a regular file, by its name."""
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "something else")
        raise UnfitFile(f"It is {kind} and not a file.")
