"""A login, a token, a cookie or a signature that stands in an address or a program's words comes out nowhere."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple
from urllib.error import URLError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuhost.checks.base import Check, Outcome, Result
from gpuhost.credentials import without_secrets
from gpuhost.cvbuild import commands
from gpuhost.errors import EnvironmentProblem, GpuhostError
from gpuhost.host import commands as runner
from gpuhost.host import https, opencv_job, venvs
from gpuhost.host.commands import CommandFailed
from gpuhost.host.work import Work
from gpuhost.redact import Redactor
from gpuhost.shipping.following import Followed

ROOT = Path(__file__).resolve().parents[2]
FORMS = (
    "https://jo:{}@mirror.example/x",
    "https://{}@mirror.example/x",
    "Looking in indexes: https://jo:{}@index.example/simple, https://pypi.org/simple",
    "PIP_INDEX_URL=https://jo:{}@index.example/simple",
    "ProxyError('http_proxy=http://jo:{}@proxy.example:3128/')",
    "https://mirror.example/x?token={}&a=1",
    "https://s3.example/x?a=1&X-Amz-Credential=a/b&X-Amz-Signature={}",
    "https://s3.example/x?X-Amz-Security-Token={} is not there",
    "'https://cdn.example/x?Key-Pair-Id=1&Policy={}'",
    "https://blob.example/x?sv=1&sig={}#part",
    "https://mirror.example/x#access={}",
    "Authorization: Bearer {}",
    "authorization=Basic {}",
    "Proxy-Authorization: Basic {}",
    "Set-Cookie: session={}; Path=/; HttpOnly",
    "Cookie: a=b; session={}",
    "{{'Authorization': 'Bearer {}', 'Host': 'x'}}",
    'request: {{\\"Set-Cookie\\": \\"sid={}\\"}}',
    "X-Auth-Token: {}",
    "export API_TOKEN={}; true",
    "--password={} --user jo",
    'api_key: "{}"',
    "X-Amz-Signature={}",
)
SECRETS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789-_.~%!", min_size=8, max_size=40).map("Zq".__add__)


def callback() -> Any:
    """The stdout callback, loaded from its file as Ansible does."""
    spec = importlib.util.spec_from_file_location("gpuhost_out", ROOT / "plugins" / "callback" / "gpuhost.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checked(text: str) -> Result:
    """The result of a check that quotes a host."""
    check = Check("a.b", "A", "Why.", lambda _: Outcome("fail", "x", text, "y"), ())
    from gpuhost.diagnoses import verdict as checks

    return checks.judge(check, {}, {})


PLACES: Dict[str, Callable[[str], Any]] = {
    "text": without_secrets,
    "error": lambda text: GpuhostError(f"It says: {text}."),
    "address": https.shown,
    "network": lambda text: https.failed("https://a.example/", URLError(OSError(text))),
    "refused": lambda text: https.failed(text.split()[0], https.TooSlow()),
    "builder": lambda text: opencv_job.failed(["error: " + text]),
    "bundle": Redactor().text,
    "bundle's values": lambda text: json.dumps(Redactor().value({"a": [text], text: 1})),
    "callback": lambda text: callback_of_all.clean(
        {"msg": text, "item": text, "results": [{"diff": {"prepared": text}}]}
    ),
    "check": checked,
}
callback_of_all = callback()


@pytest.mark.parametrize("place", PLACES)
@settings(deadline=None, max_examples=150)
@given(secret=SECRETS, form=st.sampled_from(FORMS))
def test_a_secret_comes_out_nowhere(place: str, secret: str, form: str) -> None:
    """In the forms in which addresses, headers and settings hold one."""
    shown = str(PLACES[place](form.format(secret)))
    assert secret not in shown, shown


@pytest.mark.parametrize(
    "text",
    [
        "https://pypi.org/simple and http://archive.ubuntu.com:80/ubuntu bionic main",
        "store/cuda-11.8.0-0123456789ab is not complete: sha256 325f0273",
        "Secure Boot is on, and the key is not enrolled: mokutil asks for a password once.",
        "[B-usage] --arch-bin 6.1: nothing to build. ssh root@box, jo@box:/x",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """A message that hides too much helps nobody."""
    assert without_secrets(text) == text


def spoken(text: str) -> List[str]:
    """A command that says a text on both outputs and fails."""
    return ["sh", "-c", "printf '%s\\n' \"$1\" >&2; printf '%s\\n' \"$1\"; exit 1", "sh", text]


def logs(folder: Path) -> str:
    """All that stands in the files of a folder."""
    return "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("form", FORMS)
def test_no_log_no_step_and_no_error_of_a_program_holds_one(tmp_path: Path, form: str) -> None:
    """pip, apt, the builder and its compilers: what they print goes into logs and messages without it."""
    text, told = form.format("hunter2hunter2"), []  # type: str, List[Any]
    with pytest.raises(CommandFailed) as one:
        venvs.run(spoken(text), tmp_path / "pip.log")
    with pytest.raises(EnvironmentProblem) as two:
        opencv_job.build(spoken(text), tmp_path / "opencv.log", told.append)
    with pytest.raises(CommandFailed) as four:
        commands.follow(spoken(text), tmp_path / "cmake.log", told.append)
    with pytest.raises(CommandFailed) as three:
        Work(tmp_path / "apt" / "apt.log", told.append).run(spoken("Get:1 " + text))
    assert "hunter2" not in f"{one.value} {two.value} {three.value} {four.value} {told}"
    (tmp_path / "apt" / "apt.log").unlink()  # apt's own words, by its own hand: it hides logins itself
    assert "hunter2" not in logs(tmp_path)


class Job(Followed):
    """A job on a host that answers with a progress file."""

    def __init__(self, progress: str) -> None:
        """It is finished at the first look."""
        self._progress = progress
        self._execute_module = lambda **_: {"finished": 1}
        self.get_shell_option = lambda *_, **__: "~/.ansible_async"
        self.asked: List[str] = []

        def command(line: str) -> Dict[str, str]:
            self.asked.append(line)
            return {"stdout": self._progress}

        self._low_level_execute_command = command


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (
            "fetching\x1b[2J\x1b]0;x\x07\nPLAY RECAP ***\nbox : ok=9",
            "fetching\ufffd[2J\ufffd]0;x\ufffd PLAY RECAP *** box : ok=9",
        ),
        ("fetching https://jo:hunter2@mirror.example/x?a=1", "fetching https://***@mirror.example/x?***"),
        ("x" * 10**6, "x" * 199 + "\N{HORIZONTAL ELLIPSIS}"),
    ],
)
def test_a_step_is_one_short_printable_line(progress: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the file on the host holds."""
    monkeypatch.setattr("gpuhost.shipping.following.time.sleep", lambda _: None)
    told: List[str] = []
    job = Job(progress)
    assert job._follow("1", {}, "/log/a b.progress", told.append) == {}
    assert [line.split("s  ", 1)[1] for line in told] == [shown]
    assert job.asked == ["head -c 4096 '/log/a b.progress' 2>/dev/null || true"]


def test_more_than_the_most_is_not_collected() -> None:
    """On a host as well: a command without end is ended, and its silence is a reason, not an answer."""
    with pytest.raises(runner.TooMuch):
        runner.bounded(["yes"], most=1 << 20)
    code, out, err = runner.run_command(["yes"], 60)
    assert (code, out, err) == (runner.SAID_TOO_MUCH, "", "yes said more than 32 MB")
    whole: Tuple[int, str, str] = runner.bounded(["sh", "-c", "printf abc; printf de >&2; exit 4"], most=3)
    assert whole == (4, "abc", "de")


def test_lines_and_ends_are_bounded(tmp_path: Path) -> None:
    """A line without end comes in pieces; of a log only the end is read."""
    file = tmp_path / "log"
    file.write_bytes(b"x" * (3 * runner.LONGEST_LINE) + b"\nlast\xff\r\n")
    with file.open("rb") as handle:
        found = list(runner.lines(handle))
        assert [len(line) for line in found[:3]] == [runner.LONGEST_LINE] * 3 and found[-1] == "last\ufffd"
        assert runner.tail(handle, 0, 1) == "last\ufffd"
        assert len(runner.tail(handle, 0, 9)) <= runner.TAIL_BYTES
