"""OpenCV in its environment."""

from __future__ import annotations

from typing import Callable

Hold = Callable[[str], None]


def test_installed(hold: Hold) -> None:
    """A link to a folder that is not whole works until the first file that is missing."""
    hold("opencv.installed")


def test_packages(hold: Hold) -> None:
    """A package that was changed by hand is not what was tested together."""
    hold("opencv.packages")


def test_computes(hold: Hold) -> None:
    """An import proves little; a picture is blurred and resized, and compared with NumPy."""
    hold("opencv.computes")


def test_cuda(hold: Hold) -> None:
    """An OpenCV without CUDA computes on the CPU, and most versions say so only in their log."""
    hold("opencv.cuda")
