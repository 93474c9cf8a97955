"""OpenCV's forward pass against plain NumPy, and the mistakes that the comparison must see."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import cv2
import numpy as np
import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.yolo import detector, gate, reference
from gpuhost.yolo.devices import GATE_FP32, open_network, probe_files
from gpuhost.yolo.models import ModelFiles, model_files
from gpuhost.yolo.network import OpenCvNetwork
from gpuhost.yolo.networks import MODELS
from gpuhost.yolo.photos import pixels


@pytest.fixture(name="tiny", scope="module")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """YOLOv4-tiny's files in a folder of this module."""
    return model_files("yolov4-tiny", 64, tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "pad"), [(1, 0), (3, 1), (3, 0), (1, 2)])
def test_convolution_by_its_definition(size: int, stride: int, pad: int) -> None:
    """The sum over channels and taps, written out for every output value."""
    random = np.random.RandomState(size + stride)
    image, kernels = random.rand(3, 7, 6), random.rand(4, 3, size, size)
    found = reference.convolve(image, kernels, stride, pad)
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="constant")
    for row in range(found.shape[1]):
        for column in range(found.shape[2]):
            top, left = row * stride, column * stride
            window = padded[:, top : top + size, left : left + size]
            assert found[:, row, column] == pytest.approx((kernels * window).sum(axis=(1, 2, 3)))
    assert found.shape == (4, (7 + 2 * pad - size) // stride + 1, (6 + 2 * pad - size) // stride + 1)


def test_pooling_looks_ahead() -> None:
    """Two by two with stride 1 takes the cell and its right and lower neighbours, as Darknet does."""
    image = np.arange(9.0).reshape(1, 3, 3)
    assert reference.max_pool(image, 2, 1, 1).tolist() == [[[4, 5, 5], [7, 8, 8], [7, 8, 8]]]
    assert reference.max_pool(image, 2, 2, 1).tolist() == [[[4, 5], [7, 8]]]


@pytest.mark.parametrize("model", MODELS)
def test_opencv_agrees_with_the_reference(model: str, tmp_path: Path) -> None:
    """Every kind of layer of the four networks, with the known weights, well inside the gate; the heads are alive."""
    files = model_files(model, 64, tmp_path)
    blob = detector.to_blob(pixels(1), 64)
    found = open_network(files, "cpu").raw_heads(blob)
    expected = reference.forward(files.layers, files.weights, blob[0])
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert reference.relative_error(ours, theirs) < GATE_FP32 / 5
        scores = theirs.reshape(3, 85, -1)[:, 5:]
        assert 0.5 < scores.std() < 5
        assert scores.mean(axis=2).std() < 0.6 * scores.std(), "the head hardly depends on the place in the picture"
    files.weights.unlink()


def test_the_gate_passes_a_right_build(tiny: ModelFiles) -> None:
    """What goes into the report."""
    result = gate.check(tiny, tiny.cfg.parent)
    assert result["passed"] and max(result["rel2"]) < 1e-4 and len(result["rel2"]) == 2


def test_the_gate_sets_the_network_up_once(tiny: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for a second choice of outputs, OpenCV keeps its weights once more: 1 GB would not do for two networks."""
    asked, run = set(), OpenCvNetwork._run

    def noted(network: OpenCvNetwork, blob: Any, names: List[str]) -> List[Any]:
        asked.add(tuple(names))
        return run(network, blob, names)

    monkeypatch.setattr(OpenCvNetwork, "_run", noted)
    gate.check(tiny, tiny.cfg.parent)
    assert len(asked) == 1


def swapped(image: Any, size: int) -> Any:
    return cv2.dnn.blobFromImage(image, 1 / 255.0, (size, size), swapRB=False)


def wrong_scale(image: Any, size: int) -> Any:
    return cv2.dnn.blobFromImage(image, 1 / 256.0, (size, size), swapRB=True)


def shifted(image: Any, size: int) -> Any:
    return np.roll(cv2.dnn.blobFromImage(image, 1 / 255.0, (size, size), swapRB=True), 1, axis=3)


@pytest.mark.parametrize("mistake", [swapped, wrong_scale, shifted])
def test_the_gate_sees_a_wrong_input(mistake: Any, tiny: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours in the other order, a scale of 1/256, a picture moved by one pixel."""
    monkeypatch.setattr(gate, "to_blob", mistake)
    with pytest.raises(EnvironmentProblem, match="wrongly"):
        gate.check(tiny, tiny.cfg.parent)


@pytest.mark.parametrize("value", ["slope", "not a number"])
def test_the_gate_sees_wrong_arithmetic(value: str, tiny: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """An activation that is a little off, and an output that is not a number."""

    def heads(*_: Any) -> List[Any]:
        return [np.full((255, 4, 4), np.nan), np.full((255, 8, 8), np.nan)]

    if value == "slope":
        monkeypatch.setitem(reference.ACTIVATIONS, "leaky", lambda values: np.where(values > 0, values, 0.11 * values))
    else:
        monkeypatch.setattr(gate, "forward", heads)
    with pytest.raises(EnvironmentProblem, match="wrongly"):
        gate.check(tiny, tiny.cfg.parent)


def test_the_probe_network_runs(tmp_path: Path) -> None:
    """The network that the device table is found out with computes what it should."""
    files = probe_files(tmp_path)
    blob = detector.to_blob(pixels(0), 64)
    (found,) = open_network(files, "cpu").raw_heads(blob)
    (expected,) = reference.forward(files.layers, files.weights, blob[0])
    assert reference.relative_error(found, expected) < 1e-5
