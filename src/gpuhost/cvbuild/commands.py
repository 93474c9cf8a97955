"""The commands of a build: their environment, and the failures that any of them can meet."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence

from ..host import commands
from .failures import failure

#: What a build keeps of the user's environment. Compilers, nvcc, CMake and ccache read dozens of variables (CPATH,
#: NVCC_APPEND_FLAGS, CMAKE_PREFIX_PATH, CCACHE_...), none of which would be part of the key.
KEPT = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR")
FULL = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
KILLED = re.compile(
    r"Killed \(program \w+\)|Killed signal terminated program|c\+\+: fatal error: Killed|nvcc error\s*:.*died due to "
    r"signal 9|virtual memory exhausted|std::bad_alloc|Cannot allocate memory"
)


def environment(more: Optional[Dict[str, str]] = None) -> Dict[str, str]:
    """The environment of a build command: of this one's only what cannot change the result, and plain English."""
    plain = {"LC_ALL": "C.UTF-8", "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    foreign = [name for name in os.environ if name not in KEPT]
    return commands.environment(foreign, **{**plain, **(more or {})})


def ask(argv: Sequence[str], limit_s: float = 60) -> str:
    """What a short command says on both outputs, '' when it is not there or fails."""
    try:
        code, out, _ = commands.bounded(argv, limit_s, stderr=subprocess.STDOUT, env=environment())
    except (OSError, subprocess.TimeoutExpired, commands.TooMuch):
        return ""
    return out if code == 0 else ""


def follow(argv: Sequence[str], log: Path, heard: Callable[[str], None], more: Optional[Dict[str, str]] = None) -> None:
    """Run a command of a build as `gpuhost.host.commands.follow` does."""
    commands.follow(argv, log, heard, environment(more))


def raise_known(failed: commands.CommandFailed, where: str, log: Path) -> None:
    """Name the failures that any command can meet: a full disk, a compiler ended for memory."""
    text = "\n".join(failed.lines)
    if FULL.search(text):
        raise failure(
            "B-disk-full", f"There is no space left for {where}.", "Make room and run the same command again."
        )
    if KILLED.search(text):
        raise failure(
            "D23-killed-for-memory",
            f"A compiler was ended because memory ran out (see {log}).",
            "Run the same command again with fewer jobs (--jobs 1) or with swap; it goes on where it was.",
        )
