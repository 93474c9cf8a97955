"""How much space file systems have, for what is about to be put there.

Runs on the target: Python 3.6, standard library.
"""

import shutil
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

# Room that building a module takes below /var/lib/dkms and /tmp, and that a new initramfs takes beside the old one.
BUILD_BYTES = 900 * 10**6
_BOOT_SPARE = 40 * 10**6
#: How many times its download a package takes unpacked, at most (TensorFlow 2.21: 636 MB become 2.2 GB, measured).
UNPACKED = 4


def boot_bytes(kernel: str, boot: Path = Path("/boot")) -> int:
    """Return what a new initramfs of a kernel takes in /boot while the old one is there; of a kernel that is still to
    come, as much as the largest one.
    """
    own = boot / f"initrd.img-{kernel}"
    images = [own] if own.is_file() else [image for image in boot.glob("initrd.img-*") if image.is_file()]
    return _BOOT_SPARE + max((image.stat().st_size for image in images), default=0)


def free_bytes(path: Path) -> int:
    """The free space of the file system that a path lies on, or would."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(str(path)).free


def same_disk(path: Path) -> int:
    """What tells file systems apart."""
    while not path.exists():
        path = path.parent
    return path.stat().st_dev


class Disk(NamedTuple):
    """One file system: the paths that something goes to, and how many bytes are needed and free there."""

    paths: List[str]
    needed: int
    free: int


def disks(needs: Sequence[Tuple[str, int]], free: Callable[[Path], int] = free_bytes) -> List[Disk]:
    """The file systems to which something goes (path, bytes)."""
    sums: Dict[int, Tuple[List[str], int]] = {}
    for path, amount in needs:
        paths, total = sums.get(same_disk(Path(path)), ([], 0))
        sums[same_disk(Path(path))] = ([*paths, *([] if path in paths else [path])], total + amount)
    return [Disk(paths, total, free(Path(paths[0]))) for paths, total in sums.values()]


def short_of_space(needs: Sequence[Tuple[str, int]], free: Callable[[Path], int] = free_bytes) -> List[str]:
    """Say which file systems have too little room for what goes to each path (path, bytes)."""
    return [
        f"{', '.join(disk.paths)}: {disk.needed / 1e6:.0f} MB are needed and {disk.free / 1e6:.0f} MB are free"
        for disk in disks(needs, free)
        if disk.free < disk.needed
    ]


def room_taken(needs: Sequence[Tuple[str, int]], free: Callable[[Path], int] = free_bytes) -> str:
    """Say how much of their room what goes to each path takes at most (path, bytes); '' for nothing."""
    told = [
        f"{', '.join(disk.paths)}: at most {disk.needed / 1e9:.1f} GB of {disk.free / 1e9:.1f} GB that are free"
        for disk in disks(needs, free)
    ]
    return f"Room while it is installed: {'; '.join(told)}." if told else ""
