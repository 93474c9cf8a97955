"""A real build: OpenCV with CUDA and cuDNN from the sdist and NVIDIA's wheels, without a card, installed and proved.

`bash .ci/run build` runs it on Debian 12, test_debian_13.py on Debian 13. It wants g++, ccache and the headers of the
release's own Python (libpython3.11-dev, libpython3.13-dev), and about 8 GB. What it downloads and compiles stays below
GPUHOST_BUILD_CACHE (~/.cache/gpuhost-build), so that only a first run is a long one.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import pytest

from gpuhost.cvbuild import unity
from gpuhost.cvbuild.sources import is_sealed
from gpuhost.cvbuild.wheel import facts_of
from gpuhost.host import venvs
from gpuhost.planning import contents, recipes
from gpuhost.planning import opencv as opencv_plan
from gpuhost.planning.catalog import shipped
from gpuhost.planning.environments import lock_digest

from .conftest import PLAN, PYTHON, Tools, say

pytestmark = pytest.mark.build
ROOT = Path(__file__).resolve().parents[2]
CARD = "7.5"
#: Which CUDA the build information names, and how many cards there are.
COUNT = """
import re, cv2
cuda = re.search(r"NVIDIA CUDA: *YES [(]ver ([0-9.]+)", cv2.getBuildInformation())[1]
print(cuda, cv2.cuda.getCudaEnabledDeviceCount())
"""


@pytest.fixture(scope="module")
def root(tools: Tools) -> Path:
    """The store that outlives a run."""
    return tools.root


@pytest.fixture(scope="module")
def command(tools: Tools) -> List[str]:
    """The script with its toolkit, cuDNN and build tools."""
    script = [sys.executable, str(ROOT / "build" / "opencv_cmake.py"), "--python", str(tools.python)]
    card = ["--opencv", "4.14.0", "--arch-bin", CARD, "--elsewhere", "--cpu", "AVX2"]
    return [*script, *card, "--root", str(tools.root), "--cuda", str(tools.cuda), "--cudnn", str(tools.cudnn)]


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
    [sdist] = recipes.sources_of(recipes.row_of(shipped(), "4.14"))
    assert is_sealed(root / "cache" / "opencv" / "sources" / sdist["sha256"][:12])


def test_each_cuda_file_is_compiled_once(root: Path, wheel: Path) -> None:
    """A few merged files hold all of the sources' CUDA files; only these are compile steps."""
    work = root / "cache" / "opencv"
    build = work / facts_of(wheel)["key"][:16] / "build"
    compiled = sorted(path.name for path in build.rglob("*.cu.o"))
    assert compiled == [f"cuda_compile_1_generated_gpuhost_cuda_{number}.cu.o" for number in (0, 0, 1)]
    merged = "".join(path.read_text() for path in build.rglob(f"{unity.MERGED}*.cu"))
    [sdist] = recipes.sources_of(recipes.row_of(shipped(), "4.14"))
    modules = next((work / "sources" / sdist["sha256"][:12]).glob("*/opencv/modules"))
    of_modules = [path for name in ("core", "dnn") for path in (modules / name / "src" / "cuda").glob("*.cu")]
    assert sorted(merged.splitlines()) == sorted(f'#include "{path}"' for path in of_modules)
    assert len(of_modules) == 27


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
    lock = opencv_plan.with_wheel(contents.run_environment(PLAN), described)
    lock["digest"] = lock_digest(lock)
    folder = venvs.install(root, "opencv_cuda", lock, PYTHON, say)
    done = subprocess.run([*command, "--prove", str(wheel), "--into", str(folder)], stderr=subprocess.PIPE, check=False)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert "the library holds code for exactly sm_75" in said
    assert "a small Darknet network runs on the CPU" in said
    assert "NOT PROVED: no card here" in said or "a network on CUDA (fp32)" in said
    ran = subprocess.run([str(folder / "bin" / "python"), "-c", COUNT], stdout=subprocess.PIPE, text=True, check=True)
    cuda, devices = ran.stdout.split()
    # -1 is OpenCV's word for a machine without a driver.
    assert cuda == "13.0" and int(devices) >= -1
    say(f"cv2 of {folder.name}: CUDA {cuda}, getCudaEnabledDeviceCount() = {devices}")


