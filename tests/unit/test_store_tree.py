"""The store: folders that count only when they are complete, whatever moment a run was killed at."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.host import store

from ..old_python import old_python
from .mounts import mounted

SOURCE = Path(__file__).resolve().parents[2] / "src"
FILES = {"pkg/__init__.py": "", "pkg/a.py": "A = 1\n", "readme": "é\n"}
OLD = {f"old/{number}": "1" for number in range(6)}
# Every call by which the store changes a disk; a run may end before each of them.
STEPS = (
    (os, "sync"),
    (os, "fsync"),
    (os, "unlink"),
    (os, "rmdir"),
    (os, "rename"),
    (os, "mkdir"),
    (os, "symlink"),
    (os, "open"),
    (os, "fchmod"),
)


OPEN = os.open


class Killed(BaseException):
    """The moment a run ends; no `except` of the store may catch it."""


class Steps:
    """Counts the store's steps, and ends the run before step `last` when one is given."""

    def __init__(self, last: int = -1) -> None:
        """Nothing is counted yet."""
        self.last = last
        self.count = 0

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, counted."""

        def step(*args: Any, **kwargs: Any) -> Any:
            if real is OPEN and not args[1] & os.O_CREAT:
                return real(*args, **kwargs)  # nothing changes by it
            if self.count == self.last:
                raise Killed
            self.count += 1
            return real(*args, **kwargs)

        return step


def gone(folder: Path) -> None:
    """A file is moved away."""
    (folder / "pkg/a.py").unlink()


def changed(folder: Path) -> None:
    """A file grows."""
    (folder / "readme").write_text("more than was there")


def added(folder: Path) -> None:
    """A file comes."""
    (folder / "pkg/b.py").write_text("")


def redirected(folder: Path) -> None:
    """A link leads elsewhere."""
    (folder / "link").unlink()
    (folder / "link").symlink_to("pkg/a.py")


@pytest.mark.parametrize("change", [gone, changed, added, redirected])
def test_what_was_changed_is_no_longer_whole(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """The marker alone would still say so; what Python keeps of compiled modules counts for nothing."""
    folder = tmp_path / "store" / "thing-1"
    (folder / "pkg").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "link").symlink_to("readme")
    store.seal(folder, {"digest": "1"})
    (folder / "pkg/__pycache__").mkdir()
    (folder / "pkg/__pycache__/a.cpython-311.pyc").write_bytes(b"x")
    assert store.is_whole(folder, "1")
    change(folder)
    assert not store.is_whole(folder, "1")


def test_the_marker_of_an_earlier_release_is_believed(tmp_path: Path) -> None:
    """It says nothing of files, and what it stands for need not be made anew."""
    (tmp_path / store.MARKER).write_text('{"digest": "1"}')
    (tmp_path / "file").write_text("")
    assert store.is_whole(tmp_path, "1") and not store.is_whole(tmp_path, "2")


def killed_at_each_step(act: Callable[[Path], Any], prepare: Callable[[Path], Any], folder: Path) -> Iterator[Path]:
    """Prepared roots on which `act` was killed before its first step, its second, ...; the last one ran to its end."""
    last = 0
    while True:
        root = folder / str(last)
        root.mkdir()
        prepare(root)
        steps = Steps(last)
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in STEPS:
                real = (lambda: None) if name == "sync" else getattr(owner, name)
                patch.setattr(owner, name, steps.wrap(real))
            try:
                act(root)
                ended = True
            except Killed:
                ended = False
        yield root
        if ended:
            break
        last += 1
    assert last > 8, "the steps were not counted"


def content(folder: Path) -> Dict[str, str]:
    """Every file of a folder but its marker."""
    names = (p for p in folder.rglob("*") if p.is_file() and p.name != store.MARKER)
    return {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in names}


def test_a_tree_is_written_once(tmp_path: Path) -> None:
    """The second call finds it complete and touches nothing, its own marker's time included."""
    folder = tmp_path / "store" / "x-1"
    assert store.write_tree(folder, FILES, "d1") is True
    assert content(folder) == FILES
    before = {p: p.stat().st_mtime_ns for p in [folder, *folder.rglob("*")]}
    assert store.write_tree(folder, FILES, "d1") is False
    assert {p: p.stat().st_mtime_ns for p in [folder, *folder.rglob("*")]} == before
    assert [p.name for p in folder.parent.iterdir()] == ["x-1"]


def test_another_digest_replaces_the_tree(tmp_path: Path) -> None:
    """No file of the old content stays."""
    folder = tmp_path / "store" / "x-1"
    store.write_tree(folder, {"old": "1"}, "d0")
    assert store.write_tree(folder, FILES, "d1") is True
    assert content(folder) == FILES
    assert store.is_whole(folder, "d1")
    assert not store.is_whole(folder, "d0")


