"""A job on a host is followed until it ends, and not for ever where the host never says that it has."""

from __future__ import annotations

from typing import Any, Dict

import pytest

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
