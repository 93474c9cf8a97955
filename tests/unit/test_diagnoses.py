"""Each known failure on a host that has it: the right check and diagnosis, no other, and something to type."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from gpuhost.checks.base import FAIL, PASS, SKIP, UNASKED, Outcome, Result
from gpuhost.diagnoses import table as diagnoses
from gpuhost.diagnoses import verdict as checks

from .collected import judged, with_status
from .faults import FILES, HEALTHY, fresh, made, put, read
from .lockless import FAULTS as LOCKLESS
from .lockless import changed, examined

ROOT = Path(__file__).resolve().parents[2]
FAULTS = {file.stem: read(file) for file in FILES}
#: By diagnosis: the parts of the project that give it beside verify/, and the test that shows it.
ELSEWHERE: Dict[str, Dict[str, str]] = json.loads((Path(__file__).parent / "elsewhere.json").read_text("utf-8"))
GIVEN = sorted({identity for fault in FAULTS.values() for identity in fault["fails"].values() if identity})


@pytest.fixture(scope="module")
def tool() -> Any:
    """tools/reference_docs.py as a module."""
    spec = importlib.util.spec_from_file_location("reference_docs", ROOT / "tools" / "reference_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def root_cause(found: Result, failed: List[str]) -> bool:
    """Return whether a skipped check names a failed one as the reason."""
    reached = any(found.actual == f"not reached because of {name}" for name in failed)
    return reached or found.actual in UNASKED


@functools.lru_cache(maxsize=None)
def host(name: str) -> Dict[str, Any]:
    """What is collected on the host of a described fault, for tests that only read it."""
    return made(FAULTS[name])


@functools.lru_cache(maxsize=None)
def judgement(name: str) -> Dict[str, Result]:
    """The results of all checks there."""
    return judged(host(name))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_diagnosis_and_no_other(name: str) -> None:
    """The checks that fail, each with its id; what hangs on them is not reached because of them; the rest passes."""
    fault, results = FAULTS[name], judgement(name)
    assert {n: results[n].diagnosis for n in with_status(results, FAIL)} == fault["fails"]
    assert all(root_cause(r, list(fault["fails"])) for r in results.values() if r.status == SKIP)
    assert {r.diagnosis for r in results.values() if r.status != FAIL} == {None}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_says_what_is_wrong_and_what_to_type(name: str) -> None:
    """The value that is wrong, and the remedy."""
    fault, results = FAULTS[name], judgement(name)
    first = results[next(iter(fault["fails"]))]
    assert fault["actual"] in first.actual
    assert first.remediation
    assert first.remediation == fault.get("remedy", first.remediation)


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if any(fault["fails"].values())])
def test_a_file_is_called_by_its_diagnosis(name: str) -> None:
    """So that the folder can be read."""
    assert {name.partition("-")[0]} == set(FAULTS[name]["fails"].values())


@pytest.mark.parametrize("name", FAULTS)
def test_the_remedy_of_a_known_failure_is_a_command(name: str) -> None:
    """For the host, for this folder, or first the one and then the other."""
    for found in judgement(name).values():
        if found.diagnosis is not None:
            here = found.remediation
            if here.startswith("On the host: "):
                command, _, here = here[len("On the host: ") :].partition("\nThen here: ")
                assert command
            assert not here or here.startswith("./run "), found.remediation


HOSTILE = "x; touch pwned #$(touch y)"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (
            "D08-newer-kernel-beside",
            {"driver/kernel": f"5 {HOSTILE}", f"observation/packages/linux-image-5 {HOSTILE}": {}},
        ),
        ("D08-module-file-gone", {"driver/record/debs": {"linux-modules-nvidia-525-4.15.0-213-generic": HOSTILE}}),
        ("D10-in-the-initramfs", {"driver/kernel": HOSTILE, "driver/record/kernel": HOSTILE}),
        (
            "D31-other-folder-first",
            {"tensorflow/libraries/libcudnn.so.8/path": f"/usr/{HOSTILE}/libcudnn.so.8"},
        ),
        ("D51-variable-of-a-profile", {"opencv/search/0/files/0": f"/etc/profile.d/{HOSTILE}.sh"}),
        (
            "D51-other-toolkit-first-unused",
            {"tensorflow/libraries/libcublas.so.11/path": f"/usr/{HOSTILE}/libcublas.so.11"},
        ),
        ("D18-without-cuda", {"links/venvs%opencv_cuda/target": f"store/{HOSTILE}-0123456789ab"}),
        ("sources-unreadable", {"observation/apt/problems/0/file": f"/etc/{HOSTILE}"}),
    ],
)
def test_a_hosts_words_stay_words_in_a_remedy(name: str, changes: Dict[str, Any]) -> None:
    """What a host calls its packages, kernels and files is not part of a command that a person types."""
    seen = made(FAULTS[name])
    for path, value in changes.items():
        value = {"version": "1", "state": "installed", "hold": False} if value == {} else value
        put(seen, path, value)
    failures = [r for r in judged(seen).values() if r.status == FAIL]
    assert failures
    for found in failures:
        command = found.remediation.replace("On the host: ", "").partition("\nThen here: ")[0]
        for text in re.sub(r"'(?:[^']|'\"'\"')*'", "", command).split():
            assert "touch" not in text, found.remediation


def with_judge(monkeypatch: pytest.MonkeyPatch, check: checks.Check, turn: Dict[str, str]) -> None:
    """Put a mutant in a check's place: its status becomes what `turn` says."""

    def turned(seen: Dict[str, Any]) -> Outcome:
        outcome = check.judge(seen)
        return outcome._replace(status=turn[outcome.status])

    mutant = check._replace(judge=turned)
    monkeypatch.setattr(checks, "CHECKS", tuple(mutant if c.id == check.id else c for c in checks.CHECKS))


