"""The example hosts of `tests/hosts`: their files, their commands' answers, and what the probe observes on them.

One was recorded on a machine and is committed. The others are made by `hosts/make_hosts.py`, once for a session of
tests. They are parameters of tests, so they are made when first asked for and not by a fixture.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from gpuhost.host.probe.machine import observe

from .hosts.make_hosts import make_all

HOSTS = Path(__file__).resolve().parent / "hosts"
NAMES = sorted(path.parent.name for path in HOSTS.glob("*/expected.json"))
Answer = Tuple[int, str, str]


@functools.lru_cache(maxsize=None)
def made() -> Path:
    """Return the folder of the synthetic hosts, which is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="gpuhost-hosts-"))
    atexit.register(shutil.rmtree, str(folder))
    make_all(folder)
    return folder


def folder_of(name: str) -> Path:
    """Return the folder of a host: `fs/` holds its files, `commands.json` what its commands answer."""
    recorded = HOSTS / name
    return recorded if (recorded / "fs").is_dir() else made() / name


def expected(name: str) -> Dict[str, Any]:
    """Return what the observation of a host must say."""
    return dict(json.loads((HOSTS / name / "expected.json").read_text(encoding="utf-8")))


def answers_of(folder: Path) -> Dict[Tuple[str, ...], Answer]:
    """Return what the commands of a host answer."""
    rows = json.loads((folder / "commands.json").read_text(encoding="utf-8"))
    return {tuple(row["argv"]): (row["rc"], row["out"], row["err"]) for row in rows}


def replay(folder: Path) -> Callable[[Sequence[str], float], Answer]:
    """Return a runner of commands that answers as the host does, and knows no other command."""
    answers = answers_of(folder)
    return lambda argv, timeout: answers[tuple(argv)]


def observed(name: str, root: Optional[Path] = None) -> Dict[str, Any]:
    """Return what the probe observes on a host; `root` is a folder that holds a changed copy of the host's."""
    folder = folder_of(name) if root is None else root / name
    return observe(str(folder / "fs"), replay(folder))