def test_what_only_a_card_can_prove_is_told(tmp_path: Path, tools: Tools, wheel: Path) -> None:
    """The one command for a machine with a card ends well there, and says what it could not do anywhere else."""
    [folder] = (tools.root / "store").glob(f"opencv_cuda-{wheel.name.split('-')[1]}-*")
    script, out = ROOT / "tools" / "prove_on_card.py", tmp_path / "card.json"
    small = ["--model", "yolov4-tiny", "--size", "128", "--count", "2", "--work", str(tmp_path), "-o", str(out)]
    command = [sys.executable, str(script), "--wheel", str(wheel), "--into", str(folder), *small]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 7:
        assert "nothing of what this is for was proved" in done.stderr and not out.exists()
        tool = runpy.run_path(str(script))
        given = argparse.Namespace(model=["yolov4-tiny"], size=128, count=2, work=tmp_path)
        report = tool["bench"](folder / "bin" / "python", given, "cpu")
        assert "| yolov4-tiny | cpu | passed" in "".join(tool["rows"]({"cpu": report}))
    else:
        assert done.returncode == 0, done.stderr
        assert "| yolov4-tiny | cuda | passed" in done.stdout


#: Runs in the environment of the wheel: writes a video, reads it again, and runs a network that the package onnx wrote.
VIDEO_AND_ONNX = """
import pathlib, sys
import cv2, numpy
from onnx import TensorProto, helper
work = pathlib.Path(sys.argv[1])
frames = [numpy.full((64, 96, 3), 20 * number, numpy.uint8) for number in range(10)]
out = cv2.VideoWriter(str(work / "v.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), 5.0, (96, 64))
for frame in frames:
    out.write(frame)
out.release()
video, means = cv2.VideoCapture(str(work / "v.mp4"), cv2.CAP_FFMPEG), []
while True:
    there, frame = video.read()
    if not there:
        break
    means.append(frame.mean())
assert len(means) == 10 and all(abs(m - 20 * n) < 4 for n, m in enumerate(means)), means
kernel = helper.make_tensor("w", TensorProto.FLOAT, [4, 3, 3, 3], numpy.full(108, 0.5, numpy.float32))
shape = lambda name, dims: helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
convolution = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
graph = helper.make_graph([convolution], "g", [shape("x", [1, 3, 8, 8])], [shape("y", [1, 4, 8, 8])], [kernel])
(work / "n.onnx").write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString())
net = cv2.dnn.readNetFromONNX(str(work / "n.onnx"))
net.setInput(numpy.ones((1, 3, 8, 8), numpy.float32))
print("frames", len(means), "middle", float(net.forward()[0, 0, 4, 4]))
"""


@pytest.mark.full
def test_the_profile_video(command: List[str], root: Path, tmp_path: Path) -> None:
    """Built with FFmpeg, V4L and protobuf; without a card it reads a video and an ONNX network, and the detector finds
    with it what prove_on_card.py asks of a card.
    """
    done = subprocess.run([*command, "--profile", "video"], stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0
    facts = facts_of(Path(done.stdout.decode().strip()))
    assert "videoio" in facts["modules"] and any(name.startswith("libavcodec.so") for name in facts["needed"])
    subprocess.run([PYTHON, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-q", f"numpy=={facts['numpy']}", "onnx", done.stdout.decode().strip()]
    subprocess.run(pip, check=True)
    ran = subprocess.run([python, "-c", VIDEO_AND_ONNX, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "frames 10 middle 13.5\n"
    tool = runpy.run_path(str(ROOT / "tools" / "prove_on_card.py"))
    found = tool["detected"](Path(python), tmp_path / "work", (), time.monotonic() + 600, {"cpu": tool["SINGLE"]})
    assert [row for row in found if not row[2].startswith("passed")] == []
    assert {"face", "video", "ONNX: v5", "ONNX: v8", "ONNX: end2end"} <= {row[0] for row in found}
