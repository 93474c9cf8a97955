"""The CUDA toolkit."""

from __future__ import annotations

from typing import Callable


def test_installed(hold: Callable[[str], None]) -> None:
    """A link to a folder that is not whole works until the first file that is missing."""
    hold("cuda.installed")


def test_toolkit(hold: Callable[[str], None]) -> None:
    """TensorFlow and OpenCV load one version of its libraries; another is not found, or is wrong."""
    hold("cuda.toolkit")


def test_driver(hold: Callable[[str], None]) -> None:
    """CUDA's runtime refuses a driver that is older than itself."""
    hold("cuda.driver")
