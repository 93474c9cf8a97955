"""CUDA and cuDNN into a store, from small stand-ins for NVIDIA's files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from gpuhost.errors import ArtifactError, EnvironmentProblem, GpuhostError, UsageError
from gpuhost.host import files, store, venvs
from gpuhost.host.toolkit import archive as toolkits_archive
from gpuhost.host.toolkit import install as toolkits
from gpuhost.host.toolkit import linker as toolkits_linker
from gpuhost.host.toolkit import runfile as toolkits_runfile
from gpuhost.host.toolkit import wheels as toolkits_wheels

from . import standins
from .standins import member

RUN: Dict[str, Any] = {
    "name": "cuda",
    "version": "11.8.0",
    "kind": "runfile",
    "options": ["--silent", "--override", "--toolkit", "--installpath=PREFIX"],
    "file": {"name": "cuda.run"},
    "digest": "0123456789ab",
}
TAR: Dict[str, Any] = {
    "name": "cudnn",
    "version": "8.6.0.163",
    "kind": "tarball",
    "file": {"name": "cudnn.tar.xz"},
    "digest": "ba9876543210",
}


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine around the store, as the installer sees it."""
    made = standins.outer(tmp_path / "top")
    original = toolkits_runfile.install

    def inside(*arguments: Any) -> None:
        original(*arguments, top=made)

    monkeypatch.setattr(toolkits_runfile, "install", inside)
    # The linker's cache is this machine's own.
    monkeypatch.setattr(toolkits_runfile, "run_command", lambda *_: (0, "", ""))
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty store."""
    return tmp_path / "root"


def everything(folder: Path) -> List[str]:
    """All paths below a folder, links with where they lead."""
    found = []
    for path in sorted(folder.rglob("*")):
        found.append(f"{path.relative_to(folder)}{' -> ' + os.readlink(path) if path.is_symlink() else ''}")
    return found


def install(root: Path, spec: Dict[str, Any], artifact: Path, say: Callable[[str], None] = lambda _: None) -> Path:
    """Install with this Python."""
    return toolkits.install(root, spec, artifact, sys.executable, say)


def test_a_runfile_is_installed_and_nothing_is_left_outside(top: Path, root: Path, tmp_path: Path) -> None:
    """Under its final name, sealed; a user's own link is set back, and the log that would crash it is gone."""
    before = [line for line in everything(top) if "installer.log" not in line]
    artifact = standins.runfile(tmp_path / "cuda.run", top, said="11.8.20220929")
    folder = install(root, RUN, artifact)
    assert folder == root / "store" / "cuda-11.8.0-0123456789ab"
    assert store.is_whole(folder, RUN["digest"])
    assert (folder / "lib64" / "libcudart.so").exists()
    assert everything(top) == before
    assert os.readlink(top / "usr/local/cuda") == "cuda-7.5"
    assert not list((root / "cache").glob("new-*")) and not (root / "state/runfile.json").exists()


def test_the_installer_gets_the_options_of_its_age(root: Path) -> None:
    """Before 10.1 the prefix has another option; the unpacking goes to the store's disk."""
    made = toolkits_runfile.command(Path("/c/a.run"), root, Path("/s"), ["--silent", "--toolkitpath=PREFIX"])
    assert made == ["sh", "/c/a.run", "--silent", f"--toolkitpath={root}", "--tmpdir=/s"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"last": "echo No space in hell; exit 3"}, "No space in hell"),
        ({"version": "11.7.1"}, "its record says 11.7.1"),
        ({"said": "11.8.0", "version": "11.8.0", "last": 'rm "$prefix/bin/nvcc"'}, "nvcc says nothing"),
    ],
    ids=["fails", "other-version", "no-compiler"],
)
def test_what_is_not_the_locked_toolkit_is_not_kept(
    top: Path, root: Path, tmp_path: Path, changes: Dict[str, str], message: str
) -> None:
    """The message tells what was found; neither store nor machine keep anything of it."""
    before = [line for line in everything(top) if "installer.log" not in line]
    with pytest.raises(EnvironmentProblem, match=message):
        install(root, RUN, standins.runfile(tmp_path / "cuda.run", top, **changes))
    assert everything(root / "store") == [] and everything(top) == before