def as_expected(seen: Dict[str, Any], fails: Dict[str, Any]) -> bool:
    """Do exactly these checks fail, each with this diagnosis? What follows a mutant may have nothing to work on."""
    try:
        return {n: r.diagnosis for n, r in judged(seen).items() if r.status == FAIL} == fails
    except (AttributeError, KeyError, TypeError):
        return False


def noticed(check: str) -> Tuple[List[str], List[str]]:
    """The healthy hosts, and the described faults of a check, whose results are no longer the expected ones.

    The faults are those of hosts with a lock and of those without.
    """
    healthy = [kind for kind in HEALTHY if not as_expected(fresh(kind), {})]
    concerned = {name: fault for name, fault in FAULTS.items() if check in fault["fails"]}
    without = [name for name, fault in LOCKLESS.items() if check in fault["fails"] and not as_found(fault)]
    return healthy, without + [name for name, fault in concerned.items() if not as_expected(host(name), fault["fails"])]


def as_found(fault: Dict[str, Any]) -> bool:
    """Has the doctor exactly these findings on a host without a lock?"""
    return {row["check"]: row["diagnosis"] for row in examined(changed(fault))["findings"]} == fault["fails"]


MUTANTS = {
    "negated": {PASS: FAIL, FAIL: PASS, SKIP: SKIP},
    "always-passes": {PASS: PASS, FAIL: PASS, SKIP: SKIP},
    "always-fails": {PASS: FAIL, FAIL: FAIL, SKIP: SKIP},
}
#: Those of the detection service have hosts of their own: tests/unit/test_service_checks.py.
OTHERS = [check for check in checks.CHECKS if check.part != "service"]


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("check", OTHERS, ids=lambda check: str(check.id))
def test_a_changed_check_would_be_noticed(check: checks.Check, mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every check there is a host on which it passes and one on which it fails, and both are asserted."""
    with_judge(monkeypatch, check, MUTANTS[mutant])
    healthy, faulty = noticed(check.id)
    assert healthy or mutant == "always-passes"
    assert faulty or mutant == "always-fails"


@pytest.mark.parametrize("mutant", ["never", "always"])
@pytest.mark.parametrize(
    "sign",
    [pytest.param((one, sign), id=f"{one.id}-{sign.check}") for one in diagnoses.TABLE for sign in one.signs],
)
def test_a_changed_sign_would_be_noticed(
    sign: Tuple[diagnoses.Diagnosis, Any], mutant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A diagnosis that is no longer seen changes a result. One that is always seen does where another cause could be
    meant: where it is the only one of its check and has no condition, there is nothing to confuse it with.
    """
    one, its = sign
    other = its._replace(seen=lambda seen: mutant == "always")
    changed = one._replace(signs=tuple(other if s is its else s for s in one.signs))
    table = tuple(changed if d is one else d for d in diagnoses.TABLE)
    monkeypatch.setattr(diagnoses, "TABLE", table)
    assert noticed(its.check)[1] or (mutant == "always" and its.seen is diagnoses.always)


def test_every_diagnosis_of_the_list_is_in_the_table() -> None:
    """D01 to D36 and those after them, each once, each with its words."""
    assert list(diagnoses.BY_ID) == [f"D{number:02}" for number in range(1, len(diagnoses.TABLE) + 1)]
    assert "D36" in diagnoses.BY_ID
    assert len(diagnoses.TABLE) == len(diagnoses.BY_ID)
    for one in diagnoses.TABLE:
        assert one.title and one.cause.endswith(".") and one.fix.endswith("."), one.id
        assert one.signs or one.elsewhere, one.id
        assert all(sign.check in checks.EVERY for sign in one.signs), one.id


def test_every_diagnosis_that_verify_gives_is_on_a_recorded_host() -> None:
    """And none is on one that no sign gives. Some show on a host without a lock only."""
    without = {identity for fault in LOCKLESS.values() for identity in fault["fails"].values() if identity}
    assert sorted(one.id for one in diagnoses.TABLE if one.signs) == sorted({*GIVEN, *without})


def test_what_is_not_staged_has_its_reason(tool: Any) -> None:
    """Each diagnosis of a host was staged and healed on an imitation host, or it is said why not."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in (tool.HEALED, tool.HEALED_AS_FOUND)]
    healed = [row for record in records for row in record["healed"]]
    staged = {row["diagnosis"] for row in healed}
    assert staged | set(tool.NOT_STAGED) == {one.id for one in diagnoses.TABLE if one.signs}
    assert not staged & set(tool.NOT_STAGED)
    for row in healed:
        assert row["check"] in {sign.check for sign in diagnoses.BY_ID[row["diagnosis"]].signs}


@pytest.mark.parametrize(
    "where",
    sorted({test for where in ELSEWHERE.values() for test in where.values()}),
    ids=lambda name: name.rpartition(":")[2],
)
def test_the_tests_that_show_a_diagnosis_elsewhere_are_there(where: str) -> None:
    """A renamed test must not leave a claim without its proof."""
    file, _, name = where.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_part_that_gives_a_diagnosis_has_a_test() -> None:
    """tests/unit/elsewhere.json names one for each, and none for a part that the table does not name."""
    assert {name: set(where) for name, where in ELSEWHERE.items()} == {
        one.id: set(one.elsewhere) for one in diagnoses.TABLE if one.elsewhere
    }


@pytest.mark.parametrize("kind", HEALTHY)
def test_no_sign_stumbles_over_a_healthy_host(kind: str) -> None:
    """A sign is asked wherever its check is, whatever else was collected."""
    seen = fresh(kind)
    passed = with_status(judged(seen), PASS)
    for one in diagnoses.TABLE:
        for sign in one.signs:
            if sign.check in passed:
                assert sign.seen(seen) in (True, False)
