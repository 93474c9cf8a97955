"""A whole CUDA 11.8 without NVIDIA's servers: its wheels, and the compiler that they lack from Debian 12's packages.

Debian's non-free archive has nvcc 11.8.89 and the static runtime, of the same release as the wheels. apt fetches and
checks both packages with lists of its own; the machine's sources and packages stay as they are. For tests only: a host
gets NVIDIA's installer.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import List, Sequence

#: The compiler, and the static runtime; 0.86 GB together.
PACKAGES = ("nvidia-cuda-toolkit", "nvidia-cuda-dev")
PROGRAMS = ("cudafe++", "fatbinary", "nvlink", "bin2c", "ptxas", "cuobjdump")
STATIC = ("libcudart_static.a", "libcudadevrt.a", "libculibos.a")
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: Where nvcc finds its parts, from its own folder; the format is the one of the file that comes with every toolkit.
PROFILE = """TOP = $(_HERE_)/..
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH += $(TOP)/nvvm/bin:$(_HERE_):
INCLUDES += "-I$(TOP)/include" $(_SPACE_)
LIBRARIES =+ $(_SPACE_) "-L$(TOP)/lib64"
"""


def run(argv: Sequence[str], folder: Path) -> None:
    """A command that must end well."""
    subprocess.run(list(argv), cwd=str(folder), stdout=subprocess.DEVNULL, check=True)


def source(codename: str = "bookworm") -> str:
    """The machine's own source of Debian, for a release, with the component non-free alone."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(LABEL)"]
    said = subprocess.run([*asked, "Created-By: Packages"], stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in said.splitlines():
        address, own, label = line.split()
        if (own, label) == ("bookworm", "Debian"):
            return f"deb [signed-by={KEYS}] {address} {codename} non-free\n"
    raise RuntimeError("This is no Debian 12, or its lists were never fetched: apt-get update")


def fetch(folder: Path, packages: Sequence[str] = PACKAGES, codename: str = "bookworm") -> List[Path]:
    """Some packages of a release, by apt, in a folder."""
    for needed in ("lists/partial", "cache/archives/partial"):
        (folder / needed).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(source(codename), encoding="utf-8")
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items())]
    run([*apt, "update"], folder)
    run([*apt, "download", *packages], folder)
    return [next(folder.glob(f"{name}_*.deb")) for name in packages]


def add_compiler(usr: Path, made: Path) -> None:
    """Lay the files of the package nvidia-cuda-toolkit into a prefix as NVIDIA lays them."""
    private = usr / "lib" / "nvidia-cuda-toolkit" / "bin"
    for folder in ("bin", "nvvm/bin"):
        (made / folder).mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        shutil.copy2(str(usr / "bin" / name), str(made / "bin" / name))
    shutil.copy2(str(private / "nvcc"), str(made / "bin" / "nvcc"))
    shutil.copytree(str(private / "crt"), str(made / "bin" / "crt"))
    shutil.copy2(str(private / "cicc"), str(made / "nvvm" / "bin" / "cicc"))
    (made / "bin" / "nvcc.profile").write_text(PROFILE, encoding="utf-8")


def assemble(wheels: Path, folder: Path) -> Path:
    """Copy a toolkit of wheels and complete it; the finished one. One that is there is taken as it is."""
    whole = folder / "cuda-11.8"
    if whole.exists():
        return whole
    folder.mkdir(parents=True, exist_ok=True)
    unpacked, made = folder / "unpacked", folder / "cuda-11.8.new"
    for stale in (unpacked, made):
        shutil.rmtree(str(stale), ignore_errors=True)
    for package in fetch(folder):
        run(["dpkg-deb", "-x", str(package), str(unpacked)], folder)
        package.unlink()
    shutil.copytree(str(wheels), str(made), symlinks=True)
    add_compiler(unpacked / "usr", made)
    for name in STATIC:
        shutil.copy2(str(unpacked / "usr" / "lib" / "x86_64-linux-gnu" / name), str(made / "lib" / name))
    shutil.rmtree(str(unpacked))
    made.rename(whole)
    return whole