def test_after_a_kill_the_next_run_tidies_and_finishes(top: Path, root: Path, tmp_path: Path) -> None:
    """The killed installer left its link and files: they are known not to have been there before."""
    before = [line for line in everything(top) if "installer.log" not in line]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from gpuhost.host.toolkit import install as toolkits, runfile as r\n"
        "r.run_command = lambda *_: (0, '', '')\n"
        "o = r.install; r.install = lambda *a: o(*a, top=Path(sys.argv[4]))\n"
        f"toolkits.install(Path(sys.argv[2]), {RUN!r}, Path(sys.argv[3]), sys.executable, print)\n"
    )
    # The installer kills whoever called it, at the moment when everything outside has been written.
    artifact = standins.runfile(tmp_path / "cuda.run", top, last="kill -9 $PPID; exit 0")
    src = str(Path(store.__file__).parents[2])
    killed = subprocess.run([sys.executable, "-c", code, src, str(root), str(artifact), str(top)], check=False)
    assert killed.returncode == -9
    assert os.readlink(top / "usr/local/cuda") != "cuda-7.5"
    install(root, RUN, standins.runfile(tmp_path / "cuda.run", top))
    assert everything(top) == before
    assert len(list((root / "store").iterdir())) == 1


def test_whole_is_left_alone_and_half_is_made_anew(top: Path, root: Path, tmp_path: Path) -> None:
    """The second call does not run the installer; without the marker it does."""
    install(root, RUN, standins.runfile(tmp_path / "cuda.run", top))
    install(root, RUN, tmp_path / "gone")
    folder = toolkits.folder_of(root, RUN)
    (folder / store.MARKER).unlink()
    (folder / "stale").touch()
    install(root, RUN, standins.runfile(tmp_path / "cuda.run", top))
    assert not (folder / "stale").exists()


