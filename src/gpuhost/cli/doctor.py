"""`gpuhost doctor`: why CUDA does not work, on this machine or, over ssh, on another."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from typing import Any, List, Tuple

from ..doctor import python, run
from ..errors import EnvironmentProblem, UnreadableError, UsageError
from ..host import commands
from ..host.answer import read_answers
from ..shipping import answers, bundle
from ..text import printable
from ..types import Json

LIMIT_S = 180.0 + 4 * python.LIMIT_S
#: A user, a host and a port of ssh. Neither begins with a hyphen, which would be an option.
ADDRESS = re.compile(r"ssh://(?:([A-Za-z0-9_][A-Za-z0-9_.-]*)@)?([A-Za-z0-9][A-Za-z0-9.-]*)(?::([0-9]{1,5}))?/?\Z")


def add_parser(commands: Any) -> None:
    """The grammar of the command."""
    p = commands.add_parser(
        "doctor",
        help="say why CUDA does not work on a machine, without a lock, or prove that it does",
        description=run.ABOUT,
        epilog=run.CODES,
    )
    run.options(p)
    p.add_argument("--host", metavar="ssh://USER@HOST", help="another machine, which needs Python 3.6 and nothing else")
    p.set_defaults(run=start)


def start(arguments: Any) -> int:
    """`gpuhost doctor`."""
    if arguments.host is None or arguments.message is not None:
        return run.run(arguments)
    line = ssh(arguments.host)
    if shutil.which(line[0]) is None:
        raise EnvironmentProblem("There is no ssh here.", "Type: apt-get install openssh-client")
    return run.run(arguments, lambda asked: there(line, asked))


def ssh(host: str) -> List[str]:
    """Return the command that starts a Python over ssh, which reads its program from the standard input."""
    found = ADDRESS.match(host)
    if found is None:
        raise UsageError(
            f"{printable(host, 100)} is not an address for ssh.", "Write ssh://USER@HOST or ssh://HOST:PORT."
        )
    user, name, port = found.groups()
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=15", *(["-p", port] if port else [])]
    return ["ssh", *options, *(["-l", user] if user else []), "--", name, "python3 -I -B -"]


def there(line: List[str], arguments: Any) -> Tuple[Json, str]:
    """Return the report of the machine that a command line leads to, and the text of its bundle."""
    asked = {"releases": run.releases(), "bundle": arguments.bundle is not None, "python": arguments.python}
    if arguments.python is not None:
        questions = ("", *python.FRAMEWORKS)
        programs = {name: bundle.program("host.probe.frameworks", {"framework": name or None}) for name in questions}
        asked["programs"] = programs
    program = bundle.program("doctor.sent", asked)
    with tempfile.TemporaryFile() as source:
        source.write(program.encode("ascii"))
        source.seek(0)
        try:
            code, out, err = commands.bounded(line, LIMIT_S, stdin=source)
        except (OSError, commands.TooMuch, subprocess.TimeoutExpired) as error:
            raise UnreadableError(f"The machine gave no answer: {type(error).__name__}.", "Try ssh by hand.") from error
    found = read_answers(out)
    if not found:
        said = (err.strip().splitlines() or ["nothing"])[-1]
        raise UnreadableError(
            f"The machine gave no report. It ended with status {code} and said: {printable(said, 300).rstrip('.')}.",
            "See whether ssh reaches it without a password (its key and known hosts come from ~/.ssh/config), and "
            "whether it has python3.",
        )
    answer = answers.doctor(found[-1])
    if "error" in answer:
        raise UnreadableError(str(answer["error"]), "Copy gpuhost-doctor.pyz there and run it.")
    return answer["report"], answer["bundle"]
