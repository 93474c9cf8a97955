"""The work that the stack is for: YOLO over photos, measured, on the device that the lock names."""

from __future__ import annotations

from typing import Callable

import pytest

from gpuhost.checks.benchmark import MODELS


def test_installed(hold: Callable[[str], None]) -> None:
    """The benchmark runs the detector of the generation in force."""
    hold("detector.installed")


@pytest.mark.parametrize("model", MODELS)
def test_model(hold: Callable[[str], None], model: str) -> None:
    """A stack can pass every check and still be slow or on the wrong device; this is where that shows."""
    hold(f"benchmark.{model}")
