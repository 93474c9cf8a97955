"""How much space file systems have, for what is about to be put there.

Runs on the target: Python 3.6, standard library.
"""

import shutil
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple

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


def short_of_space(needs: Sequence[Tuple[str, int]], free: Callable[[Path], int] = free_bytes) -> List[str]:
    """Which file systems have too little room for what goes to each path (path, bytes)."""
    sums: Dict[int, Tuple[List[str], int]] = {}
    for path, amount in needs:
        paths, total = sums.get(same_disk(Path(path)), ([], 0))
        sums[same_disk(Path(path))] = ([*paths, *([] if path in paths else [path])], total + amount)
    found = []
    for paths, total in sums.values():
        left = free(Path(paths[0]))
        if left < total:
            found.append(f"{', '.join(paths)}: {total / 1e6:.0f} MB are needed and {left / 1e6:.0f} MB are free")
    return found
