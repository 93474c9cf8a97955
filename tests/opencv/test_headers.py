"""NVIDIA's headers against a newer glibc, for real: what the builder's nvcc does about it.

`./run pytest -m "build and full" tests/opencv/test_headers.py`: minutes, 0.3 GB. Each compiler runs in a root of its
release of Debian: nvcc 12.4 is Debian 13's own, its files laid out as NVIDIA lays them, with the headers of NVIDIA's
wheels of that release; nvcc 13.0 is NVIDIA's wheels. Nothing is run on a card.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence

import pytest

from gpuhost.cvbuild import make, toolkit
from gpuhost.cvbuild.archs import Architectures
from gpuhost.cvbuild.compilers import Compiler
from gpuhost.cvbuild.machine import Python, Tools
from gpuhost.cvbuild.plan import Plan, Wishes
from gpuhost.planning import recipes
from gpuhost.planning.catalog import shipped
from gpuhost.planning.toolkits import load_wheels

from ..e2e.beds.base import BaseRoot, Copy, remove_work
from ..e2e.beds.commands import host
from .debian_nvcc import add_compiler, fetch

pytestmark = [pytest.mark.build, pytest.mark.full]
TEXT = "#include <cmath>\n__global__ void root(double *x) { *x = sqrt(*x); }\n"
CLASH = "exception specification is incompatible"
#: NVIDIA's headers of the release that Debian 13's nvcc is of, from the package index.
HEADERS_12_4 = {
    "nvidia-cuda-nvcc-cu12==12.4.131": "e4c9a35435c3b0e36c6397c5696334c9ea6650e524736cbd1c5d345ea099bb04",
    "nvidia-cuda-runtime-cu12==12.4.127": "64403288fa2136ee8e467cdc9c9427e0434110899d07c779f25b5c068934faa5",
}
#: What a compiler needs of the lock of NVIDIA's wheels.
PARTS = ("nvidia-cuda-crt", "nvidia-cuda-nvcc", "nvidia-cuda-runtime", "nvidia-nvvm")


class Unpacked(BaseRoot):
    """A root with a compiler and nothing configured: quick to make, and enough to compile in."""

    def __init__(self, gxx: str, codename: str) -> None:
        """Name it apart from the roots that boot."""
        super().__init__(("coreutils", "dash", gxx), codename)
        self.key += "-unpacked"
        self.path = self.path.with_name(self.key)

    def _make(self, root: Path) -> None:
        """Unpack the packages."""
        sources = root.with_name("debian.sources")
        sources.write_text(self.sources)
        argv = ["mmdebstrap", "--mode=root", "--variant=extract", "--include=" + ",".join(self.packages)]
        argv += [f"--aptopt={line}" for line in self.apt_settings]
        host([*argv, self.codename, str(root), str(sources)], timeout=1800)
        # What base-files would leave.
        for name in ("bin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")


class Machine(NamedTuple):
    """A root of a release of Debian with a CUDA toolkit in /opt/cuda."""

    root: Path
    cuda: str
    gxx: str

    @property
    def glibc(self) -> str:
        """Its glibc, as that says itself."""
        said = host(["chroot", str(self.root), "/usr/lib/x86_64-linux-gnu/libc.so.6"]).stdout.decode()
        found = re.search(r"release version ([0-9.]+)\.", said)
        assert found, said
        return found.group(1)

    def builder_s_nvcc(self) -> str:
        """Write the nvcc that a build of OpenCV calls; its path in the root."""
        recipe = recipes.make(shipped(), "4.14", self.cuda, "debian-13", ["7.5"])
        plan = Plan(
            recipe,
            Wishes(),
            Architectures(["7.5"], []),
            toolkit.Toolkit(Path("/opt/cuda"), self.cuda, ["7.5"], ""),
            toolkit.Cudnn(Path("/opt"), Path("/opt/x"), "9"),
            Compiler(self.gxx, "gcc", 0, ""),
            Python("", "", "", "", "", "", ""),
            Tools("cmake", "3.31", "ninja", None),
            {},
            "0" * 32,
            self.glibc,
        )
        places = make.Places(self.root / "work", self.root, self.root, self.root)
        make.write_wrapper(plan, places)
        return "/" + str(make.wrapper(plan, places).relative_to(self.root))

    def compile(self, nvcc: str, standard: str) -> subprocess.CompletedProcess[bytes]:
        """Compile the text."""
        (self.root / "text.cu").write_text(TEXT)
        words = [nvcc, "-c", "/text.cu", "-o", "/text.o", "-ccbin", self.gxx, "-arch=sm_75", f"-std={standard}"]
        return host(["chroot", str(self.root), "env", "-i", "PATH=/usr/bin:/bin", *words], check=False, timeout=600)


def wheels(pins: Dict[str, str], folder: Path) -> Iterator[Path]:
    """Fetch wheels by checksum, unpack them, and give the folder of each part of NVIDIA's."""
    folder.mkdir(parents=True)
    listed = folder / "listed.txt"
    listed.write_text("".join(f"{pin} --hash=sha256:{digest}\n" for pin, digest in pins.items()))
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--require-hashes", "-r", str(listed), "-d", str(folder)], check=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(str(wheel)) as archive:
            archive.extractall(str(folder / "unpacked"))
    yield from (path for path in sorted((folder / "unpacked" / "nvidia").iterdir()) if path.is_dir())


