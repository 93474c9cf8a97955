"""Another program in the place of this one: it has the user's terminal, and its exit code is ours."""

from __future__ import annotations

import subprocess
from typing import Sequence


def waited(line: Sequence[str]) -> int:
    """Run a command line to its end; its exit code. Ctrl-C reaches it as it reaches this process, and it is waited for.

    Not by `host.commands`: it has the user's terminal and variables, and nothing that it says is read here.
    """
    process = subprocess.Popen(line)  # noqa: S603 - a list, nothing is expanded
    while True:
        try:
            return ended(process.wait())
        except KeyboardInterrupt:
            continue


def ended(code: int) -> int:
    """Return the exit code; a process that a signal ended gets what a shell says of it."""
    return code if code >= 0 else 128 - code
