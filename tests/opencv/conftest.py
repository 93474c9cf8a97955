"""What the real builds share: a store that outlives a run, with a toolkit, cuDNN and the build tools in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Dict, NamedTuple

import pytest

from gpuhost.host import venvs
from gpuhost.host.toolkit import install as toolkits
from gpuhost.planning import opencv as opencv_plan
from gpuhost.planning import toolkits as toolkit_specs
from gpuhost.planning.environments import load_environment, lock_digest

#: The release's own Python: 3.11 on Debian 12, 3.13 on Debian 13.
PYTHON = os.path.realpath("/usr/bin/python3")
PLAN: Dict[str, Any] = {
    "opencv": {
        "source": "sdist",
        "python": PYTHON.rpartition("python")[2],
        "artifacts": [{"package_version": "4.14.0.94"}],
    }
}


class Tools(NamedTuple):
    """Folders of the store."""

    root: Path
    cuda: Path
    cudnn: Path
    python: Path


def say(text: str) -> None:
    """Tell what the long steps are at."""
    sys.stderr.write(f"{text}\n")


def wheels(name: str) -> Dict[str, Any]:
    """What is installed of a lock of wheels."""
    return toolkit_specs.specified({}, toolkit_specs.from_wheels(name.partition("-")[0], name))


def store() -> Path:
    """The store that outlives a run."""
    return Path(os.environ.get("GPUHOST_BUILD_CACHE") or Path.home() / ".cache" / "gpuhost-build")


def build_python(root: Path) -> Path:
    """The Python of the build tools, by checksum."""
    lock = load_environment(opencv_plan.build_environment(PLAN))
    built = venvs.install(root, "opencv_build", {**lock, "digest": lock_digest(lock)}, PYTHON, say)
    return built / "bin" / "python"


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Toolkit, cuDNN and build tools, each by checksum."""
    root = store()
    cuda = toolkits.install(root, wheels("cuda-13.0.2"), None, PYTHON, say)
    cudnn = toolkits.install(root, wheels("cudnn-9.13.1.26-cu13"), None, PYTHON, say)
    return Tools(root, cuda, cudnn, build_python(root))
