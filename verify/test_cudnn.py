"""cuDNN."""

from __future__ import annotations

from typing import Callable


def test_installed(hold: Callable[[str], None]) -> None:
    """A link to a folder that is not whole works until the first file that is missing."""
    hold("cudnn.installed")


def test_version(hold: Callable[[str], None]) -> None:
    """A minor version older than the one TensorFlow was built with is refused at the first convolution."""
    hold("cudnn.version")
