"""What the control groups of this process (cgroups(7)), of both versions, allow it of memory and processors.

Runs on the target: Python 3.6, standard library.
"""

import contextlib
import re
from pathlib import Path
from typing import Iterator, Optional


def groups(root: Path, controller: str) -> Iterator[Path]:
    """Give the folders of the groups that limit this process, from its own up to the outermost: those of version 2, and
    those of a `controller` of version 1 ("memory"). A container sees its own as the outermost, whatever path it is
    given.
    """
    listed = root / "proc/self/cgroup"
    for line in listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            yield folder
            if folder == top:
                break


def memory_limits(root: Path = Path("/")) -> Iterator[int]:
    """Give the memory in bytes that each of them allows; version 1 says a number close to 2**63 where it sets none."""
    for folder in groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            allowed = _figure(folder / name)
            if allowed is not None:
                yield allowed


def processors(root: Path = Path("/")) -> Optional[int]:
    """Return how many processors the least quota leaves, rounded up; None without a quota."""
    found = []
    for folder in groups(root, "cpu"):
        share, period = _figure(folder / "cpu.cfs_quota_us"), _figure(folder / "cpu.cfs_period_us")
        with contextlib.suppress(OSError, ValueError):  # "max 100000" is not a quota
            share, period = map(int, (folder / "cpu.max").read_text(encoding="ascii").split())
        if share and period:
            found.append(-(-share // period))
    return min(found) if found else None


def _figure(path: Path) -> Optional[int]:
    """Return the number in a file; None for "max", for -1, and where there is no such file."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if re.match(r"[0-9]{1,20}\Z", text) else None