def test_no_room_is_told_before_anything_is_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the installer's size, or by what the lock of wheels says."""
    root.mkdir()
    free = shutil.disk_usage(root).free
    big = tmp_path / "cuda.run"
    with big.open("wb") as handle:
        handle.truncate(free // 2)
    with pytest.raises(EnvironmentProblem, match=r"CUDA 11\.8\.0 needs about .* MB are free"):
        install(root, RUN, big)
    with pytest.raises(EnvironmentProblem, match="needs about"):
        toolkits.install(root, {**RUN, "kind": "wheels", "room": free * 2, "packages": []}, None, "python3", print)
    assert everything(root / "store") == []


def test_without_its_file_it_says_so(root: Path, tmp_path: Path) -> None:
    """Not a traceback of a shell that finds no file."""
    with pytest.raises(EnvironmentProblem, match=r"cuda\.run is not in the cache"):
        install(root, RUN, tmp_path / "none")


@pytest.mark.parametrize(
    ("file", "top", "libraries", "version"),
    [
        ("cudnn-10.0-linux-x64-v7.6.5.32.tgz", "cuda", "lib64", "7.6.5.32"),
        (
            "cudnn-linux-x86_64-8.6.0.163_cuda11-archive.tar.xz",
            "cudnn-linux-x86_64-8.6.0.163_cuda11-archive",
            "lib",
            "8.6.0.163",
        ),
    ],
)
def test_both_layouts_of_cudnn_become_one(
    root: Path, tmp_path: Path, file: str, top: str, libraries: str, version: str
) -> None:
    """include/, lib/ and lib64 as a link to it."""
    artifact = standins.cudnn(tmp_path / file, top, libraries, version)
    folder = install(root, {**TAR, "version": version}, artifact)
    name = "cudnn_version.h" if version >= "8" else "cudnn.h"
    assert everything(folder) == [
        ".gpuhost.json",
        "LICENSE",
        "include",
        f"include/{name}",
        "lib",
        "lib/libcudnn.so -> libcudnn.so.8",
        "lib/libcudnn.so.8",
        "lib64 -> lib",
    ]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (member("/etc/x"), "leads out"),
        (member("cuda/../../x"), "leads out"),
        (member("cuda/include/../../../x"), "leads out"),
        (member("cuda/bin/x"), "is in none of"),
        (member("cuda/lib/x", tarfile.SYMTYPE, "../../../../etc/passwd"), "links to"),
        (member("cuda/lib/x", tarfile.SYMTYPE, "/etc/passwd"), "links to"),
        (member("cuda/lib/x", tarfile.CHRTYPE), "is not a file"),
        (member("cuda/lib/x", tarfile.FIFOTYPE), "is not a file"),
        (member("cuda/lib/x", tarfile.LNKTYPE, "/etc/passwd"), "is not a file"),
        (member("cuda/lib/libcudnn.so.8"), "there twice"),
        (member("cuda/lib/libcudnn.so/x"), "there twice"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else None,
)
def test_a_hostile_archive_is_refused(root: Path, tmp_path: Path, bad: tarfile.TarInfo, message: str) -> None:
    """Nothing is written outside, nothing is kept inside."""
    link = member("cuda/lib/libcudnn.so", tarfile.SYMTYPE, "libcudnn.so.8")
    good = [(link, b""), (member("cuda/lib/libcudnn.so.8"), b"x"), (member("cuda/include/cudnn.h"), b"x")]
    standins.tarball(tmp_path / "c.tgz", [*good, (bad, b"" if bad.type != tarfile.REGTYPE else b"evil")])
    with pytest.raises(ArtifactError, match=message):
        install(root, TAR, tmp_path / "c.tgz")
    assert everything(root / "store") == []


def test_what_is_no_archive_is_an_artifact_error(root: Path, tmp_path: Path) -> None:
    """An archive cut off in the middle, one without libraries, and no archive at all."""
    whole = standins.cudnn(tmp_path / "c.tar.xz", "cuda", "lib")
    (tmp_path / "cut.tar.xz").write_bytes(whole.read_bytes()[:-100])
    (tmp_path / "none.tgz").write_bytes(b"no archive")
    standins.tarball(tmp_path / "bare.tgz", [(member("cuda/include/cudnn.h"), b"x")])
    for name in ("cut.tar.xz", "none.tgz", "bare.tgz"):
        with pytest.raises(ArtifactError):
            toolkits_archive.unpack(tmp_path / name, tmp_path / ("x" + name))


NVCC = b'#!/bin/sh\necho "Cuda compilation tools, release 13.0, V13.0.88"\n'


def wheels(root: Path, more: Dict[str, bytes]) -> Dict[str, Any]:
    """The specification of two wheels that are in the cache, the second with `more` in it."""
    cache = root / "cache" / "wheels"
    cache.mkdir(parents=True, exist_ok=True)
    first = {"nvidia/__init__.py": b"", "nvidia/cu13/bin/nvcc": NVCC, "nvidia/cu13/include/a.h": b"a"}
    second = {"nvidia/cublas/lib/libcublas.so.13": b"lib", "nvidia/cublas/lib/__init__.py": b"", **more}
    packages = [
        standins.wheel(cache, "nvidia-cuda-nvcc", "13.0.88", first),
        standins.wheel(cache, "nvidia-cublas", "13.1.0.3", second),
    ]
    kind = {"name": "cuda", "version": "13.0.2", "kind": "wheels", "compiler": True, "room": 0, "digest": "aa"}
    return {**kind, "packages": packages}


def test_wheels_become_one_prefix(root: Path) -> None:
    """As the runfile makes it: plain names for the linker, programs that run, version.json, the licences kept."""
    spec = wheels(root, {"nvidia/cublas/include/a.h": b"a", "nvidia/cublas/nvvm/bin/cicc": b"x"})
    folder = toolkits.install(root, spec, None, "/nonexistent/python", lambda _: None)
    assert everything(folder) == [
        ".gpuhost.json",
        "bin",
        "bin/nvcc",
        "include",
        "include/a.h",
        "lib -> lib64",
        "lib64",
        "lib64/libcublas.so -> libcublas.so.13",
        "lib64/libcublas.so.13",
        "licenses",
        "licenses/nvidia-cublas",
        "licenses/nvidia-cublas/License.txt",
        "licenses/nvidia-cuda-nvcc",
        "licenses/nvidia-cuda-nvcc/License.txt",
        "nvvm",
        "nvvm/bin",
        "nvvm/bin/cicc",
        "version.json",
    ]
    assert os.access(folder / "bin/nvcc", os.X_OK) and os.access(folder / "nvvm/bin/cicc", os.X_OK)
    assert (folder / "include/a.h").stat().st_mode & 0o777 == 0o644
    assert store.read_json(folder / store.MARKER)["compiler"] is True  # type: ignore[index]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"nvidia/cublas/include/a.h": b"b"}, "is another file"),
        ({"nvidia/cublas/../../../x": b"b"}, "leads out"),
        ({"/etc/x": b"b"}, "leads out"),
    ],
)
def test_wheels_that_clash_or_lead_out_are_refused(root: Path, more: Dict[str, bytes], message: str) -> None:
    """Nothing is kept."""
    with pytest.raises(ArtifactError, match=message):
        toolkits.install(root, wheels(root, more), None, "/nonexistent/python", lambda _: None)
    assert everything(root / "store") == []


