"""The one runner of commands: who starts a process, what is ended with it, and how a failure is told."""

from __future__ import annotations

import ast
import os
import select
import sys
from pathlib import Path
from typing import Iterator, List

import pytest

from gpuhost.cvbuild import commands as build_commands
from gpuhost.host import commands

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for top in ("src", "plugins", "verify", "build") for path in (ROOT / top).rglob("*.py"))
#: Who else starts a process, with the reason.
EXCEPTIONS = {
    "src/gpuhost/host/commands.py": "the runner",
    "src/gpuhost/cli/child.py": "its child has the user's terminal, and nothing of it is read",
}
#: A shell that starts a child, says something and waits.
FAMILY = "sleep 600 & echo said; wait"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_module_starts_processes(path: Path) -> None:
    """Another one would have its own idea of bounds, PATH, secrets and of what is ended with a command."""
    started = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and getattr(node.func.value, "id", "") in ("subprocess", "os")
        and node.func.attr in ("Popen", "run", "call", "check_call", "check_output", "system", "popen", "fork")
    ]
    assert bool(started) == (str(path.relative_to(ROOT)) in EXCEPTIONS), started


@pytest.fixture
def family() -> Iterator[int]:
    """Let what is started inherit a pipe, whose end is read when the last of them has ended."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    yield write
    os.close(write)
    ended = select.select([read], [], [], 20)[0]
    os.close(read)
    assert ended, "a child outlives its command"


def test_what_a_command_has_started_is_ended_with_it(family: int) -> None:
    """Else what hangs, or never stops talking, goes on in a child of the command."""
    with pytest.raises(commands.TooMuch):
        commands.bounded(["sh", "-c", FAMILY], most=1, pass_fds=(family,))


def test_a_listener_that_gives_up_ends_the_command(tmp_path: Path, family: int) -> None:
    """As when CMake begins to download: nothing that it has started goes on."""

    def stop(line: str) -> None:
        raise KeyError(line)

    with pytest.raises(KeyError):
        commands.follow(["sh", "-c", FAMILY], tmp_path / "log", stop)


def test_a_failure_without_a_word_is_a_failure(tmp_path: Path) -> None:
    """Its status is all that can be told; a build that took silence for success went on with nothing."""
    for run in (commands.follow, build_commands.follow):
        with pytest.raises(commands.CommandFailed, match="It ended with status 3"):
            run(["sh", "-c", "exit 3"], tmp_path / "log", lambda _: None)
    with pytest.raises(commands.CommandFailed, match="It ended with status 4"):
        commands.logged(["sh", "-c", "exit 4"], tmp_path / "log", lambda _: None)


def test_the_environment_is_plain_and_finds_the_system_s_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's PATH often lacks /usr/sbin; an empty PATH must not begin with a colon, which is the working folder."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("PYTHONPATH", "/x")
    monkeypatch.setenv("PATH", "/mine")
    found = commands.environment(["PYTHONPATH"], MORE="1")
    assert (found["LC_ALL"], found["MORE"]) == ("C", "1") and "PYTHONPATH" not in found
    assert found["PATH"] == f"/mine:{commands.PATH}"
    monkeypatch.delenv("PATH")
    assert commands.environment()["PATH"] == commands.PATH


def test_logged_goes_on_without_us_and_tells_whole_lines(tmp_path: Path) -> None:
    """Its output is the log itself, so that dpkg meets no broken pipe when this process is killed."""
    told: List[str] = []
    log = tmp_path / "a" / "log"
    target = "print(os.readlink('/proc/self/fd/1')); print(sys.stdin.read())"
    commands.logged([sys.executable, "-c", f"import os, sys; {target}"], log, told.extend, stdin=b"secret word")
    assert told == [str(log), "secret word"]
    assert log.read_text(encoding="utf-8").startswith("$ ")
    assert log.stat().st_mode & 0o777 == 0o644
