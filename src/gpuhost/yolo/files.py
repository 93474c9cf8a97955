"""Files that are either whole or not there: written under another name, then renamed."""

import contextlib
import hashlib
import os
import pathlib
from typing import IO, Iterator, List

from ..errors import EnvironmentProblem

_BLOCK = 1 << 20
_locked: List[pathlib.Path] = []


@contextlib.contextmanager
def nothing_written(folder: pathlib.Path) -> Iterator[None]:
    """Within this block a file that would be written below `folder` is an EnvironmentProblem instead."""
    _locked.append(folder.resolve())
    try:
        yield
    finally:
        _locked.pop()


@contextlib.contextmanager
def whole_file(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """Open a new file for writing; it takes the name `path` only when the block ends well, and leaves
    nothing otherwise.
    """
    if any(folder in path.resolve().parents for folder in _locked):
        raise EnvironmentProblem(f"{path} is missing or is not as it was made.", next_step="Run `prepare` again.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        with temporary.open("wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        if temporary.exists():
            temporary.unlink()


def write_text(path: pathlib.Path, text: str) -> None:
    """Write `text` (UTF-8) as a whole file."""
    with whole_file(path) as handle:
        handle.write(text.encode("utf-8"))


def sha256_of(path: pathlib.Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        for block in iter(lambda: handle.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()
