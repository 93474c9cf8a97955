"""The work that the stack is for: YOLO over photos, measured, on the device that the lock names."""

from __future__ import annotations

from typing import Callable

import pytest

from gpuhost.diagnoses.verdict import about


@pytest.mark.parametrize("check", about("detector", "benchmark"))
def test_benchmark(hold: Callable[[str], None], check: str) -> None:
    """Hold the host against one check. What it claims, and why, stands in `gpuhost.checks`."""
    hold(check)
