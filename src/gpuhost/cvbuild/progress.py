"""From ninja's status lines to one line of progress: steps, percent and the time that is left."""

from __future__ import annotations

import re
import sys
from typing import Callable, NamedTuple, Optional, TextIO

#: What ninja is asked to say: finished, total, seconds gone.
STATUS = "[gpuhost %f/%t %e] "
LINE = re.compile(r"^\[gpuhost (\d+)/(\d+) ([\d.]+)\] (.*)$")


class Step(NamedTuple):
    """One finished step of ninja."""

    done: int
    total: int
    seconds: float
    what: str


def parse(line: str) -> Optional[Step]:
    """A status line, or None for what is none."""
    match = LINE.match(line)
    if match is None:
        return None
    return Step(int(match.group(1)), int(match.group(2)), float(match.group(3)), match.group(4))


def clock(seconds: float) -> str:
    """'3:07' or '1:02:07'."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def words(step: Step, first: int) -> str:
    """The line for a person; `first` is how many steps a run before this one had done, which took no time now."""
    percent = 100 * step.done // step.total if step.total else 100
    text = f"{step.done}/{step.total} steps, {percent} %, {clock(step.seconds)} gone"
    made = step.done - first
    if made >= 5 and step.seconds > 1:
        text += f", about {clock(step.seconds / made * (step.total - step.done))} left"
    return text


def shower(out: TextIO, every_s: float = 30.0) -> Callable[[str], None]:
    """A follower of ninja's lines: on a terminal one line that is written over, else one line each half minute."""
    state = {"told": -every_s, "width": 0.0}
    overwrite = out.isatty()

    def heard(line: str) -> None:
        step = parse(line)
        if step is None:
            return
        last = step.done == step.total
        if overwrite:
            text = words(step, 0)
            out.write("\r" + text.ljust(int(state["width"])) + ("\n" if last else ""))
            state["width"] = len(text)
            out.flush()
        elif last or step.seconds - state["told"] >= every_s:
            out.write(words(step, 0) + "\n")
            out.flush()
            state["told"] = step.seconds

    return heard


def to_stderr() -> Callable[[str], None]:
    """The usual follower."""
    return shower(sys.stderr)
