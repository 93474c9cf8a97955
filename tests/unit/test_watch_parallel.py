"""Hosts collected at once give what they give one by one, and their names in the output stay their own."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from gpuhost.diagnoses import verdict as checks
from gpuhost.verification import fleet as checks_fleet
from gpuhost.verification.collect import Host, Options
from gpuhost.verification.fleet import Crew

from ..locks import save
from .test_watch_hostile import HEALTHY, Fake

Json = Dict[str, Any]
NAMES = list(checks.BY_ID)


class Meeting:
    """A host that answers its first question only when all the others were asked as well."""

    def __init__(self, seen: Json, barrier: threading.Barrier) -> None:
        """Keep the answers."""
        self.fake, self.barrier = Fake(seen), barrier
        self.asked: List[str] = []
        self.threads = {threading.get_ident()}

    def __call__(self, command: str) -> Tuple[int, str, str]:
        """Answer, after the meeting."""
        if not self.asked:
            self.barrier.wait(timeout=30)
        self.asked.append("benchmark" if "gpuhost.yolo bench" in command else command[:20])
        self.threads.add(threading.get_ident())
        return self.fake(command)


def host(folder: Path, name: str, run: Any) -> Host:
    """A host whose lock stands in a file."""
    file = folder / f"{name}.json"
    seen = run.fake.seen if isinstance(run, Meeting) else HEALTHY["cpu"]
    save(file, seen["lock"])
    return Host(name, run, file, Options())


def test_a_fleet_is_asked_at_once_and_says_what_each_says_alone(tmp_path: Path) -> None:
    """Each waits for all the others, which one by one would be for ever; benchmarks are not run at once."""
    barrier = threading.Barrier(3)
    runs = {name: Meeting(HEALTHY[kind], barrier) for name, kind in (("a", "gpu"), ("b", "cpu"), ("c", "gpu"))}
    hosts = {name: host(tmp_path, name, run) for name, run in runs.items()}
    said: List[str] = []
    crew = Crew(hosts, NAMES)
    for name in hosts:
        crew.wait(name, said.append)
    crew.close()
    assert not any("benchmark" in run.asked for run in runs.values())
    assert {line.partition(":")[0] for line in said} <= {"a", "b", "c"} and "a: reading the host" in said
    for name, run in runs.items():
        calls = len(run.asked)
        together = [hosts[name].result(check, said.append).as_json() for check in NAMES]
        assert all(word == "benchmark" for word in run.asked[calls:])  # nothing else is asked twice
        alone = host(tmp_path, name, Meeting(run.fake.seen, threading.Barrier(1)))
        assert together == [alone.result(check, said.append).as_json() for check in NAMES]


def test_what_was_not_asked_for_is_not_a_result(tmp_path: Path) -> None:
    """Collecting for a check judges those before it; they count only when a test asks for them."""
    one = host(tmp_path, "a", Meeting(HEALTHY["cpu"], threading.Barrier(1)))
    crew = Crew({"a": one}, ["opencv.packages"])
    crew.wait("a", lambda _: None)
    crew.close()
    assert one.results == {}
    assert {r.actual for r in one.all_results()} == {"not part of this run"}


def test_one_host_that_fails_is_its_own_failure(tmp_path: Path) -> None:
    """What its thread raised is raised where that host is waited for, and the other is well."""

    def broken(command: str) -> Tuple[int, str, str]:
        raise OSError("no more processes")

    well = host(tmp_path, "b", Meeting(HEALTHY["cpu"], threading.Barrier(1)))
    crew = Crew({"a": host(tmp_path, "a", broken), "b": well}, ["host.observed"])
    crew.wait("b", lambda _: None)
    with pytest.raises(OSError, match="no more processes"):
        crew.wait("a", lambda _: None)
    crew.close()


def test_not_more_than_so_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ssh server or a firewall takes only so many new connections."""
    monkeypatch.setattr(checks_fleet, "AT_ONCE", 2)
    inside, most, guard = [0], [0], threading.Lock()

    def run(command: str) -> Tuple[int, str, str]:
        with guard:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        answer = Fake(HEALTHY["cpu"])(command)
        with guard:
            inside[0] -= 1
        return answer

    hosts = {str(number): host(tmp_path, str(number), run) for number in range(6)}
    crew = Crew(hosts, ["host.observed"])
    for name in hosts:
        crew.wait(name, lambda _: None)
    crew.close()
    assert 1 <= most[0] <= 2


def test_every_check_is_one_test_of_verify() -> None:
    """A subject that no file of verify/ names would never be checked, and one that two name would be told twice."""
    folder = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "verify/", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"^verify/\S+\[local-(\S+)\]$", done.stdout, re.M)
    assert sorted(found) == sorted(checks.BY_ID)
