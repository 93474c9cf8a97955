"""A few tiny packages and a lock of them, so that real pip can be tested without a network.

`gpuhost-one` and `gpuhost-two` are wheels; `gpuhost-built` is an sdist with a build backend of its own, which can be
held up: as long as the file named by GPUHOST_TEST_GATE is there, its build does not go on. pip itself is the wheel that
this Python brings along for its venv module.
"""

from __future__ import annotations

import ensurepip
import hashlib
import io
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Optional

GATE = "GPUHOST_TEST_GATE"
BACKEND = """
import os, time, zipfile
from pathlib import Path
NAME = "gpuhost_built-1.0-py3-none-any.whl"
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    gate = os.environ.get("GPUHOST_TEST_GATE")
    if gate and Path(gate).exists():
        Path(gate).with_name("at-the-gate").touch()
    while gate and Path(gate).exists():
        time.sleep(0.02)
    with zipfile.ZipFile(str(Path(wheel_directory) / NAME), "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name, text)
    return NAME
FILES = """


def wheel_files(name: str, version: str) -> Dict[str, str]:
    """What a wheel with one module holds."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    return {
        f"{module}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"{module}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }


def wheel(folder: Path, name: str, version: str) -> Path:
    """Write a wheel with one module."""
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(str(path), "w") as file:
        for inside, text in wheel_files(name, version).items():
            file.writestr(inside, text)
    return path


def sdist(folder: Path) -> Path:
    """Write the source distribution whose build can be held up."""
    path = folder / "gpuhost_built-1.0.tar.gz"
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    project += '[project]\nname = "gpuhost-built"\nversion = "1.0"\n'
    files = {
        "pyproject.toml": project,
        "backend.py": f"{BACKEND}{wheel_files('gpuhost-built', '1.0')!r}\n",
        "PKG-INFO": wheel_files("gpuhost-built", "1.0")["gpuhost_built-1.0.dist-info/METADATA"],
    }
    with tarfile.open(str(path), "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"gpuhost_built-1.0/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def bundled_pip() -> Optional[Path]:
    """The pip wheel that this Python's venv module installs; None where there is no such file."""
    debian = sysconfig.get_config_var("WHEEL_PKG_DIR") or "/usr/share/python-wheels"
    folders = [Path(ensurepip.__file__).parent / "_bundled", Path(debian)]
    found = [path for folder in folders for path in sorted(folder.glob("pip-*-py3-none-any.whl"))]
    return found[-1] if found else None


def row(path: Path) -> Dict[str, Any]:
    """The lock's row of a file."""
    name, version = path.name.replace(".tar.gz", "").split("-")[:2]
    return {
        "name": name.replace("_", "-"),
        "version": version,
        "file": path.name,
        "kind": "wheel" if path.suffix == ".whl" else "sdist",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size": path.stat().st_size,
    }


def lock_of(packages: List[Dict[str, Any]], digest: str = "0123456789ab") -> Dict[str, Any]:
    """An environment lock as the module takes it, with the fields that it reads."""
    return {"version": "1.0", "digest": digest, "packages": sorted(packages, key=lambda p: str(p["name"]))}
