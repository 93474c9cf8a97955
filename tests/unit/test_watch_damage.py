"""The watch on hosts that lose more and more: what has been told as wrong is never taken back by a further loss."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from gpuhost.host.commands import NOT_FOUND, TIMED_OUT
from gpuhost.host.edges import Edges
from gpuhost.host.files import write_whole
from gpuhost.host.watch import read as watch_read
from gpuhost.host.watch import run as watch_run

from .test_watch_findings import NEWER, Machine

Answer = Tuple[int, str, str]
Damage = Tuple[str, str]
WELL, WRONG = 0, (1, 4)
COMMANDS = ("dpkg --print-architecture", "dpkg-query", "modinfo")
ANSWERS: Dict[str, Answer] = {
    "fail": (2, "", "it broke"),
    "timeout": (TIMED_OUT, "", "no answer"),
    "empty": (0, "", ""),
    "missing": (NOT_FOUND, "", "it is not installed"),
}
#: What the watch asks only whether it is there: its content may be anything.
BY_NAME = ("boot/vmlinuz-*", "dev/nvidia*", "lib/modules/*/modules.dep", "usr/lib/*/libnvidia-ml.so.*")
#: What the watch does not read, or reads nothing of.
NOT_READ = ("var/lib/dpkg/status", "var/lib/dpkg/lock")
TRIALS, LOSSES = 60, 8


class Losing(Machine):
    """A host whose files and commands are damaged, one after the other."""

    def __init__(self, folder: Path) -> None:
        """A host that is well, with a second PCI device that is not a card."""
        super().__init__(folder)
        self.put("/var/lib/dpkg/lock", "")
        self.said: Dict[str, Answer] = {}
        for name, text in (("vendor", "0x8086"), ("class", "0x060000"), ("device", "0x1237")):
            self.put(f"/sys/bus/pci/devices/0000:00:00.0/{name}", text + "\n")

    def run(self, argv: Any, timeout: float) -> Answer:
        """What is damaged says so."""
        for name, answer in self.said.items():
            if " ".join(argv).startswith(name):
                return answer
        return super().run(argv, timeout)

    def places(self) -> List[Path]:
        """Every file, link and folder of the host."""
        found = []
        for top, folders, files in os.walk(str(self.folder)):
            found += [Path(top) / name for name in [*folders, *files]]
        return sorted(found)

    def lost_next(self) -> List[Path]:
        """What can be lost: not what the watch itself writes for the login and for metrics."""
        found = [p for p in self.places() if "run" not in p.parts and p.name != watch_run.TEXTFILE]
        return found or [self.folder / "x"]

    def named(self, path: Path, patterns: Tuple[str, ...]) -> bool:
        """Return whether the path is one of these."""
        return any(path.relative_to(self.folder).match(pattern) for pattern in patterns)


def gone(path: Path) -> None:
    """Take it away."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(str(path))
    elif os.path.lexists(str(path)):
        path.unlink()


def ways() -> Dict[str, Callable[[Path], Any]]:
    """The ways in which a place can be damaged, after it was taken away."""
    return {
        "gone": lambda path: None,
        "empty": lambda path: path.touch(),
        "damaged": lambda path: path.write_bytes(b"\x00{\xff"),
        "no object": lambda path: path.write_text("[]"),
        "nested": lambda path: path.write_text("[" * 100_000),
        "pipe": lambda path: os.mkfifo(str(path)),
        "loop": lambda path: path.symlink_to(path.name),
        "dangling": lambda path: path.symlink_to("nowhere"),
        "folder": lambda path: path.mkdir(),
    }


@pytest.fixture(autouse=True)
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of files are written here, and no power is cut."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def losing(tmp_path: Path) -> Losing:
    """A host that is well, as the watch has said already."""
    made = Losing(tmp_path)
    assert made.look() == WELL
    return made


