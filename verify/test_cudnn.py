"""cuDNN."""

from __future__ import annotations

from typing import Callable

import pytest

from gpuhost.diagnoses.verdict import about


@pytest.mark.parametrize("check", about("cudnn"))
def test_cudnn(hold: Callable[[str], None], check: str) -> None:
    """Hold the host against one check. What it claims, and why, stands in `gpuhost.checks`."""
    hold(check)
