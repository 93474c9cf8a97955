"""Run commands: the one module that starts a process on a host, and reads its output within bounds.

`run_command` waits for an answer, `follow` passes a long command's lines on and logs them, and `logged` has a command
write its log itself. Output is text whatever the locale is.

Python 3.6 and the standard library: modules that run on a target use it, and the detector takes it along.
"""

import collections
import contextlib
import os
import selectors
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Any, Callable, Deque, Dict, Iterator, List, Optional, Sequence, Tuple

from ..credentials import without_secrets
from . import files

Result = Tuple[int, str, str]
Run = Callable[[Sequence[str], float], Result]

NOT_FOUND = 127
NOT_RUNNABLE = 126
TIMED_OUT = 124
SAID_TOO_MUCH = 125

#: Where a system keeps its programs; a user's PATH often lacks the folders of the administrator.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Bytes of each output. The longest honest answers (dpkg's list, apt's policy, a compiler's complaint) have a few MB.
MOST = 32 << 20
#: Bytes of one line; a longer one comes in pieces.
LONGEST_LINE = 64 << 10
#: Lines of a failed command's output that a message shows.
TAIL = 20
#: Lines of it that are kept for whoever looks for the cause.
KEPT = 200
#: Bytes at the end of a log that a message is made from.
TAIL_BYTES = 64 << 10
#: Characters of a step as a progress file and a terminal show it.
LONGEST_STEP = 200
_BLOCK = 64 << 10
_POLL_S = 0.5
#: How long a command that is ended may take over it. One in the kernel's hands survives even a kill.
_GRACE_S = 10.0


class TooMuch(Exception):
    """A command has said more than it may."""


class CommandFailed(Exception):
    """A command that ended badly; `lines` is the end of what it said, of which the message has the last ones."""

    def __init__(self, lines: Sequence[str], status: int) -> None:
        """Keep the lines; of a command that said nothing the status is all there is to report."""
        super().__init__("\n".join(lines[-TAIL:]) or f"It ended with status {status}.")
        self.lines = list(lines)


def environment(without: Sequence[str] = (), **more: str) -> Dict[str, str]:
    """Return this process's variables, less some and with `more`: plain English, and the system's folders in PATH."""
    kept = {name: value for name, value in os.environ.items() if name not in without}
    path = "{}:{}".format(kept.get("PATH", ""), PATH).lstrip(":")
    return {**kept, "LC_ALL": "C", "PATH": path, **more}


def start(argv: Sequence[str], env: Optional[Dict[str, str]] = None, **options: Any) -> "subprocess.Popen[bytes]":
    """Start a command without a shell. It reads nothing, and both outputs are pipes, unless `options` (Popen's) differ.

    `env` are its variables, by default those of `environment`.
    """
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    variables = environment() if env is None else env
    return subprocess.Popen(list(argv), env=variables, **given)  # noqa: S603 - a list, no shell


