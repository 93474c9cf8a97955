"""The page of figures from reports, and the command of playbooks/benchmark.yml."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Dict

import pytest

from gpuhost.checks import benchmark as checks_benchmark
from gpuhost.errors import UnreadableError
from gpuhost.yolo import options

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(name="tool", scope="module")
def measuring_tool() -> Any:
    """tools/measure_benchmark.py as a module."""
    spec = importlib.util.spec_from_file_location("measure_benchmark", ROOT / "tools" / "measure_benchmark.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(device: str, throttled: bool = False) -> Dict[str, Any]:
    """A report of one model on a device, as far as the page reads it."""
    each = {"mean": 0.2, "mean_ci95": [0.19, 0.21], "p50": 0.2, "p95": 0.25}
    entry = {
        "model": "yolov3",
        "size": 416,
        "device": device,
        "precision": "fp32",
        "complete": True,
        "weights": {"kind": "synthetic", "sha256": "a" * 64},
        "headline": {"photos": 96, "total_s": 19.2, "mean_s": 0.2},
        "per_photo_s": each,
        "photos_per_s": 5.0,
        "outside_forward": 0.031,
        "stages_s": {name: {"mean": 0.04} for name in ("read", "decode", "blob", "forward", "post")},
        "offline": {
            "batch": 1,
            "mean_s": 0.19,
            "photos_per_s": 5.26,
            "photos_per_s_ci95": [5.2, 5.3],
            "outside_forward": 0.01,
        },
        "baseline": {"device": "cpu", "per_photo_s": each, "photos_per_s": 4.0},
        "faster": {"offline/baseline": {"ratio": 1.315, "ci95": [1.25, 1.38]}},
        "sampled": {"cards": [], "flags": {"throttled": throttled, "stolen": None}},
        "usage": {"peak_memory_mib": 700},
    }
    seen = {"cpus_allowed": 2, "cpu": "Some CPU", "memory_mib": 4096, "system": "Linux", "opencv": "4.14.0"}
    return {
        "started": "2026-01-02T03:04:05Z",
        "environment": {**seen, "python": "3.11.2"},
        "photos": {"kind": "made", "count": 96},
        "models": [entry],
    }


def test_the_page_is_renewed_between_its_marks_only(tool: Any) -> None:
    """Twice the same; what stands around the marks stays; one section and one picture for each machine."""
    reports = {
        Path("here-cpu.json"): report("cpu"),
        Path("here-openvino.json"): report("openvino", throttled=True),
        Path("there-cpu.json"): report("cpu"),
    }
    text, pictures = tool.page(reports, "before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    assert text.startswith("before\n<!-- figures -->") and text.endswith("<!-- end of figures -->\nafter\n")
    assert "old" not in text and text.count("## Some CPU") == 2
    assert (
        "| yolov3 | cpu | fp32 | 4.0 (cpu) | 5.0 | 200.0 | 250.0 | 3.1 % | 5.3 (batch 1) | 1.31 (1.25 to 1.38) |"
        in text
    )
    assert "Attention: yolov3 on openvino: throttled." in text
    assert set(pictures) == {"benchmarks-here.svg", "benchmarks-there.svg"}
    assert tool.page(reports, text) == (text, pictures)


def test_the_page_has_its_marks(tool: Any) -> None:
    """Without them the figures would have no place."""
    text = tool.PAGE.read_text(encoding="utf-8")
    assert 0 < text.find(tool.START) < text.find(tool.END)


@pytest.mark.parametrize("published", [True, False])
def test_the_playbook_s_command_is_one_that_the_detector_takes(published: bool) -> None:
    """All ways on one device, in turns, and nothing written on the host."""
    line = checks_benchmark.thorough("/opt/gpuhost", "cuda", ["yolov3", "yolov4"], 192, 2, published)
    assert line[1:3] == ["-I", "-B"] and line[5:7] == ["/opt/gpuhost/current/yolo", "gpuhost.yolo"]
    given = options.parser().parse_args(line[7:])
    assert (given.command, given.mode, given.device, given.baseline) == ("bench", "both", "cuda", "cuda")
    assert given.read_only and str(given.json) == "-" and given.model == ["yolov3", "yolov4"]
    assert (given.count, given.passes, given.weights_dir is not None) == (192, 2, published)


def test_a_report_of_the_tool_needs_no_gpuhost_to_be_measured(tool: Any) -> None:
    """`measure` runs where only OpenCV is: loading the tool imports nothing of the controller's libraries."""
    text = (ROOT / "tools" / "measure_benchmark.py").read_text(encoding="utf-8")
    top = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert not [line for line in top if "gpuhost" in line]


def test_kept_reports_are_in_the_order_of_generations_and_of_time() -> None:
    """By their names, also from the ninth generation to the tenth."""
    reports = [
        ("generations/9", "2026-11-23T10:00:00Z"),
        ("generations/9", "2026-11-23T11:30:00Z"),
        ("generations/10", "2026-11-23T09:00:00Z"),
    ]
    names = [checks_benchmark.kept_as(json.dumps({"started": at}), current) for current, at in reports]
    assert names[0] == "0009-20261123T100000Z.json" and names == sorted(names)


@pytest.mark.parametrize(
    ("report", "current"),
    [
        ('{"started": "../../../../root/.ssh/x"}', "generations/9"),
        ('{"started": "2026-11-23T10:00:00Z/../x"}', "generations/9"),
        ('{"started": 7}', "generations/9"),
        ("[]", "generations/9"),
        ("not JSON", "generations/9"),
        ('{"started": "2026-11-23T10:00:00Z"}', "generations/" + "9" * 400),
        ('{"started": "2026-11-23T10:00:00Z"}', "generations/-9"),
        ('{"started": "2026-11-23T10:00:00Z"}', ".."),
    ],
)
def test_what_a_host_says_makes_no_other_file_name(report: str, current: str) -> None:
    """The name of the file on the controller was once whatever the host's benchmark called its time."""
    with pytest.raises(UnreadableError, match="does not say when"):
        checks_benchmark.kept_as(report, current)