def lay_out(parts: Sequence[Path], prefix: Path) -> None:
    """Put the parts of wheels into one prefix."""
    for part in parts:
        host(["cp", "--archive", f"{part}/.", str(prefix)])
    programs: List[Path] = [path for path in prefix.glob("**/bin/*") if path.is_file()]
    for path in programs:
        path.chmod(0o755)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dict[str, Machine]]:
    """Debian 13 with its own nvcc 12.4 and with NVIDIA's 13.0, Debian testing with 13.0."""
    work = tmp_path_factory.mktemp("roots")
    found: Dict[str, Machine] = {}
    locked = {row["name"]: row for row in load_wheels("cuda-13.0.2")["packages"]}
    pins = {f"{name}=={locked[name]['version']}": locked[name]["sha256"] for name in PARTS}
    wheels_13 = list(wheels(pins, work / "wheels-13.0"))
    wheels_12 = list(wheels(HEADERS_12_4, work / "wheels-12.4"))
    (package,) = fetch(work / "debian", ["nvidia-cuda-toolkit"], "trixie")
    host(["dpkg-deb", "-x", str(package), str(work / "debian" / "unpacked")], timeout=1800)
    with contextlib.ExitStack() as stack:
        for name, codename, cuda, gxx in (
            ("debian-13, 12.4", "trixie", "12.4", "g++-13"),
            ("debian-13, 13.0", "trixie", "13.0", "g++-13"),
            ("testing, 13.0", "forky", "13.0", "g++-14"),
        ):
            base = stack.enter_context(Unpacked(gxx, codename).lease())
            (work / name).mkdir()
            stack.callback(remove_work, work / name)
            copy = Copy(base, work / name)
            prefix = copy.root / "opt" / "cuda"
            prefix.mkdir(parents=True)
            lay_out(wheels_12 if cuda == "12.4" else wheels_13, prefix)
            if cuda == "12.4":
                add_compiler(work / "debian" / "unpacked" / "usr", prefix)
            found[name] = Machine(copy.root, cuda, gxx)
        yield found


@pytest.mark.parametrize("standard", ["c++14", "c++17"])
@pytest.mark.parametrize(("name", "glibc"), [("debian-13, 12.4", "2.41"), ("testing, 13.0", "2.4")])
def test_the_rule_mends_the_clash(places: Dict[str, Machine], name: str, glibc: str, standard: str) -> None:
    """The toolkit's nvcc does not compile <cmath> there, and the one that the builder calls does."""
    there = places[name]
    assert there.glibc.startswith(glibc)
    plain = there.compile("/opt/cuda/bin/nvcc", standard)
    assert plain.returncode != 0 and CLASH in (plain.stdout + plain.stderr).decode()
    fixed = there.compile(there.builder_s_nvcc(), standard)
    assert fixed.returncode == 0, fixed.stderr.decode()


def test_where_nothing_clashes_nothing_is_added(places: Dict[str, Machine]) -> None:
    """CUDA 13.0 compiles on Debian 13 as it is, and the builder calls it as it is."""
    there = places["debian-13, 13.0"]
    assert there.compile("/opt/cuda/bin/nvcc", "c++17").returncode == 0
    assert "-isystem" not in (there.root / there.builder_s_nvcc().lstrip("/")).read_text()
