"""motionEye 0.44.0 itself, from the package index, and the command that Motion runs, against a real server.

`python -m tests.unit.test_hook_motioneye PYTHON`, with a Python that has motionEye, records again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Dict, List

import pytest

from gpuhost.service import form as forms
from gpuhost.service import hook_forms

from .loopback import Loopback, Request

RECORDING = Path(__file__).parents[1] / "data" / "motioneye" / "webhook.json"
VERSION = "0.44.0"
METHODS = ("GET", "POST", "POSTf", "POSTj")
QUERY = "camera=1&event=07&what=motion+at+door&twice=1&twice=2"
JPEG = b"\xff\xd8\xff\xe0 not really\r\n--a picture\xff\xd9"


def told_to(python: Path, method: str, url: str, home: Path) -> str:
    """Run motionEye's web hook, as Motion does; what it says on its error stream."""
    program = "import sys; from motioneye import meyectl; sys.exit(meyectl.main())"
    (home / "motioneye.conf").write_text("log_level quiet\n", encoding="ascii")
    line = [str(python), "-c", program, "webhook", "-c", str(home / "motioneye.conf"), method, url]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, cwd=str(home)).stderr


def told(python: Path, method: str, home: Path) -> Request:
    """What motionEye's web hook sends."""
    with Loopback() as server:
        said = told_to(python, method, f"{server.url}/hooks/motioneye?{QUERY}", home)
        assert len(server.requests) == 1, said
        return server.requests[0]


def recorded(request: Request) -> Dict[str, Any]:
    """What of a request does not change with the machine and its Python."""
    return {
        "method": request.method,
        "path": request.path,
        "content_type": request.headers.get("content-type"),
        "content_length": request.headers.get("content-length"),
        "connection": request.headers.get("connection"),
        "agent": request.headers["user-agent"].partition("/")[0],
        "body": request.body.decode("ascii"),
    }


@pytest.fixture(scope="module")
def motioneye(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has motionEye; it is kept for the next run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "gpuhost-tests"
    home = cache / f"motioneye-{VERSION}-py{sys.version_info[0]}{sys.version_info[1]}"
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        venv.create(home, clear=True, with_pip=True)
        line = [str(python), "-m", "pip", "install", "--quiet", f"motioneye=={VERSION}"]
        subprocess.run(line, check=True, timeout=600)
        (home / "complete").touch()
    return python


@pytest.mark.install
@pytest.mark.parametrize("method", METHODS)
def test_motioneye_sends_what_is_recorded(method: str, motioneye: Path, tmp_path: Path) -> None:
    """The tests of the forms rest on this recording."""
    row = json.loads(RECORDING.read_text(encoding="utf-8"))
    assert row["version"] == VERSION
    assert recorded(told(motioneye, method, tmp_path)) == row["requests"][method]


@pytest.mark.install
def test_motioneye_keeps_the_command_whole(motioneye: Path) -> None:
    """It cuts commands at each ;, and takes what looks like its own web hook for that when it reads them back."""
    program = "import json, sys; from motioneye import utils; print(json.dumps(utils.split_semicolon(sys.argv[1])))"
    done = subprocess.run(
        [str(motioneye), "-c", program, hook_forms.COMMAND], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout) == [hook_forms.COMMAND]


def filled_in(url: str, picture: Path) -> str:
    """The command as Motion runs it: its conversion specifiers replaced."""
    line = (
        hook_forms.COMMAND.replace("http://HOST:PORT", url).replace("KEY", "secret-of-door").replace("%f", str(picture))
    )
    for sign, text in {"%t": "1", "%v": "07", "%Y": "2026", "%m": "11", "%d": "29"}.items():
        line = line.replace(sign, text)
    for sign, text in {"%H": "14", "%M": "03", "%S": "05", "%q": "02"}.items():
        line = line.replace(sign, text)
    assert "%" not in line
    return line


@pytest.mark.parametrize("motion", ["4, by sh", "5, without a shell"])
def test_the_command_of_motion_sends_a_picture_that_is_taken(motion: str, tmp_path: Path) -> None:
    """The real curl: its boundary, its headers, its file name."""
    picture = tmp_path / "14-03-05.jpg"
    picture.write_bytes(JPEG)
    with Loopback() as server:
        line = filled_in(server.url, picture)
        command: List[str] = ["sh", "-c", line] if motion.startswith("4") else line.split(" ")
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        request = server.requests[0]
    hook_forms.refuse_web_hook(request.method, "", request.headers["content-type"], request.headers["user-agent"])
    form = forms.parse(request.body, request.headers["content-type"], hook_forms.FIELDS)
    assert hook_forms.key_of(form) == "secret-of-door" and form.file_name == picture.name
    found = hook_forms.sent(form)
    assert (found.camera, found.event, found.order, found.data) == ("1", 7, 2026112914030502, JPEG)


def test_without_a_file_the_command_sends_nothing(tmp_path: Path) -> None:
    """At an event's start Motion puts nothing in the place of %f: curl says so, and no server is asked."""
    with Loopback() as server:
        line = filled_in(server.url, Path("X")).replace("image=@X", "image=@")
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 26 and done.stderr and not server.requests


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        rows = {method: recorded(told(Path(sys.argv[1]), method, Path(folder))) for method in METHODS}
    RECORDING.write_text(json.dumps({"version": VERSION, "requests": rows}, indent=1) + "\n", encoding="utf-8")
