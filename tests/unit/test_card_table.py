"""tools/prove_on_card.py without a card: its tables, and its judgement of what was detected."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any, Dict

import pytest

PATH = Path(__file__).resolve().parents[2] / "tools" / "prove_on_card.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("prove_on_card", PATH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["prove_on_card"] = module
    spec.loader.exec_module(module)
    return module


def report(passed: bool) -> Dict[str, Any]:
    """The parts of a report that the table shows."""
    gate = {"passed": passed, "rel2": [1e-6, 3e-5], "limit": 5e-4}
    return {
        "models": [
            {"model": "yolov4", "gate": gate, "per_photo_s": {"p50": 0.0123}, "offline": {"photos_per_s": 150.04}}
        ]
    }


def test_a_line_for_each_network_and_device(tool: Any) -> None:
    """With the gate's worst value beside its limit."""
    lines = tool.rows({"cpu": report(True), "cuda": {"error": "no device"}})
    assert lines[2] == "| yolov4 | cpu | passed: 3.0e-05 of 5e-04 | 12.3 ms | 150.0 |"
    assert "no device" in lines[3]


@pytest.mark.parametrize(
    ("cuda", "status"),
    [(report(True), 0), (report(False), 1), ({"error": "it fell back"}, 1)],
    ids=["all", "missed", "error"],
)
def test_a_missed_gate_or_an_error_is_no_success(tool: Any, cuda: Dict[str, Any], status: int) -> None:
    """Also when the CPU's own gate passed."""
    assert tool.verdict({"cpu": report(True), "cuda": cuda}) == status


BOX = {"label": "wren", "class_id": 0, "score": 0.9, "box": [10.0, 20.0, 30.0, 40.0]}
MOVED = {**BOX, "box": [10.0, 22.0, 30.0, 40.0]}
PALE = {**BOX, "score": 0.89}


@pytest.mark.parametrize(
    ("expected", "found", "told"),
    [
        ([[BOX]], [[BOX]], "passed: 1 boxes"),
        ([[BOX, MOVED]], [[MOVED, BOX]], "passed: 2 boxes"),
        ([[BOX], []], [[BOX], []], "passed: 1 boxes"),
        ([[BOX]], [[MOVED]], "MISSED: a wren is 2.00 pixels and +0.0000 off"),
        ([[BOX]], [[PALE]], "MISSED: a wren is 0.00 pixels and -0.0100 off"),
        ([[BOX]], [[{**BOX, "label": "robin"}]], "MISSED: no wren where one belongs"),
        ([[BOX]], [[]], "MISSED: 0 boxes in place of 1"),
        ([[BOX], [BOX]], [[BOX]], "MISSED: 1 pictures in place of 2"),
        ([[]], [[]], "MISSED: nothing was found"),
        ([[BOX]], "no kernel for this card", "MISSED: no kernel for this card"),
        ([[BOX]], "the ten minutes are over", "not run: the ten minutes are over"),
        ("built without video", "built without video", "not run: built without video"),
    ],
)
def test_what_is_detected_is_held_against_the_processor(tool: Any, expected: Any, found: Any, told: str) -> None:
    """A box that is off, a picture that is missing and an error are misses; what the build cannot do was not run."""
    case = tool.Case("birds", [], Path("birds.png"))
    assert tool.judged(case, expected, found, tool.SINGLE) == told


def test_the_face_must_be_where_it_is_known_to_be(tool: Any) -> None:
    """Also where both see the same wrong thing."""
    case = tool.Case("face", [], Path("face.jpg"), [tool.FACE])
    assert tool.judged(case, [[tool.FACE]], [[tool.FACE]], tool.SINGLE) == "passed: 1 boxes"
    both = [[{**tool.FACE, "box": [0.0, 0.0, 9.0, 9.0]}]]
    assert tool.judged(case, both, both, tool.SINGLE).startswith("MISSED")


@pytest.mark.parametrize(
    ("results", "status"),
    [(["passed: 1", "not run: why"], 0), (["passed: 1", "MISSED: why"], 1), (["not run: why"], 1)],
)
def test_not_run_is_no_pass(tool: Any, results: Any, status: int) -> None:
    """Beside others it is told; alone it proves nothing."""
    assert tool.verdict({"cuda": report(True)}, [["x", "cuda", result] for result in results]) == status


def test_a_command_that_takes_too_long(tool: Any) -> None:
    """Is ended, or not begun."""
    for seconds in (0.0, 0.2):
        done = tool.run([sys.executable, "-c", "import signal; signal.pause()"], seconds)
        assert (done.returncode, tool.last_line(done)) == (124, tool.OUT_OF_TIME)


@pytest.mark.full
def test_the_cases_pass_on_another_engine(tool: Any, tmp_path: Path) -> None:
    """Every one, with ONNX Runtime for the card; a video is read here."""
    found = tool.detected(Path(sys.executable), tmp_path, [], time.monotonic() + 600, {"onnxruntime": tool.SINGLE})
    assert len(found) > 15 and [row for row in found if not row[2].startswith("passed")] == []
    assert tool.detected(Path(sys.executable), tmp_path, [], 0.0, {"cuda": tool.SINGLE})[0][2].startswith("not run")
