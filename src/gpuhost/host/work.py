"""Running a long command on the target: its output into a log, its steps told while it runs, its end in the error.

Runs on the target: Python 3.6, standard library.
"""

import contextlib
import os
import re
import subprocess
import time
from pathlib import Path
from typing import IO, Callable, Dict, Iterator, Optional, Sequence, Tuple

from ..credentials import without_secrets
from ..text import printable
from . import bounded, files, store

TAIL = 20  # lines of a failed command's output that a message carries
# Lines of apt, dpkg, dkms and update-initramfs that tell how far they are.
_STEP = re.compile(
    r"^(Get:\d+|Fetched|Unpacking|Setting up|Removing|Processing triggers|Building|Signing|update-initramfs)"
)
_POLL_S = 0.5
# TMPDIR: it is a folder of root's (store.changing), and apt does part of its work as another user.
_NOT_THEIRS = ("APT_CONFIG", "DEBIAN_PRIORITY", "PYTHONPATH", "PYTHONHOME", "TMPDIR")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class WorkFailed(Exception):
    """A command that ended badly, with the end of what it said."""


class Work:
    """Long commands with one log; `say` is told each step, `wait_s` is how long a lock of others is waited for."""

    def __init__(self, log: Path, say: Callable[[str], None], wait_s: float = 300.0) -> None:
        """Nothing is written yet."""
        self.log, self.say, self.wait_s = log, say, wait_s
        self._turn: Tuple[int, ...] = ()

    @contextlib.contextmanager
    def turn(self, root: Path, what: str, wait: bool) -> Iterator[None]:
        """Be the only run that changes this host while the block lasts; `wait` as `store.changing` waits, else stop.

        The commands inherit the lock: when this process is killed, what it started goes on for a while, and keeps the
        next run waiting instead of meeting it.
        """
        with store.changing(root, what, self.say if wait else None) as lock:
            self._turn = (lock,)
            try:
                yield
            finally:
                self._turn = ()

    def note(self, text: str) -> None:
        """Write a line of our own into the log."""
        with files.appended(self.log) as handle:
            handle.write((text.rstrip() + "\n").encode("utf-8"))

    def run(self, argv: Sequence[str], stdin: Optional[bytes] = None, own_tmp: bool = False) -> None:
        """Run a command to its end; WorkFailed with the last lines when it fails.

        What goes to its standard input is neither logged nor shown. `own_tmp`: its temporary files go where ours do.
        """
        self.note("$ " + without_secrets(" ".join(argv)))
        start = self.log.stat().st_size
        with files.appended(self.log) as handle:
            process = subprocess.Popen(  # noqa: S603 - a fixed argument list, no shell
                list(argv),
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=handle,
                stderr=subprocess.STDOUT,
                env=environment(own_tmp),
                cwd="/",
                pass_fds=self._turn,
            )
        if stdin is not None and process.stdin is not None:
            feed(process.stdin, stdin)
        seen = start
        while True:
            ended = process.poll()
            seen = self._tell(seen)
            if ended is not None:
                break
            time.sleep(_POLL_S)
        if ended != 0:
            with self.log.open("rb") as handle:
                said = without_secrets(bounded.tail(handle, start, TAIL))
            raise WorkFailed(said or f"It ended with status {ended}.")

    def patiently(self, argv: Sequence[str], busy: Sequence[str], pause: float) -> None:
        """Run a command, and again while it fails because another process has its lock, as long as `wait_s`."""
        until = time.monotonic() + self.wait_s
        while True:
            try:
                self.run(argv)
                return
            except WorkFailed as error:
                if not any(word in str(error) for word in busy) or time.monotonic() >= until:
                    raise
            self.say("waiting for another process that installs packages")
            time.sleep(pause)

    def _tell(self, seen: int) -> int:
        """Say the last step among the whole lines that are new; where the next look begins."""
        with self.log.open("rb") as handle:
            # Of a burst only the end is looked at: the last step is what counts.
            begin = max(seen, handle.seek(0, os.SEEK_END) - bounded.TAIL)
            handle.seek(begin)
            new = handle.read(bounded.TAIL)
        whole = new.rpartition(b"\n")[0]
        steps = [line for line in bounded.text(whole).splitlines() if _STEP.match(line)]
        if steps:
            self.say(printable(without_secrets(steps[-1]), 100))
        return begin + len(whole)


def feed(pipe: "IO[bytes]", data: bytes) -> None:
    """Give a command its input; one that ended without reading it says so by its exit status."""
    try:
        with pipe:
            pipe.write(data)
    except BrokenPipeError:
        return


def environment(own_tmp: bool = False) -> Dict[str, str]:
    """The variables of a command that must neither ask nor speak another language."""
    kept = {k: v for k, v in os.environ.items() if k not in _NOT_THEIRS or (own_tmp and k == "TMPDIR")}
    path = "{}:{}".format(kept.get("PATH", ""), _PATH).lstrip(":")
    return dict(kept, LC_ALL="C", DEBIAN_FRONTEND="noninteractive", PATH=path)
