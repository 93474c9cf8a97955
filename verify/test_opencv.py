"""OpenCV in its environment."""

from __future__ import annotations

from typing import Callable

Hold = Callable[[str], None]


def test_installed(hold: Hold) -> None:
    """A link to a folder that is not whole works until the first file that is missing."""
    hold("opencv.installed")


def test_ours(hold: Hold) -> None:
    """pip's OpenCV is imported just as well, and knows no card."""
    hold("opencv.ours")


def test_packages(hold: Hold) -> None:
    """A package that was changed by hand is not what was tested together."""
    hold("opencv.packages")


def test_computes(hold: Hold) -> None:
    """An import proves little; a picture is blurred and resized, and compared with NumPy."""
    hold("opencv.computes")


def test_built(hold: Hold) -> None:
    """An OpenCV without CUDA computes on the CPU, and most versions say so only in their log."""
    hold("opencv.built")


def test_covers(hold: Hold) -> None:
    """Code for 7.0, as a tutorial had it, does not run on a card of 5.0."""
    hold("opencv.covers")


def test_cuda(hold: Hold) -> None:
    """What is built for the card finds none when the driver is too old, or its node is missing."""
    hold("opencv.cuda")
