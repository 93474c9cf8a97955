"""The old card against the new one, from kept reports."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest
from rich.console import Console

from gpuhost.cli import main as cli
from gpuhost.planning.lock import text
from gpuhost.report import history, report
from gpuhost.report import swap as report_swap
from gpuhost.verification.collect import Host, Options

from .collected import gpu_host, judged

Json = Dict[str, Any]
GPU = gpu_host()


def made(
    folder: Path, generation: Optional[int], mean: float, when: int, change: Callable[[Json], Any] = lambda row: None
) -> Json:
    """A host's report with a benchmark of `mean` seconds a photo; `change` is done to each of its entries."""
    seen = copy.deepcopy(GPU)
    seen["machine"]["installed"]["generation"] = generation
    for found in seen["benchmark"].values():
        for entry in found["models"]:
            entry["headline"]["mean_s"] = mean
            entry["per_photo_s"]["mean_ci95"] = [0.9 * mean, 1.1 * mean]
            change(entry)
    file = folder / "stack.json"
    file.write_text(text(seen["lock"]), encoding="utf-8")
    host = Host("box", lambda command: (1, "", ""), file, Options())
    host.seen, host.results = seen, judged(seen)
    return report.make(host, float(when))


def unmeasured(found: Json) -> Json:
    """The same report without its benchmark."""
    return {**found, "benchmark": None}


def test_the_ratio_is_that_of_the_last_benchmarks_of_two_generations(tmp_path: Path) -> None:
    """Not of an earlier one, and not of a report without a benchmark; the interval is the widest of both means'."""
    kept = [made(tmp_path, 1, 9.0, 0), made(tmp_path, 1, 0.4, 60), unmeasured(made(tmp_path, 1, 7.0, 120))]
    kept += [made(tmp_path, 2, 0.3, 180), made(tmp_path, 2, 0.1, 240), unmeasured(made(tmp_path, 2, 5.0, 300))]
    head, *rows = report_swap.lines(kept)
    assert head == "generation 1 (1970-01-01T00:01:00Z) -> generation 2 (1970-01-01T00:04:00Z)"
    assert rows == [
        f"{name}: GeForce GTX 750 Ti (cuda) 0.4000 s each -> GeForce GTX 750 Ti (cuda) 0.1000 s each: "
        "4.00 times as fast (3.27 to 4.89)"
        for name in ("yolov4-tiny", "yolov3")
    ]


def test_what_a_report_took_over_is_not_measured_again(tmp_path: Path) -> None:
    """A later report of the same generation shows the figures with their time, and no comparison counts them twice."""
    old, new = made(tmp_path, 1, 0.4, 0), made(tmp_path, 2, 0.1, 60)
    seen = {**copy.deepcopy(GPU), "benchmark": {}}
    seen["machine"]["installed"]["generation"] = 2
    folder = tmp_path / "box"
    for kept in (old, new):
        history.keep(kept, folder)
    seen["earlier"] = report.earlier(folder, seen)
    host = Host("box", lambda command: (1, "", ""), tmp_path / "stack.json", Options())
    host.seen, host.results = seen, judged(seen)
    later = report.make(host, 120.0)
    assert later["benchmark"] == new["benchmark"]
    assert "measured 1970-01-01T00:01:00Z" in report.as_text(later, 200)
    assert report_swap.lines([old, new, later]) == report_swap.lines([old, new])
    seen["machine"]["installed"]["generation"] = 3
    assert report.earlier(folder, seen) is None


def test_a_benchmark_that_failed_is_measured_again(tmp_path: Path) -> None:
    """Its figures stand in the report of the failure, and no later report takes them for a proof."""
    bad = made(tmp_path, 2, 0.1, 60, lambda entry: entry["gate"].update(passed=entry["model"] != "yolov3"))
    assert {row["id"]: row["status"] for row in bad["checks"]}["benchmark.yolov3"] == "fail"
    assert len(bad["benchmark"]["models"]) == 2
    seen = copy.deepcopy(GPU)
    seen["machine"]["installed"]["generation"] = 2
    history.keep(bad, tmp_path / "box")
    found = report.earlier(tmp_path / "box", seen)
    assert found is not None and [row["model"] for row in found["models"]] == ["yolov4-tiny"]


def test_going_back_compares_with_what_was_in_force_before(tmp_path: Path) -> None:
    """The generation before in time, not by its number; a slower one is told as such."""
    kept = [made(tmp_path, 4, 0.1, 0), made(tmp_path, 3, 0.2, 60)]
    head, first, _ = report_swap.lines(kept)
    assert head.startswith("generation 4 ") and "generation 3 " in head and ": 0.50 times as fast" in first


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda row: row["weights"].update(sha256="b" * 64), "the weights differ"),
        (lambda row: row.update(size=608), "the input sizes differ"),
    ],
)
def test_other_work_has_no_ratio(change: Callable[[Json], Any], told: str, tmp_path: Path) -> None:
    """Both times are told, and why they are not checked against each other."""
    rows = report_swap.lines([made(tmp_path, 1, 0.4, 0), made(tmp_path, 2, 0.1, 60, change)])[1:]
    assert rows and all(told in row and "times as fast" not in row for row in rows)


def test_a_processor_is_not_called_by_the_cards_name(tmp_path: Path) -> None:
    """From the CPU to the card."""
    old = made(tmp_path, 1, 2.0, 0, lambda row: row.update(device="cpu"))
    assert "yolov3: cpu 2.0000 s each -> GeForce GTX 750 Ti (cuda)" in "\n".join(
        report_swap.lines([old, made(tmp_path, 2, 0.1, 60)])
    )


def test_without_an_earlier_benchmark_it_is_said_how_to_get_one(tmp_path: Path) -> None:
    """Also where the only other reports are of no generation, or damaged."""
    one, torn = made(tmp_path, 2, 0.1, 60), made(tmp_path, 1, 0.1, 0)
    del torn["benchmark"]["models"][0]["mean_s"]
    cases: List[List[Json]] = [[], [unmeasured(one)], [one], [made(tmp_path, None, 0.1, 0), one], [torn, one]]
    for kept in cases:
        (line,) = report_swap.lines(kept)
        assert "is kept. ./run pytest verify/ measures" in line


def test_history_of_one_host_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`gpuhost history box`; of all hosts it would be too much."""
    for found in (made(tmp_path, 1, 0.4, 0), made(tmp_path, 2, 0.1, 60)):
        report.write(found, tmp_path / "reports" / "box")
    for host, shown in (["box"], True), ([], False):
        said = io.StringIO()
        monkeypatch.setattr(
            "gpuhost.cli.history.terminal.console", lambda said=said, **_: Console(file=said, width=300)
        )
        assert cli.main(["history", *host, "--reports", str(tmp_path / "reports")]) == 0
        assert ("4.00 times as fast" in said.getvalue()) is shown
