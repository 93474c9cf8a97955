"""What the long commands of a host inherit: the lock, and where their temporary files go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.host import files, opencv_job, store, venvs
from gpuhost.host.commands import LONGEST_STEP
from gpuhost.host.work import Work
from gpuhost.text import printable

from .mounts import mounted

#: Says where its temporary files would go and what is open in it; a builder says it to the error output.
ASK = """
import os, sys
found = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
there = [os.readlink(name) for name in found if os.path.exists(name)]
print(os.environ.get("TMPDIR"), *there, file=getattr(sys, WHERE))
sys.exit(STATUS)
"""
SAY = ASK.replace("WHERE", "'stdout'").replace("STATUS", "0")
FAIL = ASK.replace("WHERE", "'stderr'").replace("STATUS", "3")


def said(log: Path) -> str:
    """The last line of a log."""
    return log.read_text(encoding="utf-8").splitlines()[-1]


def test_apt_and_an_installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """apt works as another user too, and takes the system's folder; NVIDIA's installer unpacks and runs in ours."""
    monkeypatch.setenv("TMPDIR", "/noexec")
    work = Work(tmp_path / "log" / "driver.log", lambda text: None)
    with work.turn(tmp_path, "testing", False):
        work.run([sys.executable, "-c", SAY])
        assert said(work.log).startswith("None ") and f"{tmp_path}/lock" in said(work.log)
        work.run([sys.executable, "-c", SAY], own_tmp=True)
        assert said(work.log).startswith(f"{tmp_path / store.TEMPORARY} ") and f"{tmp_path}/lock" in said(work.log)


def test_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip runs what it unpacks when it builds."""
    monkeypatch.setenv("TMPDIR", "/noexec")
    with store.changing(tmp_path, "testing"):
        venvs.run([sys.executable, "-c", SAY], tmp_path / "log" / "x.log")
    assert said(tmp_path / "log" / "x.log").startswith(f"{tmp_path / store.TEMPORARY} ")
    assert f"{tmp_path}/lock" in said(tmp_path / "log" / "x.log")


def test_the_builder_of_opencv(tmp_path: Path) -> None:
    """It goes on when the run that started it is killed, so it must keep the lock."""
    told: List[str] = []
    log = tmp_path / "log" / "opencv.log"
    with store.changing(tmp_path, "testing"), pytest.raises(EnvironmentProblem, match="builder stopped"):
        opencv_job.build([sys.executable, "-c", FAIL], log, told.append)
    title = " ".join(["$", sys.executable, "-c", FAIL, ""])[:-1] + "\n"
    logged = log.read_text(encoding="utf-8").replace(title, "", 1).splitlines()
    assert any(f"{tmp_path}/lock" in line for line in logged)
    assert [printable(line, LONGEST_STEP) for line in logged] == told


@pytest.fixture
def noexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Mount a folder for temporary files in which nothing can be run, as hardened hosts have it."""
    with mounted(tmp_path / "noexec", "size=1m,noexec") as folder:
        monkeypatch.setenv("TMPDIR", str(folder))
        yield folder


#: As makeself's archives do: unpack into a folder for temporary files, then run what was unpacked.
UNPACKS = 'd=$(mktemp -d) && printf "#!/bin/sh\\necho ran\\n" >"$d/run" && chmod 755 "$d/run" && "$d/run"'


def test_where_nothing_can_be_run(noexec: Path, tmp_path: Path) -> None:
    """The control fails there; what this project starts does not."""
    alone = subprocess.run(["sh", "-c", UNPACKS], capture_output=True, text=True, check=False)
    assert alone.returncode != 0 and "ermission denied" in alone.stderr
    root = tmp_path / "opt"
    work = Work(root / "log" / "driver.log", lambda text: None)
    with work.turn(root, "testing", False):
        work.run(["sh", "-c", UNPACKS], own_tmp=True)
        assert said(work.log) == "ran"
        venvs.run(["sh", "-c", UNPACKS], root / "log" / "pip.log")
        assert said(root / "log" / "pip.log") == "ran"
        with files.temporary() as folder:
            assert folder.parent == root / store.TEMPORARY


def test_nothing_of_ours_is_left_in_the_environment(tmp_path: Path) -> None:
    """Also where there was no TMPDIR."""
    before: Tuple[Dict[str, str], int] = dict(os.environ), os.umask(0o027)
    try:
        os.environ.pop("TMPDIR", None)
        with store.changing(tmp_path, "testing"):
            pass
        assert "TMPDIR" not in os.environ
        assert os.umask(0o027) == 0o027
    finally:
        os.environ.update(before[0])
        os.umask(before[1])
