"""The machine's own key: who can read it, and that its one-time password reaches mokutil and nobody else."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.host.driver import key as module_key
from gpuhost.host.work import Work

PASSWORD = "a-quiet-word"  # noqa: S105 - of a test
#: Takes the password as mokutil does, twice, and looks at what every process of this machine shows of itself.
MOKUTIL = """#!{python} -I
import glob, json, sys
lines = [sys.stdin.readline().strip() for _ in range(2)]
seen = {{}}
for path in glob.glob("/proc/[0-9]*/cmdline") + ["/proc/self/environ"]:
    try:
        seen[path] = open(path, "rb").read()
    except OSError:
        continue
showing = [path for path, text in seen.items() if {password!r} in text]
open({out!r}, "w").write(json.dumps([sys.argv[1:], lines, len(seen), showing]))
sys.exit({status})
"""


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The key's places, below a folder of the test."""
    folder = tmp_path / "mok"
    for name, value in (
        ("KEY_FOLDER", folder),
        ("PRIVATE", folder / "MOK.priv"),
        ("CERTIFICATE", folder / "MOK.der"),
    ):
        monkeypatch.setattr(module_key, name, str(value))
    return folder


def mokutil(folder: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> Path:
    """Put the stand-in on the path; where it writes down what it saw."""
    out, program = folder / "seen.json", folder / "bin" / "mokutil"
    program.parent.mkdir()
    text = MOKUTIL.format(python=sys.executable, password=PASSWORD.encode(), out=str(out), status=status)
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return out


@pytest.mark.parametrize("status", [0, 1])
def test_the_password_goes_through_standard_input_only(
    tmp_path: Path, moved: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """No process shows it in /proc/PID/cmdline, no environment, no log, and no message when it fails."""
    out, work = mokutil(tmp_path, monkeypatch, status), Work(tmp_path / "log", lambda text: None)
    told = ""
    try:
        module_key.request_enrolment(PASSWORD, work)
    except EnvironmentProblem as error:
        told = str(error)
    assert bool(told) == bool(status)
    argv, lines, looked_at, showing = json.loads(out.read_text(encoding="utf-8"))
    assert argv == ["--import", str(moved / "MOK.der")]
    assert lines == [PASSWORD, PASSWORD]
    assert looked_at > 2 and showing == []
    assert PASSWORD not in work.log.read_text(encoding="utf-8") + told


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_the_key_is_root_s_alone_whatever_the_umask_is(tmp_path: Path, moved: Path, mask: int) -> None:
    """The private half 0600 in a folder 0700; the certificate is public. The second time nothing is done."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    work, before = Work(tmp_path / "log", lambda text: None), os.umask(mask)
    try:
        assert module_key.make("box", work)
    finally:
        os.umask(before)
    modes: Dict[str, Any] = {p.name: stat.S_IMODE(p.stat().st_mode) for p in [moved, *moved.iterdir()]}
    assert modes == {"mok": 0o700, "MOK.priv": 0o600, "MOK.der": 0o644}
    said = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-in", str(moved / "MOK.der"), "-noout", "-subject"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "box gpuhost module signing" in said.stdout
    assert not module_key.make("box", work)


def test_what_a_killed_run_left_of_a_key_is_made_anew(tmp_path: Path, moved: Path) -> None:
    """A half-made pair in its own folder, or a key without its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    (moved / ".new").mkdir(parents=True)
    (moved / ".new" / "priv").write_text("half", encoding="utf-8")
    (moved / "MOK.priv").write_text("half", encoding="utf-8")
    assert module_key.make("box", Work(tmp_path / "log", lambda text: None))
    assert "half" not in (moved / "MOK.priv").read_text(encoding="utf-8")
    assert sorted(p.name for p in moved.iterdir()) == ["MOK.der", "MOK.priv"]
