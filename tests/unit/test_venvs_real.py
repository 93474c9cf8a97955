"""Environments made with real `python -m venv` and real pip, from a folder of tiny packages in place of an index.

`made` runs `python -m venv`; the tests after it take a copy of what it makes, which saves seconds each time.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from gpuhost.errors import ArtifactError, EnvironmentProblem
from gpuhost.host import files, store, venvs

from . import wheelhouse

pytestmark = pytest.mark.install

SOURCE = Path(__file__).resolve().parents[2] / "src"
NAME = "opencv_cuda"


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of packages: two wheels, one sdist, and a copy of the pip that this Python brings along."""
    folder = tmp_path_factory.mktemp("house")
    pip = wheelhouse.bundled_pip()
    if pip is None:
        pytest.skip("this Python brings no pip wheel along (ensurepip)")
    (folder / pip.name).write_bytes(pip.read_bytes())
    wheelhouse.wheel(folder, "gpuhost-one", "1.0")
    wheelhouse.wheel(folder, "gpuhost-two", "2.5")
    wheelhouse.sdist(folder)
    return folder


@pytest.fixture(scope="session")
def lock(house: Path) -> Dict[str, Any]:
    """The lock of everything in the house."""
    return wheelhouse.lock_of([wheelhouse.row(path) for path in house.iterdir()])


def only(house: Path) -> Dict[str, str]:
    """The settings by which pip sees the house and nothing else, and leaves nothing in its user's cache."""
    return {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_CACHE_DIR": str(house.with_name("pip-cache")),
        "PIP_FIND_LINKS": str(house),
    }


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, house: Path) -> Path:
    """pip sees the house and nothing else."""
    for name in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in only(house).items():
        monkeypatch.setenv(name, value)
    return house


@pytest.fixture(scope="session")
def made(house: Path, lock: Dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root on which the environment stands; tests that change it take a copy of its cache."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in only(house).items():
            patch.setenv(name, value)
        venvs.install(root, NAME, lock, sys.executable, lambda text: None)
    return root


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a Python whose `-I -m venv FOLDER` copies an environment that was made once."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-I", "-m", "venv", str(folder / "venv")], check=True)
    starter = folder / "python"
    starter.write_text(
        f'#!/bin/sh -eu\n[ "$1 $2 $3 $#" = "-I -m venv 4" ]\nexec cp -a {shlex.quote(str(folder / "venv"))} "$4"\n',
        encoding="utf-8",
    )
    starter.chmod(0o755)
    return str(starter)


def folder_in(root: Path, lock: Dict[str, Any]) -> Path:
    """The environment's folder."""
    return venvs.folder_of(root, NAME, lock)


def versions(folder: Path) -> str:
    """What the environment's own Python imports."""
    program = "import gpuhost_one as a, gpuhost_two as b, gpuhost_built as c; print(a.VERSION, b.VERSION, c.VERSION)"
    python = str(folder / "bin" / "python")
    return subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_the_environment_imports_and_is_not_made_twice(made: Path, lock: Dict[str, Any], house: Path) -> None:
    """All packages are there, each file of the lock is in the cache, and a second call changes nothing at all."""
    folder = folder_in(made, lock)
    assert versions(folder) == "1.0 2.5 1.0"
    assert store.is_whole(folder, lock["digest"])
    cached = {p.name: files.sha256(p) for p in (made / "cache" / "wheels").iterdir()}
    assert cached == {p["file"]: p["sha256"] for p in lock["packages"]}
    assert sorted(p.name for p in (made / "cache").iterdir()) == ["wheels"]
    assert not (house.with_name("pip-cache")).exists()  # of the user who runs it
    before = {p: p.lstat().st_mtime_ns for p in [folder, *folder.rglob("*")]}
    said: List[str] = []
    assert venvs.install(made, NAME, lock, sys.executable, said.append) == folder
    assert said == []
    assert {p: p.lstat().st_mtime_ns for p in [folder, *folder.rglob("*")]} == before


def copy_cache(made: Path, root: Path) -> Path:
    """A new root with the cache of one on which the environment stands."""
    wheels = root / "cache" / "wheels"
    wheels.mkdir(parents=True)
    for path in (made / "cache" / "wheels").iterdir():
        (wheels / path.name).write_bytes(path.read_bytes())
    return wheels


def test_a_wheel_that_was_built_here_is_not_taken_for_the_indexs(
    made: Path, lock: Dict[str, Any], offline: Path, python: str, tmp_path: Path
) -> None:
    """Both lie in the cache once a card was swapped out: 1.0+built is 1.0 for pip's ==, and preferred."""
    wheelhouse.wheel(copy_cache(made, tmp_path), "gpuhost-one", "1.0+built")
    assert versions(venvs.install(tmp_path, NAME, lock, python, lambda text: None)) == "1.0 2.5 1.0"


