"""The machine itself: what it is, where its packages come from, and that the package database is complete."""

from __future__ import annotations

from typing import Callable

import pytest

from gpuhost.diagnoses.verdict import about


@pytest.mark.parametrize("check", about("host"))
def test_host(hold: Callable[[str], None], check: str) -> None:
    """Hold the host against one check. What it claims, and why, stands in `gpuhost.checks`."""
    hold(check)
