"""What CMake decided: its log read line by line while it runs, and its summary checked against the plan."""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Sequence, Tuple

from ..errors import GpuhostError
from ..versions import release
from .archs import Architectures, flat
from .failures import failure

HEAD = re.compile(r"^--\s+General configuration for OpenCV (\S+)")
LINE = re.compile(r"^--\s{3,}([^:]+?):\s*(.*?)\s*$")
STEP = "The whole log is below the work folder; --fresh configures again."

#: Lines of the configure log that stop the build at once: pattern, id, what it means, what to do.
STOPS = (
    (
        re.compile(r"Going to build for all known architectures|CUDA: Autodetection arch list"),
        "D25-all-architectures",
        "OpenCV was about to build for every architecture it knows",
        "This is a fault of the script or of --option: leave CUDA_GENERATION alone and use --arch-bin.",
    ),
    (
        re.compile(r"CUDA backend for DNN module requires CC ([\d.]+) or higher"),
        "D19-below-opencv-floor",
        "OpenCV's DNN CUDA backend refuses the architecture",
        "Take a newer OpenCV (4.3.0 and later take 3.0), or another card.",
    ),
    (
        re.compile(r"nvcc fatal\s*:\s*Unsupported gpu architecture"),
        "D26-not-for-this-cuda",
        "this nvcc does not know the architecture",
        "Take another CUDA: gpuhost plan --gpu ... names one.",
    ),
    (
        re.compile(r"unsupported GNU version"),
        "D22-gcc-too-new",
        "nvcc refuses the host compiler",
        "Install an older g++; the script takes the newest that the toolkit accepts.",
    ),
)


class Decided(NamedTuple):
    """CMake's summary: each line's name and value, in order of appearance (a name can come twice)."""

    version: str
    lines: Dict[str, str]


def stop_at(line: str) -> None:
    """Raise when a line of the configure log must not be passed over."""
    for pattern, identity, meaning, step in STOPS:
        if pattern.search(line):
            raise failure(identity, f"CMake says: '{line.strip().lstrip('- ')}': {meaning}.", step)


def parse(log: Sequence[str]) -> Decided:
    """The summary at the end of a configure log; the last one, when CMake ran more than once into it."""
    version = ""
    lines: Dict[str, str] = {}
    for text in log:
        head = HEAD.match(text)
        if head:
            version, lines = head.group(1), {}
        match = LINE.match(text)
        if version and match:
            lines.setdefault(match.group(1).strip(), match.group(2))
    return Decided(version, lines)


class Expected(NamedTuple):
    """What the summary must say."""

    opencv: str
    archs: Architectures
    cuda_series: str
    cudnn: str
    python: str  # the interpreter's path
    numpy: str
    nonfree: bool
    fast_math: bool = True
    modules: Sequence[str] = ()  # of --modules


def check(decided: Decided, want: Expected) -> None:
    """Hold CMake's summary against the plan; the first difference is an error with its line and diagnosis."""
    found = [
        *check_cuda(decided.lines, want),
        *check_cudnn(decided.lines, want),
        *check_rest(decided, want),
    ]
    if found:
        raise found[0]


def wrong(identity: str, name: str, lines: Dict[str, str], wanted: str) -> GpuhostError:
    """A line of the summary that is not as it must be."""
    said = f"'{name}: {lines[name]}'" if name in lines else f"no line '{name}'"
    return failure(identity, f"CMake's summary has {said}; the plan wants {wanted}.", STEP)


def check_cuda(lines: Dict[str, str], want: Expected) -> List[GpuhostError]:
    """CUDA is on, of this version, with cuBLAS, with fast math as wanted, for exactly these architectures."""
    found = []
    cuda = lines.get("NVIDIA CUDA", "")
    if not cuda.startswith("YES"):
        found.append(wrong("D18-no-dnn-cuda", "NVIDIA CUDA", lines, "YES"))
    elif f"ver {want.cuda_series}" not in cuda:
        found.append(wrong("B-configured-otherwise", "NVIDIA CUDA", lines, f"version {want.cuda_series}"))
    elif "CUBLAS" not in cuda:
        found.append(wrong("D18-no-dnn-cuda", "NVIDIA CUDA", lines, "CUBLAS"))
    elif ("FAST_MATH" in cuda) != want.fast_math:
        wanted = "FAST_MATH" if want.fast_math else "no FAST_MATH"
        found.append(wrong("B-configured-otherwise", "NVIDIA CUDA", lines, wanted))
    for name, archs in (("NVIDIA GPU arch", want.archs.real), ("NVIDIA PTX archs", want.archs.ptx)):
        if lines.get(name, "").split() != [flat(a) for a in archs]:
            listed = " ".join(flat(a) for a in archs) or "none"
            found.append(wrong("B-wrong-architectures", name, lines, f"exactly {listed}"))
    return found


