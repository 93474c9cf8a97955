"""`gpuhost observe`: what a plan rests on, read of this machine or of a tree of files, without what is private."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence, Tuple, cast

from .. import strict_json
from ..doctor import bundle
from ..doctor.run import keep
from ..errors import UnreadableError, UsageError
from ..host.commands import NOT_FOUND
from ..host.probe.machine import observe
from ..redact import Redactor
from ..report.support import public_versions
from ..shapes.observation import Observation
from ..shipping import answers
from ..text import printable
from ..types import Json

#: An observation has some 100 kB, and one with an archive's offers more. A larger file is refused before it is read.
LARGEST = 20_000_000
#: Every dynamic program of a machine of this architecture is started by this file.
LOADERS = {"x86_64": "lib64/ld-linux-x86-64.so.2", "aarch64": "lib/ld-linux-aarch64.so.1"}


def add_parser(commands: Any) -> None:
    """The grammar of the command."""
    p = commands.add_parser(
        "observe",
        help="print what a plan rests on, for gpuhost plan --observation or for an issue",
        description=(
            "Read this machine, or a tree of files of another one, and print the observation as JSON. Names of "
            "machines and users, addresses, serial numbers, keys and secrets are taken out. Nothing is changed."
        ),
        epilog="Exit codes: 0 done, 2 usage, 4 the machine could not be read.",
    )
    p.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        help="the folder that holds another machine's files; no command of it is run",
    )
    p.add_argument("-o", "--output", metavar="FILE", help="a new file to write (default: the standard output)")
    p.add_argument("--json", action="store_true", help="print an error as JSON too; the observation always is")
    p.set_defaults(run=run)


def run(arguments: Any) -> int:
    """`gpuhost observe`."""
    root = arguments.root
    if root is not None and not root.is_dir():
        raise UsageError(f"{printable(root, 200)} is not a folder.", "Name the folder that stands for / (--root DIR).")
    found = observe(offers=True) if root is None else observe(str(root), of_tree(root))
    text = json.dumps(redacted(cast(Observation, found)), indent=1, sort_keys=True) + "\n"
    if arguments.output is None:
        sys.stdout.write(text)
        return 0
    problem = keep(arguments.output, text)
    if problem:
        raise UsageError(problem, "Name another file: -o FILE")
    return 0


def of_tree(root: Path) -> Callable[[Sequence[str], float], Tuple[int, str, str]]:
    """Return a runner of commands for a tree of files: none is run, and the loader tells what `uname -m` would."""
    machine = next((name for name, loader in LOADERS.items() if os.path.lexists(str(root / loader))), None)

    def answer(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        if list(argv) == ["uname", "-m"] and machine is not None:
            return 0, machine + "\n", ""
        return NOT_FOUND, "", "It was not run: this is a tree of files."

    return answer


def redacted(observation: Observation) -> Json:
    """Return an observation without what a stranger must not read."""
    clean = Redactor(bundle.hosts(observation), bundle.users(), public_versions())
    # Twice: a name that is learned late is taken out of what stands before it as well.
    clean.value(observation)
    return dict(clean.value(observation))


def load(file: str) -> Observation:
    """Read an observation from a file; whoever wrote it, it is checked against the schema before anything reads it."""
    again = "Make it again on the machine: gpuhost observe -o FILE"
    try:
        value = strict_json.load(Path(file), LARGEST)
    except (OSError, ValueError) as error:
        raise UnreadableError(
            f"The observation {printable(file, 200)} cannot be read: {printable(error, 200)}.", again
        ) from None
    found: Mapping[str, Any] = answers.observation(value)
    if "error" in found:
        raise UnreadableError(f"The observation {printable(file, 200)} is refused: {found['error']}", again)
    return cast(Observation, found)
