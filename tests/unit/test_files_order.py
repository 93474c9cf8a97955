"""What reaches the disk before what: observed call by call, because only a power cut would show it otherwise."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Sequence, Tuple

import pytest

from gpuhost.cvbuild import keys, steps
from gpuhost.host import download as artifacts
from gpuhost.host import files, generations, store, venvs
from gpuhost.host.driver import apt as apt_set
from gpuhost.host.driver import setup as driver_setup
from gpuhost.host.toolkit import linker as toolkits_linker
from gpuhost.host.work import Work

from . import wheelhouse
from .test_driver_setup import Host
from .test_venvs_steps import Commands

Event = Tuple[str, str]


class Disk:
    """The calls that order what a disk holds: ("sync", ""), ("flush", NAME), ("rename", NAME) and ("unlink", NAME).

    Names are relative to `root`; a temporary name stands as that of the file it is for.
    """

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        """Watch from now on."""
        self.root, self.events = root, []  # type: Path, List[Event]
        real: Dict[str, Callable[..., Any]] = {n: getattr(os, n) for n in ("fsync", "rename", "unlink")}

        def fsync(handle: int) -> None:
            self.events.append(("flush", self.name(os.readlink(f"/proc/self/fd/{handle}"))))
            real["fsync"](handle)

        def rename(source: Any, target: Any, **where: Any) -> None:
            self.events.append(("rename", self.name(self.within(target, where.get("dst_dir_fd")))))
            real["rename"](source, target, **where)

        def unlink(path: Any, **where: Any) -> None:
            self.events.append(("unlink", self.name(self.within(path, where.get("dir_fd")))))
            real["unlink"](path, **where)

        patch.setattr(os, "sync", lambda: self.events.append(("sync", "")))
        for name, made in (("fsync", fsync), ("rename", rename), ("unlink", unlink)):
            patch.setattr(os, name, made)

    @staticmethod
    def within(path: Any, folder: Any) -> str:
        """A path that may be relative to a descriptor."""
        return str(path) if folder is None else f"{os.readlink(f'/proc/self/fd/{folder}')}/{path}"

    def name(self, path: str) -> str:
        """As the test writes it."""
        folder, _, last = path.rpartition("/")
        if last.startswith(".") and last.endswith(".new") and last.count("-"):
            last = last[1:].rpartition("-")[0].rpartition(".")[0]
        return os.path.relpath(f"{folder}/{last}", str(self.root))

    def order(self, *wanted: Event) -> None:
        """These come in this order, whatever comes between; each is meant at its last coming before the next one."""
        at = 0
        for event in wanted:
            assert event in self.events[at:], f"{event} does not come in its place among {self.events}"
            at += self.events[at:].index(event) + 1


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Everything that happens below `tmp_path`."""
    return Disk(tmp_path, monkeypatch)


def test_a_whole_file(tmp_path: Path, disk: Disk) -> None:
    """Content, name, and the folder that holds the name."""
    files.write_whole(tmp_path / "x", "1")
    assert disk.events == [("flush", "x"), ("rename", "x"), ("flush", ".")]


def test_a_store_folder(tmp_path: Path, disk: Disk) -> None:
    """All that the marker vouches for is on the disk before the marker, and the marker before the name."""
    store.write_tree(tmp_path / "store" / "x", {"a/b": "1"}, "d")
    marker = f"store/x.new/{store.MARKER}"
    disk.order(
        ("sync", ""), ("flush", marker), ("rename", marker), ("flush", "store/x.new"), ("rename", "store/x"),
        ("flush", "store"),
    )  # fmt: skip
    assert ("sync", "") not in disk.events[disk.events.index(("flush", marker)) :]


def test_a_switch(tmp_path: Path, disk: Disk) -> None:
    """Lock and links, the generation's name, `current`, and only then the record."""
    store.write_tree(tmp_path / "store" / "x", {"a": "1"}, "d")
    disk.events.clear()
    generations.put_in_force(tmp_path, lambda: ({"v": 1}, {"venvs/x": "store/x"}))
    folder, record = "generations/.new", generations.RECORD
    disk.order(
        ("rename", f"{folder}/venvs/x"), ("flush", f"{folder}/venvs"), ("flush", f"{folder}/stack.json"),
        ("rename", f"{folder}/stack.json"), ("flush", folder), ("rename", "generations/1"), ("flush", "generations"),
        ("rename", "current"), ("flush", "."), ("flush", record), ("rename", record), ("flush", "state"),
    )  # fmt: skip
    assert disk.events.index(("rename", record)) > disk.events.index(("rename", "current"))


def test_going_back(tmp_path: Path, disk: Disk) -> None:
    """Here the record comes first: only it tells going back from a switch."""
    store.write_tree(tmp_path / "store" / "x", {"a": "1"}, "d")
    for number in (1, 2):
        generations.put_in_force(tmp_path, lambda number=number: ({"v": number}, {"x": "store/x"}))  # type: ignore[misc]
    disk.events.clear()
    generations.go_back(tmp_path, 1)
    record = generations.RECORD
    disk.order(
        ("flush", record), ("rename", record), ("flush", "state"), ("rename", "current"), ("flush", "."),
    )  # fmt: skip
    assert disk.events.count(("rename", record)) == 1


