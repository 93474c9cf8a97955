"""Progress for long-running work on stderr: a bar on a terminal, periodic lines otherwise."""

import time
from typing import Callable, Optional, TextIO

INTERVAL_S = 10.0
_BAR_S = 0.2
_WIDTH = 30


class Progress:
    """Tells how far the work is. `lines` asks for lines where the stream is not a terminal."""

    def __init__(self, stream: TextIO, lines: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to `stream`; `clock` gives seconds."""
        self._stream, self._lines, self._clock = stream, lines, clock
        self._terminal = stream.isatty()
        self._last: Optional[float] = None
        self._open_bar = False

    def say(self, text: str) -> None:
        """One line about what begins now."""
        if self._terminal or self._lines:
            self._end_bar()
            self._stream.write(text + "\n")
            self._stream.flush()

    def tick(self, label: str, done: int, of: int) -> None:
        """`done` of `of` pieces are ready."""
        if self._terminal:
            full = _WIDTH * done // of
            self._stream.write("\r{} [{}{}] {}/{}".format(label, "#" * full, "." * (_WIDTH - full), done, of))
            self._stream.flush()
            self._open_bar = True
            if done == of:
                self._end_bar()
        elif self._lines:
            now = self._clock()
            if self._last is None:
                self._last = now
            if done == of or now - self._last >= INTERVAL_S:
                self._last = None if done == of else now
                self._stream.write(f"{label}: {done} of {of}\n")
                self._stream.flush()

    def count(self, label: str, done: int) -> None:
        """`done` pieces are ready, of nobody knows how many."""
        now = self._clock()
        wait = _BAR_S if self._terminal else INTERVAL_S
        if self._last is None or now - self._last >= wait:
            begun, self._last = self._last is None, now
            if self._terminal:
                self._stream.write(f"\r{label}: {done}")
                self._open_bar = True
            elif self._lines and not begun:
                self._stream.write(f"{label}: {done}\n")
            self._stream.flush()

    def close(self) -> None:
        """Leave the line of a bar that was cut short."""
        self._end_bar()

    def _end_bar(self) -> None:
        if self._open_bar:
            self._stream.write("\n")
            self._open_bar = False
