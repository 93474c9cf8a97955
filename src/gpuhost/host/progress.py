"""The file in which the controller looks for the present step of a job: one for each job, gone when the job ends.

Runs on the target: Python 3.6, standard library.
"""

import contextlib
from pathlib import Path
from typing import Callable, Iterator, Optional

from ..credentials import without_secrets
from ..text import printable
from . import files
from .commands import LONGEST_STEP


@contextlib.contextmanager
def told(path: Optional[str], title: str = "") -> Iterator[Callable[[str], None]]:
    """Yield what leaves a step in the file at `path`, after `title`; without a path nobody looks, and none is left.

    A step may have a server's words in it: it is one printable line, without secrets.
    """
    file = Path(path) if path else None

    def say(text: str) -> None:
        """Leave the present step where the controller looks for it."""
        if file is not None:
            step = f"{title}: {text}" if title else text
            files.write_whole(file, printable(without_secrets(step), LONGEST_STEP) + "\n")

    try:
        yield say
    finally:
        if file is not None:
            files.remove(file)
