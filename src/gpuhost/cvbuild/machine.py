"""What a build takes from its machine besides compiler and toolkit: Python with NumPy, build tools, processor."""

from __future__ import annotations

import platform
import re
import shutil
from pathlib import Path
from typing import NamedTuple, Optional

from .. import strict_json
from ..versions import release
from .commands import ask
from .failures import failure

#: Asked of the Python whose headers the module is built with.
QUESTION = """
import json, os, sys, sysconfig
import numpy
paths, values = sysconfig.get_paths(), sysconfig.get_config_vars()
library = os.path.join(values.get("LIBDIR") or "", values.get("LDLIBRARY") or "")
print(json.dumps({
    "executable": sys.executable, "version": "%d.%d.%d" % sys.version_info[:3], "tag": "cp%d%d" % sys.version_info[:2],
    "include": paths["include"], "library": library, "numpy": numpy.__version__, "numpy_include": numpy.get_include(),
}))
"""
#: The instructions each class of processor needs, as /proc/cpuinfo names them, best first.
CPUS = {"AVX2": ("avx2", "fma", "f16c", "popcnt"), "SSE4_2": ("sse4_2", "popcnt"), "SSE3": ("pni",)}


class Python(NamedTuple):
    """The Python of the build environment."""

    executable: str
    version: str
    tag: str
    include: str
    library: str
    numpy: str
    numpy_include: str


class Tools(NamedTuple):
    """CMake and ninja, of the build environment where it has them; ccache where the machine has it."""

    cmake: str
    cmake_version: str
    ninja: str
    ccache: Optional[str]


def python(executable: str) -> Python:
    """The Python to build with; it must have NumPy and C headers."""
    said = ask([executable, "-I", "-c", QUESTION])
    if not said.strip():
        raise failure(
            "B-tool-missing", f"{executable} has no NumPy, or does not work.", "Name a Python that has: --python FILE"
        )
    try:
        made = Python(**strict_json.loads(said.strip().splitlines()[-1]))
    except (ValueError, TypeError) as error:
        raise failure(
            "B-tool-missing", f"{executable} does not answer: {error}", "Name another: --python FILE"
        ) from None
    if not (Path(made.include) / "Python.h").exists():
        short = ".".join(made.version.split(".")[:2])
        raise failure(
            "B-tool-missing",
            f"The C headers of Python {short} are not there ({made.include}/Python.h).",
            f"Install them: apt-get install libpython{short}-dev",
        )
    # CMake only wants a file here: nothing is linked with it.
    library = made.library if Path(made.library).is_file() else str(Path(made.include) / "Python.h")
    return made._replace(library=library)


def tools(cmake_min: str, executable: str) -> Tools:
    """The build tools, those beside the Python first; too old a CMake is refused."""
    beside = Path(executable).parent
    found = {
        name: str(beside / name) if (beside / name).exists() else shutil.which(name) for name in ("cmake", "ninja")
    }
    absent = [name for name, path in found.items() if path is None]
    if absent:
        raise failure(
            "B-tool-missing",
            f"There is no {' and no '.join(absent)} on this machine.",
            f"They come from the package index: pip install {' '.join(absent)}",
        )
    match = re.search(r"version (\d+\.\d+\.\d+)", ask([str(found["cmake"]), "--version"]))
    version = match.group(1) if match else "0"
    if release(version) < release(cmake_min):
        raise failure(
            "D21-cmake-too-old",
            f"CMake is {version}, the sources need {cmake_min}.",
            "Take a newer one from the package index, in the build's environment: pip install cmake",
        )
    return Tools(str(found["cmake"]), version, str(found["ninja"]), shutil.which("ccache"))


def processor(cpuinfo: str) -> str:
    """The best class of CPUS that a CPU belongs to, from the text of /proc/cpuinfo."""
    match = re.search(r"^flags\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    flags = set(match.group(1).split()) if match else set()
    found = next((name for name, needs in CPUS.items() if flags.issuperset(needs)), None)
    if found is None:
        raise failure(
            "B-wrong-processor",
            "This processor is not of the architecture x86_64, or has no SSE3.",
            "Build on an x86_64 machine; of NVIDIA's Jetson and other ARM boards nothing is known here.",
        )
    return found


def runs_here(cpu: str, cpuinfo: str) -> bool:
    """Return whether this processor can run code of a class."""
    names = list(CPUS)
    return cpu not in CPUS or names.index(processor(cpuinfo)) <= names.index(cpu)


def glibc() -> str:
    """This machine's glibc."""
    return platform.libc_ver()[1] or "none"