def check_cudnn(lines: Dict[str, str], want: Expected) -> List[GpuhostError]:
    """cuDNN is on and of this version (the summary gives three figures)."""
    said = lines.get("cuDNN", "")
    version = re.search(r"ver ([\d.]+)", said)
    if not said.startswith("YES") or not version or release(version.group(1))[:3] != release(want.cudnn)[:3]:
        return [wrong("D20-cudnn-not-used", "cuDNN", lines, f"YES, version {want.cudnn}")]
    return []


def check_rest(decided: Decided, want: Expected) -> List[GpuhostError]:
    """The OpenCV itself, the DNN module, our Python and NumPy, and non-free algorithms only when asked for."""
    lines, found = decided.lines, []
    if decided.version.split("-")[0] != want.opencv:
        said = decided.version or "no summary"
        found.append(failure("B-configured-otherwise", f"CMake says OpenCV {said}, the plan {want.opencv}.", STEP))
    built = lines.get("To be built", "").split()
    if "dnn" not in built:
        found.append(wrong("D18-no-dnn-cuda", "To be built", lines, "the module dnn"))
    absent = [name for name in want.modules if name not in built]
    if absent:
        listed = ", ".join(absent)
        found.append(wrong("B-configured-otherwise", "To be built", lines, f"{listed} too, as --modules asks"))
    if lines.get("Interpreter", "").split(" (")[0] != want.python:
        found.append(wrong("B-configured-otherwise", "Interpreter", lines, want.python))
    if f"(ver {want.numpy})" not in lines.get("numpy", ""):
        found.append(wrong("B-configured-otherwise", "numpy", lines, f"version {want.numpy}"))
    if lines.get("Non-free algorithms", "NO").startswith("YES") != want.nonfree:
        found.append(wrong("B-configured-otherwise", "Non-free algorithms", lines, "YES" if want.nonfree else "NO"))
    return found


NOT_FOUND = re.compile(r"^\s*CUDA_(\w+?)_(?:LIBRARY|INCLUDE_DIRS?)\b", re.MULTILINE)


def raise_not_found(log: str, toolkit: str) -> None:
    """Name the parts of a toolkit that CMake did not find, from its log."""
    _, found, listed = log.rpartition("set to NOTFOUND")
    parts = sorted(set(NOT_FOUND.findall(listed))) if found else []
    if parts:
        raise failure(
            "D21-toolkit-incomplete",
            f"CMake does not find {', '.join(parts)} in the CUDA toolkit {toolkit}.",
            "Install the toolkit whole, or name another: --cuda DIR",
        )


#: Switches whose result OpenCV keeps under another name (cmake/OpenCVFindLibsVideo.cmake, modules/videoio/cmake).
HAVE = {"V4L": ("V4L", "CAMV4L", "CAMV4L2"), "1394": ("DC1394_2", "DC1394")}


def check_asked(asked: Sequence[Tuple[str, str]], cache: str, variables: str) -> None:
    """Hold each --option against what CMake made of it.

    `cache` is the text of CMakeCache.txt: an option that no CMakeLists.txt declares stays without a type there, and
    one that OpenCV overrules has another value. `variables` is the text of CMakeVars.txt, OpenCV's own dump: WITH_X
    only looks for X, and HAVE_X says whether it was found.
    """
    kept = {name: (kind, value) for name, kind, value in re.findall(r"^([\w.-]+):(\w+)=(.*)$", cache, re.MULTILINE)}
    have = dict(re.findall(r'^(HAVE_\w+)="?(.*?)"?$', variables, re.MULTILINE))
    for name, value in asked:
        kind, is_now = kept.get(name, ("UNINITIALIZED", value))
        if kind == "UNINITIALIZED" and not name.startswith("CMAKE_"):
            step = "Check its spelling: OpenCV's documentation and its CMakeLists.txt list them."
            raise failure("B-usage", f"This OpenCV has no option {name}.", step)
        if is_true(is_now) != is_true(value) if kind == "BOOL" else is_now != value:
            raise failure("B-configured-otherwise", f"{name}={value} was asked for; CMake made it {is_now}.", STEP)
        if name.startswith("WITH_") and is_true(value):
            names = [f"HAVE_{one}" for one in HAVE.get(name[5:], (name[5:],))]
            if not any(is_true(have.get(one, "")) for one in names):
                raise failure(
                    "B-configured-otherwise",
                    f"{name} was asked for, and CMake did not find what it needs ({names[0]} is not set).",
                    "Install its development package, or leave the option out.",
                )


def is_true(value: str) -> bool:
    """Return whether CMake takes a value for true (cmake-commands(7), if)."""
    return value.upper() in ("ON", "YES", "TRUE", "Y") or (value.isdigit() and int(value) != 0)


def downloads(log: str) -> List[str]:
    """The addresses that OpenCV's configure step went to, from the text of its CMakeDownloadLog.txt."""
    return re.findall(r'#cmake_download "([^"]+)"', log)


def must_not_download(log: str) -> None:
    """Refuse a configure step that went to the network."""
    found = downloads(log)
    if found:
        raise failure(
            "D24-hidden-download",
            f"OpenCV's configure step tried to download {found[0]}" + (" and more." if found[1:] else "."),
            "Turn off the option that needs it (--why lists them), or leave --option and --modules out.",
        )
