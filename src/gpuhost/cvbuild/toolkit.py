"""Reading a CUDA prefix and a cuDNN prefix: what is there, of which version, and what is missing for OpenCV."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..versions import release, within
from .archs import listed_by_nvcc
from .commands import ask
from .failures import failure

#: Where a prefix keeps headers and libraries: NVIDIA's installer and wheels, its .deb packages and conda's, Debian's.
INCLUDES = ("include", "targets/x86_64-linux/include", "include/x86_64-linux-gnu")
LIBRARIES = ("lib64", "lib", "targets/x86_64-linux/lib", "lib/x86_64-linux-gnu")
#: NPP's libraries that OpenCV's CMake asks for, whatever modules are built (cmake/OpenCVDetectCUDAUtils.cmake).
NPP = ("nppc", "nppial", "nppicc", "nppidei", "nppif", "nppig", "nppim", "nppist", "nppitc")
#: Files without which a build or a run fails, by what they are part of: the folders where each may lie, and its names.
NEEDED = (
    ("the compiler (nvcc)", ("bin",), ("nvcc",)),
    ("the compiler's back end (nvvm)", ("nvvm/bin", "lib/nvidia-cuda-toolkit/bin"), ("cicc",)),
    ("the runtime's headers", INCLUDES, ("cuda_runtime.h",)),
    ("the static runtime", LIBRARIES, ("libcudart_static.a",)),
    ("cuBLAS's header", INCLUDES, ("cublas_v2.h",)),
    ("cuBLAS", LIBRARIES, ("libcublas.so",)),
    ("NPP's header", INCLUDES, ("npp.h",)),
    ("NPP", LIBRARIES, tuple(f"lib{name}.so" for name in NPP)),
)
FULL = (
    ("cuFFT's header", INCLUDES, ("cufft.h",)),
    ("cuFFT", LIBRARIES, ("libcufft.so",)),
)


class Toolkit(NamedTuple):
    """A CUDA toolkit: `builds` is what its nvcc makes code for, asked of nvcc itself."""

    root: Path
    version: str  # '13.0.88', nvcc's own
    builds: List[str]
    said: str  # the line with nvcc's build, part of the cache key
    include: Optional[Path] = None  # the folder of its headers, where CMake does not look by itself
    library: Optional[Path] = None  # the folder of its libraries, likewise

    @property
    def series(self) -> str:
        """'13.0'."""
        return ".".join(self.version.split(".")[:2])


class Cudnn(NamedTuple):
    """A cuDNN: `version` as its header says."""

    include: Path
    library: Path
    version: str


def newer_than_headers(glibc: str, clash_from: Optional[str]) -> bool:
    """Return whether a glibc is one that a toolkit's headers clash with: both declare cospi, rsqrt and their like, with
    other exception specifications. That is not an error in system headers.
    """
    return clash_from is not None and release(glibc) >= release(clash_from)


def parse_nvcc_version(said: str) -> str:
    """'13.0.88' from `nvcc --version`; '' when it is not an answer of nvcc."""
    match = re.search(r"\bV(\d+\.\d+\.\d+)", said) or re.search(r"release (\d+\.\d+)", said)
    return match.group(1) if match else ""


def read_toolkit(root: Path, full: bool = False) -> Toolkit:
    """The toolkit below a folder; one that lacks a part OpenCV needs (`full`: every module) is named with that part."""
    absent = [
        what
        for what, folders, names in (*NEEDED, *(FULL if full else ()))
        if any(first(root, [f"{folder}/{name}" for folder in folders]) is None for name in names)
    ]
    if absent:
        raise failure(
            "D21-toolkit-incomplete",
            f"The CUDA toolkit {root} lacks {', '.join(absent)}.",
            "NVIDIA's wheels hold nvcc only from CUDA 13 on, its installer always: ./run ansible-playbook "
            f"playbooks/cuda.yml -e cuda_source=runfile ; or name another toolkit: --cuda {other_than(root)}",
        )
    nvcc = str(root / "bin" / "nvcc")
    said = ask([nvcc, "--version"])
    found = parse_nvcc_version(said)
    # --list-gpu-code came with CUDA 11; an older nvcc names its codes in its help.
    builds = listed_by_nvcc(ask([nvcc, "--list-gpu-code"])) or listed_by_nvcc(ask([nvcc, "--help"]))
    if not found or not builds:
        raise failure(
            "D21-toolkit-incomplete", f"{nvcc} does not answer as nvcc does.", "Install the toolkit again: --tags cuda"
        )
    include = first(root, [f"{folder}/cuda_runtime.h" for folder in INCLUDES])
    library = first(root, [f"{folder}/libcublas.so" for folder in LIBRARIES])
    return Toolkit(
        root,
        found,
        builds,
        said.strip().splitlines()[-1],
        unusual(root, include, INCLUDES[:1]),
        unusual(root, library, LIBRARIES[:2]),
    )


def other_than(root: Path) -> str:
    """The prefix of the nvcc on PATH as a word for --cuda, where it is another toolkit's; else `DIR`."""
    there = shutil.which("nvcc")
    prefix = Path(there).parent.parent if there else root
    return "DIR" if prefix == root else f"{prefix} (its nvcc is on PATH)"


