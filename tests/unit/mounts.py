"""Small file systems in memory, for tests of full disks and of mount options."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Iterator

import pytest


def mount(folder: Path, options: str) -> None:
    """Mount a file system; with `remount` among the options, change the one that is there."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, capture_output=True, check=True)


def unmount(folder: Path) -> None:
    """Unmount a file system."""
    subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a file system on a new folder for as long as it is used; skip the test where this user may not."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    folder.mkdir()
    try:
        mount(folder, options)
    except subprocess.CalledProcessError:
        pytest.skip("this root may not mount a file system (a container)")
    try:
        yield folder
    finally:
        unmount(folder)
