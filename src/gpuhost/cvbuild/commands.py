"""Running commands: output into a log, each line also shown to whoever follows it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

from ..credentials import without_secrets
from ..host import bounded, files
from .failures import failure

TAIL = 25  # lines of a failed command's output that a message carries
#: What another Python, or a user's shell, would smuggle into a build.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "CFLAGS", "CXXFLAGS", "CUDAFLAGS", "LDFLAGS")
FULL = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
KILLED = re.compile(
    r"Killed \(program \w+\)|Killed signal terminated program|c\+\+: fatal error: Killed|nvcc error\s*:.*died due to "
    r"signal 9|virtual memory exhausted|std::bad_alloc|Cannot allocate memory"
)


def environment(more: Optional[Dict[str, str]] = None) -> Dict[str, str]:
    """The environment of a build command: this one's without what could change the result, in plain English."""
    found = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    found.update({"LC_ALL": "C.UTF-8", "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"})
    found.update(more or {})
    return found


def ask(argv: Sequence[str], limit_s: float = 60) -> str:
    """What a short command says on both outputs, '' when it is not there or fails."""
    try:
        code, out, _ = bounded.run(list(argv), limit_s, stderr=subprocess.STDOUT, env=environment())
    except (OSError, subprocess.TimeoutExpired, bounded.TooMuch):
        return ""
    return out if code == 0 else ""


def follow(
    argv: Sequence[str],
    log: Path,
    heard: Callable[[str], None],
    more: Optional[Dict[str, str]] = None,
    cwd: Optional[Path] = None,
) -> List[str]:
    """Run a command with its output in the log, and tell `heard` each line; [] when it ended well, else its last lines.

    When `heard` raises, the command and everything it has started is ended first.
    """
    last: List[str] = []
    with files.appended(log) as handle:
        handle.write(("$ " + without_secrets(" ".join(argv)) + "\n").encode("utf-8"))
        handle.flush()
        with subprocess.Popen(  # noqa: S603 - argv is made by this package, no shell reads it
            list(argv),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment(more),
            cwd=str(cwd) if cwd else None,
            start_new_session=True,
            # The lock of this build goes along: a compiler that outlives a killed run keeps the next one waiting.
            close_fds=False,
        ) as running:
            try:
                for line in map(without_secrets, bounded.lines(running.stdout)):
                    handle.write((line + "\n").encode("utf-8"))
                    last = [*last[-(TAIL - 1) :], line]
                    heard(line)
            except BaseException:
                end_session(running.pid)
                raise
            handle.flush()
        return last if running.returncode else []


def end_session(leader: int) -> None:
    """End a command and all that it has started: they share a session, whose id is the leader's."""
    try:
        os.killpg(leader, 15)
    except (ProcessLookupError, PermissionError):
        return


def raise_known(said: Sequence[str], where: str, log: Path) -> None:
    """Name the failures that any command can meet: a full disk, a compiler ended for memory."""
    text = "\n".join(said)
    if FULL.search(text):
        raise failure(
            "B-disk-full", f"There is no space left for {where}.", "Make room and run the same command again."
        )
    if KILLED.search(text):
        raise failure(
            "D23-killed-for-memory",
            f"A compiler was ended because memory ran out (see {log}).",
            "Run the same command again with fewer jobs (--jobs 1) or with swap; it goes on where it was.",
        )
