"""Hosts as the doctor collects them: the healthy and faulty ones of verify/, without their lock."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, List

from gpuhost.checks import found
from gpuhost.doctor import judge, run
from gpuhost.types import Json

from .collected import cuda_answer
from .faults import fresh, put, read

FOLDER = Path(__file__).resolve().parents[1] / "hosts" / "found"
#: Faults that only a host without a lock shows; in the form of `faults`, and `cuda`, `surroundings` are places as well.
FILES = sorted(FOLDER.glob("*.json"))


def without_lock(seen: Json, provisioned: bool = False) -> Json:
    """Return what the doctor collects on a host; `provisioned` keeps gpuhost's own records on it."""
    seen = copy.deepcopy(seen)
    observation, installed = seen["machine"]["observation"], seen["machine"]["installed"]
    if not provisioned:
        installed.update(generation=None, stack=None, links={}, cuda=None, nvcc=None, cudnn=None, rights=None)
        installed["driver"]["record"] = installed["guard"]["record"] = None
    releases = run.releases()
    return {
        **seen,
        "lock": None,
        "lock_error": None,
        "surroundings": {
            "place": "machine",
            "names": [observation["platform"]["distribution"]],
            "bus": 20,
            "dxg": False,
            "cdi": {},
        },
        "expected": {
            "platforms": releases["platforms"],
            "platform": found.platform_row(observation, releases["codenames"]),
            "in_force": None,
        },
        "environments": {},
        "benchmark": {},
        "cuda": seen.get("cuda") or cuda_answer(observation),
        "heard": {},
    }


def expecting(seen: Json) -> Json:
    """Return it with what it is checked against, made as the collector makes it."""
    where = seen["surroundings"]
    return {**seen, "as_found": found.expectation(seen["machine"], where["place"], where["names"])}


def healthy(kind: str = "gpu", provisioned: bool = False) -> Json:
    """Return a healthy host."""
    return without_lock(fresh(kind), provisioned)


def changed(fault: Json) -> Json:
    """Return the host of a fault that only the doctor sees."""
    seen = healthy(fault["host"])
    for path, value in fault["set"].items():
        put(seen, path, value)
    return expecting(seen)


def examined(seen: Json) -> Json:
    """Return the doctor's report over what was collected."""
    report: Json = json.loads(json.dumps(judge.report(expecting(seen))))
    return report


def ids(report: Json) -> List[Any]:
    """Return the diagnoses of a report in order, those of risks last."""
    return [row["diagnosis"] for row in report["findings"] + report["risks"]]


FAULTS = {file.stem: read(file) for file in FILES}
