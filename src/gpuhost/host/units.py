"""What the installers of systemd units share: paths that a unit can hold, what would change, and systemctl.

Runs on the target: Python 3.6, standard library.
"""

import os
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

from ..errors import EnvironmentProblem
from . import files, store
from .edges import Edges

UNITS = "/etc/systemd/system"
TIMEOUT_S = 120.0


class Outcome(NamedTuple):
    """What was done, or would be: did anything change, a line for the user, before and after."""

    changed: bool
    told: str
    diff: List[Dict[str, str]]


def plain_path(text: str, who: str) -> None:
    """Refuse a path that a unit, a shell, or a program's configuration would read as something else."""
    good = all(char.isalnum() or char in "/._-" for char in text)
    if text and (not good or not text.startswith("/") or ".." in Path(text).parts):
        raise EnvironmentProblem(f"The path '{text}' cannot be used by {who}.", "Use letters, digits and / . _ -")


def differences(edges: Edges, wanted: Dict[str, str]) -> List[Dict[str, str]]:
    """Return what the files say and will say, where that differs."""
    return [
        {"before": edges.text(path) or "", "after": text, "before_header": path, "after_header": path}
        for path, text in sorted(wanted.items())
        if edges.text(path) != text
    ]


def gone(edges: Edges, paths: List[str]) -> List[Dict[str, str]]:
    """Return the same for files that will be removed."""
    return [{"before": edges.text(p) or "", "after": "", "before_header": p, "after_header": p} for p in paths]


def is_there(edges: Edges, path: str) -> bool:
    """Return whether there is anything of that name, be it a link to nothing."""
    return os.path.lexists(str(edges.path(path)))


def systemctl(edges: Edges, words: List[str], who: str) -> None:
    """Run systemctl, or say in one sentence why that did not work."""
    code, out, err = edges.run(["systemctl", *words], TIMEOUT_S)
    if code != 0:
        raise EnvironmentProblem(f"systemctl {' '.join(words)} failed: {why(code, out, err)}", f"{who} needs systemd.")


def why(code: int, out: str, err: str) -> str:
    """Return what a command that failed said last, on one line, or its status where it said nothing."""
    return " ".join((err or out).split())[-300:] or f"it ended with status {code}"


def all_hold(edges: Edges, words: List[str], unit: str, options: Sequence[str] = ()) -> bool:
    """Return whether systemctl, with these options, says yes to each word (`is-enabled`, `is-active`) about a unit."""
    return all(edges.run(["systemctl", *options, word, "--quiet", unit], TIMEOUT_S)[0] == 0 for word in words)


def forget(edges: Edges, root: str, program: str, name: str, what: str) -> None:
    """Delete a program's folders in the store, all but `name`; `what` says so to whoever waits meanwhile."""
    stale = [path for path in edges.path(f"{root}/store").glob(f"{program}-*") if path.name != name]
    if stale:
        with store.changing(edges.path(root), what):
            for path in stale:
                files.remove(path)