def test_a_wheel_that_is_not_the_locked_one_is_fetched_anew(root: Path) -> None:
    """And without an interpreter that is told, by its name."""
    spec = wheels(root, {})
    (root / "cache" / "wheels" / spec["packages"][0]["file"]).write_bytes(b"other")
    with pytest.raises(EnvironmentProblem, match=r"There is no python3\.99"):
        toolkits.install(root, spec, None, "python3.99", lambda _: None)
    assert not (root / "cache" / "wheels" / spec["packages"][0]["file"]).exists()


def test_wheels_are_fetched_with_the_locked_pip(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip first, from its own file; then everything else by hash; nothing of it stays but the files."""
    spec = wheels(root, {})
    house, cache = root / "house", root / "cache" / "wheels"
    house.mkdir()
    spec["packages"].append(standins.wheel(cache, "pip", "25.0.1", {}))
    for path in cache.iterdir():
        path.rename(house / path.name)
    said: List[str] = []

    def run(argv: List[str], log: Path) -> None:
        kind = next(word for word in ("venv", "download", "install") if word in argv)
        text = Path(argv[argv.index("-r") + 1]).read_text() if "-r" in argv else ""
        said.append(" ".join([kind, *sorted(line.split("==")[0] for line in text.splitlines())]))
        for path in house.iterdir() if kind == "download" else ():
            shutil.copy(path, argv[argv.index("-d") + 1])

    monkeypatch.setattr(venvs, "run", run)
    told: List[str] = []
    toolkits.install(root, spec, None, sys.executable, told.append)
    assert said == ["venv", "download pip", "install pip", "download nvidia-cublas nvidia-cuda-nvcc"]
    assert told[:2] == ["preparing pip", "fetching 2 packages, 0 MB: 0 % of it is there"]
    assert [path.name for path in (root / "cache").iterdir()] == ["wheels"]


def test_two_runs_take_turns(top: Path, root: Path, tmp_path: Path) -> None:
    """The second waits while the first's installer is at work, and then finds the toolkit made."""
    gate = tmp_path / "gate"
    gate.touch()
    artifact = standins.runfile(tmp_path / "cuda.run", top, last=f"while [ -e {gate} ]; do sleep 0.02; done")
    first = threading.Thread(target=install, args=(root, RUN, artifact))
    first.start()
    while not (root / "store").is_dir() or not list((root / "store").glob("*/lib64/libcudart.so")):
        assert first.is_alive()
    said: List[str] = []

    def say(text: str) -> None:
        said.append(text)
        gate.unlink()

    install(root, RUN, artifact, say)
    first.join()
    assert len(said) == 1 and "Another run is changing this host: installing CUDA 11.8.0 (process" in said[0]


def test_removing_keeps_what_a_generation_needs(top: Path, root: Path, tmp_path: Path) -> None:
    """One version goes, the other stays; what an older generation links to stays with its reason."""
    new = {**RUN, "version": "10.0.130", "digest": "cc"}
    install(root, RUN, standins.runfile(tmp_path / "cuda.run", top))
    install(root, new, standins.runfile(tmp_path / "cuda.run", top, "10.0.130"))
    both = {"cuda": "store/cuda-11.8.0-0123456789ab", "cuda-10.0": "store/cuda-10.0.130-cc"}
    store.switch(root, {}, both)
    assert toolkits.remove(root, "cuda", "10.0.130") == {"removed": [], "kept": {"cuda-10.0.130-cc": [1]}}
    assert "kept: generation 1 links to it" in toolkits.told("cuda", toolkits.remove(root, "cuda", "10.0.130"))
    store.switch(root, {}, store.links_without(both, ["cuda-10.*"]))
    files.remove(root / "generations" / "1")
    assert toolkits.remove(root, "cuda", "10.0.130", check=True)["removed"] == ["cuda-10.0.130-cc"]
    assert (root / "store/cuda-10.0.130-cc").exists()
    assert toolkits.remove(root, "cuda", "10.0.130") == {"removed": ["cuda-10.0.130-cc"], "kept": {}}
    assert [path.name for path in (root / "store").iterdir()] == ["cuda-11.8.0-0123456789ab"]
    for bad in ("", "../x"):
        with pytest.raises(UsageError):
            toolkits.remove(root, "cuda", bad)


@pytest.mark.parametrize(
    ("wanted", "said", "right"),
    [
        ("11.8.0", "11.8.0", True),
        ("11.8.0", "11.8.20220929", True),
        ("11.8.0", "11.8", True),
        ("8.6.0.163", "8.6.0", True),
        ("11.8.0", "11.7.20220929", False),
        ("11.8.0", "11.8.1", False),
        ("12.1.0", "12.10", False),
        ("12.10.0", "12.1", False),
    ],
)
def test_a_version_by_series_and_day(wanted: str, said: str, right: bool) -> None:
    """Some of NVIDIA's releases name themselves so in version.json."""
    assert toolkits.agrees(wanted, said) is right


class Linker:
    """A machine with a store, for the linker's files."""

    def __init__(self, root: Path, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`said` are the commands; `known` is what `ldconfig -p` prints."""
        self.root, self.top, self.said, self.known, self.code = root, top, [], "", 0  # type: ignore[var-annotated]
        monkeypatch.setattr(toolkits_linker, "run_command", self.command)

    def command(self, argv: List[str], timeout: float) -> Any:
        """Stand in for ldconfig: its rebuilding takes in what the file names."""
        self.said.append(" ".join(argv))
        if argv == ["ldconfig"]:
            conf = self.top / toolkits_linker.CONF
            folders = conf.read_text().split() if conf.exists() else []
            self.known = "".join(f"\tlibx.so (libc6,x86-64) => {folder}/libx.so\n" for folder in folders)
        return self.code, self.known, "broken"

    def run(self, present: bool = True) -> bool:
        """One call of the module; whether it changed anything."""
        links = toolkits_linker.present(self.root, {}) if present else None
        todo = toolkits_linker.changes(self.root, self.top, links)
        if todo["files"] or todo["ldconfig"]:
            toolkits_linker.apply(self.root, self.top, todo)
            return True
        return False


def test_the_linker_follows_the_generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written for the links that are there, rebuilt when they lead elsewhere, gone with them."""
    root, top = tmp_path / "root", standins.outer(tmp_path / "top")
    linker = Linker(root, top, monkeypatch)
    for name in ("cuda-1", "cuda-2", "cudnn-1"):
        (root / "store" / name).mkdir(parents=True)
        store.seal(root / "store" / name, {"digest": name})
    conf, profile = top / toolkits_linker.CONF, top / toolkits_linker.PROFILE
    assert linker.run() is False  # a host without a card
    store.switch(root, {}, {"cuda": "store/cuda-1", "tree": "store/cuda-2"})
    assert (linker.run(), linker.run()) == (True, False)
    assert conf.read_text() == f"{root}/current/cuda/lib64\n"
    store.switch(root, {}, {"cuda": "store/cuda-2", "cudnn": "store/cudnn-1"})
    assert (linker.run(), linker.run()) == (True, False)
    assert conf.read_text() == f"{root}/current/cuda/lib64\n{root}/current/cudnn/lib\n"
    linker.said.clear()
    store.switch(root, {}, {"cuda": "store/cuda-1", "cudnn": "store/cudnn-1"})
    assert (linker.run(), linker.run()) == (True, False)
    assert linker.said.count("ldconfig") == 1  # the files are the same, the libraries are not
    linker.known = ""  # somebody rebuilt the cache without our file
    assert (linker.run(), linker.run()) == (True, False)
    shell = f'. {profile}; . {profile}; echo "$PATH|$CUDA_HOME"'
    out = subprocess.run(["sh", "-euc", shell], env={"PATH": "/bin"}, capture_output=True, text=True, check=True).stdout
    assert out == f"{root}/current/cuda/bin:/bin|{root}/current/cuda\n"
    assert (linker.run(present=False), linker.run(present=False)) == (True, False)
    assert not conf.exists() and not profile.exists() and linker.known == ""


def test_a_failing_ldconfig_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files alone do not make it done."""
    root, top = tmp_path / "root", standins.outer(tmp_path / "top")
    linker = Linker(root, top, monkeypatch)
    (root / "store" / "cuda-1").mkdir(parents=True)
    store.seal(root / "store" / "cuda-1", {"digest": "1"})
    store.switch(root, {}, {"cuda": "store/cuda-1"})
    linker.code = 1
    with pytest.raises(GpuhostError, match="cache cannot be rebuilt: broken"):
        linker.run()
    linker.code = 0
    assert (linker.run(), linker.run()) == (True, False)


def test_only_plain_versions_get_a_plain_name(tmp_path: Path) -> None:
    """libx.so.1.2 and libx.so.1 do; a file without a number has its name, and one that is there stays."""
    for name in ("liba.so.1.2", "libb.so", "libc.so.3", "libc.so", "note.txt"):
        (tmp_path / name).touch()
        toolkits_wheels.link_plain(tmp_path / name)
    assert everything(tmp_path) == [
        "liba.so -> liba.so.1.2",
        "liba.so.1.2",
        "libb.so",
        "libc.so -> libc.so.3",
        "libc.so.3",
        "note.txt",
    ]


def test_large_downloads_come_in_parts() -> None:
    """In order, each at least of the size but for the last; a kill loses one part at most."""
    rows = [{"name": str(n), "size": n} for n in (3, 9, 1, 1, 12, 2)]
    parts = toolkits_wheels.batches(rows, 10)
    assert [[row["size"] for row in part] for part in parts] == [[3, 9], [1, 1, 12], [2]]
    assert toolkits_wheels.batches([], 10) == []
