"""From heads to boxes, and the pictures that cannot be used."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Tuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuhost.errors import EnvironmentProblem, UsageError
from gpuhost.yolo import detector, images, picture_header
from gpuhost.yolo.models import class_names
from gpuhost.yolo.photos import pixels

Box = Tuple[float, float, float, float]


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes of left, top, width, height."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(wide, 0.0) * max(high, 0.0)
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def plain_suppression(boxes: List[Box], scores: List[float], classes: List[int], limit: float) -> List[int]:
    """Non-maximum suppression by its definition, one class at a time."""
    kept: List[int] = []
    for number in sorted(range(len(boxes)), key=lambda place: -scores[place]):
        rivals = [other for other in kept if classes[other] == classes[number]]
        if all(overlap(boxes[number], boxes[other]) <= limit for other in rivals):
            kept.append(number)
    return kept


def some_heads(seed: int, rows: int) -> List[Any]:
    """Two heads of random rows, as the network gives them: a class score is at most the objectness."""
    random = np.random.RandomState(seed)
    values = random.rand(rows, 85).astype(np.float32)
    values[:, 2:4] = values[:, 2:4] * 0.5 + 0.02
    values[:, 5:] *= values[:, 4:5]
    return [values[: rows // 2], values[rows // 2 :]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.floats(0.0, 0.95))
def test_decoding_by_its_definition(seed: int, rows: int, confidence: float) -> None:
    """The vectorised form finds what a loop over the rows finds."""
    heads = some_heads(seed, rows)
    expected = []
    for row in np.concatenate(heads):
        best = int(row[5:].argmax())
        if row[5 + best] > confidence:
            wide, high = row[2] * 640, row[3] * 480
            expected.append((row[0] * 640 - wide / 2, row[1] * 480 - high / 2, wide, high, row[5 + best], best))
    boxes, scores, classes = detector.decode(heads, 640, 480, confidence)
    assert len(boxes) == len(expected)
    for box, score, number, line in zip(boxes, scores, classes, expected):
        assert [*box, score, number] == pytest.approx(line, rel=1e-5, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40))
def test_both_ways_of_suppression_agree(seed: int, count: int) -> None:
    """With the batched function of newer OpenCV and with the moved boxes for older ones: the same as by definition."""
    random = np.random.RandomState(seed)
    boxes = (random.rand(count, 4) * 100 + [-30, -30, 5, 5]).astype(np.float32)
    scores = (random.permutation(count) + 1).astype(np.float32) / (count + 1)
    classes = random.randint(0, 3, count)
    expected = plain_suppression([tuple(box) for box in boxes.tolist()], scores.tolist(), classes.tolist(), 0.3)
    old = SimpleNamespace(dnn=SimpleNamespace(NMSBoxes=cv2.dnn.NMSBoxes))
    for cv in (cv2, old):
        assert detector.suppress(boxes, scores, classes, 0.3, cv).tolist() == expected


class Still:
    """A network that always answers the same."""

    def __init__(self, rows: Any) -> None:
        self.rows = np.asarray(rows, dtype=np.float32)

    def forward(self, blob: Any) -> List[Any]:
        assert blob.shape == (1, 3, 64, 64)
        return [self.rows]


def row(x: float, y: float, wide: float, high: float, class_id: int, score: float) -> List[float]:
    """One row of a head."""
    values = [x, y, wide, high, score] + [0.0] * 80
    values[5 + class_id] = score
    return values


@pytest.fixture(name="still")
def still_detector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> detector.Detector:
    """A detector whose network answers with six known boxes."""
    rows = [row(0.5, 0.5, 0.25, 0.5, 0, 0.9), row(0.51, 0.5, 0.25, 0.5, 0, 0.8), row(0.5, 0.5, 0.25, 0.5, 2, 0.7),
            row(0.05, 0.95, 0.2, 0.2, 16, 0.6), row(0.95, 0.05, 0.2, 0.2, 17, 0.55),
            row(0.3, 0.3, 0.1, 0.1, 1, 0.4)]  # fmt: skip
    files = SimpleNamespace(size=64, labels=class_names(), letter_box=False)
    monkeypatch.setattr(detector, "files_of", lambda *_: files)
    monkeypatch.setattr(detector, "open_network", lambda *_: Still(rows))
    return detector.Detector("yolov3-tiny", work=tmp_path, size=64)


def test_boxes_are_in_pixels_of_the_picture(still: detector.Detector) -> None:
    """Suppressed within a class only, named, ordered by score, cut at the edges."""
    found = still.detect(np.zeros((200, 400, 3), dtype=np.uint8))
    assert [(one.label, one.class_id) for one in found] == [("person", 0), ("car", 2), ("dog", 16), ("horse", 17)]
    assert [one.score for one in found] == pytest.approx([0.9, 0.7, 0.6, 0.55])
    assert found[0].box == pytest.approx((150, 50, 100, 100), abs=1e-3)
    assert found[2].box == pytest.approx((0, 170, 60, 30), abs=1e-3)
    assert found[3].box == pytest.approx((340, 0, 60, 30), abs=1e-3)


def test_grey_pictures_are_taken(still: detector.Detector) -> None:
    """As an array of two dimensions, and with one channel."""
    assert len(still.detect(np.zeros((20, 40), dtype=np.uint8))) == 4
    assert len(still.detect(np.zeros((20, 40, 1), dtype=np.uint8))) == 4


@pytest.mark.parametrize(("name", "value"), [("confidence", 1.5), ("overlap", -0.1)])
def test_impossible_thresholds_are_refused(name: str, value: float, tmp_path: Path) -> None:
    """Before anything is made or loaded."""
    with pytest.raises(UsageError, match=name):
        detector.Detector("yolov3-tiny", work=tmp_path, **{name: value})
    assert list(tmp_path.iterdir()) == []


def test_an_opencv_too_old_for_the_model_is_refused() -> None:
    """Such a one loads YOLOv4-tiny and computes nonsense."""
    with pytest.raises(EnvironmentProblem, match=r"4\.4\.0 or later; this is 4\.2\.0"):
        detector.require_opencv("4.4.0", "yolov4-tiny", "4.2.0")
    for version in ("4.4.0", "4.10.0", "4.14.0-dev", "5.0.0"):
        detector.require_opencv("4.4.0", "yolov4-tiny", version)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ("a list", "not there"),
        ([[1, 2]], "not an array"),
        (np.zeros((4, 4, 3), dtype=np.uint16), "uint16"),
        (np.zeros((4, 4, 3), dtype=np.float32), "float32"),
        (np.zeros((4, 4, 4), dtype=np.uint8), "shape"),
        (np.zeros((1, 3, 4, 4), dtype=np.uint8), "shape"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "no area"),
        (np.lib.stride_tricks.as_strided(np.zeros(3, dtype=np.uint8), (20000, 10000, 3), (0, 0, 1)), "too large"),
    ],
)
def test_arrays_that_are_no_picture_are_named(image: Any, problem: str, still: detector.Detector) -> None:
    """With what is wrong, and with the exit code of a user's mistake."""
    with pytest.raises(images.ImageError, match=problem) as caught:
        still.detect(image)
    assert caught.value.exit_code == 2 and caught.value.next_step


