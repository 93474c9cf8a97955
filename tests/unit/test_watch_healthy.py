"""Healthy hosts of every supported kind: no failure, no note, and twenty runs that say the same.

The machine is an example host (tests/hosts), and what its lock asks for is put in place there
as the probe would read it. No such machine was provisioned for this test.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Dict

import pytest

from gpuhost.checks.base import FAIL, NO_GPU, NOT_BESIDE, NOT_SERVED, PASS, SKIP
from gpuhost.host.watch import judge as watch
from gpuhost.planning import lock, plan
from gpuhost.planning.request import request_of
from gpuhost.planning.resolve import resolver
from gpuhost.report import history, report

from ..example_hosts import observed
from . import collected
from .test_watch_findings import watched
from .test_watch_hostile import verified

Json = Dict[str, Any]
RUNS = 20
KERNEL = "4.15.0-213-generic"
#: Example hosts, by what is particular about them.
KINDS = {
    "the archive's signed modules": "ubuntu1804-quadro-p2000",
    "an older card": "ubuntu1804-gtx750ti",
    "Secure Boot": "ubuntu1804-rtx3090-secureboot",
    "two kinds of cards": "ubuntu1804-mixed-p2000-rtx3090",
    "NVIDIA's .run and DKMS": "ubuntu1804-h200",
    "no card": "debian12-no-gpu",
}
#: So different that a check which changes its mind shows on one of them.
OFTEN = ("two kinds of cards", "NVIDIA's .run and DKMS", "no card")


def at_work(observation: Json, version: str) -> None:
    """Let the driver of an example host be loaded and serve its cards, whatever the host says of it."""
    observation["nvidia"] = {
        "module_loaded": True,
        "module_version": version,
        "smi": {"status": "ok", "message": ""},
        "unseen": [],
        "warnings": [],
    }
    for card in observation["gpus"]:
        card.update(readable=True, error=None, kernel_driver="nvidia")


def renamed(value: Json, kernel: str) -> Json:
    """The same for another kernel."""
    return dict(json.loads(json.dumps(value).replace(KERNEL, kernel)))


def healthy(name: str) -> Json:
    """Return what is collected from an example host that is exactly what its lock says."""
    return locked_to(observed(name))


def locked_to(observation: Json) -> Json:
    """Return what is collected from an observed machine that is exactly what its lock says."""
    found = resolver()
    planned = plan.make(found, request_of(found, observation, {}))
    if not planned["gpus"]:
        return collected.host(observation, lock.make("box", observation, planned))
    at_work(observation, planned["driver"]["version"])
    locked, driver = lock.make("box", observation, planned), planned["driver"]
    kernel = observation["kernel"]["boots"]
    seen = collected.host({**observation, "kernel": {"boots": KERNEL}}, {**locked, "plan": as_archive(planned)})
    installed = renamed(seen["machine"]["installed"], kernel)
    record = installed["driver"]["record"]
    record.update(source=driver["source"], branch=driver["branch"], modules_from=driver["modules_from"])
    installed["driver"]["headers"] = driver["modules_from"] == "dkms"
    if driver["source"] == "runfile":  # no package is the driver's
        record["packages"] = {}
        for part in ("stack", "pins"):
            installed["guard"][part] = {n: v for n, v in installed["guard"][part].items() if "nvidia" not in n}
    installed["stack"] = copy.deepcopy(locked)
    count = len(locked["cards"])
    seen["environments"]["opencv_cuda"]["computed"]["cuda_devices"] = count
    seen["environments"]["dl4cv"]["computed"]["gpus"] = [f"/physical_device:GPU:{n}" for n in range(count)]
    return {**seen, "lock": locked, "machine": {"observation": observation, "installed": installed}}


def as_archive(planned: Json) -> Json:
    """The plan as the maker of healthy hosts takes it, which knows one branch only."""
    return {**planned, "driver": {**planned["driver"], "branch": "525"}}


@pytest.mark.parametrize(
    "kind", [kind if kind in OFTEN else pytest.param(kind, marks=pytest.mark.full) for kind in KINDS]
)
def test_twenty_runs_without_a_complaint(tmp_path: Path, kind: str) -> None:
    """No failure, nothing skipped but for want of a card, no note; each run says the same, and so does the history."""
    seen = healthy(KINDS[kind])
    reports = [verified(tmp_path, copy.deepcopy(seen)) for _ in range(RUNS)]
    first = reports[0]
    assert [c["id"] for c in first["checks"] if c["status"] == FAIL] == []
    if first["plan"]["gpus"]:
        assert first["verdict"] == "ok"
    else:
        reasons = {c["actual"] for c in first["checks"] if c["status"] == SKIP}
        assert reasons == {NO_GPU, NOT_BESIDE, NOT_SERVED}
    assert first["notes"] == []
    assert all(one == first for one in reports)
    for one in reports:
        report.write(one, tmp_path / "reports" / "box")
    kept = history.read(tmp_path / "reports" / "box")
    assert len(kept.reports) == RUNS and all(row.before is None for row in history.since(kept.reports))


@pytest.mark.parametrize("kind", KINDS)
def test_the_watch_has_no_complaint_either(kind: str) -> None:
    """On the same hosts."""
    assert watch.judge(watched(healthy(KINDS[kind]))).findings == []


def test_one_device_node_is_not_enough_for_two_cards() -> None:
    """For verify/ and for the watch: the second card cannot be reached."""
    seen = healthy(KINDS["two kinds of cards"])
    nodes = seen["machine"]["installed"]["signs"]["nodes"]
    assert collected.judged(seen)["driver.nodes"].status == PASS
    nodes.remove("nvidia1")
    results = collected.judged(seen)
    assert collected.with_status(results, FAIL) == ["driver.nodes"]
    assert "/dev has 1 of 2 nodes" in results["driver.nodes"].actual
    found = watch.judge({**watched(seen), "nodes": ["nvidia0", "nvidiactl"]}).findings
    assert [finding.id for finding in found] == ["driver.nodes"]
