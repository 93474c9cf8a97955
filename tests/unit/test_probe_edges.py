"""The probe's edges: commands that fail in every way, and files that are not what they seem."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuhost.host import edges as probe_edges
from gpuhost.host.commands import NOT_FOUND, NOT_RUNNABLE, TIMED_OUT, run_command
from gpuhost.host.edges import Edges


def no_command(argv: object, timeout: float) -> tuple[int, str, str]:
    """A machine on which nothing may be run."""
    raise AssertionError(f"{argv} was run")


def test_a_command_gives_status_and_both_outputs() -> None:
    """Nothing of the three may be lost; bytes that are no UTF-8 do not stop the reader."""
    program = "import sys; sys.stdout.buffer.write(b'out\\xff'); sys.stderr.write('err'); sys.exit(3)"
    assert run_command([sys.executable, "-c", program], 60) == (3, "out\ufffd", "err")


def test_a_command_speaks_english_and_reads_nothing() -> None:
    """Parsers read English, and a tool that asks a question must not wait for an answer or take ours."""
    inner = "import os, sys; print(os.environ['LC_ALL'], repr(sys.stdin.read()))"
    call = f"run_command([{sys.executable!r}, '-c', {inner!r}], 60)"
    outer = f"from gpuhost.host.commands import run_command; print({call})"
    source = str(Path(__file__).resolve().parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-c", outer],
        input="not for the command\n",
        env=dict(os.environ, PYTHONPATH=source),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == repr((0, "C ''\n", ""))


def test_a_command_that_is_not_there_or_not_runnable(tmp_path: Path) -> None:
    """Absent and broken are told apart, because an absent nvidia-smi is not an error."""
    assert run_command(["no-such-command-here"], 60)[0] == NOT_FOUND
    (tmp_path / "tool").write_text("", encoding="utf-8")
    assert run_command([str(tmp_path / "tool")], 60)[0] == NOT_RUNNABLE


def test_a_command_that_does_not_end_is_killed() -> None:
    """A card that fell off the bus makes nvidia-smi hang."""
    code, _, words = run_command([sys.executable, "-c", "import time; time.sleep(600)"], 0.2)
    assert code == TIMED_OUT
    assert "no answer" in words


def test_what_is_not_there_is_none_and_no_problem(tmp_path: Path) -> None:
    """Most files are absent on most machines."""
    edges = Edges(str(tmp_path), no_command)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert edges.text("/absent") is None
    assert edges.text("/file/below-a-file") is None
    assert edges.names("/absent") is None
    assert edges.link_name("/absent") is None
    assert edges.problems == []


def test_a_pipe_in_a_files_place_is_not_read(tmp_path: Path) -> None:
    """Opening a named pipe waits for a writer for ever."""
    os.mkfifo(str(tmp_path / "pipe"))
    assert Edges(str(tmp_path), no_command).text("/pipe") is None


def test_what_is_there_and_cannot_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sysfs answers some reads with an error; root may read anything, so the error is made here."""
    (tmp_path / "file").write_text("x", encoding="utf-8")

    def broken(path: Path, limit: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(probe_edges, "content", broken)
    edges = Edges(str(tmp_path), no_command)
    assert edges.text("/file") is None
    assert edges.problems == [{"what": "/file", "error": "It cannot be read: Input/output error."}]


def test_a_plain_file_in_a_links_place_is_a_problem(tmp_path: Path) -> None:
    """The kernel always makes `driver` a link."""
    (tmp_path / "driver").write_text("x", encoding="utf-8")
    edges = Edges(str(tmp_path), no_command)
    assert edges.link_name("/driver") is None
    assert [problem["what"] for problem in edges.problems] == ["/driver"]