def encoded(suffix: str) -> bytes:
    """A made photo in a file format."""
    return bytes(cv2.imencode(suffix, pixels(3)[:120, :160])[1].tobytes())


def test_whole_files_are_read(still: detector.Detector, tmp_path: Path) -> None:
    """JPEG and PNG, also with bytes after the end, and with a 16-bit or alpha channel."""
    deep = cv2.imencode(".png", np.full((9, 8), 40000, dtype=np.uint16))[1].tobytes()
    clear = cv2.imencode(".png", np.full((9, 8, 4), 200, dtype=np.uint8))[1].tobytes()
    for data in (encoded(".jpg"), encoded(".jpg") + b"trailer", encoded(".png"), deep, clear):
        path = tmp_path / "a picture"
        path.write_bytes(data)
        assert len(still.detect(path)) == 4
        assert images.decode(data).dtype == np.uint8


@pytest.mark.parametrize("keep", [3, 30, 400, 0.5, 0.9, -2])
def test_a_jpeg_that_is_cut_off_is_named(keep: float) -> None:
    """Wherever it is cut; OpenCV alone fills the rest with grey."""
    data = encoded(".jpg")
    end = int(keep * len(data)) if isinstance(keep, float) else keep
    with pytest.raises(images.ImageError, match="cut off"):
        images.decode(data[:end], "holiday.jpg")


def test_an_embedded_preview_does_not_hide_the_cut() -> None:
    """A camera's preview picture has an end marker of its own inside."""
    preview = b"\xff\xd8preview\xff\xd9"
    segment = b"\xff\xe1" + (len(preview) + 2).to_bytes(2, "big") + preview
    data = encoded(".jpg")
    whole = data[:2] + segment + data[2:]
    assert picture_header.read(whole)[:3] == ("JPEG", 160, 120)
    with pytest.raises(picture_header.Unfit, match="cut off"):
        picture_header.read(whole[:-200])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"hello, I am a text", "not a picture"),
        (encoded(".png")[:-60], "cut off"),
        (encoded(".jpg")[:2] + b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff", "too large"),
        (encoded(".jpg")[:2] + b"\xff\xc0\x00\x11\x08\x00\x00\x00\x10", "no area"),
    ],
)
def test_files_that_are_no_picture_are_named(data: bytes, problem: str, tmp_path: Path) -> None:
    """With the file's name."""
    path = tmp_path / "holiday.jpg"
    path.write_bytes(data)
    with pytest.raises(images.ImageError, match=problem) as caught:
        images.decode(images.read_bytes(path), path.name)
    assert "holiday.jpg" in str(caught.value)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    """A missing file, a folder, a pipe (which would be waited for), a socket and a device: a sentence each."""
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.jpg"))
    for path, what in (
        (tmp_path / "missing.jpg", "is not there"),
        (tmp_path, "is a folder and not a file"),
        (tmp_path / "pipe.jpg", "is a named pipe"),
        (tmp_path / "socket.jpg", "is a socket"),
        (Path("/dev/zero"), "is a device"),
    ):
        with pytest.raises(images.ImageError, match=what) as caught:
            images.read_bytes(path)
        assert path.name in str(caught.value) and caught.value.next_step
