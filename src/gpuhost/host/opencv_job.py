"""Run OpenCV's builder on a host: ask it for its wheel, or build it and pass its words on.

Runs on the target: Python 3.6, standard library. The builder itself (`gpuhost.cvbuild`) runs in the environment
opencv_build; here it is a command line.
"""

from pathlib import Path
from typing import Callable, List

from .. import strict_json
from ..credentials import without_secrets
from ..errors import EnvironmentProblem
from ..text import printable
from ..types import Json
from . import commands


def failed(said: List[str], log: str = "") -> EnvironmentProblem:
    """What the builder said when it refused or failed; its message comes last and begins with an id."""
    begin = next(
        (at for at in range(len(said) - 1, -1, -1) if said[at].startswith("error: ")), len(said) - commands.TAIL
    )
    text = without_secrets("\n".join(said[max(begin, 0) :])).strip() or "It said nothing."
    return EnvironmentProblem(f"OpenCV's builder stopped. {text}", f"The log is {log}." if log else "")


def ask(command: List[str]) -> Json:
    """`key`, and `wheel` with its path and facts, or None where it has to be built. Changes nothing."""
    try:
        code, out, err = commands.bounded([*command, "--print-key"])
    except commands.TooMuch:
        raise failed(["error: It says more than a key."]) from None
    if code != 0:
        raise failed(err.splitlines())
    try:
        answer = strict_json.loads(out)
        return {"key": answer["key"], "wheel": answer["wheel"]}
    except (ValueError, KeyError, TypeError):
        raise failed(["error: its answer is not of the form that was asked for", *out.splitlines()[:1]]) from None


def build(command: List[str], log: Path, say: Callable[[str], None]) -> Json:
    """Build, with every line in the log and told; the same answer as `ask`, whose wheel is there then."""

    def heard(line: str) -> None:
        if line.strip():
            say(printable(line, commands.LONGEST_STEP))

    try:
        commands.follow(command, log, heard, errors_only=True)
    except commands.CommandFailed as error:
        raise failed(error.lines, str(log)) from None
    return ask(command)