@contextlib.contextmanager
def _session(argv: Sequence[str], ending: int, **options: Any) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a command, usually in a session of its own; when the block fails, all that is in the session is ended."""
    process = start(argv, **{"start_new_session": True, **options})
    try:
        yield process
    except BaseException:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, ending)
            else:
                os.kill(process.pid, ending)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
        raise
    finally:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


# A short command, for its answer


def bounded(
    argv: Sequence[str], timeout: Optional[float] = None, most: int = MOST, over: Optional[int] = None, **options: Any
) -> Result:
    """Run a command and return its exit status and both outputs. `options` are those of `start`.

    Raises OSError where it cannot be started, `TooMuch` as soon as one output has more than `most` bytes, and
    subprocess.TimeoutExpired after `timeout` seconds; it is killed first, with all that it has started.
    The same is done where the descriptor `over` becomes readable: KeyboardInterrupt, in a thread too, which no signal
    reaches.
    """
    with _session(argv, signal.SIGKILL, **options) as process:
        out, err = _collect(process, most, timeout, over)
    return process.returncode, text(out), text(err)


def _collect(
    process: "subprocess.Popen[bytes]", most: int, timeout: Optional[float], over: Optional[int]
) -> Tuple[bytes, bytes]:
    """Return both outputs of a process at its end."""
    until = None if timeout is None else time.monotonic() + timeout
    kept: Dict[Any, bytearray] = {}
    with selectors.DefaultSelector() as waiting:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                kept[stream] = bytearray()
                waiting.register(stream, selectors.EVENT_READ)
        if over is not None:
            waiting.register(over, selectors.EVENT_READ)
        while any(key.fileobj in kept for key in waiting.get_map().values()):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(process.args, timeout or 0)
            for key, _ in waiting.select(left):
                if key.fileobj == over:
                    raise KeyboardInterrupt
                block = os.read(key.fd, _BLOCK)
                if not block:
                    waiting.unregister(key.fileobj)
                kept[key.fileobj] += block
                if len(kept[key.fileobj]) > most:
                    raise TooMuch
    process.wait(None if until is None else max(until - time.monotonic(), 0.1))
    out, err = (bytes(kept.get(stream, b"")) for stream in (process.stdout, process.stderr))
    return out, err


def run_command(argv: Sequence[str], timeout: float, over: Optional[int] = None) -> Result:
    """Run a command as `bounded` does, and tell by its exit status what went wrong, as a shell would.

    What cannot be started, does not end or says too much has the status 127, 126, 124 or 125, and the reason as its
    error output.
    """
    try:
        return bounded(argv, timeout, over=over)
    except FileNotFoundError:
        return NOT_FOUND, "", f"{argv[0]} is not installed"
    except OSError as error:
        return NOT_RUNNABLE, "", f"{argv[0]} cannot be started: {error.strerror}"
    except subprocess.TimeoutExpired:
        return TIMED_OUT, "", f"{argv[0]} gave no answer within {timeout:g} s"
    except TooMuch:
        return SAID_TOO_MUCH, "", f"{argv[0]} said more than {MOST >> 20} MB"


# A long command, with a log
#
# close_fds=False: the lock of `files.held` goes along, so that nobody starts again beside a command that outlives us.


def follow(
    argv: Sequence[str],
    log: Path,
    heard: Callable[[str], None],
    env: Optional[Dict[str, str]] = None,
    errors_only: bool = False,
    cwd: Optional[str] = None,
) -> None:
    """Run a command, write its lines into the log and tell `heard` each, all without secrets.

    Raises `CommandFailed`. With `errors_only` its standard output is passed over. When `heard` raises, the command and
    everything that it has started is ended first.
    """
    last: Deque[str] = collections.deque(maxlen=KEPT)
    outputs = {"stdout": subprocess.DEVNULL} if errors_only else {"stderr": subprocess.STDOUT}
    given = {**outputs, "env": env, "cwd": cwd, "close_fds": False}
    with files.appended(log) as handle:
        _title(handle, argv)
        with _session(argv, signal.SIGTERM, **given) as process:
            for line in map(without_secrets, lines(process.stderr if errors_only else process.stdout)):
                handle.write((line + "\n").encode("utf-8"))
                handle.flush()
                last.append(line)
                heard(line)
            status = process.wait()
    if status != 0:
        raise CommandFailed(list(last), status)


def logged(
    argv: Sequence[str],
    log: Path,
    heard: Callable[[List[str]], None],
    env: Optional[Dict[str, str]] = None,
    stdin: Optional[bytes] = None,
) -> None:
    """Run a command whose outputs are the log itself, and tell `heard` its new lines now and then.

    Raises `CommandFailed`. Nothing ends it: where this process is killed it goes on undisturbed, as dpkg must. What
    goes to its standard input is neither logged nor told.
    """
    with files.appended(log) as handle:
        _title(handle, argv)
        begin = seen = handle.seek(0, os.SEEK_END)
        source = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        given = {"stdin": source, "stdout": handle, "stderr": subprocess.STDOUT}
        process = start(argv, env=env, cwd="/", close_fds=False, **given)
    if stdin is not None and process.stdin is not None:
        _feed(process.stdin, stdin)
    with log.open("rb") as reader:
        while True:
            status = process.poll()
            seen = _tell(reader, seen, heard)
            if status is not None:
                break
            time.sleep(_POLL_S)
        if status != 0:
            raise CommandFailed(without_secrets(tail(reader, begin, KEPT)).splitlines(), status)


def _title(log: "IO[bytes]", argv: Sequence[str]) -> None:
    """Write a command into a log."""
    log.write("$ {}\n".format(without_secrets(" ".join(argv))).encode("utf-8"))
    log.flush()


def _feed(pipe: "IO[bytes]", data: bytes) -> None:
    """Give a command its input; one that ended without reading it says so by its exit status."""
    with contextlib.suppress(BrokenPipeError), pipe:
        pipe.write(data)


def _tell(log: "IO[bytes]", seen: int, heard: Callable[[List[str]], None]) -> int:
    """Tell the whole lines that are new in a log, of a burst only the end; return where the next look begins."""
    begin = max(seen, log.seek(0, os.SEEK_END) - TAIL_BYTES)
    log.seek(begin)
    new = log.read(TAIL_BYTES)
    whole = new[: new.rfind(b"\n") + 1]
    if whole:
        heard(text(whole).splitlines())
    return begin + len(whole)


# What commands say


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
    stream.seek(max(start, end - TAIL_BYTES))
    return "\n".join(text(stream.read(TAIL_BYTES)).splitlines()[-count:])
