"""How many compile jobs this machine can carry, and whether it has the space: read from /proc, judged purely."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import List, Optional

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


def figure(path: Path) -> Optional[int]:
    """A whole number in a file of a cgroup; None for 'max', -1 and a file that is not there."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else None


def own_groups(root: Path, controller: str) -> List[Path]:
    """The folders of the cgroups that this process is in, from its own up to the top: of version 2, and of a version 1
    controller ('memory'). In a container its own often appears as the top.
    """
    found = []
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controllers and controller)
        own = Path(path.lstrip("/"))
        if ".." not in own.parts:
            found += [top / folder for folder in (own, *own.parents)]
    return found


def limit_mb(root: Path) -> Optional[int]:
    """The least memory limit of this process's cgroups in MB, None without one (cgroup-v2.rst, memory.max; v1's
    memory.limit_in_bytes is close to 2**63 when there is none).
    """
    names = ("memory.max", "memory.limit_in_bytes")
    found = [figure(folder / name) for folder in own_groups(root, "memory") for name in names]
    limits = [value for value in found if value is not None and value < 2**60]
    return min(limits) // 2**20 if limits else None


def quota(root: Path) -> Optional[int]:
    """The least number of processors that the cgroups' quotas leave, rounded up; None without a quota."""
    found = []
    for folder in own_groups(root, "cpu"):
        share, period = figure(folder / "cpu.cfs_quota_us"), figure(folder / "cpu.cfs_period_us")
        with contextlib.suppress(OSError, ValueError):
            share, period = map(int, (folder / "cpu.max").read_text(encoding="ascii").split())
        if share and period:
            found.append(-(-share // period))
    return min(found) if found else None


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
    cap, share = limit_mb(root), quota(root)
    return jobs(min(cores, share or cores), min(available, cap or available), profile, asked)


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
