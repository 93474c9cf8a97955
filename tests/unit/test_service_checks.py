"""The checks of the detection service: broken one thing at a time, one check fails and says which command fixes it."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, List

import pytest

from gpuhost.checks import service as checks_service
from gpuhost.checks.base import FAIL, NOT_SERVED, PASS, SKIP
from gpuhost.diagnoses import verdict as checks
from gpuhost.planning import contents, service, specs
from gpuhost.planning.environments import lock_digest
from gpuhost.shipping import answers
from gpuhost.verification.expected import environments

from .collected import DIGEST, cpu_host, judged

Json = Dict[str, Any]
IDS = [check.id for check in checks.CHECKS if check.part == "service"]
BOXES = [{"label": "dog", "box": [10.0, 20.0, 100.0, 50.0], "score": 0.9}, {"label": "cat", "box": [1, 2, 3, 4]}]


def answer() -> Json:
    """What the probe of a service that is well tells."""
    return {
        "record": {"listen": "127.0.0.1:8420", "tls": False, "clients": False},
        "enabled": True,
        "active": True,
        "last_words": "",
        "generation": 1,
        "ready": {"status": 200, "why": ""},
        "sockets": {"listening": ["127.0.0.1 8420", "0.0.0.0 22"], "service": []},
        "nginx": {"there": True, "active": True, "site": True, "complaint": None, "held": []},
        "asked": {
            "models": {"status": 200, "answer": {"device": "cpu"}},
            "photo": {"status": 200, "answer": {"meaningful": True, "detections": copy.deepcopy(BOXES)}},
            "no_key": 401,
            "wrong_key": 401,
            "too_large": 413,
            "bomb": 400,
            "detector": {"detections": copy.deepcopy(BOXES)},
        },
    }


def host() -> Json:
    """A host without a card whose generation has the service, and the service's packages in its environment."""
    seen = cpu_host()
    more = contents.added(seen["lock"], contents.Options(service=True))
    links = seen["machine"]["installed"]["links"]
    seen["machine"]["installed"]["stack"] = seen["lock"] = more
    links["service"] = {"target": f"store/service-1-{DIGEST}", "digest": DIGEST}
    held = service.merged(specs.environment(more, "opencv_cuda"), specs.overlay(more))
    digest = lock_digest(held)
    links["venvs/opencv_cuda"] = {"target": f"store/opencv_cuda-1-{digest}", "digest": digest}
    seen["environments"]["opencv_cuda"]["packages"] = {row["name"]: [row["version"]] for row in held["packages"]}
    seen["service"] = {**answer(), "generation": seen["machine"]["installed"]["generation"]}
    return seen


def statuses(seen: Json) -> Dict[str, str]:
    """The status of each check of the service; nothing else may fail."""
    results = judged(seen)
    assert [name for name, row in results.items() if row.status == FAIL and name not in IDS] == []
    return {name: results[name].status for name in IDS}


def test_a_host_that_has_it_passes() -> None:
    """The control; and the form of the answer is one that is let in."""
    seen = host()
    assert statuses(seen) == dict.fromkeys(IDS, PASS)
    assert answers.service(answer()) == answer()
    assert "fastapi" in environments(seen["lock"], seen["machine"]["installed"]["links"])["opencv_cuda"]["packages"]


def test_a_host_that_has_none_is_not_asked() -> None:
    """It is off by default, and that is not a gap in what was proved."""
    results = judged(cpu_host())
    assert {results[name].actual for name in IDS} == {NOT_SERVED}
    assert all(checks.is_unasked(results[name].status, results[name].actual) for name in IDS)


def setting(*path: str, to: Any) -> Callable[[Json], None]:
    """Return what breaks one value of the probe's answer."""

    def change(seen: Json) -> None:
        place = seen["service"]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = to

    return change


def moved(seen: Json) -> None:
    """A box is elsewhere."""
    seen["service"]["asked"]["photo"]["answer"]["detections"][0]["box"][0] = 12.0


def half_made(seen: Json) -> None:
    """The program's folder has no marker."""
    seen["machine"]["installed"]["links"]["service"]["digest"] = None


BROKEN: List[Any] = [
    ("service.installed", half_made, "half made"),
    ("service.nginx", setting("nginx", "complaint", to="unknown directive"), "unknown directive"),
    ("service.nginx", setting("nginx", "there", to=False), "not installed"),
    ("service.nginx", setting("nginx", "site", to=False), "not there"),
    ("service.nginx", setting("nginx", "active", to=False), "does not run"),
    ("service.nginx", setting("nginx", "held", to=["nginx"]), "on hold"),
    ("service.exposed", setting("sockets", "listening", to=["0.0.0.0 8420"]), "0.0.0.0 port 8420"),
    ("service.exposed", setting("sockets", "listening", to=[]), "nothing listens"),
    ("service.exposed", setting("sockets", "service", to=["0.0.0.0 9000"]), "the service itself listens"),
    ("service.exposed", setting("record", to=None), "no record"),
    ("service.unit", setting("active", to=False), "it does not run"),
    ("service.unit", setting("generation", to=99), "generation 99"),
    ("service.unit", setting("enabled", to=False), "next boot"),
    ("service.ready", setting("ready", to={"status": 503, "why": "D29 the card is gone"}), "D29"),
    ("service.ready", setting("ready", to={"error": "it does not answer"}), "does not answer"),
    ("service.detects", moved, "share"),
    ("service.detects", setting("asked", "photo", "answer", "detections", to=[]), "0 boxes, the detector 2"),
    ("service.detects", setting("asked", "photo", "status", to=503), "status 503"),
    ("service.detects", setting("asked", "models", "answer", "device", to="cuda"), "computes on cuda"),
    ("service.detects", setting("asked", to={"error": "nobody answers"}), "nobody answers"),
    ("service.refuses", setting("asked", "no_key", to=200), "a photo without a key gets 200"),
    ("service.refuses", setting("asked", "bomb", to=200), "38 bytes"),
]


@pytest.mark.parametrize(("name", "change", "told"), BROKEN)
def test_one_broken_thing_is_one_failure(name: str, change: Callable[[Json], None], told: str) -> None:
    """That check, with what was found and a command; what hangs on it is not reached."""
    seen = host()
    change(seen)
    found = statuses(seen)
    assert [one for one, status in found.items() if status == FAIL] == [name]
    result = judged(seen)[name]
    assert told in result.actual and result.remediation


def test_each_check_was_seen_red() -> None:
    """A check that cannot fail claims nothing."""
    assert {name for name, _, _ in BROKEN} == set(IDS)


def test_who_is_not_root_is_told_so() -> None:
    """The key lies where only root can read it: skipped is not passed."""
    seen = host()
    seen["service"].update(asked=None, ready={"error": "only root", "denied": True})
    found = statuses(seen)
    assert [name for name, status in found.items() if status == SKIP] == IDS[IDS.index("service.ready") :]
    assert "only root" in judged(seen)["service.ready"].actual


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
        ([0, 0, 10, 10], [5, 0, 10, 10], 1 / 3),
        ([0, 0, 10, 10], [20, 20, 10, 10], 0.0),
        ([3, 3, 0, 0], [3, 3, 0, 0], 1.0),
        ([3, 3, 0, 0], [4, 3, 0, 0], 0.0),
    ],
)
def test_overlap(one: List[float], other: List[float], shared: float) -> None:
    """The part of both that both cover."""
    assert checks_service.overlap(one, other) == pytest.approx(shared)