def unusual(root: Path, file: Optional[Path], usual: Sequence[str]) -> Optional[Path]:
    """The folder of a file, unless it is one where FindCUDA looks by itself."""
    return None if file is None or file.parent in [root / name for name in usual] else file.parent


def parse_cudnn_header(text: str) -> Optional[str]:
    """'9.13.1' from cudnn_version.h (cuDNN 8 and later) or cudnn.h (before); None when the text defines no version."""
    found: Dict[str, str] = dict(re.findall(r"#define\s+CUDNN_(MAJOR|MINOR|PATCHLEVEL)\s+(\d+)", text))
    names = ("MAJOR", "MINOR", "PATCHLEVEL")
    return ".".join(found[n] for n in names) if all(n in found for n in names) else None


def first(root: Path, names: List[str]) -> Optional[Path]:
    """The first of some files that is below a folder."""
    return next((root / n for n in names if (root / n).exists()), None)


def read_cudnn(root: Path) -> Cudnn:
    """The cuDNN below a folder; headers and library must both be there and of one major version."""
    header = first(root, [f"{p}/{name}" for p in INCLUDES for name in ("cudnn_version.h", "cudnn.h")])
    library = first(root, [f"{d}/libcudnn.so" for d in LIBRARIES])
    # What links libcudnn.so.9 by its full name only was never meant for building.
    parts = [p for d in LIBRARIES for p in sorted((root / d).glob("libcudnn.so.*"))]
    install = "Install it with ./run ansible-playbook playbooks/cudnn.yml, or name another: --cudnn DIR"
    if header is None and library is None and not parts:
        raise failure("D20-cudnn-missing", f"There is no cuDNN in {root}.", install)
    if library is None:
        what = "its library has no name that a linker finds (libcudnn.so)" if parts else "no libcudnn.so"
        raise failure("D20-cudnn-headers-only", f"{root} has cuDNN's headers, but {what}.", install)
    if header is None:
        raise failure("D20-cudnn-library-only", f"{root} has libcudnn.so, but no cudnn_version.h or cudnn.h.", install)
    found = parse_cudnn_header(header.read_text(encoding="utf-8", errors="replace"))
    if found is None and (header.parent / "cudnn.h").exists():
        found = parse_cudnn_header((header.parent / "cudnn.h").read_text(encoding="utf-8", errors="replace"))
    if found is None:
        raise failure("D20-cudnn-library-only", f"{header} says no version of cuDNN.", install)
    has = library_version(library)
    if not same_version(found, has):
        raise failure(
            "D20-cudnn-mixed",
            f"cuDNN's headers in {root} are {found}, its library is of version {has}.",
            "Remove the one that is left over, and install cuDNN again.",
        )
    return Cudnn(header.parent, library, found)


#: Asked of a Python of its own, because a library that is loaded runs code.
ASK_LIBRARY = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).cudnnGetVersion() % 2**64)"


def library_version(library: Path) -> str:
    """What is known of a cuDNN library's version: '9.1.0' of its file's name or as it says itself, '9' of a name with
    the major alone that cannot be loaded, '' of one without.
    """
    named = re.search(r"libcudnn\.so\.([0-9.]+)", library.resolve().name)
    name = named.group(1).strip(".") if named else ""
    if name.count(".") >= 2:
        return name
    said = ask([sys.executable, "-I", "-c", ASK_LIBRARY, str(library)]).strip()
    return spelt(int(said)) if re.fullmatch(r"[0-9]{4,6}", said) else name


def spelt(number: int) -> str:
    """'9.13.1' of CUDNN_VERSION 91301, '8.9.7' of 8907: the factor of the major was 1000 before cuDNN 9 (cudnn.h)."""
    major, rest = divmod(number, 10000 if number >= 90000 else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def same_version(header: str, library: str) -> bool:
    """Return whether a library is of its header's version, as far as both say it."""
    return all(a == b for a, b in zip(release(header), release(library)))


def check_bounds(what: str, found: str, bounds: Mapping[str, Any], identity: str, opencv: str) -> None:
    """Refuse a version outside what an OpenCV release was seen to build with."""
    if within(found, bounds):
        return
    raise failure(
        identity,
        f"{opencv} builds with {what} {bounds['min']} to {bounds['max']}; this is {found}.",
        f"Take the {what} of the plan (gpuhost plan says which), or another OpenCV.",
    )


def check_toolkit(
    toolkit: Toolkit, cudnn: Cudnn, cuda_bounds: Mapping[str, Any], dnn: Mapping[str, Any], opencv: str
) -> None:
    """Refuse a toolkit or a cuDNN that this OpenCV was not made for."""
    series = ".".join(str(n) for n in release(toolkit.version)[:2])
    check_bounds("CUDA", series, cuda_bounds, "B-opencv-without-cuda", f"OpenCV {opencv}")
    check_bounds("cuDNN", cudnn.version, dnn, "D20-cudnn-major", f"OpenCV {opencv} with CUDA {series}")
