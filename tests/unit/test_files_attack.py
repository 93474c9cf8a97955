"""Root writes into a folder that another user owns and fights for: no file outside it is ever changed."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.host import files
from gpuhost.host.edges import Edges
from gpuhost.host.watch import install as watch_install
from gpuhost.host.watch import run as watch_run

NOBODY = 65534
ROUNDS = 150
#: Puts symbolic links in the way as fast as it can: at the names of files, at temporary names that it sees, and in the
#: place of the folder itself, until its standard input ends.
ATTACKER = """
import contextlib, os, select, sys
# A Python that stands in root's home can be started by root only.
os.setgroups([]), os.setgid(65534), os.setuid(65534)
base, victims, names = sys.argv[1], sys.argv[2], sys.argv[3:]
folder, aside = os.path.join(base, "textfile"), os.path.join(base, "aside")
print("ready", flush=True)
turn = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    turn += 1
    for name in names:
        for there in (name, name + ".new"):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, there))
            with contextlib.suppress(OSError):
                os.symlink(os.path.join(victims, "file"), os.path.join(folder, there))
    with contextlib.suppress(OSError):
        for there in os.listdir(folder):
            if there.endswith(".new"):
                os.unlink(os.path.join(folder, there))
                os.symlink(os.path.join(victims, "file"), os.path.join(folder, there))
    if turn % 3 == 0:
        with contextlib.suppress(OSError):
            os.rename(folder, aside)
            os.symlink(victims, folder)
            for _ in range(200):
                os.lstat(folder)
            os.unlink(folder)
        with contextlib.suppress(OSError):
            os.rename(aside, folder)
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder of the other user's, and what it wants to get at."""
    if os.geteuid() != 0:
        pytest.skip("a second user needs root")
    for path in [tmp_path, *tmp_path.parents]:
        if path.stat().st_uid == 0 and str(path).startswith("/tmp/pytest"):  # noqa: S108 - pytest's own, closed to others
            path.chmod(0o755)
    victims = tmp_path / "victims"
    victims.mkdir()
    (victims / "file").write_text("precious", encoding="utf-8")
    (victims / "file").chmod(0o600)
    found = tmp_path / "base"
    (found / "textfile").mkdir(parents=True)
    for path in (found, found / "textfile"):
        os.chown(str(path), NOBODY, NOBODY)
    return found


@contextlib.contextmanager
def attacked(base: Path, *names: str) -> Iterator[None]:
    """The other user at work."""
    argv = [sys.executable, "-c", ATTACKER, str(base), str(base.parent / "victims"), *names]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            process.stdin.close()


def outside(base: Path) -> Dict[str, Any]:
    """What is in the victims' folder, with modes and owners."""
    found = {}
    for path in [base.parent / "victims", *sorted((base.parent / "victims").rglob("*"))]:
        seen = path.lstat()
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        found[path.name] = (text, stat.S_IMODE(seen.st_mode), seen.st_uid, stat.S_IFMT(seen.st_mode), seen.st_ino)
    return found


def appended(path: Path) -> None:
    """A line behind a log."""
    with files.appended(path) as handle:
        handle.write(b"line\n")


def fresh(path: Path) -> None:
    """A file that is to be new."""
    with files.new(path) as handle:
        handle.write(b"line\n")


def locked(path: Path) -> None:
    """A lock."""
    with files.held(path, "testing"):
        pass


def moved(path: Path) -> None:
    """A file that is complete elsewhere."""
    source = path.parent.parent.parent / "source"
    source.write_text("moved", encoding="utf-8")
    files.put(source, path)


WRITERS: Dict[str, Callable[[Path], Any]] = {
    "write_whole": lambda path: files.write_whole(path, "metrics"),
    "new": fresh,
    "appended": appended,
    "put": moved,
    "link": lambda path: files.link("/nowhere", path),
    "remove": files.remove,
    "held": locked,
    "make_folder": lambda path: files.make_folder(path / "deep" / "er"),
    "make_private": lambda path: files.make_private(path),
}


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_race_of_links_changes_nothing_outside(base: Path, name: str) -> None:
    """Each round ends as meant, inside the folder, or in an error; what root must not touch stays as it was."""
    before = outside(base)
    with attacked(base, "x.prom"):
        for _ in range(ROUNDS):
            with contextlib.suppress(OSError):
                WRITERS[name](base / "textfile" / "x.prom")
    assert outside(base) == before


