"""TensorFlow in its environment."""

from __future__ import annotations

from typing import Callable

Hold = Callable[[str], None]


def test_installed(hold: Hold) -> None:
    """A link to a folder that is not whole works until the first file that is missing."""
    hold("tensorflow.installed")


def test_packages(hold: Hold) -> None:
    """A package that was changed by hand is not what was tested together."""
    hold("tensorflow.packages")


def test_computes(hold: Hold) -> None:
    """An import proves little; a convolution is computed and compared with NumPy."""
    hold("tensorflow.computes")


def test_gpu(hold: Hold) -> None:
    """TensorFlow that cannot load one CUDA library goes on without a card."""
    hold("tensorflow.gpu")