def test_every_single_loss_is_told(losing: Losing) -> None:
    """Each place in each way, but for what is only asked by its name; and the login says so."""
    own = ("watch.json", watch_run.TEXTFILE)
    places = [p for p in losing.places() if p.name not in own and not losing.named(p, NOT_READ)]
    assert len(places) > 25
    aside, silent = losing.folder.with_name("aside"), []
    for path in places:
        for way, damage in ways().items():
            if losing.named(path, BY_NAME) and way not in ("gone",):
                continue
            if is_only_around(path, losing):
                continue
            path.rename(aside)
            damage(path)
            code = losing.look()
            if code not in WRONG or "gpuhost: THE GPU STACK" not in losing.text(watch_read.MOTD):
                silent.append((str(path.relative_to(losing.folder)), way, code))
            gone(path)
            aside.rename(path)
            assert losing.look() == WELL, path
    assert silent == []


def is_only_around(path: Path, losing: Losing) -> bool:
    """Return whether a path is a folder that the watch writes in, or the folder of a PCI device that is not a card."""
    name = str(path.relative_to(losing.folder))
    around = {"run", "run/gpuhost", "opt", "opt/gpuhost", "opt/gpuhost/state", "var", "var/lib", "var/lib/dpkg"}
    return name in around or name.startswith(("proc/sys", "sys/bus/pci/devices/0000:00:00.0")) or name == "boot"


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("way", ANSWERS)
def test_a_command_without_an_answer_is_told(losing: Losing, name: str, way: str) -> None:
    """It is not known then, and that is said."""
    losing.said[name] = ANSWERS[way]
    assert losing.look() == 4


def test_the_more_is_lost_the_more_it_stays_told(tmp_path: Path) -> None:
    """In any order, until nothing is left of the host: once something was wrong it is never well, or nothing, again."""
    chance = random.Random(7)  # noqa: S311 - the same losses in every run
    damages, back = ways(), []
    for trial in range(TRIALS):
        folder = tmp_path / str(trial)
        folder.mkdir()
        losing, done = Losing(folder), []
        losing.packages.update(NEWER)
        assert losing.look() == 1
        for _ in range(LOSSES):
            if chance.random() < 0.2:
                name, way = chance.choice(COMMANDS), chance.choice(sorted(ANSWERS))
                losing.said[name] = ANSWERS[way]
            else:
                path = chance.choice(losing.lost_next())
                name, way = str(path.relative_to(folder)), chance.choice(["gone", *sorted(damages)])
                gone(path)
                damages[way](path)
            done.append((name, way))
            if losing.look() not in WRONG:
                back.append(done)
                break
        shutil.rmtree(str(folder))
    assert back == [], "\n".join(f"{done}" for done in sorted(back, key=len)[:3])


@pytest.mark.parametrize("first", ["gone", "dangling"])
def test_without_current_the_login_warns_on(losing: Losing, first: str) -> None:
    """The reported case: `current` leads nowhere, and the watch took its warning back."""
    losing.packages.update(NEWER)
    assert losing.look() == 1
    path = losing.folder / "opt/gpuhost/current"
    gone(path)
    ways()[first](path)
    assert losing.look() == 1
    assert "lock.provisioned: nothing is in force" in losing.text(watch_read.MOTD)


def test_a_host_that_never_had_anything_is_left_alone(tmp_path: Path) -> None:
    """Also where no card can be looked for, and the second time."""
    edges = Edges(str(tmp_path), lambda argv, timeout: (NOT_FOUND, "", "x"))
    for _ in range(2):
        assert watch_run.main(["--patience", "0"], edges) == 0
    write_whole(tmp_path / "opt/gpuhost/state/watch.json", '{"status": "broken"}')
    assert watch_run.main(["--patience", "0"], edges) == 1


def test_what_nobody_thought_of_is_told(losing: Losing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that ends without a word would look like a host that is well."""

    def surprise(*_: Any) -> None:
        raise RuntimeError("Symlink loop")

    monkeypatch.setattr(watch_run, "read", surprise)
    assert losing.look() == 4
    assert "RuntimeError: Symlink loop" in losing.text(watch_read.MOTD)
