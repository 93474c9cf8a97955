"""The stack of Ubuntu 18.04's plans, built for real as far as Debian 12 can: OpenCV with CUDA 11.8.

`./run pytest -m "build and full" tests/opencv` runs it: two cold builds, about half an hour on two cores, 0.9 GB from
Debian's non-free archive and 3 GB of NVIDIA's wheels. It wants g++-11, the newest compiler that CUDA 11.8 accepts.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gpuhost.cvbuild.wheel import facts_of
from gpuhost.host.toolkit import install as toolkits

from .conftest import PYTHON, Tools, say, wheels
from .debian_nvcc import assemble

pytestmark = [pytest.mark.build, pytest.mark.full]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cuda(tools: Tools) -> Path:
    """The toolkit."""
    runtime = toolkits.install(tools.root, wheels("cuda-11.8.0"), None, PYTHON, say)
    return assemble(runtime, tools.root / "cache" / "debian-nvcc")


@pytest.fixture(scope="module")
def cudnn(tools: Tools) -> Path:
    """cuDNN of the plans."""
    return toolkits.install(tools.root, wheels("cudnn-8.6.0.163-cu11"), None, PYTHON, say)


@pytest.mark.parametrize(
    ("opencv", "card", "code"), [("4.11.0", "GTX 750 Ti", "sm_50"), ("4.10.0", "Quadro P2000", "sm_61")]
)
def test_it_is_built_for_the_card(tools: Tools, cuda: Path, cudnn: Path, opencv: str, card: str, code: str) -> None:
    """4.11 is what the plans for Ubuntu 18.04 name. The library holds the card's code and no other, with cuDNN 8.6."""
    script = [sys.executable, str(ROOT / "build" / "opencv_cmake.py"), "--python", str(tools.python)]
    what = ["--opencv", opencv, "--gpu", card, "--elsewhere", "--cpu", "AVX2"]
    where = ["--root", str(tools.root), "--cuda", str(cuda), "--cudnn", str(cudnn)]
    done = subprocess.run([*script, *what, *where], stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0
    wheel = Path(done.stdout.decode().strip())
    facts = facts_of(wheel)
    assert f"+cuda118.{code.replace('_', '')}." in wheel.name
    assert set(facts["code"]) == {code}
    assert facts["summary"]["cuDNN"].startswith("YES (ver 8.6.0)")
    assert facts["summary"]["NVIDIA CUDA"].startswith("YES (ver 11.8")
