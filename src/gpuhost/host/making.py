"""Make a folder of the store from nothing: by one run at a time, sealed last, and nothing half made is kept.

Runs on the target: Python 3.6, standard library. The folder is made under its final name, because environments and
installers write absolute paths.
"""

import shutil
from pathlib import Path
from typing import Callable

from ..errors import EnvironmentProblem, GpuhostError
from ..types import Json
from . import files, store
from .commands import CommandFailed

Say = Callable[[str], None]


def made(
    folder: Path, digest: str, what: str, log: Path, check: Callable[[], None], fill: Callable[[], Json], say: Say
) -> Path:
    """Make a folder of the store, if it is not complete there; the folder.

    `check` refuses before anything is begun, `fill` makes the content and returns what its marker tells beside the
    digest. `what` says what is done, to whoever waits for it and where a command fails. Raises GpuhostError.
    """
    root = folder.parent.parent
    try:
        with store.changing(root, what, say):
            for needed in (folder.parent, log.parent, root / "state", root / "cache" / "wheels"):
                files.make_folder(needed)
            if not store.is_whole(folder, digest):
                take_down(folder)
                check()
                try:
                    store.seal(folder, {"digest": digest, **fill()})
                except (OSError, CommandFailed, GpuhostError):
                    # Half of it would only hold the space that may be what was missing.
                    take_down(folder)
                    raise
    except OSError as error:
        raise store.unwritable(error, folder) from error
    except CommandFailed as error:
        step = f"The whole log is {log} on the host."
        raise EnvironmentProblem(f"It failed while {what}:\n{error}\n", step) from error
    return folder


def take_down(folder: Path) -> None:
    """Remove a folder of the store and its scratch, the marker first, so that it is never taken for complete."""
    for stale in (folder / store.MARKER, folder, scratch_of(folder)):
        files.remove(stale)


def scratch_of(folder: Path) -> Path:
    """Return where what is needed for a folder of the store waits and is unpacked: on the store's own disk."""
    return folder.parent.parent / "cache" / ("new-" + folder.name)


def check_space(root: Path, title: str, room: int) -> None:
    """Refuse, before anything is begun, a file system without `room` bytes."""
    needed, free = room // 10**6, shutil.disk_usage(str(root)).free // 10**6
    if free < needed:
        text = f"{title} needs about {needed} MB below {root}, {free} MB are free."
        raise EnvironmentProblem(text, "Make room, or mount a larger disk there, and run the same command again.")
