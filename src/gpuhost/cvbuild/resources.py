"""How many compile jobs this machine can carry, and whether it has the space: read from /proc, judged purely."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Optional

from ..host import cgroups
from .failures import failure

#: What one compile job takes at its peak, in MB, measured (docs/reference/opencv-build.md): gcc on the largest files
#: of the module dnn, cicc on the largest kernels. Some air is in it, since two large ones can meet.
JOB_MB = {"dnn": 1500, "video": 1500, "full": 2000}
#: What a build tree with the unpacked sources takes, in MB, measured.
DISK_MB = {"dnn": 2500, "video": 3000, "full": 12000}


def memory_mb(meminfo: str) -> int:
    """Memory that can be had, swap included, from the text of /proc/meminfo."""
    found = dict(re.findall(r"^(MemAvailable|SwapFree):\s+(\d+) kB", meminfo, re.MULTILINE))
    return (int(found.get("MemAvailable", 0)) + int(found.get("SwapFree", 0))) // 1024


def jobs(cores: int, available_mb: int, profile: str, asked: Optional[int] = None) -> int:
    """Compile jobs at once: one a core, fewer where memory would not do; what a user asks for is taken as it is."""
    if asked is not None:
        return asked
    each = JOB_MB[profile]
    fit = available_mb // each
    if fit < 1:
        raise failure(
            "D23-not-enough-memory",
            f"One compile job takes up to {each} MB; {available_mb} MB of memory and swap can be had.",
            "Add swap (fallocate, mkswap, swapon) or end other programs. --jobs 1 tries it nevertheless.",
        )
    return max(1, min(cores, fit))


def here(profile: str, asked: Optional[int] = None, root: Path = Path("/"), cores: Optional[int] = None) -> int:
    """The same for this machine, whose /proc and /sys are below `root`."""
    available = memory_mb((root / "proc/meminfo").read_text(encoding="ascii"))
    cores = len(os.sched_getaffinity(0)) if cores is None else cores
    caps = [limit // 2**20 for limit in cgroups.memory_limits(root)]
    return jobs(min(cores, cgroups.processors(root) or cores), min([available, *caps]), profile, asked)


def check_space(folder: Path, profile: str, free_mb: Optional[int] = None) -> None:
    """Refuse, before anything is begun, a file system without room for the build."""
    needed = DISK_MB[profile]
    free = shutil.disk_usage(str(folder)).free // 10**6 if free_mb is None else free_mb
    if free < needed:
        raise failure(
            "B-disk-full",
            f"The build needs about {needed} MB below {folder}, {free} MB are free.",
            "Make room, or name another folder: --work DIR",
        )
