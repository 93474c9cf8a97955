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


def test_libraries(hold: Hold) -> None:
    """TensorFlow that cannot load one CUDA library goes on without a card."""
    hold("tensorflow.libraries")


def test_cudnn(hold: Hold) -> None:
    """Which cuDNN is loaded the linker decides; an older one is refused at the first convolution."""
    hold("tensorflow.cudnn")


def test_gpu(hold: Hold) -> None:
    """A card that is listed need not be computed on."""
    hold("tensorflow.gpu")
