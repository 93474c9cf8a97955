"""Running commands: the one place of the harness that starts processes and reads what they say."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from typing import IO, Callable, Dict, List, Mapping, Optional, Sequence

# A daemon started by a command may hold its pipe open for ever; this long after the command's own end the
# rest of the output is given up.
DRAIN_SECONDS = 2.0
# How many characters of a failed command's output go into the error message.
TAIL = 4000


class BedError(RuntimeError):
    """A bed could not be made, started or used; the message says why and what to do."""


class CommandFailed(subprocess.CalledProcessError):
    """A command that had to succeed did not; the message carries the end of its output."""

    def __str__(self) -> str:
        """The exit code, the command and the last lines, as a test report shows them."""
        said = ((self.stdout or "") + (self.stderr or ""))[-TAIL:]
        return f"exit code {self.returncode} from {self.cmd!r}; it said:\n{said}"


def host(
    argv: Sequence[str],
    *,
    check: bool = True,
    stdin: bytes = b"",
    timeout: float = 120,
    env: Optional[Mapping[str, str]] = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a short command on the outer machine and return its output as bytes; CommandFailed on an error."""
    done = subprocess.run(list(argv), input=stdin, capture_output=True, timeout=timeout, env=env, check=False)
    if check and done.returncode != 0:
        raise CommandFailed(done.returncode, list(argv), _text(done.stdout), _text(done.stderr))
    return done


def stream(
    argv: Sequence[str],
    *,
    log: IO[str],
    timeout: float,
    on_timeout: Callable[[], None],
) -> subprocess.CompletedProcess[str]:
    """Run `argv`, copying its output to `log` and to the terminal as it comes.

    Standard output and standard error come back apart, decoded as UTF-8. After `timeout` seconds `on_timeout`
    is called, which must end the command, and subprocess.TimeoutExpired is raised with what was said so far.
    """
    deadline = time.monotonic() + timeout
    said: Dict[str, List[bytes]] = {"out": [], "err": []}
    with subprocess.Popen(
        list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            finished = _copy(process, said, log, deadline)
        except BaseException:
            on_timeout()
            process.kill()
            raise
        if not finished:
            on_timeout()
            process.kill()
            _copy(process, said, log, time.monotonic() + DRAIN_SECONDS)
    out, err = (_text(b"".join(said[key])) for key in ("out", "err"))
    if not finished:
        raise subprocess.TimeoutExpired(list(argv), timeout, out.encode(), err.encode())
    return subprocess.CompletedProcess(list(argv), process.returncode, out, err)


def _copy(process: subprocess.Popen[bytes], said: Dict[str, List[bytes]], log: IO[str], deadline: float) -> bool:
    """Copy both pipes until the command has ended; False when `deadline` (monotonic seconds) came first."""
    ended: Optional[float] = None
    with selectors.DefaultSelector() as selector:
        for key, pipe in (("out", process.stdout), ("err", process.stderr)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, key)
        while selector.get_map():
            for ready, _ in selector.select(timeout=0.1):
                chunk = os.read(ready.fd, 65536)
                if not chunk:
                    selector.unregister(ready.fileobj)
                    continue
                said[ready.data].append(chunk)
                for sink in (log, sys.stdout):
                    sink.write(_text(chunk))
                    sink.flush()
            now = time.monotonic()
            if ended is None and process.poll() is not None:
                ended = now
            if ended is not None and now > ended + DRAIN_SECONDS:
                return True
            if ended is None and now > deadline:
                return False
    try:
        process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Return as soon as `true()` holds; BedError naming `what` when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise BedError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


def _text(data: bytes) -> str:
    """What a command said, readable whatever bytes it held."""
    return data.decode("utf-8", "replace")
