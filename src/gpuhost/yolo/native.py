"""What the native library says, which does not pass through Python's streams: read from the file
descriptors.
"""

import contextlib
import ctypes
import os
import re
import sys
import tempfile
import threading
from typing import Any, Callable, Iterator, List, Tuple, TypeVar

_INFO_LEVEL = 4
"""OpenCV's number for "information"; a per-layer fall back to the CPU is logged there and not above."""


_ERRORS = 2
_ROOM = 1 << 16
#: How the libraries that decode pictures begin what they write; other lines are somebody else's.
_THEIRS = re.compile(
    r"\[ ?(?:WARN|ERROR|INFO|DEBUG|FATAL)|libpng |TIFF|JPEG|OpenCV|Corrupt JPEG|Premature end|Inconsistent progression|"
    r"Invalid |Unknown Adobe|Unsupported |Warning: |Application transferred"
)
_Result = TypeVar("_Result")


class Captured:
    """The text that was written; complete when the block that captures it has ended."""

    text = ""


def _flush() -> None:
    """Write out what Python and the C library hold back; OpenCV does not flush its information messages."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)


@contextlib.contextmanager
def captured_output() -> Iterator[Captured]:
    """Send file descriptors 1 and 2 to a temporary file: OpenCV logs warnings to the second and
    information to the first.
    """
    captured = Captured()
    _flush()
    saved = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as sink:
        try:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            yield captured
        finally:
            _flush()
            for number, copy in enumerate(saved, start=1):
                os.dup2(copy, number)
                os.close(copy)
            sink.seek(0)
            captured.text = sink.read().decode("utf-8", "replace")


@contextlib.contextmanager
def verbose(cv: Any) -> Iterator[None]:
    """Have OpenCV log at the level of information inside the block. OpenCV 4.2 has no such switch;
    there the output's bits decide alone.
    """
    logging = getattr(getattr(cv, "utils", None), "logging", None)
    owner = cv if hasattr(cv, "setLogLevel") else logging
    if owner is None or not hasattr(owner, "setLogLevel"):
        yield
        return
    before = owner.getLogLevel()
    owner.setLogLevel(_INFO_LEVEL)
    try:
        yield
    finally:
        owner.setLogLevel(before)


class Listener:
    """What picture libraries write to the error stream while they decode, told apart by picture.

    libjpeg has no other way to say that a picture is damaged: it prints its first warning, fills what is missing with
    grey, and reports success. The stream belongs to the whole process, so calls run side by side as long as none of
    them writes; one that may have written is made again alone. Lines of others that fall into a call are passed on.
    """

    def __init__(self) -> None:
        """Have nobody inside. The pipe is made by the first call."""
        self._turn = threading.Condition()
        self._inside, self._alone, self._asking = 0, False, 0
        self._said = 0
        self._text = ""
        self._pipe: List[int] = []
        self._saved = -1

    def call(self, work: Callable[[], _Result]) -> Tuple[_Result, str]:
        """Return what `work` returns, and what the libraries wrote meanwhile. `work` may be done twice."""
        with self._entered(alone=False):
            before = self._said
            result = work()
            quiet = not self._heard(before)
        if quiet:
            return result, ""
        with self._entered(alone=True):
            before = self._said
            result = work()
            return result, self._text if self._heard(before) else ""

    @contextlib.contextmanager
    def _entered(self, alone: bool) -> Iterator[None]:
        """Have the error stream lead into the pipe within the block, which has it for itself where it asks for it."""
        with self._turn:
            self._asking += alone
            # Who has to be alone is let in first: callers that overlap for ever would keep it out for ever.
            while self._alone or (self._inside if alone else self._asking):
                self._turn.wait()
            self._asking -= alone
            if not self._inside:
                self._redirect()
            self._inside, self._alone = self._inside + 1, alone
        try:
            yield
        finally:
            with self._turn:
                self._drain()
                self._inside, self._alone = self._inside - 1, False
                if not self._inside:
                    os.dup2(self._saved, _ERRORS)
                    os.close(self._saved)
                self._turn.notify_all()

    def _heard(self, before: int) -> bool:
        """Return whether a library has written since the count `before`."""
        with self._turn:
            self._drain()
            return self._said != before

    def _redirect(self) -> None:
        """Let the error stream lead into the pipe, which never makes a writer wait."""
        if not self._pipe:
            self._pipe = list(os.pipe())
            for end in self._pipe:
                os.set_blocking(end, False)
        sys.stderr.flush()
        self._saved = os.dup(_ERRORS)
        os.dup2(self._pipe[1], _ERRORS)

    def _drain(self) -> None:
        """Take what is in the pipe: count and keep the libraries' lines, pass on the others."""
        try:
            data = os.read(self._pipe[0], _ROOM)
        except BlockingIOError:
            return
        theirs, others = [], []  # type: Tuple[List[bytes], List[bytes]]
        for line in data.splitlines(keepends=True):
            (theirs if _THEIRS.match(line.decode("utf-8", "replace")) else others).append(line)
        if theirs:
            self._said += 1
            self._text = b"".join(theirs).decode("utf-8", "replace")
        if others:
            os.write(self._saved, b"".join(others))
