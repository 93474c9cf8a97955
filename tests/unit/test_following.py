"""A job on a host is followed until it ends, and not for ever where the host never says that it has."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import pytest

from gpuhost.host import progress
from gpuhost.shipping import following


class Job(following.Followed):
    """A job whose host answers the same for ever."""

    def __init__(self, status: Dict[str, Any]) -> None:
        """Keep the answer."""
        self.status = status
        self._execute_module = lambda **_: dict(status)
        self._low_level_execute_command = lambda _: {"stdout": "going on"}
        self.get_shell_option = lambda name, default=None: default


def test_a_host_that_never_ends_a_job_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the limit of the job and some minutes; until then its steps are told."""
    clock = iter(range(0, 10 * following.LIMIT_S, 600))
    monkeypatch.setattr(following.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(following.time, "sleep", lambda _: None)
    told = []
    answer = Job({"finished": 0})._follow("1", None, "/log", told.append)
    assert answer["failed"] and "has not ended" in answer["msg"]
    assert told and "going on" in told[0]


def test_a_job_that_ends_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Ansible's own keys."""
    monkeypatch.setattr(following.time, "sleep", lambda _: None)
    answer = Job({"finished": 1, "ansible_job_id": "1", "changed": True})._follow("1", None, "/log", lambda _: None)
    assert answer == {"changed": True}


def test_two_runs_do_not_share_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that waits for the other must not say so in the other's name."""
    monkeypatch.setattr(following.time, "sleep", lambda _: None)
    files: List[str] = []
    for _ in range(2):
        job = Job({"finished": 1, "ansible_job_id": "1"})
        job._task = SimpleNamespace(args={"name": "dl4cv", "root": "/r"}, async_val=0)
        asked: List[Dict[str, Any]] = []
        job._execute_module = lambda asked=asked, **given: asked.append(given) or {"finished": 1, "ansible_job_id": "1"}
        job._low_level_execute_command = lambda command, asked=asked: asked.append({"read": command}) or {}
        assert job.work({}, "dl4cv", lambda _: None) == {}
        file = asked[0]["module_args"]["progress"]
        assert file.startswith("/r/log/dl4cv-") and any(file in given.get("read", "") for given in asked)
        files.append(file)
    assert len(set(files)) == 2


def test_a_step_is_left_while_the_work_goes_on(tmp_path: Path) -> None:
    """One printable line without a server's secrets; nothing is left, also where the work fails."""
    file = tmp_path / "log" / "dl4cv-1.progress"
    file.parent.mkdir()
    with pytest.raises(OSError, match="broken"), progress.told(str(file), "dl4cv") as say:
        say("fetching\x1b[2J https://jo:hunter2@mirror.example/x")
        assert file.read_text(encoding="utf-8") == "dl4cv: fetching\ufffd[2J https://***@mirror.example/x\n"
        raise OSError("broken")
    assert list(file.parent.iterdir()) == []
    with progress.told(None) as say:
        say("nobody looks")
