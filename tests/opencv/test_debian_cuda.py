"""OpenCV with CUDA as Debian packages it: nvcc in /usr/bin, headers and libraries among those of all other packages.

`./run pytest -s -m "build and full" tests/opencv/test_debian_cuda.py`: 5 GB, and half an hour on two cores. A booted
Debian 12 gets nvidia-cuda-toolkit of the component non-free from apt, without what is only recommended, and the builder
takes it where it lies (`--cuda /usr`). cuDNN is NVIDIA's wheel: Debian's nvidia-cudnn is a script that downloads
NVIDIA's tarball. There is no card and no driver.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from gpuhost.cvbuild.wheel import facts_of
from gpuhost.host.toolkit import install as toolkits
from gpuhost.planning import opencv as opencv_plan

from ..e2e.beds import Bed
from ..e2e.beds.base import PACKAGES, require_tools
from ..e2e.beds.bed import CLONE
from .conftest import PYTHON, build_python, say, store, wheels

pytestmark = [pytest.mark.build, pytest.mark.full]
#: As much of a plan as decides what a build needs of the archive.
PLAN = {"platform": "debian-12", "cuda": {"series": "11.8"}, "opencv": {"source": "sdist", "python": "3.11"}}
SOURCES = "/etc/apt/sources.list.d/debian.sources"
HOURS = 3 * 3600
BUILDER = ["./run", "python", "build/opencv_cmake.py"]


@pytest.fixture(scope="module")
def debian() -> Iterator[Bed]:
    """A Debian 12 with its own CUDA, what the role installs there for a build, and a fresh clone.

    The build tools and cuDNN lie in the store of this machine, which it sees.
    """
    require_tools()
    needed = (*PACKAGES, "python3", "python3-venv", *opencv_plan.packages(PLAN))
    with Bed.fresh(needed, binds={str(store()): str(store())}) as bed:
        bed.run(["sed", "-i", "s/^Components:.*/Components: main contrib non-free/", SOURCES])
        bed.run(["apt-get", "-qq", "update"])
        apt = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", "nvidia-cuda-toolkit"]
        bed.run(apt, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=HOURS)
        bed.clone_project()
        yield bed


@pytest.fixture(scope="module")
def cudnn() -> Path:
    """cuDNN of the plans for CUDA 11.8."""
    return toolkits.install(store(), wheels("cudnn-8.6.0.163-cu11"), None, PYTHON, say)


def test_it_is_built_and_runs(cudnn: Path, debian: Bed) -> None:
    """The library holds the card's code and no other, and finds Debian's libraries where Debian has them."""
    python = build_python(store())
    card = ["--opencv", "4.14.0", "--gpu", "Quadro P2000", "--elsewhere", "--cpu", "AVX2"]
    kit = ["--cuda", "/usr", "--cudnn", str(cudnn), "--python", str(python), "--root", "/root/store"]
    debian.run(["cp", "-a", str(python.parents[1]), "/root/venv"])
    said = debian.run([*BUILDER, *card, *kit, "--into", "/root/venv"], cwd=CLONE, timeout=HOURS)
    assert "the library holds code for exactly sm_61" in said.stderr
    assert "a small Darknet network runs on the CPU" in said.stderr
    wheel = debian.pull(said.stdout.splitlines()[-1])
    facts = facts_of(wheel)
    assert "+cuda118.sm61." in wheel.name
    assert set(facts["code"]) == {"sm_61"}
    assert facts["summary"]["NVIDIA CUDA"].startswith("YES (ver 11.8")
    assert facts["summary"]["cuDNN"].startswith("YES (ver 8.6.0)")
    assert facts["runpath"].split(":")[0] == "/usr/lib/x86_64-linux-gnu"
    assert "libcublas.so.11" in facts["needed"]
