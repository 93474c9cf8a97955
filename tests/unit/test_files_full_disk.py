"""A disk that refuses, at every call and at every size: one sentence, nothing lost, and the next run finishes."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import pytest

from gpuhost import errors
from gpuhost.cvbuild import keys, sources, steps
from gpuhost.errors import GpuhostError
from gpuhost.host import download as artifacts
from gpuhost.host import files, generations, store, venvs
from gpuhost.host.driver import added
from gpuhost.host.driver import apt as apt_set
from gpuhost.host.toolkit import archive as toolkits_archive
from gpuhost.host.toolkit import wheels as toolkits_wheels
from gpuhost.host.work import Work

from . import standins, wheelhouse
from .mounts import mount, mounted, unmount
from .test_venvs_steps import Commands

#: Every call by which `files` takes room on a disk. Taking a name away takes none.
TAKING = ("open", "fsync", "rename", "mkdir", "symlink", "fchmod", "pwrite")
CONTENT = b"x" * 9000


class Phase(NamedTuple):
    """A change of a host: what is there before it, the change itself, and whether it was made."""

    prepare: Callable[[Path], Any]
    act: Callable[[Path], Any]
    done: Callable[[Path], bool]


def two(root: Path) -> None:
    """Two generations, the second in force."""
    for name in ("1", "2"):
        store.write_tree(root / "store" / f"cuda-{name}", {"f": name}, name)
        generations.put_in_force(root, lambda name=name: ({"who": name}, {"cuda": f"store/cuda-{name}"}))  # type: ignore[misc]
    store.write_tree(root / "store" / "cuda-3", {"f": "3"}, "3")


def put(root: Path) -> None:
    """A third."""
    generations.put_in_force(root, lambda: ({"who": "3"}, {"cuda": "store/cuda-3"}))


def debs(root: Path) -> apt_set.Apt:
    """apt, of which only the cache is used."""
    return apt_set.Apt(root, "debian", Work(root / "log" / "x.log", lambda text: None))


DEB = {"name": "x", "version": "1", "arch": "amd64", "file": "x.deb", "sha256": hashlib.sha256(CONTENT).hexdigest()}
ARTIFACT = {"name": "a.run", "url": "https://x/a.run", "sha256": DEB["sha256"]}


def fetched(root: Path) -> None:
    """A .deb that apt has brought, unless it is in the cache."""
    apt, there = debs(root), root / "cache" / "debs" / "new" / "x_1_amd64.deb"
    if apt.cached(DEB) is None:
        with store.changing(root, "fetching"):
            files.remove(apt.scratch)
            files.write_whole(there, CONTENT)
            apt.keep(DEB, {there.name: there})
            files.remove(apt.scratch)


def archive(root: Path) -> None:
    """A cuDNN out of its tarball, as `toolkits` makes and seals it."""
    folder = root / "store" / "cudnn-1"
    with store.changing(root, "unpacking"):
        files.remove(folder)
        try:
            toolkits_archive.unpack(root.parent / "cudnn.tgz", folder)
            store.seal(folder, {"digest": "1"})
        except (OSError, GpuhostError):
            store.give_up(folder)
            raise


def wheel(root: Path) -> None:
    """A part of a toolkit out of a wheel."""
    folder, package = root / "store" / "cuda-9", {"name": "x", "file": "x-1-py3-none-any.whl"}
    with store.changing(root, "unpacking"):
        files.remove(folder)
        try:
            toolkits_wheels.unpack(root.parent / package["file"], folder, "lib64", package)
            store.seal(folder, {"digest": "9"})
        except (OSError, GpuhostError):
            store.give_up(folder)
            raise


PHASES: Dict[str, Phase] = {
    "tree": Phase(
        lambda root: store.write_tree(root / "store" / "x", {"old": "1"}, "old"),
        lambda root: store.write_tree(root / "store" / "x", {"a/b": "x" * 9000, "c": ""}, "new"),
        lambda root: store.is_whole(root / "store" / "x", "new"),
    ),
    "switch": Phase(two, put, lambda root: (root / "current/cuda/f").read_text(encoding="utf-8") == "3"),
    "back": Phase(
        two, lambda root: generations.go_back(root, 1), lambda root: store.current_generation(root) == 1
    ),
    "good": Phase(two, generations.mark_good, lambda root: generations.good(root) == [2]),
    "packages": Phase(
        lambda root: added.note(root, ["a"], ["z"]),
        lambda root: added.note(root, [f"package-{n}" for n in range(300)], ["z"]),
        lambda root: len(added.read(root)["added"]) == 301,
    ),
    "artifact": Phase(
        lambda root: None,
        lambda root: artifacts.obtain(root / "cache", ARTIFACT, source=root.parent / "given"),
        lambda root: artifacts.is_right(artifacts.place(root / "cache", ARTIFACT), ARTIFACT),
    ),
    "deb": Phase(lambda root: None, fetched, lambda root: debs(root).cached(DEB) is not None),
    "archive": Phase(two, archive, lambda root: store.is_whole(root / "store" / "cudnn-1", "1")),
    "wheel": Phase(two, wheel, lambda root: store.is_whole(root / "store" / "cuda-9", "9")),
    "built": Phase(
        lambda root: None,
        lambda root: keys.keep(root / "cache", "key", root.parent / "given"),
        lambda root: (root / "cache" / "key" / "given").read_bytes() == CONTENT,
    ),
    "sources": Phase(
        lambda root: None,
        lambda root: sources.unpack([root.parent / "cudnn.tgz"], root / "src" / "x"),
        lambda root: sources.is_sealed(root / "src" / "x"),
    ),
    "stamp": Phase(
        lambda root: steps.Work(root, "key").finish("sources", "x", 0.0),
        lambda root: steps.Work(root, "key").finish("configure", "x" * 9000, 0.0),
        lambda root: steps.Work(root, "key").is_done("configure"),
    ),
}  # fmt: skip


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """What the phases take their content from, beside the root."""
    (tmp_path / "given").write_bytes(CONTENT)
    standins.cudnn(tmp_path / "cudnn.tgz", "cuda", "lib64")
    standins.wheel(tmp_path, "x", "1", {"nvidia/x/lib/libx.so": CONTENT, "nvidia/x/bin/x": b"1"})
    return tmp_path


def check(root: Path, before: Any) -> None:
    """What a refused change leaves: all that was in force, and nothing half written."""
    if before["generation"] is not None:
        number = store.current_generation(root)
        assert number in (before["generation"], 1, 3)
        assert (root / "current/cuda/f").read_text(encoding="utf-8") == str(number)
        record = [row["generation"] for row in generations.read(root)["in_force"]]
        assert record[: len(before["record"])] == before["record"], "the record has lost an entry"
    assert [p.name for p in root.rglob("*.new")] == [], "what is half written fills the disk"
    if before["packages"]:
        assert set(added.read(root)["added"]) >= set(before["packages"])


def state(root: Path) -> Dict[str, Any]:
    """What must not be lost."""
    return {
        "generation": store.current_generation(root),
        "record": [row["generation"] for row in generations.read(root)["in_force"]],
        "packages": added.read(root)["added"],
    }


def refused(act: Callable[[Path], Any], root: Path) -> bool:
    """Was the change refused? Then in a sentence: what comes through as an OSError, its caller turns into one."""
    try:
        act(root)
    except OSError as error:
        assert "There is no space left" in str(store.unwritable(error, root))
    except GpuhostError as error:
        assert isinstance(error, errors.EnvironmentProblem) and "There is no space left" in str(error), error
    else:
        return False
    return True


def failing(real: Callable[..., Any], count: List[int], last: int) -> Callable[..., Any]:
    """A call that counts itself and those beside it, and fails after `last` of them."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if real.__name__ == "open" and not args[1] & os.O_CREAT:
            return real(*args, **kwargs)
        count[0] += 1
        if count[0] == last + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize("name", list(PHASES))