def test_a_killed_write_is_never_half_counted(tmp_path: Path) -> None:
    """At every moment the tree is absent, the old one or the new one; the next run makes it complete."""
    act: Callable[[Path], Any] = lambda root: store.write_tree(root / "store" / "x", FILES, "new")  # noqa: E731 - one line
    prepare: Callable[[Path], Any] = lambda root: store.write_tree(root / "store" / "x", OLD, "old")  # noqa: E731 - one line
    for root in killed_at_each_step(act, prepare, tmp_path):
        folder = root / "store" / "x"
        if store.is_whole(folder, "new"):
            assert content(folder) == FILES
        elif store.is_whole(folder, "old"):
            assert content(folder) == OLD
        act(root)
        assert store.is_whole(folder, "new")
        assert content(folder) == FILES
        assert [p.name for p in folder.parent.iterdir()] == ["x"]


def test_an_old_tree_loses_its_marker_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is taken down in whatever order the disk gives; killed halfway, it must not look whole."""
    folder = tmp_path / "store" / "x"
    store.write_tree(folder, OLD, "old")

    def killed_halfway(path: str) -> None:
        if Path(path) != folder:
            return
        next(Path(path).rglob("0")).unlink()
        raise Killed

    monkeypatch.setattr(shutil, "rmtree", killed_halfway)
    with pytest.raises(Killed):
        store.write_tree(folder, FILES, "new")
    assert folder.exists()
    assert not store.is_whole(folder, "old")


@pytest.mark.parametrize("marker", ["", "{", "[]", '{"digest": "other"}', '{"no": "digest"}'])
def test_a_damaged_marker_counts_for_nothing(tmp_path: Path, marker: str) -> None:
    """A folder with a torn or foreign marker is made again."""
    folder = tmp_path / "store" / "x"
    folder.mkdir(parents=True)
    (folder / store.MARKER).write_text(marker, encoding="utf-8")
    (folder / "stale").write_text("1", encoding="utf-8")
    assert not store.is_whole(folder, "d1")
    assert store.write_tree(folder, FILES, "d1") is True
    assert content(folder) == FILES


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", ""])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing is written, neither outside nor inside."""
    with pytest.raises(EnvironmentProblem, match="leads out of the store"):
        store.write_tree(tmp_path / "store" / "x", {"good": "", name: "bad"}, "d1")
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "no space left"), (errno.EDQUOT, "no space left"), (errno.EACCES, "cannot be written")],
)
def test_a_disk_that_refuses_is_told_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    """The half-written folder does not go on filling the disk."""

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(EnvironmentProblem, match=says) as caught:
        store.write_tree(tmp_path / "store" / "x", FILES, "d1")
    assert caught.value.exit_code == 7
    assert caught.value.next_step
    assert list((tmp_path / "store").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 256 KiB."""
    with mounted(tmp_path / "small", "size=256k") as folder:
        yield folder


def test_a_really_full_disk(small_disk: Path) -> None:
    """The kernel's own ENOSPC: told, cleaned up, and a smaller tree then fits."""
    with pytest.raises(EnvironmentProblem, match="no space left"):
        store.write_tree(small_disk / "store" / "x", {f"f{n}": "x" * 40000 for n in range(9)}, "d1")
    assert list((small_disk / "store").iterdir()) == []
    assert store.write_tree(small_disk / "store" / "x", FILES, "d1") is True


def test_a_folder_without_permission(tmp_path: Path) -> None:
    """A normal user's run against a store of root."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; the refusal is tested above by its error number")
    (tmp_path / "store").mkdir(mode=0o555)
    with pytest.raises(EnvironmentProblem, match="Run as root"):
        store.write_tree(tmp_path / "store" / "x", FILES, "d1")


OLD_PROGRAM = """
import sys
from pathlib import Path
from gpuhost.host import store, venvs
root = Path(sys.argv[1])
print(store.write_tree(root / "store" / "x", {"a/b": "1"}, "d"), store.write_tree(root / "store" / "x", {}, "d"))
print(store.switch(root, {"v": 1}, {"venvs/x": "store/x"}), store.needs_switch(root, {"v": 1}, {"venvs/x": "store/x"}))
"""


def test_an_old_python_writes_the_same_store(tmp_path: Path) -> None:
    """Ubuntu 18.04's own Python runs these files."""
    said: List[str] = subprocess.run(
        [old_python(), "-B", "-c", OLD_PROGRAM, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert said == ["True", "False", "1", "False"]
    assert store.describe(tmp_path, 1) == {"stack": {"v": 1}, "links": {"venvs/x": "store/x"}}


def test_target_side_files_keep_to_python_3_6() -> None:
    """The floor of what travels with the modules of the store."""
    pytest.importorskip("vermin", reason="vermin is a lint tool and not part of every environment")
    modules = sorted((SOURCE.parent / "plugins" / "modules").glob("*.py"))
    package = [SOURCE / "gpuhost" / name for name in ("errors.py", "host/store.py", "host/venvs.py")]
    assert all(path.is_file() for path in package)
    check = [sys.executable, "-c", "import vermin; vermin.main()", "-t=3.6-", "--violations", "--no-tips"]
    done = subprocess.run([*check, *map(str, modules + package)], capture_output=True, text=True, check=False)
    assert modules
    assert done.returncode == 0, done.stdout
