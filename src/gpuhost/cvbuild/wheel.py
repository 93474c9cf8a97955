"""The wheel: OpenCV's Python package, its build facts and its metadata, in a file that pip installs, lists and removes.

The same input gives the same bytes: order, times and permissions in the archive are fixed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from pathlib import Path
from typing import List, NamedTuple, Tuple

from .. import strict_json
from ..host import files
from ..types import Json
from .archs import Architectures, flat
from .failures import failure

NAME = "opencv-contrib-python"
MODULE = "opencv_contrib_python"
FACTS = "cv2/gpuhost_build.json"
EPOCH = (1980, 1, 1, 0, 0, 0)
#: OpenCV's loader in its two configuration files, for a package that lies in site-packages and nothing else.
CONFIG = """import os

BINARIES_PATHS = [] + BINARIES_PATHS
"""
CONFIG_3 = """PYTHON_EXTENSIONS_PATHS = [
    LOADER_DIR
] + PYTHON_EXTENSIONS_PATHS
"""


class Identity(NamedTuple):
    """What a wheel is called."""

    version: str  # '4.14.0.94+cuda130.sm90.1a2b3c4d'
    tag: str  # 'cp36-abi3-linux_x86_64'

    @property
    def file(self) -> str:
        """The wheel's file name."""
        return f"{MODULE}-{self.version}-{self.tag}.whl"

    @property
    def info(self) -> str:
        """The folder of its metadata."""
        return f"{MODULE}-{self.version}.dist-info"


def identity(
    package_version: str, cuda_series: str, archs: Architectures, key: str, extension: str, tag: str
) -> Identity:
    """The name of a wheel; `extension` is the module's file ('cv2.abi3.so'), `tag` the building Python's ('cp311')."""
    code = "".join(f".sm{flat(a)}" for a in archs.real) + "".join(f".ptx{flat(a)}" for a in archs.ptx)
    local = f"cuda{flat(cuda_series)}{code}.{key[:8]}"
    python = "cp36-abi3" if ".abi3." in extension else f"{tag}-{tag}"
    return Identity(f"{package_version}+{local}", f"{python}-linux_x86_64")


def extension_in(package: Path) -> Path:
    """The compiled module of an installed cv2 package."""
    found = sorted(package.glob("python-3*/cv2*.so")) + sorted(package.glob("cv2*.so"))
    if len(found) != 1:
        listed = ", ".join(p.name for p in found) or "none"
        raise failure("B-compile-failed", f"{package} should hold one module cv2, there is {listed}.", "Use --fresh.")
    return found[0]


def content(package: Path) -> List[Tuple[str, Path]]:
    """The package's files by their place in the wheel; the compiled module lies beside `__init__.py` there."""
    extension = extension_in(package)
    found = [(f"cv2/{extension.name}", extension)]
    for path in sorted(package.rglob("*")):
        relative = path.relative_to(package)
        # OpenCV's loader reads config*.py; ours replace those, which name folders of the build machine.
        skip = path == extension or relative.name.startswith("config") or "__pycache__" in relative.parts
        if path.is_file() and not skip and path.suffix in (".py", ".pyi", ".typed", ".xml"):
            found.append((f"cv2/{relative.as_posix()}", path))
    return found


def metadata(wheel: Identity, numpy: str, licence_files: List[str]) -> str:
    """METADATA. By NumPy's rule a module made with NumPy 2 works with 1.x too, one made with 1.x not with 2."""
    needs = "numpy<2" if numpy.startswith("1.") else "numpy>=1.23"
    licences = "".join(f"License-File: {name}\n" for name in licence_files)
    return (
        "Metadata-Version: 2.1\n"
        f"Name: {NAME}\nVersion: {wheel.version}\n"
        "Summary: OpenCV with CUDA, built by gpuhost for the cards of one kind of host\n"
        f"License: Apache 2.0\n{licences}"
        f"Requires-Python: >=3.6\nRequires-Dist: {needs}\n"
        "\nThe build's facts are in cv2/gpuhost_build.json.\n"
    )


def digest(data: bytes) -> str:
    """A hash as RECORD writes it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")


def make(package: Path, wheel: Identity, facts: Json, numpy: str, licences: List[Path], folder: Path) -> Path:
    """Write the wheel into a folder, at once under its name or not at all; its path."""
    parts: List[Tuple[str, bytes]] = [(name, path.read_bytes()) for name, path in content(package)]
    parts += [("cv2/config.py", CONFIG.encode()), ("cv2/config-3.py", CONFIG_3.encode())]
    parts.append((FACTS, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode()))
    kept = [path for path in licences if path.is_file()]
    parts += [(f"{wheel.info}/{path.name}", path.read_bytes()) for path in kept]
    parts.append((f"{wheel.info}/METADATA", metadata(wheel, numpy, [p.name for p in kept]).encode()))
    tag = wheel.tag
    lines = f"Wheel-Version: 1.0\nGenerator: gpuhost\nRoot-Is-Purelib: false\nTag: {tag}\n"
    parts += [(f"{wheel.info}/WHEEL", lines.encode()), (f"{wheel.info}/top_level.txt", b"cv2\n")]
    record = "".join(f"{name},{digest(data)},{len(data)}\n" for name, data in parts)
    parts.append((f"{wheel.info}/RECORD", f"{record}{wheel.info}/RECORD,,\n".encode()))
    path = folder / wheel.file
    with files.whole(path) as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in parts:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = (0o755 if name.endswith(".so") else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return path


def facts_of(path: Path) -> Json:
    """The build's facts in a wheel."""
    with zipfile.ZipFile(str(path)) as archive, archive.open(FACTS) as handle:
        found: Json = strict_json.loads(handle.read(strict_json.LIMIT + 1))
    return found
