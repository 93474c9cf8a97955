"""Files of the work folder, which may be locked: whoever runs a detector there changes nothing."""

import contextlib
import pathlib
from typing import IO, Iterator, List, Optional

from ..errors import EnvironmentProblem
from ..host import files

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
def whole_file(path: pathlib.Path, mode: Optional[int] = files.FILE, replace: bool = True) -> Iterator[IO[bytes]]:
    """Open a new file for writing, as `files.whole` does; refused where nothing may be written."""
    if any(folder in path.resolve().parents for folder in _locked):
        raise EnvironmentProblem(f"{path} is missing or is not as it was made.", next_step="Run `prepare` again.")
    with files.whole(path, mode, replace) as handle:
        yield handle


def write_text(path: pathlib.Path, text: str, mode: Optional[int] = files.FILE, replace: bool = True) -> None:
    """Write `text` (UTF-8) as a whole file."""
    with whole_file(path, mode, replace) as handle:
        handle.write(text.encode("utf-8"))
