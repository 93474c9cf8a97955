"""The watch's program on a host: wait until no package is being changed, look, and say what was found.

Runs on the target: Python 3.6, standard library. Changes nothing but its own files.
"""

import argparse
import fcntl
import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from ...errors import GpuhostError
from ...types import Json
from .. import files
from ..commands import run_command
from ..edges import Edges
from ..pairs import keep
from ..pairs.judge import told as told_of
from ..probe import fixes
from ..probe.guard import DRIVER_RECORD
from ..probe.machine import read_kernel, read_platform
from .judge import UNREADABLE, Finding, State, judge
from .read import MOTD, RECORD, read
from .tell import EXIT, journal, metrics, motd, record

#: When it looked last, in seconds since the start of the machine, which no setting of the clock changes.
LOOKED = "/run/gpuhost/looked"
#: Its name in our own folder, and that of the link to it in the collector's.
METRICS, TEXTFILE = "state/gpuhost_watch.prom", "gpuhost_watch.prom"
#: Held by apt for as long as it changes packages, by dpkg alone while it does, and where dpkg notes each change.
DPKG_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")
DPKG_STATUS = "/var/lib/dpkg/status"
BLINDING = ("dpkg --print-architecture", "dpkg-query", "modinfo")
#: struct flock of x86_64: type, whence, start, length, pid.
_FLOCK = "hhqqi4x"
_PAUSE_S = 1.0
#: So often is the host read again when packages were changed meanwhile; then what was seen last counts.
_TURNS = 5


def is_locked(path: Path) -> bool:
    """Return whether a process holds this lock file, without taking it: an apt that starts now would fail."""
    try:
        # A pipe in a file's place would make the reader wait for ever.
        handle = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0)
        return bool(struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(handle)


def wait(edges: Edges, patience_s: float) -> None:
    """Wait until no package is being changed, but not for ever: what is seen then is said all the same."""
    deadline = time.monotonic() + patience_s
    while any(is_locked(edges.path(name)) for name in DPKG_LOCKS) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)


def changed(edges: Edges) -> Optional[Tuple[int, int]]:
    """What tells one state of dpkg's database from another."""
    try:
        found = edges.path(DPKG_STATUS).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def look(edges: Edges, root: str, patience_s: float, reads: Optional[Callable[[Edges, str], Json]] = None) -> State:
    """The state of the host, of one moment in which no package was changed; `reads` is what looks at it."""
    state = State(UNREADABLE, [])
    for _ in range(_TURNS):
        wait(edges, patience_s)
        before, known = changed(edges), len(edges.problems)
        try:
            state = judge((reads or read)(edges, root))
        except GpuhostError as error:
            state = State(UNREADABLE, [Finding("host.observed", str(error))])
        except Exception as error:  # noqa: BLE001 - a watch that ends without a word would look like a host that is well
            state = State(UNREADABLE, [Finding("host.observed", f"{type(error).__name__}: {error}")])
        told = [Finding("host.observed", f"{p['what']}: {p['error']}") for p in edges.problems[known:]]
        # Without dpkg's list or modinfo everything would seem to be gone. Else a finding says more than that something
        # beside it could not be read.
        blind = any(p["what"] in BLINDING for p in edges.problems[known:])
        if told and (blind or not state.findings):
            state = State(UNREADABLE, told)
        if changed(edges) == before:
            break
    return state


def notes(edges: Edges, root: str) -> Tuple[str, ...]:
    """What became of the last update that a boot was to prove, where it was undone."""
    try:
        found = keep.read(edges, root)
    except GpuhostError as error:
        return (str(error),)
    told = told_of(found) if found is not None else ""
    return (told,) if told else ()


def offered(edges: Edges, root: str, now: int) -> Tuple[List[Tuple[str, str]], Tuple[str, ...]]:
    """The record of the newer kernel that the archive offers, to be written, and what is to be said of it.

    Where the guard holds it on purpose, nothing is said: verify/ tells it. Without a driver nothing is held.
    """
    if not edges.exists(f"{root}/{DRIVER_RECORD}"):
        return [], ()
    kernel = read_kernel(edges)
    found = fixes.fixes(edges, root, kernel, read_platform(edges, False)["distribution"])
    before = edges.record(f"{root}/{fixes.RECORD}")
    after = fixes.noted(before, kernel["running"], found, now)
    text = json.dumps(after, indent=1, sort_keys=True) + "\n" if after is not None else ""
    late = found["automatic"] and found["offered"] is not None and (found["offered"]["days"] or 0) > 0
    return [] if after == before else [(f"{root}/{fixes.RECORD}", text)], (
        fixes.told(found["offered"]),
    ) if late else ()


def put(path: Path, text: str) -> None:
    """Write a file whole; an empty text takes it away."""
    if text:
        files.write_whole(path, text)
    else:
        files.remove(path)


def main(argv: List[str], edges: Optional[Edges] = None) -> int:
    """Look and tell; the exit status is 0 when nothing is wrong, 1 when something is, 4 when that cannot be seen."""
    parser = argparse.ArgumentParser(prog="gpuhost-watch")
    parser.add_argument("--root", default="/opt/gpuhost")
    parser.add_argument("--patience", type=float, default=1800.0, help="seconds to wait for dpkg")
    arguments = parser.parse_args(argv)
    edges = edges or Edges("/", run_command)
    state, when = look(edges, arguments.root, arguments.patience), time.time()
    offer, waiting = offered(edges, arguments.root, int(when))
    state = state._replace(notes=notes(edges, arguments.root) + waiting)
    sys.stdout.write(journal(state))
    sys.stdout.flush()
    told = [
        (MOTD, motd(state)),
        (LOOKED, (edges.text("/proc/uptime") or "").partition(".")[0]),
        (f"{arguments.root}/{RECORD}", record(state, when)),
        (f"{arguments.root}/{METRICS}", metrics(state, when)),
        *offer,
    ]
    code = EXIT[state.status]
    for name, text in told:
        try:
            put(edges.path(name), text)
        except OSError as error:
            sys.stdout.write(f"<3>gpuhost: {name} cannot be written: {error.strerror}\n")
            code = code or EXIT[UNREADABLE]
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
