"""OpenCV with CUDA 13 is built to the end on Debian 13: test_real_build.py, in a booted machine of that release.

`./run pytest -s -m "build and full" tests/opencv/test_debian_13.py`: 10 GB, and an hour on two busy cores. Its g++ 14,
glibc 2.41 and Python 3.13 are the release's own; nvcc, cuDNN and NPP are NVIDIA's wheels. It has no card and no driver.
"""

from __future__ import annotations

import re
from typing import Iterator

import pytest

from gpuhost.planning import opencv as opencv_plan

from ..e2e.beds import Bed
from ..e2e.beds.base import PACKAGES, require_tools
from ..e2e.beds.bed import CLONE

pytestmark = [pytest.mark.build, pytest.mark.full]
#: As much of a plan as decides what a build needs of the archive.
PLAN = {"platform": "debian-13", "cuda": {"series": "13.0"}, "opencv": {"source": "sdist", "python": "3.13"}}
HOURS = 3 * 3600


@pytest.fixture
def debian_13() -> Iterator[Bed]:
    """The machine with what the role installs there for a build, and a fresh clone."""
    require_tools()
    needed = (*PACKAGES, "python3", "python3-venv", *opencv_plan.packages(PLAN))
    with Bed.fresh(needed, codename="trixie") as bed:
        bed.clone_project()
        yield bed


def test_it_is_built_installed_and_proved(debian_13: Bed) -> None:
    """Every test of the real build passes there, and none is left out but for the profile video."""
    words = ["./run", "pytest", "-s", "-n", "0", "-m", "build and not full", "tests/opencv/test_real_build.py"]
    said = debian_13.run(words, cwd=CLONE, timeout=HOURS).stdout
    assert re.search(r"^=+ 5 passed, 1 deselected in ", said, re.MULTILINE), said[-2000:]
