"""Making an environment, with the commands replaced: every moment a run can end at, and what the user is told."""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence, Type

import pytest

from gpuhost.errors import ArtifactError, EnvironmentProblem, GpuhostError
from gpuhost.host import store, venvs
from gpuhost.host.commands import TAIL, CommandFailed

from . import wheelhouse

NAME = "dl4cv"


class Killed(BaseException):
    """The moment a run ends."""


class Commands:
    """Stands in for `venvs.run`: makes the files that venv and pip would make, from a folder of packages."""

    def __init__(self, house: Path) -> None:
        """`last` is the number of the command at which the run ends, halfway through it; -1 for none."""
        self.house, self.last, self.said = house, -1, []  # type: Path, int, List[str]

    def __call__(self, argv: Sequence[str], log: Path) -> None:
        """Do one command."""
        kind = next(word for word in ("venv", "download", "install", "check") if word in argv)
        self.said.append(kind)
        wanted = Path(argv[argv.index("-r") + 1]).read_text(encoding="utf-8").split() if "-r" in argv else []
        names = [word.replace("===", "-").replace("gpuhost-", "gpuhost_") for word in wanted if "===" in word]
        files = [path for path in sorted(self.house.iterdir()) if any(path.name.startswith(name) for name in names)]
        if kind == "venv":
            folder = Path(argv[-1])
            (folder / "bin").mkdir(parents=True)
            (folder / "bin" / "python").touch()
        if kind == "install":
            files = [Path(argv[argv.index("--find-links") + 1]) / path.name for path in files]
            assert all(path.exists() for path in files), "only what is in the cache may be installed"
        target = Path(argv[argv.index("-d") + 1]) if kind == "download" else Path(argv[0]).parent.parent / "lib"
        for path in files:
            target.mkdir(exist_ok=True)
            (target / path.name).write_bytes(path.read_bytes())
            if len(self.said) - 1 == self.last:
                raise Killed
        if len(self.said) - 1 == self.last:
            raise Killed


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Two wheels and something that is called pip."""
    folder = tmp_path / "house"
    folder.mkdir()
    for name, version in (("gpuhost-one", "1.0"), ("gpuhost-two", "2.5"), ("pip", "99.0")):
        wheelhouse.wheel(folder, name, version)
    return folder


@pytest.fixture
def lock(house: Path) -> Dict[str, Any]:
    """The lock of them."""
    return wheelhouse.lock_of([wheelhouse.row(path) for path in house.iterdir()])


@pytest.fixture
def commands(house: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """The stand-in, in place."""
    found = Commands(house)
    monkeypatch.setattr(venvs, "run", found)
    return found


def install(root: Path, lock: Dict[str, Any]) -> Path:
    """One run."""
    return venvs.install(root, NAME, lock, sys.executable, lambda text: None)


def test_pip_goes_first_and_each_file_is_fetched_once(tmp_path: Path, lock: Dict[str, Any], commands: Commands) -> None:
    """An old pip cannot read new wheels, so the lock's own pip is installed before anything else is fetched."""
    install(tmp_path, lock)
    assert commands.said == ["venv", "download", "install", "download", "install", "check"]
    install(tmp_path, {**lock, "digest": "another"})
    assert commands.said[6:] == ["venv", "install", "install", "check"]


def test_a_damaged_file_of_the_cache_is_fetched_again(tmp_path: Path, lock: Dict[str, Any], commands: Commands) -> None:
    """One wheel cut short and one with a changed byte are replaced; what is complete is not fetched again."""
    install(tmp_path, lock)
    wheels = tmp_path / "cache" / "wheels"
    one, two = wheels / "gpuhost_one-1.0-py3-none-any.whl", wheels / "gpuhost_two-2.5-py3-none-any.whl"
    one.write_bytes(one.read_bytes()[:100])
    two.write_bytes(two.read_bytes()[:-1] + b"!")
    commands.said.clear()
    said: List[str] = []
    venvs.install(tmp_path, NAME, {**lock, "digest": "another"}, sys.executable, said.append)
    assert [line for line in said if "fetching" in line] == ["fetching 2 packages, 0 MB"]
    assert commands.said == ["venv", "install", "download", "install", "check"]
    assert venvs.missing(lock["packages"], wheels) == []


