"""The four networks: their figures, their configuration text, and what OpenCV makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import cv2
import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuhost.errors import UsageError
from gpuhost.yolo import darknet, networks, synthetic
from gpuhost.yolo.models import CATALOG, catalog

TINY = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))
V3 = ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326))
V4 = ((12, 16), (19, 36), (40, 28), (36, 75), (76, 55), (72, 146), (142, 110), (192, 243), (459, 401))
#: layers, convolutions, parameters, bytes of the weight file, BFLOPs at 320, 416 and 608,
#: and per head: layer, mask, cells at 416, scale_x_y. Counted from the published descriptions.
FIGURES: Dict[str, Any] = {
    "yolov3": (107, 75, 62001757, 248007048, (38.973, 65.864, 140.692), V3,
               [(82, (6, 7, 8), 13, 1.0), (94, (3, 4, 5), 26, 1.0), (106, (0, 1, 2), 52, 1.0)]),
    "yolov3-tiny": (24, 13, 8858734, 35434956, (3.293, 5.565, 11.887), TINY,
                    [(16, (3, 4, 5), 13, 1.0), (23, (0, 1, 2), 26, 1.0)]),
    "yolov4": (162, 110, 64429405, 257717640, (35.565, 60.105, 128.389), V4,
               [(139, (0, 1, 2), 52, 1.2), (150, (3, 4, 5), 26, 1.1), (161, (6, 7, 8), 13, 1.05)]),
    "yolov4-tiny": (38, 21, 6062814, 24251276, (4.088, 6.908, 14.756), TINY,
                    [(30, (3, 4, 5), 13, 1.05), (37, (1, 2, 3), 26, 1.05)]),
}  # fmt: skip


def sections(text: str) -> List[Any]:
    """A configuration text as (kind, {key: value}) in order, as Darknet's parser reads it."""
    found: List[Any] = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("["):
            found.append((line.strip("[]"), {}))
        else:
            key, value = line.split("=")
            assert key not in found[-1][1]
            found[-1][1][key] = value
    return found


@pytest.mark.parametrize("model", networks.MODELS)
def test_the_figures_of_each_network(model: str) -> None:
    """Layers, parameters, file length, operations and heads are those of the published network."""
    count, convolutions, parameters, length, bflops, anchors, heads = FIGURES[model]
    layers = networks.layers_of(model)
    shapes = darknet.shapes_of(layers, 416)
    assert len(layers) == count
    assert len(darknet.convolutions(layers)) == convolutions
    assert darknet.count_parameters(layers) == parameters
    assert darknet.weight_bytes(layers) == length
    assert [round(darknet.count_flops(layers, size) / 1e9, 3) for size in (320, 416, 608)] == list(bflops)
    assert darknet.yolo_heads(layers) == [head[0] for head in heads]
    for number, mask, cells, spread in heads:
        assert layers[number] == networks.Yolo(mask, anchors, spread)
        assert shapes[number] == (255, cells, cells)


def test_the_catalog_has_the_same_figures() -> None:
    """data/yolo.json fits its schema, and says of each network what the layers say."""
    schema = json.loads(CATALOG.with_name("yolo.schema.json").read_text("utf-8"))
    facts = catalog()
    fastjsonschema.validate(schema, facts)
    assert [row["name"] for row in facts["models"]] == list(networks.MODELS)
    for row in facts["models"]:
        _, _, parameters, length, bflops, _, _ = FIGURES[row["name"]]
        assert row["parameters"] == parameters
        assert row["weights"]["bytes"] == row["synthetic"]["bytes"] == length
        assert row["bflops"] == dict(zip(("320", "416", "608"), bflops))
        assert row["synthetic"]["seed"] == synthetic.SEED


@given(st.sampled_from(networks.MODELS), st.integers(1, 30))
def test_the_text_says_what_the_layers_say(model: str, cells: int) -> None:
    """At any input size: one section per layer, the size on top, no suppression and no threshold inside the network."""
    layers = networks.layers_of(model)
    top, *rest = sections(darknet.cfg_text(layers, 32 * cells))
    assert top == ("net", {"batch": "1", "subdivisions": "1", "width": str(32 * cells), "height": str(32 * cells),
                           "channels": "3"})  # fmt: skip
    assert len(rest) == len(layers)
    yolos = [values for kind, values in rest if kind == "yolo"]
    assert len(yolos) == len(darknet.yolo_heads(layers))
    assert all(values["nms_threshold"] == "0" and values["thresh"] == "0" for values in yolos)
    assert sum(kind == "convolutional" for kind, _ in rest) == len(darknet.convolutions(layers))
    heads = [rest[number - 1][1] for number in darknet.yolo_heads(layers)]
    assert all("batch_normalize" not in values and values["filters"] == "255" for values in heads)


@pytest.mark.parametrize("size", [0, -32, 31, 100, 417, 4128])
def test_an_impossible_size_is_refused(size: int) -> None:
    """A size that the deepest head cannot divide is the user's mistake, told as such."""
    with pytest.raises(UsageError, match="input size"):
        darknet.cfg_text(networks.layers_of("yolov3-tiny"), size)


def test_an_unknown_model_is_refused() -> None:
    """The message lists the models there are."""
    with pytest.raises(UsageError, match="yolov4-tiny"):
        networks.layers_of("yolov9")


@pytest.mark.parametrize("model", ["yolov3-tiny", "yolov4-tiny"])
def test_opencv_reads_the_text(model: str, tmp_path: Path) -> None:
    """OpenCV finds the same heads, and counts the same operations as we do."""
    layers = networks.layers_of(model)
    cfg, weights = tmp_path / "a.cfg", tmp_path / "a.weights"
    cfg.write_text(darknet.cfg_text(layers, 96), encoding="ascii")
    synthetic.write_weights(weights, layers)
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    assert list(net.getUnconnectedOutLayersNames()) == [f"yolo_{number}" for number in darknet.yolo_heads(layers)]
    flops = net.getFLOPS((1, 3, 96, 96))
    assert flops == pytest.approx(darknet.count_flops(layers, 96), rel=0.03)