def test_a_file_that_is_not_the_lock_s_is_refused(
    made: Path, lock: Dict[str, Any], offline: Path, python: str, tmp_path: Path
) -> None:
    """An index that serves another file under the name: exit code 6, nothing sealed, the file in no cache."""
    wheels = copy_cache(made, tmp_path)
    pip = next(wheels.glob("pip-*"))
    pip.unlink()
    wrong = {**lock, "packages": [{**p, "sha256": "0" * 64} if p["name"] == "pip" else p for p in lock["packages"]]}
    with pytest.raises(ArtifactError, match="not the file of the lock") as caught:
        venvs.install(tmp_path, NAME, wrong, python, lambda text: None)
    assert caught.value.exit_code == 6
    assert list((tmp_path / "store").iterdir()) == []
    assert not pip.exists()
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["wheels"]


def test_without_a_network_the_next_step_is_told(
    made: Path, lock: Dict[str, Any], offline: Path, python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No index, no folder of packages, one file missing in the cache; an environment that stands is left standing."""
    monkeypatch.delenv("PIP_FIND_LINKS")
    wheels = copy_cache(made, tmp_path)
    next(wheels.glob("pip-*")).unlink()
    standing = folder_in(tmp_path, {**lock, "digest": "ffffffffffff"})
    store.write_tree(standing, {}, "ffffffffffff")
    with pytest.raises(EnvironmentProblem, match="could not be fetched") as caught:
        venvs.install(tmp_path, NAME, lock, python, lambda text: None)
    assert "Check the network" in caught.value.next_step
    assert caught.value.exit_code == 7
    assert not folder_in(tmp_path, lock).exists()
    assert store.is_whole(standing, "ffffffffffff")


INSTALL = """
import json, os, signal, sys
from pathlib import Path
from gpuhost.host import venvs
root, lock, python, last = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
def say(text):
    print(text, flush=True)
    if last and text.startswith(last):
        os.kill(os.getpid(), signal.SIGKILL)
venvs.install(root, "opencv_cuda", lock, python, say)
"""


def start(root: Path, lock: Dict[str, Any], python: str, last: str = "") -> subprocess.Popen[str]:
    """A run in a process of its own, which kills itself at the step that begins with `last`."""
    return subprocess.Popen(
        [sys.executable, "-c", INSTALL, str(root), json.dumps(lock), python, last],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until a file is there; a process that ends before it has failed."""
    while not path.exists():
        assert process.poll() is None, process.communicate()
        os.sched_yield()


def test_killed_at_the_end_and_finished_without_a_network(
    made: Path, lock: Dict[str, Any], offline: Path, python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is installed, only the seal is missing: it does not count, and the cache alone is enough to make it again."""
    monkeypatch.delenv("PIP_FIND_LINKS")
    copy_cache(made, tmp_path)
    with start(tmp_path, lock, python, "checking") as killed:
        assert killed.wait() == -signal.SIGKILL
    folder = folder_in(tmp_path, lock)
    assert (folder / "bin" / "python").exists()
    assert not store.is_whole(folder, lock["digest"])
    (folder / "stale").touch()
    assert versions(venvs.install(tmp_path, NAME, lock, python, lambda text: None)) == "1.0 2.5 1.0"
    assert not (folder / "stale").exists()


def test_a_killed_run_s_pip_is_waited_for(
    made: Path, lock: Dict[str, Any], offline: Path, python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is killed while its pip builds a package; pip goes on, and nobody may make the same folder beside it.

    Also what two runs at once do: the second says that it waits, takes its turn, and ends with a whole environment.
    """
    copy_cache(made, tmp_path)
    gate = tmp_path / "gate"
    gate.touch()
    monkeypatch.setenv(wheelhouse.GATE, str(gate))
    with start(tmp_path, lock, python) as first:
        wait_for(tmp_path / "at-the-gate", first)
        first.kill()
    folder = folder_in(tmp_path, lock)
    (folder / "of-the-first").touch()
    try:
        with start(tmp_path, lock, python) as second:
            assert second.stdout is not None
            waiting = second.stdout.readline()
            if "making the environment opencv_cuda" not in waiting:
                gate.unlink()  # else leaving this block would wait for ever
            told = f"(process {first.pid}, which has ended, while something that it started goes on)"
            assert (
                "Another run is changing this host: making the environment opencv_cuda" in waiting and told in waiting
            )
            assert (folder / "of-the-first").exists(), "the folder was taken down under a working pip"
            gate.unlink()
            said = second.stdout.read()
            assert second.wait() == 0, second.communicate()
    finally:
        if gate.exists():
            gate.unlink()
    assert "making the environment" in said
    assert not (folder / "of-the-first").exists()
    assert store.is_whole(folder, lock["digest"])
    assert versions(folder) == "1.0 2.5 1.0"
