"""Measure OpenCV's build: the reference build against ours, on this machine, one toolkit and version.

python tools/measure_opencv_build.py --cuda DIR --cudnn DIR --python FILE --work DIR -o FILE.json

(a) the reference build's flags and (b) the profile `full` are sampled: CMake is run, and of each kind of compile step
(C, C++, CUDA) some, evenly spaced over the list, are timed alone; the sum is scaled by their number. (c) `dnn` cold,
(d) `dnn` for another card with what (c) left in ccache, and (e) the same key again are run to the end. CPU-seconds
count every process that a case has started.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from gpuhost.cli.opencv import Catalog
from gpuhost.cvbuild import cli, make, plan

Json = Dict[str, Any]
SCRIPT = Path(__file__).resolve().parents[1] / "build" / "opencv_cmake.py"
CARDS = ("7.5", "8.6")
KINDS = (("cuda", ".cu.o"), ("c++", ".cpp.o"), ("c++", ".cxx.o"), ("c++", ".cc.o"), ("c", ".c.o"))
#: The reference build's options (as tutorials of its time have them), with one architecture that this toolkit builds.
REFERENCE = [
    "-DCMAKE_BUILD_TYPE=RELEASE",
    "-DINSTALL_PYTHON_EXAMPLES=ON",
    "-DINSTALL_C_EXAMPLES=OFF",
    "-DOPENCV_ENABLE_NONFREE=ON",
    "-DWITH_CUDA=ON",
    "-DWITH_CUDNN=ON",
    "-DOPENCV_DNN_CUDA=ON",
    "-DENABLE_FAST_MATH=1",
    "-DCUDA_FAST_MATH=1",
    "-DWITH_CUBLAS=1",
    "-DHAVE_opencv_python3=ON",
    "-DBUILD_EXAMPLES=ON",
]
#: Taken out of the reference build here, because they would be downloaded: this machine has no way to their server.
NO_DOWNLOADS = [
    "-DWITH_IPP=OFF",
    "-DBUILD_opencv_gapi=OFF",
    "-DBUILD_opencv_face=OFF",
    "-DBUILD_opencv_xfeatures2d=OFF",
]
NO_DOWNLOADS += ["-DBUILD_opencv_wechat_qrcode=OFF", "-DBUILD_opencv_cudaoptflow=OFF"]
#: Needs the driver's libcuda, which a machine without a card lacks, and NVIDIA's wheels have no stub of it.
NO_DOWNLOADS += ["-DBUILD_opencv_cudacodec=OFF"]


def run(argv: Sequence[str], env: Dict[str, str], quiet: bool = True) -> Json:
    """Wall, CPU-seconds and the largest process of a command with all its children."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    sink = subprocess.DEVNULL if quiet else None
    done = subprocess.run(list(argv), stdout=sink, stderr=sink, env=env, check=False)  # noqa: S603 - made here
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    wall = time.monotonic() - began
    return {"rc": done.returncode, "wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "peak_mb": after.ru_maxrss // 1024}


def steps_of(build: Path, ninja: str) -> List[Tuple[str, str]]:
    """Every compile step of a build folder: its kind and its command line."""
    command = [ninja, "-C", str(build), "-t", "commands"]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603 - the ninja of this very build
    found = []
    for line in said.stdout.decode().splitlines():
        for kind, ending in KINDS:
            # A CUDA step is a call of CMake with a script; the others name their object after -o.
            called = kind == "cuda" and f"{ending}.release.cmake" in line.lower()
            if called or (f"{ending} -c " in line and "-o " in line):
                found.append((kind, line))
                break
    return found


def spaced(rows: List[str], wanted: int) -> List[str]:
    """Some rows, evenly spaced over the list."""
    if len(rows) <= wanted:
        return rows
    return [rows[int((i + 0.5) * len(rows) / wanted)] for i in range(wanted)]


def sampled(build: Path, ninja: str, env: Dict[str, str], sizes: Dict[str, int]) -> Json:
    """Time a sample of each kind of step, and scale."""
    all_steps = steps_of(build, ninja)
    result: Json = {"steps": len(all_steps), "kinds": {}, "cpu_s": 0.0}
    for kind in ("c", "c++", "cuda"):
        lines = [line for k, line in all_steps if k == kind]
        times, failed = [], 0
        for line in spaced(lines, sizes[kind]):
            timed = run(["/bin/sh", "-c", f"cd {shlex.quote(str(build))} && {line}"], env)
            failed += timed["rc"] != 0
            if timed["rc"] == 0:
                times.append(timed["cpu_s"])
        mean = sum(times) / len(times) if times else 0.0
        row = {"steps": len(lines), "timed": len(times), "failed": failed, "mean_cpu_s": round(mean, 2)}
        result["kinds"][kind] = row
        result["cpu_s"] += mean * len(lines)
    result["cpu_s"] = round(result["cpu_s"], 0)
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    return result


def used() -> float:
    """The CPU seconds of all children so far."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def generated(build: Path, ninja: str, env: Dict[str, str]) -> None:
    """Make the generated files that compile steps include."""
    command = [ninja, "-C", str(build), "-t", "targets", "all"]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603 - the ninja of this very build
    names = [line.split(":")[0] for line in said.stdout.decode().splitlines()]
    wanted = [n for n in names if "opencl_kernels" in n and n.endswith(".cpp")]
    wanted += [n for n in names if n.endswith(".simd_declarations.hpp") or "gen_opencv" in n]
    for name in wanted[:200]:
        # The step alone: asked for the file, ninja would also build every library that its module depends on.
        asked = [ninja, "-C", str(build), "-t", "commands", "-s", name]
        said = subprocess.run(asked, stdout=subprocess.PIPE, check=True)  # noqa: S603 - the same ninja
        run(["/bin/sh", "-c", f"cd {shlex.quote(str(build))} && {said.stdout.decode().strip() or 'true'}"], env)


def reference(made: plan.Plan, where: make.Places, build: Path) -> List[str]:
    """CMake's command line with the reference build's options."""
    sources = plan.places_in(where.work, made.recipe)
    if sources is None:
        raise SystemExit("Run case c first: it unpacks the sources.")
    places = [f"-DOPENCV_EXTRA_MODULES_PATH={sources[1]}", f"-DCUDA_ARCH_BIN={CARDS[0]}"]
    places += [f"-DCUDA_TOOLKIT_ROOT_DIR={made.toolkit.root}", f"-DCUDNN_INCLUDE_DIR={made.cudnn.include}"]
    places += [f"-DCUDNN_LIBRARY={made.cudnn.library}", f"-DPYTHON_EXECUTABLE={made.python.executable}"]
    tools = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={made.tools.ninja}", "-DENABLE_CCACHE=OFF"]
    return [made.tools.cmake, *tools, "-S", str(sources[0]), "-B", str(build), *REFERENCE, *NO_DOWNLOADS, *places]


def main() -> int:
    """Measure the cases asked for, and write them as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    for name in ("cuda", "cudnn", "python", "work"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--cases", default="cdeab", help="which, in this order (a and b need the sources c unpacks)")
    parser.add_argument("--sources", action="append", default=[], help="the sdist, instead of a download")
    parser.add_argument("--sample", type=int, nargs=3, default=(20, 60, 12), metavar="N", help="C, C++ and CUDA steps")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    root = Path(given.work).absolute()
    common = ["--cuda", given.cuda, "--cudnn", given.cudnn, "--python", given.python, "--root", str(root)]
    common += ["--opencv", "4.14.0", "--elsewhere", *(f"--sources={s}" for s in given.sources)]
    env = {k: v for k, v in os.environ.items() if k not in ("CCACHE_DIR", "CUDA_NVCC_EXECUTABLE")}
    script = [sys.executable, str(SCRIPT), *common]
    result: Json = json.loads(given.output.read_text()) if given.output.exists() else {}
    sizes = dict(zip(("c", "c++", "cuda"), given.sample))
    for case in given.cases:
        if case == "c":
            shutil.rmtree(str(root / "cache"), ignore_errors=True)
        if case in "cde":
            card = CARDS[1] if case == "d" else CARDS[0]
            result[case] = run([*script, "--arch-bin", card], env, quiet=False)
        else:
            profile = ["--profile", "full"] if case == "b" else []
            arguments = cli.parser().parse_args(
                [*common, "--arch-bin", CARDS[0], *profile], argparse.Namespace(known=Catalog())
            )
            made, where, _ = cli.planned(arguments)
            build = root / "case-a" if case == "a" else plan.build_folder(where.work, made.key)
            timed = {**env, **(make.environment(made, where) if case == "b" else {}), "CCACHE_DISABLE": "1"}
            if case == "a":
                shutil.rmtree(str(build), ignore_errors=True)
                configured = run(reference(made, where, build), timed)
            else:
                make.take_sources(made, where, [Path(s) for s in given.sources], False)
                before = used()
                make.configure(made, where)
                configured = {"rc": 0, "cpu_s": round(used() - before, 1)}
            if configured["rc"] != 0:
                raise SystemExit(f"{case}: CMake ended with exit code {configured['rc']}; its words are above")
            generated(build, made.tools.ninja, timed)
            result[case] = sampled(build, made.tools.ninja, timed, sizes)
            result[case]["configure"] = configured
            result[case]["cpu_s"] += configured["cpu_s"]
        print(case, json.dumps(result[case]))
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
