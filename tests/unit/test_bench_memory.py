"""tools/measure_memory.py: a limited process sees its limit, memory is counted, and the page says what was measured."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(name="tool", scope="module")
def measuring_tool() -> Any:
    """tools/measure_memory.py as a module."""
    spec = importlib.util.spec_from_file_location("measure_memory", ROOT / "tools" / "measure_memory.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(model: str, peak: int, asked: str = "cpu", device: str = "cpu") -> Dict[str, Any]:
    """One measurement, as far as the page reads it."""
    seen = {"cpu": "Some CPU", "cpus_allowed": 2, "opencv": "4.14.0", "python": "3.11.2", "system": "Linux"}
    return {
        "models": [model],
        "asked": asked,
        "device": device,
        "photos": [192],
        "process_mib": peak,
        "processes_mib": peak - 1,
        "winograd": False if device == "cpu" else None,
        "started": "2026-01-02T03:04:05Z",
        "environment": seen,
    }


def test_the_page_says_whether_the_goal_is_held(tool: Any) -> None:
    """1 GB is 10^9 bytes, so 953 MiB are below it and 954 are not."""
    report = {"limit_mib": 4096, "mode": "single", "rows": [row("yolov3", 953, "auto", "openvino")]}
    lines = tool.section([report])
    assert "All are below 1 GB (953 MiB); the largest is 953 MiB." in lines
    assert lines[-1] == "| yolov3 | auto, which took openvino | 192 | 953 | 952 | - |"
    more = dict(report, rows=[row("yolov4", 954)])
    lines = tool.section([report, more])
    assert "NOT all are below 1 GB (953 MiB); the largest is 954 MiB." in lines
    assert lines[-1] == "| yolov4 | cpu | 192 | 954 | 953 | no |"


def test_a_process_in_the_group_sees_the_limit_and_is_watched(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The detector's own look at the machine finds the group's limit, and 300 MB of ballast are seen from outside."""
    if os.geteuid() != 0 or not os.access(tool.TOP, os.W_OK):
        pytest.skip("a control group can be made by root only")
    log, ended = tmp_path / "log", tmp_path / "ended"
    code = (
        "import pathlib, time; from gpuhost.yolo import memory; ballast = b'x' * 300_000_000\n"
        "print(memory.machine_bytes()); late = time.monotonic() + 60\n"
        f"while not pathlib.Path({str(ended)!r}).exists() and time.monotonic() < late: time.sleep(0.01)"
    )
    with tool.Group(512 << 20) as group:
        look = group.resident

        def told() -> int:
            """Let the process end once its ballast was seen."""
            found: int = look()
            if found > 300_000_000:
                ended.touch()
            return found

        monkeypatch.setattr(group, "resident", told)
        seen = tool.watched([sys.executable, "-c", code], group, log)
        assert (seen.code, log.read_text().split()) == (0, [str(512 << 20)])
    assert 300_000_000 < seen.peak < 512 << 20
    assert not group.folder.exists()