def test_a_disk_that_is_full_at_each_call(given: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The n-th call that takes room fails, for every n."""
    phase, last, refusals = PHASES[name], 0, 0
    monkeypatch.setattr(os, "sync", lambda: None)
    while True:
        root = given / f"root-{last}"
        root.mkdir()
        phase.prepare(root)
        before, count = state(root), [0]

        with monkeypatch.context() as patch:
            for call in TAKING:
                patch.setattr(os, call, failing(getattr(os, call), count, last))
            was_refused = refused(phase.act, root)
        refusals += was_refused
        check(root, before)
        phase.act(root)
        assert phase.done(root)
        if count[0] <= last:
            break
        last += 1
    assert refusals > 2, "the calls were not counted"


PAGE = 4096
ROOM = f"size={4096 * PAGE}"


@pytest.fixture
def disk(given: Path) -> Iterator[Path]:
    """Mount a file system with room, of which a test changes the size."""
    with mounted(given / "disk", ROOM) as folder:
        yield folder


def fill(disk: Path, spare: int) -> None:
    """Leave so many free pages on the disk."""
    used = os.statvfs(str(disk))
    mount(disk, f"size={max(1, used.f_blocks - used.f_bfree + spare) * PAGE},remount")


def empty(disk: Path, options: str = ROOM) -> None:
    """Mount a new file system in place of the one that is there."""
    unmount(disk)
    mount(disk, options)


@pytest.mark.parametrize("name", list(PHASES))
def test_a_really_full_disk_of_each_size(disk: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From no room at all to enough: the kernel's own answer; with room the same change then comes to its end."""
    phase, refusals = PHASES[name], 0
    monkeypatch.setattr(artifacts, "check_space", lambda *_: None)  # it would refuse before anything is begun
    for spare in range(0, 40):
        empty(disk)
        root = disk.parent / "disk"
        for needed in ("given", "cudnn.tgz", "x-1-py3-none-any.whl"):
            assert (root.parent / needed).exists()
        phase.prepare(root)
        before = state(root)
        fill(disk, spare)
        was_refused = refused(phase.act, root)
        refusals += was_refused
        check(root, before)
        mount(disk, f"{ROOM},remount")
        phase.act(root)
        assert phase.done(root)
        if not was_refused:
            break
    assert not was_refused, "there was never enough room"
    assert refusals > 0 or name in ("good", "back", "stamp")


def test_an_environment_on_a_full_disk(given: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads, wheels and the environment itself; what is in the cache stays, and half an environment does not."""
    house = given / "house"
    house.mkdir()
    for name, version in (("gpuhost-one", "1.0"), ("gpuhost-two", "2.5"), ("pip", "99.0")):
        wheelhouse.wheel(house, name, version)
    lock = wheelhouse.lock_of([wheelhouse.row(path) for path in house.iterdir()])
    monkeypatch.setattr(venvs, "run", Commands(house))
    monkeypatch.setattr(venvs, "check_space", lambda *_: None)
    refusals: List[int] = []
    for pages in range(4, 60):
        empty(disk, f"size={pages * PAGE}")
        if not refused(lambda root: venvs.install(root, "dl4cv", lock, sys.executable, lambda text: None), disk):
            break
        refusals.append(pages)
        assert list((disk / "store").iterdir() if (disk / "store").is_dir() else []) == []
        cached = sorted((disk / "cache" / "wheels").iterdir()) if (disk / "cache" / "wheels").is_dir() else []
        assert not [p for p in cached if p.name not in {q["file"] for q in lock["packages"]}]
        assert (
            venvs.missing(
                [p for p in lock["packages"] if (disk / "cache" / "wheels" / p["file"]).exists()],
                disk / "cache" / "wheels",
            )
            == []
        )
        mount(disk, f"{ROOM},remount")
        venvs.install(disk, "dl4cv", lock, sys.executable, lambda text: None)
    assert len(refusals) > 3


def test_a_full_disk_can_be_tidied(disk: Path) -> None:
    """The lock, its note and the folder for temporary files must not want the room that is to be made."""
    root = disk / "opt"
    two(root)
    put(root)
    fill(disk, 0)
    assert generations.collect(root, 1).generations == [1]
    assert sorted(p.name for p in (root / "store").iterdir()) == ["cuda-2", "cuda-3"]
    assert generations.remove(root) and list(disk.iterdir()) == []
    assert not generations.remove(root)
