"""Run OpenCV's builder on a host: ask it for its wheel, or build it and pass its words on.

Runs on the target: Python 3.6, standard library. The builder itself (`gpuhost.cvbuild`) runs in the environment
opencv_build; here it is a command line.
"""

import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List

from .. import strict_json
from ..credentials import without_secrets
from ..errors import EnvironmentProblem
from ..text import printable
from . import bounded, files

Json = Dict[str, Any]
TAIL = 12  # lines that a message shows of what the builder said last


def failed(said: List[str], log: str = "") -> EnvironmentProblem:
    """What the builder said when it refused or failed; its message comes last and begins with an id."""
    begin = next((at for at in range(len(said) - 1, -1, -1) if said[at].startswith("error: ")), len(said) - TAIL)
    text = without_secrets("\n".join(said[max(begin, 0) :])).strip() or "It said nothing."
    return EnvironmentProblem(f"OpenCV's builder stopped. {text}", f"The log is {log}." if log else "")


def ask(command: List[str]) -> Json:
    """`key`, and `wheel` with its path and facts, or None where it has to be built. Changes nothing."""
    try:
        code, out, err = bounded.run([*command, "--print-key"])
    except bounded.TooMuch:
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
    said: List[str] = []
    # close_fds=False: the lock of store.changing goes along, so that nobody starts anew beside this builder.
    with files.appended(log) as kept, subprocess.Popen(  # noqa: S603 - the same
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, close_fds=False
    ) as job:
        for line in map(without_secrets, bounded.lines(job.stderr)):
            kept.write((line + "\n").encode("utf-8"))
            kept.flush()
            said = [*said[-200:], line]
            if line.strip():
                say(printable(line, bounded.LONGEST_STEP))
    if job.returncode != 0:
        raise failed(said, str(log))
    return ask(command)
