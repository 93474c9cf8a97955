"""A real build: OpenCV with CUDA and cuDNN from the sdist and NVIDIA's wheels, without a card, installed and proved.

`bash .ci/run build` runs it. It wants Debian 12 with g++, ccache and libpython3.11-dev, and about 8 GB. What it
downloads and compiles stays below GPUHOST_BUILD_CACHE (~/.cache/gpuhost-build), so that only a first run is a long one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from gpuhost import opencv_plan, toolkit_specs, toolkits, venvs
from gpuhost.cvbuild.sources import is_sealed
from gpuhost.cvbuild.wheel import facts_of
from gpuhost.environments import load_environment, lock_digest

pytestmark = pytest.mark.build
ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3.11"
CARD = "7.5"
PLAN: Dict[str, Any] = {"opencv": {"python": "3.11", "artifacts": [{"package_version": "4.14.0.94"}]}}


def say(text: str) -> None:
    """Tell what the long steps are at."""
    sys.stderr.write(f"{text}\n")


@pytest.fixture(scope="module")
def root() -> Path:
    """The store that outlives a run."""
    return Path(os.environ.get("GPUHOST_BUILD_CACHE") or Path.home() / ".cache" / "gpuhost-build")


@pytest.fixture(scope="module")
def command(root: Path) -> List[str]:
    """The script with its toolkit, cuDNN and build tools, each by checksum."""
    cuda = toolkits.install(root, toolkit_specs.from_wheels("cuda", "cuda-13.0.2"), None, PYTHON, say)
    cudnn = toolkits.install(root, toolkit_specs.from_wheels("cudnn", "cudnn-9.13.1.26-cu13"), None, PYTHON, say)
    lock = load_environment(opencv_plan.build_environment(PLAN))
    tools = venvs.install(root, "opencv_build", {**lock, "digest": lock_digest(lock)}, PYTHON, say)
    script = [sys.executable, str(ROOT / "build" / "opencv_cmake.py"), "--python", str(tools / "bin" / "python")]
    card = ["--opencv", "4.14.0", "--arch-bin", CARD, "--elsewhere", "--cpu", "AVX2"]
    return [*script, *card, "--root", str(root), "--cuda", str(cuda), "--cudnn", str(cudnn)]


@pytest.fixture(scope="module")
def wheel(command: List[str]) -> Path:
    """The wheel: built, or of an earlier run with the same key."""
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0
    return Path(done.stdout.decode().strip())


def test_the_wheel_is_for_the_card(wheel: Path) -> None:
    """Its name, its facts and the code in it say one thing, and it needs CUDA's libraries and no other stranger."""
    facts = facts_of(wheel)
    assert "+cuda130.sm75." in wheel.name
    assert set(facts["code"]) == {"sm_75"}
    assert facts["summary"]["cuDNN"].startswith("YES (ver 9.13.1)")
    system = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"}
    cuda = {name.split(".so")[0] for name in set(facts["needed"]) - system}
    assert {"libcudnn", "libcublas"} <= cuda <= {"libcudnn", "libcublas", "libcublasLt"}


def test_the_build_left_the_sources_alone(root: Path, wheel: Path) -> None:
    """Nothing is written into them, else a resumed build would be refused."""
    [folder] = (p for p in (root / "cache" / "opencv" / "sources").iterdir() if p.is_dir())
    assert is_sealed(folder)


def test_the_same_key_is_not_built_again(command: List[str], wheel: Path) -> None:
    """A second call finds the wheel."""
    done = subprocess.run([*command, "--print-key"], stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout)["wheel"]["path"] == str(wheel)


def test_it_installs_and_is_proved(root: Path, command: List[str], wheel: Path) -> None:
    """Beside the locked NumPy; a fresh process finds CUDA and cuDNN without LD_LIBRARY_PATH, and runs a network."""
    described = json.loads(subprocess.run([*command, "--print-key"], stdout=subprocess.PIPE, check=True).stdout)[
        "wheel"
    ]
    target = root / "cache" / "wheels" / wheel.name
    if not target.exists():
        os.link(str(wheel), str(target))
    lock = opencv_plan.with_wheel(PLAN, described)
    folder = venvs.install(root, "opencv_cuda", lock, PYTHON, say)
    done = subprocess.run([*command, "--prove", str(wheel), "--into", str(folder)], stderr=subprocess.PIPE, check=False)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert "the library holds code for exactly sm_75" in said
    assert "a small Darknet network runs on the processor" in said
    assert "NOT PROVED: no card here" in said or "a network on CUDA (fp32)" in said
