"""VirtualBox: the locked one, once, its modules built, signed and loaded for this kernel, and kept from updates."""

from __future__ import annotations

from typing import Callable

import pytest

from gpuhost.diagnoses.verdict import about


@pytest.mark.parametrize("check", about("virtualbox"))
def test_virtualbox(hold: Callable[[str], None], check: str) -> None:
    """Hold the host against one check. What it claims, and why, stands in `gpuhost.checks`."""
    hold(check)