@pytest.mark.parametrize("planted", ["gpuhost_watch.prom.new", "gpuhost_watch.prom", "parent"])
def test_a_planted_link_is_not_followed(base: Path, planted: str) -> None:
    """The service user's trick, without a race."""
    folder, victims = base / "textfile", base.parent / "victims"
    if planted == "parent":
        folder.rmdir()
        folder.symlink_to(victims)
        os.chown(str(folder), NOBODY, NOBODY, follow_symlinks=False)
    else:
        (folder / planted).symlink_to(victims / "file")
    before = outside(base)
    with contextlib.suppress(OSError):
        files.write_whole(folder / "gpuhost_watch.prom", "metrics\n")
    assert outside(base) == before
    if planted == "parent":
        with pytest.raises(OSError, match="a symbolic link that another user can change"):
            files.write_whole(folder / "gpuhost_watch.prom", "metrics\n")
    else:
        assert (folder / "gpuhost_watch.prom").read_text(encoding="utf-8") == "metrics\n"


def test_the_watch_in_a_folder_that_is_fought_for(base: Path) -> None:
    """Put on, looking, and taken away: the service user's folder never leads root out."""
    host = base.parent / "host"
    (host / "var/lib").mkdir(parents=True)
    (host / "var/lib/prometheus").symlink_to(base)  # root's own link, which is followed
    (host / "opt/gpuhost/store/watch-1").mkdir(parents=True)
    edges, before = Edges(str(host), lambda argv, timeout: (0, "", "")), outside(base)
    folder = "/var/lib/prometheus/textfile"
    with attacked(base, watch_run.TEXTFILE):
        for _ in range(20):
            with contextlib.suppress(EnvironmentProblem):
                watch_install.present(edges, "/opt/gpuhost", "watch-1", folder, False)
            watch_run.main(["--patience", "0"], edges)
            with contextlib.suppress(EnvironmentProblem):
                watch_install.absent(edges, "/opt/gpuhost", folder, False)
    assert outside(base) == before


def test_root_s_own_links_are_followed(tmp_path: Path) -> None:
    """A store on another disk, reached by links that only root can change."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "opt").symlink_to("a/../link")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    files.write_whole(tmp_path / "opt" / "deep" / "x", "1")
    assert (tmp_path / "disk" / "deep" / "x").read_text(encoding="utf-8") == "1"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic link"):
        files.write_whole(tmp_path / "loop" / "x", "1")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(NotADirectoryError):
        files.write_whole(tmp_path / "file" / "x", "1")


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    """Neither a world that may write nor users who cannot read."""
    before = os.umask(mask)
    try:
        files.write_whole(tmp_path / "a" / "b" / "whole", "1")
        files.write_whole(tmp_path / "a" / "program", "1", 0o755)
        fresh(tmp_path / "a" / "new")
        appended(tmp_path / "a" / "log")
        files.make_private(tmp_path / "private")
        with files.held(tmp_path / "lock", "testing"):
            pass
        moved(tmp_path / "a" / "b" / "put")
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    expected = {"a": 0o755, "b": 0o755, "whole": 0o644, "program": 0o755, "new": 0o644, "log": 0o644, "put": 0o644}
    assert modes == {**expected, "private": 0o700, "lock": 0o600}


def test_no_other_user_can_hold_the_lock(base: Path) -> None:
    """Not even one that was left by an earlier release, open to all."""
    lock = base.parent / "lock"
    lock.touch(mode=0o644)
    with files.held(lock, "testing"):
        pass
    program = (
        f"import fcntl, os, sys\nos.setgid({NOBODY}), os.setuid({NOBODY})\n"
        "try:\n    fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX)\nexcept OSError as error:\n    print(error.errno)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(lock)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "13\n", done.stderr


def test_what_a_killed_writer_left_is_taken_away(tmp_path: Path) -> None:
    """And what a living one is at is not."""
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom gpuhost.host import files\n"
        "with files.whole(Path(sys.argv[1])) as handle:\n    handle.write(b'half')\n    handle.flush()\n"
        "    if len(sys.argv) > 2: os.kill(os.getpid(), 9)\n    print('in', flush=True)\n    input()\n"
    )
    argv = [sys.executable, "-c", program, str(tmp_path / "x")]
    assert subprocess.run([*argv, "die"], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living:
        assert living.stdin is not None and living.stdout is not None and living.stdout.readline() == "in\n"
        files.write_whole(tmp_path / "x", "mine")
        assert sorted(p.name[:3] for p in tmp_path.iterdir()) == [".x.", "x"]
        living.stdin.write("\n")
        living.stdin.close()
        living.wait()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text(encoding="utf-8") == "half"
