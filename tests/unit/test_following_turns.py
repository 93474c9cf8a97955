"""The controller's side of the host's lock: a module that finds it taken is run again, and who holds it is told."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from gpuhost.shipping import following
from gpuhost.shipping.following import Followed

HOLDER = "Another run is changing this host: building \x1b[2JOpenCV (process 7), since 2026-01-01 00:00:00."


class Task(Followed):
    """A task whose module finds the lock taken so many times."""

    def __init__(self, busy: int, ended: Dict[str, Any]) -> None:
        """Nothing was run yet."""
        self.busy, self.ended, self.given = busy, ended, []  # type: int, Dict[str, Any], List[Any]
        self._execute_module = self.run_module

    def run_module(self, module_args: Any = None, task_vars: Any = None) -> Dict[str, Any]:
        """As Ansible's method."""
        self.given.append(module_args)
        if len(self.given) <= self.busy:
            return {"failed": True, "msg": f"{HOLDER} Wait.", "busy": HOLDER}
        return self.ended


@pytest.mark.parametrize("ended", [{"changed": True}, {"failed": True, "msg": "x", "busy": ""}])
def test_it_waits_and_says_for_whom(monkeypatch: pytest.MonkeyPatch, ended: Dict[str, Any]) -> None:
    """Said once in half a minute, with nothing in it that moves a cursor; what the module then says is passed on."""
    now, said = [0.0], []  # type: List[float], List[str]
    monkeypatch.setattr(following.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(following.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    task = Task(40, ended)
    assert task.patiently({"inventory_hostname": "box"}, said.append, {"a": 1}) == ended
    assert task.given == [{"a": 1}] * 41
    assert len(said) == 40 * following.PAUSE_S // following.REPEAT_S + 1
    assert said[0].startswith(
        "[box] waiting. Another run is changing this host: building \N{REPLACEMENT CHARACTER}[2JOpenCV"
    )


def test_a_free_host_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause and no word."""
    monkeypatch.setattr(following.time, "sleep", lambda seconds: pytest.fail("it paused"))
    assert Task(0, {"changed": False}).patiently({}, pytest.fail) == {"changed": False}
