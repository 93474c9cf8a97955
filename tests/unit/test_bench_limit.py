"""The table of what the CPU can do and what is made of it, and the sections that the measuring tools write."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import measure_limit
import measured_page
import pytest

START, END = "<!-- a -->", "<!-- end of a -->"


def report(limit: float, cpu: float) -> Dict[str, Any]:
    """A report of one network."""
    seen = {"cpu": "Some CPU", "cpus_allowed": 2, "opencv": "4.14.0", "python": "3.11.2", "system": "Linux"}
    best = {"cpu": cpu, "onnxruntime": 90.0, "openvino": 99.0, "NumPy": limit}
    row = {"model": "yolov3", "gflop": 65.864, "best": best}
    return {"side": 2048, "started": "2026-01-02", "environment": seen, "rows": [row]}


def test_the_share_of_the_limit_is_told() -> None:
    """And how much faster than OpenCV anything could be; OpenCV itself, which multiplies less often, is not a limit."""
    line = measure_limit.section(report(100.0, 80.0))[-1]
    assert line == "| yolov3 | 65.9 | 100 | 80 (80%) | 90 (90%) | 99 (99%) | 1.25 times |"
    line = measure_limit.section(report(88.0, 110.0))[-1]
    assert line == "| yolov3 | 65.9 | 88 | 110 (111%) | 90 (91%) | 99 (100%) | 0.90 times |"


def test_both_libraries_multiply_the_same_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called the limit is a whole multiplication, and in single precision."""
    monkeypatch.setattr(measure_limit, "SIDE", 96)
    pytest.importorskip("openvino")
    ways = measure_limit.products()
    ours, theirs = ways["NumPy"](), next(iter(ways["OpenVINO"]().values()))
    assert ours.shape == theirs.shape == (96, 96)
    assert abs(ours - theirs).max() < 1e-4 * abs(ours).max()


def test_a_section_is_written_once_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `check` it is only compared; what stands around it stays."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n", encoding="utf-8")
    assert measured_page.renew(page, START, END, ["new"], True) == 1
    assert "old" in page.read_text(encoding="utf-8")
    assert measured_page.renew(page, START, END, ["new"], False) == 0
    assert page.read_text(encoding="utf-8") == f"before\n{START}\n\nnew\n\n{END}\nafter\n"
    assert measured_page.renew(page, START, END, ["new"], True) == 0
    assert capsys.readouterr().out.split("\n")[0].startswith("out of date")


@pytest.mark.parametrize("text", ["no marks", START, f"{END} {START}"])
def test_a_page_without_the_marks_is_left_alone(text: str, tmp_path: Path) -> None:
    """Writing would lose what a person wrote."""
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="has no"):
        measured_page.renew(page, START, END, ["new"], False)
    assert page.read_text(encoding="utf-8") == text
