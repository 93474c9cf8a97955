"""Very many photos: the benchmark's memory does not grow with them, and its bar moves."""

from __future__ import annotations

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(name="tool", scope="module")
def measuring_tool() -> Any:
    """tools/measure_stream.py as a module."""
    spec = importlib.util.spec_from_file_location("measure_stream", ROOT / "tools" / "measure_stream.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.full
@pytest.mark.parametrize("mode", ["single", "offline"])
def test_thousands_of_photos_stream_in_constant_memory(tool: Any, mode: str, tmp_path: Path) -> None:
    """From photo 500 to photo 2,000 less than 4 MiB more: keeping each blob would take 18, the pixels 13."""
    given = Namespace(
        python=sys.executable, mode=mode, model="yolov4-tiny", device="cpu", size=32, work=tmp_path / "work"
    )
    found = tool.run(2000, (500, 2000), given)
    assert found["complete"] and found["bar_moved"] == 2000
    early, late = (mark["resident_kib"] for mark in found["marks"])
    assert late - early < 4096


def test_the_bar_is_read_and_the_rest_is_kept(tool: Any) -> None:
    """The words between two bars, and the error of a command that fails."""
    code = (
        "import sys; t = sys.stderr; assert t.isatty(); t.write('photos [###] 3/3\\n')\n"
        "t.write('net on cpu [#.] 1/2\\rnet on cpu [##] 2/2\\nsome words\\n'); sys.exit(int(sys.argv[1]))"
    )
    said = bytearray()
    assert [done for _, done in tool.bar([sys.executable, "-c", code, "0"], said)] == [1, 2]
    assert b"some words" in said
    with pytest.raises(SystemExit, match=r"exit code 3: [\s\S]*some words"):
        list(tool.bar([sys.executable, "-c", code, "3"], bytearray()))


def test_the_page_gives_what_was_measured(tool: Any) -> None:
    """Resident memory at each mark, both peaks, and the bar."""
    seen = {"opencv": "4.14.0"}
    whole: Dict[str, Any] = {"count": 50000, "bar_moved": 50000, "peak_mib": 211, "started": "2026-01-02T03:04:05Z"}
    whole.update(environment=seen, marks=[{"photos": 1000, "resident_kib": 204800}])
    report = {"model": "yolov3-tiny", "device": "cpu", "size": 32, "mode": "offline"}
    lines = tool.section(dict(report, runs=[dict(whole, count=1000, peak_mib=199), whole]))
    assert "| 1,000 | 200.0 |" in lines and "50,000 times" in lines[0]
    assert "50,000 photos 211 MiB, of one over 1,000 199 MiB" in lines[-1]