def test_killed_at_every_command(tmp_path: Path, lock: Dict[str, Any], commands: Commands) -> None:
    """Halfway through each command: nothing counts, and the next run makes it complete, with a clean cache."""
    for last in range(6):
        root = tmp_path / str(last)
        root.mkdir()
        commands.said, commands.last = [], last
        with pytest.raises(Killed):
            install(root, lock)
        folder = venvs.folder_of(root, NAME, lock)
        assert not store.is_whole(folder, lock["digest"])
        commands.last = -1
        assert install(root, lock) == folder
        assert store.is_whole(folder, lock["digest"])
        assert sorted(p.name for p in (folder / "lib").iterdir()) == sorted(p["file"] for p in lock["packages"])
        assert [p.name for p in (root / "cache").iterdir()] == ["wheels"]


def test_too_little_space_is_refused_before_anything_is_made(
    tmp_path: Path, lock: Dict[str, Any], commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five times the download is what the unpacked environment and its files may take."""
    packages = [{**p, "size": 100 * 10**6} for p in lock["packages"]]
    usage = shutil.disk_usage(str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1499 * 10**6))
    with pytest.raises(EnvironmentProblem, match=r"needs about 1500 MB .* 1499 MB are free") as caught:
        install(tmp_path, {**lock, "packages": packages})
    assert "Make room" in caught.value.next_step
    assert commands.said == []
    assert list((tmp_path / "store").iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1500 * 10**6))
    install(tmp_path, {**lock, "packages": packages})


def test_an_interpreter_that_is_missing_is_named(tmp_path: Path, lock: Dict[str, Any]) -> None:
    """Not a permission of the store, which is how the kernel's answer would read."""
    with pytest.raises(EnvironmentProblem, match=r"no /usr/bin/python3\.99") as caught:
        venvs.install(tmp_path, NAME, lock, "/usr/bin/python3.99", lambda text: None)
    assert caught.value.next_step == "Install it: apt-get install python3.99 python3.99-venv"


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", ArtifactError, "not the file"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            EnvironmentProblem,
            "no space",
        ),
        ("ERROR: No matching distribution found for x==1", EnvironmentProblem, "could not be fetched"),
    ],
)
def test_a_failed_download_is_told_by_its_cause(
    tmp_path: Path,
    lock: Dict[str, Any],
    house: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    error: Type[GpuhostError],
    words: str,
) -> None:
    """Each with its own exit code and next step, and half of the environment does not stay."""
    stand_in = Commands(house)

    def run(argv: Sequence[str], log: Path) -> None:
        stand_in(argv, log)
        if "download" in argv:
            raise CommandFailed(said.splitlines(), 1)

    monkeypatch.setattr(venvs, "run", run)
    with pytest.raises(error, match=words) as caught:
        install(tmp_path, lock)
    assert caught.value.next_step
    assert list((tmp_path / "store").iterdir()) == []
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["wheels"]


def test_a_pip_that_delivers_something_else_is_not_believed(
    tmp_path: Path, lock: Dict[str, Any], house: Path, commands: Commands
) -> None:
    """The checksum is taken again after pip's own: a file that fails it stays out of the cache."""
    path = house / "gpuhost_two-2.5-py3-none-any.whl"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ArtifactError, match="did not deliver gpuhost_two"):
        install(tmp_path, lock)
    assert not (tmp_path / "cache" / "wheels" / path.name).exists()


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "cannot be written")])
def test_the_disk_refuses(
    tmp_path: Path, lock: Dict[str, Any], monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    """An error number from anywhere inside becomes the user's problem, not a traceback."""

    def refuse(argv: Sequence[str], log: Path) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(venvs, "run", refuse)
    with pytest.raises(EnvironmentProblem, match=words):
        install(tmp_path, lock)


def test_a_failed_command_is_told_with_its_last_lines(tmp_path: Path) -> None:
    """The end of what it said, not the whole; the log has it all; what would lead pip astray is not handed on."""
    log = tmp_path / "log"
    program = "import os, sys; print(*range(100), sep='\\n'); print(os.environ.get('PYTHONPATH')); sys.exit(3)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", "/somewhere")
        with pytest.raises(CommandFailed) as caught:
            venvs.run([sys.executable, "-c", program], log)
    lines = str(caught.value).splitlines()
    assert lines[-2:] == ["99", "None"]
    assert len(lines) == TAIL
    assert len(log.read_text(encoding="utf-8").splitlines()) > 100
