"""Ctrl-C: what was started ends, on a host too; exit code 130, what to type, and no traceback.

The signal is sent when a program that the command has started says that it runs, never after a pause.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from gpuhost.shipping import bundle

ROOT = Path(__file__).resolve().parents[2]
INTERRUPTED = 130
LIMIT_S = 60


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Return the name of a pipe in which a program says that it runs."""
    path = tmp_path / "ready"
    os.mkfifo(path)
    return path


@pytest.fixture
def ready(pipe: Path) -> Iterator[int]:
    """Give the reading end of that pipe."""
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def endless(folder: Path, ready: Path, *names: str) -> Path:
    """Make programs that say that they run, hold the pipe open, and run for ever; return their folder.

    They say it after they have printed more than a pipe holds: then whoever has started them waits for them.
    """
    folder.mkdir()
    text = f"#!/bin/sh\nhead -c 300000 /dev/zero\nexec 3> {shlex.quote(str(ready))}\necho up >&3\nexec sleep 100000\n"
    for name in names:
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def waits(line: List[str], ready: int, env: Dict[str, str]) -> subprocess.Popen[str]:
    """Start a command as a shell with a terminal does, in a group of its own; return it when its program runs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_", "CI"))}
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # Where the suite itself runs in the background of a shell, Ctrl-C is ignored, and so it would be here.
    kept_signal = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(line, cwd=ROOT, env={**kept, **env}, text=True, start_new_session=True, **outputs)
    finally:
        signal.signal(signal.SIGINT, kept_signal)
    assert select.select([ready], [], [], LIMIT_S)[0], "it was not started"
    # Two threads may each have started one.
    assert os.read(ready, 100).startswith(b"up\n")
    return process


def interrupted(line: List[str], ready: int, env: Dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Interrupt a command's group when its program runs; return how it ended."""
    process = waits(line, ready, env)
    try:
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    return subprocess.CompletedProcess(line, process.returncode, out, err)


def ended(ready: int) -> bool:
    """Return whether the program ends: it alone holds the other end of the pipe."""
    return bool(select.select([ready], [], [], LIMIT_S)[0]) and os.read(ready, 100) == b""


def path_with(folder: Path) -> str:
    """Return a PATH in which a folder comes first."""
    return os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.mark.parametrize("words", [["plan"], ["doctor"]])
def test_a_command_that_reads_this_machine(tmp_path: Path, pipe: Path, ready: int, words: List[str]) -> None:
    """While a program of the machine answers; it is ended with it."""
    programs = endless(tmp_path / "bin", pipe, "dpkg-query")
    line = [sys.executable, "-m", "gpuhost.cli", *words]
    done = interrupted(line, ready, {"PATH": path_with(programs)})
    assert (done.returncode, done.stdout) == (INTERRUPTED, "")
    assert "Traceback" not in done.stderr and "the same command again" in done.stderr.lower()
    assert ended(ready)


def test_a_verification_ends_what_it_has_started(tmp_path: Path, pipe: Path, ready: int) -> None:
    """While the host is read, in a thread; `timeout`, by which it is started, puts it into a group of its own."""
    programs = endless(tmp_path / "bin", pipe, "dpkg-query")
    line = [sys.executable, "-m", "pytest", "verify/", "-p", "no:cacheprovider", f"--gpuhost-reports={tmp_path / 'to'}"]
    done = interrupted(line, ready, {"PATH": path_with(programs)})
    assert done.returncode == INTERRUPTED, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr and "./run pytest verify/" in done.stdout
    assert not (tmp_path / "to").exists(), "half a verification is not a report"
    assert ended(ready)


def test_a_program_that_was_sent_ends_when_nobody_reads_its_answer(tmp_path: Path, pipe: Path, ready: int) -> None:
    """The connection is gone, and with it the reader of its output: nothing else tells a host."""
    (tmp_path / "root" / "current").mkdir(parents=True)
    command = bundle.command(sys.executable, "host.probe.installed", {"root": str(tmp_path / "root")})
    programs = endless(tmp_path / "bin", pipe, "dpkg-query")
    process = waits(["/bin/sh", "-c", command], ready, {"PATH": path_with(programs)})
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(LIMIT_S) != 0 and ended(ready)
    process.stderr.close()


PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars: {{ansible_python_interpreter: {python}}}
  tasks:
    - ansible.builtin.command: {{argv: ["{program}"]}}
"""


def test_a_play_says_what_is_left_to_do(tmp_path: Path, pipe: Path, ready: int) -> None:
    """In the middle of a task."""
    program = endless(tmp_path / "bin", pipe, "dpkg-query") / "dpkg-query"
    (tmp_path / "play.yml").write_text(PLAY.format(program=program, python=sys.executable))
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    line = [ansible, "-i", "localhost,", str(tmp_path / "play.yml")]
    done = interrupted(line, ready, {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")})
    assert done.returncode == INTERRUPTED, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr and "the same command again" in done.stderr.lower()
    assert ended(ready)