def test_deleting(tmp_path: Path, disk: Disk) -> None:
    """A folder's marker goes before anything else of it."""
    for number in (1, 2, 3):
        store.write_tree(tmp_path / "store" / f"cuda-{number}", {"a": "1"}, "d")
        links = {"cuda": f"store/cuda-{number}"}
        generations.put_in_force(tmp_path, lambda links=links: ({}, links))  # type: ignore[misc]
    disk.events.clear()
    generations.collect(tmp_path, 1)
    gone = [name for what, name in disk.events if what == "unlink" and "cuda-1" in name]
    assert gone[0] == f"store/cuda-1/{store.MARKER}"


def test_an_artifact(tmp_path: Path, disk: Disk) -> None:
    """A file of the cache."""
    (tmp_path / "given").write_bytes(b"artifact")
    file = {"name": "a.run", "url": "https://x/a.run", "sha256": hashlib.sha256(b"artifact").hexdigest()}
    artifacts.obtain(tmp_path / "cache", file, source=tmp_path / "given")
    folder = f"cache/{file['sha256']}"
    assert disk.events == [("flush", f"{folder}/a.run.part"), ("rename", f"{folder}/a.run"), ("flush", folder)]


def test_a_deb(tmp_path: Path, disk: Disk) -> None:
    """A package of the driver's set."""
    apt = apt_set.Apt(tmp_path, "debian", Work(tmp_path / "log", lambda text: None))
    content = b"deb"
    member = {
        "name": "x",
        "version": "1:2",
        "arch": "amd64",
        "file": "x.deb",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    fetched = tmp_path / "new" / "x_1%3a2_amd64.deb"
    fetched.parent.mkdir()
    fetched.write_bytes(content)
    apt.keep(member, {fetched.name: fetched})
    place = apt.place(member).relative_to(tmp_path)
    assert disk.events == [
        ("flush", str(fetched.relative_to(tmp_path))),
        ("rename", str(place)),
        ("flush", str(place.parent)),
    ]


def test_the_wheels_of_an_environment(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is on the disk under its name before the environment counts."""
    house = tmp_path / "house"
    house.mkdir()
    for name, version in (("gpuhost-one", "1.0"), ("pip", "99.0")):
        wheelhouse.wheel(house, name, version)
    lock = wheelhouse.lock_of([wheelhouse.row(path) for path in house.iterdir()])
    monkeypatch.setattr(venvs, "run", Commands(house))
    folder = venvs.install(tmp_path, "dl4cv", lock, sys.executable, lambda text: None).relative_to(tmp_path)
    marker = f"{folder}/{store.MARKER}"
    for package in lock["packages"]:
        fetched, name = f"cache/new-{folder.name}/{package['file']}", f"cache/wheels/{package['file']}"
        disk.order(("flush", fetched), ("rename", name), ("flush", "cache/wheels"), ("sync", ""), ("rename", marker))


def test_the_builder_s_wheel_and_stamps(tmp_path: Path, disk: Disk) -> None:
    """The note that makes a wheel count comes after it; a stamp after all that it vouches for."""
    (tmp_path / "x.whl").write_bytes(b"wheel")
    keys.keep(tmp_path / "cache", "key", tmp_path / "x.whl")
    disk.order(
        ("flush", "cache/key/x.whl"), ("rename", "cache/key/x.whl"), ("flush", "cache/key"),
        ("flush", "cache/key/wheel.json"), ("rename", "cache/key/wheel.json"), ("flush", "cache/key"),
    )  # fmt: skip
    disk.events.clear()
    steps.Work(tmp_path / "work", "key").finish("sources", "x", 0.0)
    disk.order(("sync", ""), ("flush", "work/steps.json"), ("rename", "work/steps.json"), ("flush", "work"))


def test_the_driver_s_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken away after the mark of an unfinished run is there, and written before that mark goes: last of all."""
    setup = Host(tmp_path).setup()
    disk = Disk(tmp_path / "opt", monkeypatch)
    monkeypatch.setattr(setup.apt, "members", lambda key: [])
    (tmp_path / "opt/state").mkdir(parents=True)
    (tmp_path / "opt" / driver_setup.RECORD).write_text("{}", encoding="utf-8")
    setup.begin()
    disk.order(("rename", driver_setup.PENDING), ("flush", "state"), ("unlink", driver_setup.RECORD))
    disk.events.clear()
    setup.record()
    disk.order(
        ("flush", driver_setup.RECORD), ("rename", driver_setup.RECORD), ("flush", "state"),
        ("unlink", driver_setup.PENDING),
    )  # fmt: skip
    assert disk.events[-1] == ("unlink", driver_setup.PENDING)


def test_the_linker_s_record(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken down first and written last, when the cache was rebuilt."""

    def run(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        disk.events.append(("run", argv[0]))
        return 0, "", ""

    monkeypatch.setattr(toolkits_linker, "run_command", run)
    links, record = {"cuda": "store/cuda-1"}, toolkits_linker.RECORD
    for _ in range(2):
        disk.events.clear()
        toolkits_linker.apply(
            tmp_path, tmp_path / "top", {**toolkits_linker.changes(tmp_path, tmp_path / "top", links)}
        )
        at = disk.events.index(("rename", record))
        assert ("run", "ldconfig") in disk.events[:at] and disk.events[at + 1 :] == [("flush", "state")]
    assert disk.events[0][0] == "run" and disk.events[1] == ("unlink", record)
