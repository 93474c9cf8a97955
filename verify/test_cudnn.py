"""cuDNN."""

from __future__ import annotations

from typing import Callable


def test_version(hold: Callable[[str], None]) -> None:
    """A minor version older than the one TensorFlow was built with is refused at the first convolution."""
    hold("cudnn.version")
