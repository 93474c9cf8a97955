"""The table of tools/prove_on_card.py, from reports as the benchmark writes them."""

from __future__ import annotations

import importlib.util
import sys
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
    """Also when the processor's own gate passed."""
    assert tool.verdict({"cpu": report(True), "cuda": cuda}) == status
