"""Checks and diagnoses need nothing but a Python 3.6: they are imported and asked there with no package in sight."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from gpuhost.checks.base import FAIL, PASS
from gpuhost.verification.expected import expected

from .collected import judged
from .faults import FILES, HEALTHY, made, read

SRC = Path(__file__).resolve().parents[2] / "src"
OLD = Path(os.environ.get("GPUHOST_OLD_PYTHON", "~/.pyenv/versions/3.6.15/bin/python")).expanduser()
FAULT = next(file for file in FILES if file.stem == "D31-other-folder-first")
#: Import every module of both rooms, then judge each check of a host from its JSON alone: status, diagnosis, remedy.
PROGRAM = """
import importlib, json, pkgutil, sys

sys.path.append(sys.argv[1])
asked = json.load(sys.stdin)
checks = {}
for room in ("gpuhost.checks", "gpuhost.diagnoses"):
    for found in pkgutil.iter_modules(importlib.import_module(room).__path__):
        module = importlib.import_module(room + "." + found.name)
        for rows in ("CARD", "CHECKS", "INSTALLED", "PARTS"):
            checks.update((check.id, check) for check in getattr(module, rows, ()))
table = importlib.import_module("gpuhost.diagnoses.table")
answers = {}
for name in asked["checks"]:
    outcome = checks[name].judge(asked["seen"])
    sign = table.named(name, asked["seen"]) if outcome.status == "fail" else None
    remedy = sign.remedy(asked["seen"]) if sign and sign.remedy else outcome.remediation
    answers[name] = [outcome.status, outcome.actual, remedy, sign and sign.diagnosis]
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("gpuhost.")}
print(json.dumps({"checks": sorted(checks), "answers": answers, "loaded": sorted(rooms)}))
"""


@pytest.fixture(params=["this", "old"])
def python(request: pytest.FixtureRequest) -> str:
    """The Python that runs the tests, and a 3.6 where the machine has one."""
    if request.param == "this":
        return sys.executable
    if not OLD.exists() and not os.environ.get("GPUHOST_OLD_PYTHON"):
        pytest.skip("no Python 3.6: set GPUHOST_OLD_PYTHON to one")
    return str(OLD)


def answered(python: str, seen: Dict[str, Any], names: list[str]) -> Dict[str, Any]:
    """What a Python that sees no site-packages says of a host."""
    line = [python, "-I", "-S", "-B", "-c", PROGRAM, str(SRC)]
    asked = json.dumps({"seen": seen, "checks": names})
    done = subprocess.run(line, input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("which", ["healthy", "faulty"])
def test_a_recorded_host_is_judged_by_the_standard_library_alone(python: str, which: str) -> None:
    """The same outcome, remedy and diagnosis as here, from JSON and nothing else."""
    seen = copy.deepcopy(HEALTHY["gpu"]) if which == "healthy" else made(read(FAULT))
    seen["expected"] = expected(seen["lock"], seen["machine"])
    here = {name: found for name, found in judged(seen).items() if found.status in (PASS, FAIL)}
    there = answered(python, seen, list(here))
    assert set(there["checks"]) == set(judged(seen))
    assert there["answers"] == {n: [f.status, f.actual, f.remediation, f.diagnosis] for n, f in here.items()}
    assert (which == "faulty") == any(found.status == FAIL for found in here.values())
    assert not {"planning", "shipping", "cvbuild", "verification", "cli", "report"} & set(there["loaded"])
