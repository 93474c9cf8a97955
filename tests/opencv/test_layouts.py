"""Real configure runs with what users bring: another layout of CUDA, options that CMake overrules.

`./run pytest -m "build and full" tests/opencv/test_layouts.py`: a minute each. The toolkit is NVIDIA's wheels.
"""

from __future__ import annotations

from pathlib import Path
from typing import List

import pytest

from gpuhost.cli.opencv import Catalog
from gpuhost.cvbuild import cli, make
from gpuhost.errors import GpuhostError

from .conftest import Tools

pytestmark = [pytest.mark.build, pytest.mark.full]
#: conda's nvcc finds its headers below targets/ (package cuda-nvcc_linux-64, bin/nvcc.profile).
PROFILE = """TOP = $(_HERE_)/..
CICC_PATH = $(TOP)/nvvm/bin
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH += $(CICC_PATH):$(_HERE_):
INCLUDES += "-I$(TOP)/targets/x86_64-linux/include" "-I$(TOP)/targets/x86_64-linux/include/cccl" $(_SPACE_)
LIBRARIES =+ $(_SPACE_) "-L$(TOP)/targets/x86_64-linux/lib"
"""


def as_conda_lays_it(cuda: Path, root: Path) -> Path:
    """A toolkit with headers and libraries below targets/ alone."""
    (root / "bin").mkdir(parents=True)
    (root / "targets" / "x86_64-linux").mkdir(parents=True)
    for program in (cuda / "bin").iterdir():
        if program.name != "nvcc.profile":
            (root / "bin" / program.name).symlink_to(program)
    (root / "bin" / "nvcc.profile").write_text(PROFILE, encoding="utf-8")
    (root / "nvvm").symlink_to(cuda / "nvvm")
    (root / "targets" / "x86_64-linux" / "include").symlink_to(cuda / "include")
    library = cuda / "lib64" if (cuda / "lib64").exists() else cuda / "lib"
    (root / "targets" / "x86_64-linux" / "lib").symlink_to(library)
    return root


def configured(tools: Tools, cuda: Path, work: Path, *more: str) -> None:
    """Configure for real and hold the result against what was asked."""
    argv: List[str] = ["--opencv", "4.14.0", "--arch-bin", "7.5", "--elsewhere", "--cpu", "AVX2", "--work", str(work)]
    argv += ["--python", str(tools.python), "--root", str(tools.root), "--cuda", str(cuda)]
    argv += ["--cudnn", str(tools.cudnn), *more]
    plan, where, _ = cli.planned(cli.parser().parse_args(argv, cli.argparse.Namespace(known=Catalog())))
    make.take_sources(plan, where, [], False)
    make.configure(plan, where)
    make.check(plan, where)


def test_a_toolkit_as_conda_lays_it_with_fast_math_declined(tools: Tools, tmp_path: Path) -> None:
    """CMake finds headers, cuBLAS and NPP where it was told to look, and leaves fast math out."""
    cuda = as_conda_lays_it(tools.cuda, tmp_path / "cuda")
    configured(tools, cuda, tmp_path / "work", "--option", "CUDA_FAST_MATH=OFF")


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("WITH_GDAL=ON", "WITH_GDAL was asked for, and CMake did not find what it needs"),
        ("WITH_GDALL=ON", "has no option WITH_GDALL"),
    ],
)
def test_what_cmake_did_not_do_is_named(tools: Tools, tmp_path: Path, option: str, complaint: str) -> None:
    """A library that is not there, and a slip of the pen, which CMake passes over in silence."""
    with pytest.raises(GpuhostError, match=complaint):
        configured(tools, tools.cuda, tmp_path / "work", "--option", option)
