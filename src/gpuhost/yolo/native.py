"""What the native library says, which does not pass through Python's streams: read from the file
descriptors.
"""

import contextlib
import ctypes
import os
import sys
import tempfile
from typing import Any, Iterator

_INFO_LEVEL = 4
"""OpenCV's number for "information"; a per-layer fall back to the CPU is logged there and not above."""


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
