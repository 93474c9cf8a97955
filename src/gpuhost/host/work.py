"""Run the long commands that change a host's packages: one log, the steps told, patience with other installers.

Runs on the target: Python 3.6, standard library.
"""

import contextlib
import re
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence

from ..credentials import without_secrets
from ..text import printable
from . import commands, files, store
from .commands import CommandFailed

# Lines of apt, dpkg, dkms and update-initramfs that tell how far they are.
_STEP = re.compile(
    r"^(Get:\d+|Fetched|Unpacking|Setting up|Removing|Processing triggers|Building|Signing|update-initramfs)"
)
# TMPDIR: it is a folder of root's (store.changing), and apt does part of its work as another user.
_NOT_THEIRS = ("APT_CONFIG", "DEBIAN_PRIORITY", "PYTHONPATH", "PYTHONHOME", "TMPDIR")


class Work:
    """Long commands with one log; `say` is called with each step, `wait_s` is how long to wait for a lock."""

    def __init__(self, log: Path, say: Callable[[str], None], wait_s: float = 300.0) -> None:
        """Nothing is written yet."""
        self.log, self.say, self.wait_s = log, say, wait_s

    @contextlib.contextmanager
    def turn(self, root: Path, what: str, wait: bool) -> Iterator[None]:
        """Be the only run that changes this host while the block lasts; `wait` as `store.changing` waits, else stop.

        The commands inherit the lock: when this process is killed, what it started goes on for a while, and keeps the
        next run waiting instead of meeting it.
        """
        with store.changing(root, what, self.say if wait else None):
            yield

    def note(self, text: str) -> None:
        """Write a line of our own into the log."""
        with files.appended(self.log) as handle:
            handle.write((text.rstrip() + "\n").encode("utf-8"))

    def run(self, argv: Sequence[str], stdin: Optional[bytes] = None, own_tmp: bool = False) -> None:
        """Run a command to its end; CommandFailed with the last lines when it fails.

        What goes to its standard input is neither logged nor shown. `own_tmp`: its temporary files go where ours do.
        """
        commands.logged(argv, self.log, self._tell, environment(own_tmp), stdin)

    def patiently(self, argv: Sequence[str], busy: Sequence[str], pause: float) -> None:
        """Run a command, and again while it fails because another process has its lock, as long as `wait_s`."""
        until = time.monotonic() + self.wait_s
        while True:
            try:
                self.run(argv)
                return
            except CommandFailed as error:
                if not any(word in str(error) for word in busy) or time.monotonic() >= until:
                    raise
            self.say("waiting for another process that installs packages")
            time.sleep(pause)

    def _tell(self, lines: List[str]) -> None:
        """Say the last step among new lines: of a burst it is the one that counts."""
        steps = [line for line in lines if _STEP.match(line)]
        if steps:
            self.say(printable(without_secrets(steps[-1]), 100))


def environment(own_tmp: bool = False) -> Dict[str, str]:
    """The variables of a command that must neither ask nor speak another language."""
    foreign = [name for name in _NOT_THEIRS if not (own_tmp and name == "TMPDIR")]
    return commands.environment(foreign, DEBIAN_FRONTEND="noninteractive")
