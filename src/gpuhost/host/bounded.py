"""Read what a process says without being drowned by it, as text whatever the locale is.

Python 3.6 and the standard library: modules that run on a target use it too.
"""

import contextlib
import os
import selectors
import subprocess
import time
from typing import IO, Any, Dict, Iterator, Optional, Tuple

#: Bytes of each output. The longest honest answers (dpkg's list, apt's policy, a compiler's complaint) have a few MB.
MOST = 32 << 20
#: Bytes of one line; a longer one comes in pieces.
LONGEST_LINE = 64 << 10
#: Bytes at the end of a log that a message is made from.
TAIL = 64 << 10
#: Characters of a step as a progress file and a terminal show it.
LONGEST_STEP = 200
_BLOCK = 64 << 10


class TooMuch(Exception):
    """A process has said more than it may; it still runs."""


def collect(
    process: "subprocess.Popen[bytes]", most: int = MOST, timeout: Optional[float] = None
) -> Tuple[bytes, bytes]:
    """Return both outputs of a process at its end.

    Raises `TooMuch` as soon as one of them has more than `most` bytes, and subprocess.TimeoutExpired after `timeout`
    seconds; the process is the caller's to end.
    """
    until = None if timeout is None else time.monotonic() + timeout
    kept: Dict[Any, bytearray] = {}
    with selectors.DefaultSelector() as waiting:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                kept[stream] = bytearray()
                waiting.register(stream, selectors.EVENT_READ)
        while waiting.get_map():
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(process.args, timeout or 0)
            for key, _ in waiting.select(left):
                block = os.read(key.fd, _BLOCK)
                if not block:
                    waiting.unregister(key.fileobj)
                kept[key.fileobj] += block
                if len(kept[key.fileobj]) > most:
                    raise TooMuch
    process.wait(None if until is None else max(until - time.monotonic(), 0.1))
    out, err = (bytes(kept.get(stream, b"")) for stream in (process.stdout, process.stderr))
    for stream in kept:
        stream.close()
    return out, err


def run(argv: Any, timeout: Optional[float] = None, most: int = MOST, **options: Any) -> Tuple[int, str, str]:
    """Run a command that reads nothing, and return its exit status and both outputs as text. `options` are Popen's.

    Raises OSError where it cannot be started, else what `collect` raises; it is killed first.
    """
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen(argv, **{**given, **options})  # noqa: S603 - a list, no shell
    try:
        out, err = collect(process, most, timeout)
    except BaseException:
        kill(process)
        raise
    return process.returncode, text(out), text(err)


def kill(process: "subprocess.Popen[bytes]", grace: float = 5.0) -> None:
    """Kill a process and reap it, without waiting for ever: one in the kernel's hands survives a kill."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def text(data: bytes) -> str:
    """Return bytes as text: UTF-8 whatever the locale is, and what is not UTF-8 replaced."""
    return data.decode("utf-8", "replace")


def lines(stream: "Optional[IO[bytes]]") -> Iterator[str]:
    """Give the lines of a stream as they come, without their ends."""
    if stream is None:
        return
    for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
        yield text(line).rstrip("\r\n")


def tail(stream: "IO[bytes]", start: int, count: int) -> str:
    """Return the last lines of a file from a place on."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(max(start, end - TAIL))
    return "\n".join(text(stream.read(TAIL)).splitlines()[-count:])
