"""The network as ONNX: its bytes, its arithmetic, and the boxes behind its heads."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuhost.errors import ArtifactError
from gpuhost.yolo import heads, onnx_writer, protobuf
from gpuhost.yolo.darknet import convolutions, count_parameters
from gpuhost.yolo.models import model_files
from gpuhost.yolo.networks import MODELS, PROBE, Conv, Yolo, layers_of
from gpuhost.yolo.synthetic import write_weights
from gpuhost.yolo.weights import read

#: SHA-256 of graph and data with the synthetic weights. The files they were taken from passed onnx.checker of
#: onnx 1.23.2 with full_check; a change of the writer must pass it again (test_the_checker_accepts_it).
GOLDEN: Dict[str, Tuple[str, str]] = {
    "yolov3": (
        "6760d316f95133a1cdf5f53e954251d3c9e7fd9406fae11cb39b27d99adc5764",
        "fc74be2323da2ab1f6adcae8900e15670d02f7e254e2e0df3d39d3958ef06567",
    ),
    "yolov3-tiny": (
        "0b9a009a956c07bbc5368b2f7d3a57570f5cc2a57f85e18706b2863064d03aa6",
        "1e7f4f23644355dbbd253a598c4ce83e2c2a77e00dc99728a25a32fc31d1a44e",
    ),
    "yolov4": (
        "3acf3fcc91ab31ea88b050582ad696ff07db536210e20de311f3e764f903264a",
        "e6535ac7fedd7ee358b8b49279d015ce7de483b4e74952e55d41b5669ba49953",
    ),
    "yolov4-tiny": (
        "0d83354b605dc401a901f523e1b9d3674459e519b6f66613980752a8da3589b8",
        "5a6513e8005e18dc8726fe5743eb064f9a69e6ef0de3d77b8a73eefa3c5fffa3",
    ),
}


def onnx_of(model: str, folder: Path) -> Tuple[Path, Path]:
    """A model's ONNX files with the synthetic weights."""
    files = model_files(model, 64, folder)
    path = folder / f"{model}.onnx"
    return path, onnx_writer.write_onnx(path, files.layers, files.weights)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fields(data: bytes) -> Iterator[Tuple[int, Any]]:
    """The fields of an encoded message: (number, integer or bytes), read back by the format's description."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
        elif key & 7 == 2:
            length = number()
            assert place + length <= len(data)
            yield key >> 3, data[place : place + length]
            place += length
        else:
            assert key & 7 == 5
            yield key >> 3, data[place : place + 4]
            place += 4


def only(data: bytes, wanted: int) -> Any:
    """The one field of a message that has this number."""
    (value,) = [value for number, value in fields(data) if number == wanted]
    return value


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 2**20), st.text())
def test_the_wire_format_can_be_read_back(value: int, number: int, words: str) -> None:
    """Integers of 64 bits of either sign, any field number, any text."""
    assert list(fields(protobuf.integer(number, value))) == [(number, value % 2**64)]
    assert list(fields(protobuf.text(number, words))) == [(number, words.encode("utf-8"))]
    assert list(fields(protobuf.single(number, 0.5))) == [(number, struct.pack("<f", 0.5))]


def test_the_examples_of_the_formats_description() -> None:
    """150 as field 1, "testing" as field 2, and -2 in ten bytes."""
    assert protobuf.integer(1, 150).hex() == "089601"
    assert protobuf.text(2, "testing").hex() == "120774657374696e67"
    assert protobuf.varint(-2).hex() == "fe" + "ff" * 8 + "01"


@pytest.mark.parametrize("model", MODELS)
def test_the_bytes_are_the_same_everywhere(model: str, tmp_path: Path) -> None:
    """On every processor and with every NumPy: only exactly rounded operations are used."""
    graph, data = onnx_of(model, tmp_path)
    assert (digest(graph), digest(data)) == GOLDEN[model]
    assert graph.stat().st_size < 200_000, "the graph holds no weights"
    for path in tmp_path.iterdir():
        path.unlink()


@pytest.mark.parametrize("model", [*MODELS, PROBE])
def test_constants_lie_apart_in_the_data_file(model: str) -> None:
    """Each begins at a page, none reaches into the next, and together they are the network's parameters."""
    layers = layers_of(model)
    graph = only(onnx_writer.model_bytes(layers, "w.data"), 7)
    end, values = 0, 0
    for number, tensor in fields(graph):
        if number != 5 or not any(key == 14 for key, _ in fields(tensor)):
            continue
        pairs = [(only(entry, 1), only(entry, 2)) for key, entry in fields(tensor) if key == 13]
        said = {key.decode(): value.decode() for key, value in pairs}
        assert said["location"] == "w.data" and int(said["offset"]) % 4096 == 0 and int(said["offset"]) >= end
        shape = [value for key, value in fields(tensor) if key == 1]
        assert int(said["length"]) == 4 * int(np.prod(shape))
        end, values = int(said["offset"]) + int(said["length"]), values + int(np.prod(shape))
    dropped = sum(3 * shape.conv.filters for shape in convolutions(layers) if shape.conv.normalised)
    assert values == count_parameters(layers) - dropped


def test_folding_is_the_normalisation(tmp_path: Path) -> None:
    """Convolution, then batch normalisation with OpenCV's epsilon, is the folded convolution."""
    layers = layers_of(PROBE)
    write_weights(tmp_path / "w", layers)
    for shape, arrays in read(tmp_path / "w", layers):
        weights, bias = onnx_writer.folded(shape.conv, arrays)
        assert weights.dtype == bias.dtype == np.float32
        taps = np.random.RandomState(shape.layer).randn(*arrays["weights"].shape[1:])
        plain = (arrays["weights"].astype(np.float64) * taps).sum(axis=(1, 2, 3))
        if shape.conv.normalised:
            plain = (
                (plain - arrays["means"]) / np.sqrt(arrays["variances"].astype(np.float64) + 1e-6) * arrays["scales"]
            )
        assert (weights * taps).sum(axis=(1, 2, 3)) + bias == pytest.approx(
            plain + arrays["biases"], rel=1e-4, abs=1e-5
        )


def test_what_is_there_is_kept_and_what_is_not_whole_is_made_again(tmp_path: Path) -> None:
    """A graph of another network or writer, a data file that is too short, a missing one."""
    layers = layers_of(PROBE)
    write_weights(tmp_path / "w", layers)
    path = tmp_path / "probe.onnx"
    data = onnx_writer.write_onnx(path, layers, tmp_path / "w")
    good, stamp = (path.read_bytes(), data.read_bytes()), data.stat().st_mtime_ns
    onnx_writer.write_onnx(path, layers, tmp_path / "w")
    assert data.stat().st_mtime_ns == stamp

    def spoil(number: int) -> None:
        if number == 0:
            path.write_bytes(good[0][:-1])
        elif number == 1:
            data.write_bytes(good[1][:-4096])
        else:
            data.unlink()

    for number in range(3):
        spoil(number)
        onnx_writer.write_onnx(path, layers, tmp_path / "w")
        assert (path.read_bytes(), data.read_bytes()) == good


def test_weights_of_another_network_leave_no_file(tmp_path: Path) -> None:
    """Neither a graph nor half a data file."""
    write_weights(tmp_path / "w", layers_of(PROBE))
    with pytest.raises(ArtifactError, match="does not fit its network"):
        onnx_writer.write_onnx(tmp_path / "a.onnx", layers_of("yolov3-tiny"), tmp_path / "w")
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("model", ["yolov3-tiny", "yolov4-tiny"])
def test_the_checker_accepts_it(model: str, tmp_path: Path) -> None:
    """The ONNX project's own checker, with shapes; where its package is: pip install onnx."""
    onnx = pytest.importorskip("onnx", reason="the package onnx is for whoever changes the writer: pip install onnx")
    graph, _ = onnx_of(model, tmp_path)
    onnx.checker.check_model(str(graph), full_check=True)


def plain_rows(raw: Any, head: Yolo, size: Tuple[int, int]) -> List[List[float]]:
    """Boxes of one picture by their definition, one value at a time, in double precision."""
    _, down, across = raw.shape
    rows, depth = [], 5 + head.classes
    for y in range(down):
        for x in range(across):
            for place, anchor in enumerate(head.mask):
                cell = [float(value) for value in raw[depth * place : depth * (place + 1), y, x]]
                sure = cell if head.new_coords else [1 / (1 + np.exp(-value)) for value in cell]
                grown = [4 * value**2 if head.new_coords else np.exp(value) for value in cell[2:4]]
                wide, high = head.anchors[anchor]
                centre = [(value - 0.5) * head.scale_x_y + 0.5 for value in sure[:2]]
                box = [(x + centre[0]) / across, (y + centre[1]) / down]
                box += [grown[0] * wide / size[0], grown[1] * high / size[1]]
                rows.append([*box, sure[4], *(value * sure[4] for value in sure[5:])])
    return rows


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([1.0, 1.05, 1.2, 2.0]),
    st.integers(1, 2),
    st.booleans(),
)
def test_boxes_by_their_definition(
    seed: int, down: int, across: int, spread: float, batch: int, new_coords: bool
) -> None:
    """Any grid, any spread of centres, both kinds of values, each picture of a batch for itself; the input stays."""
    head = Yolo((2, 0), ((10, 14), (23, 27), (37, 58)), spread, 4, new_coords)
    random = np.random.RandomState(seed)
    raw = random.rand(batch, 18, down, across) if new_coords else random.randn(batch, 18, down, across) * 3
    raw, size = raw.astype(np.float32), (416, 288)
    before = raw.copy()
    found = heads.rows_of(raw, head, size)
    assert found.dtype == np.float32 and found.shape == (batch, down * across * 2, 9)
    for ours, theirs in zip(found, raw):
        np.testing.assert_allclose(ours, plain_rows(theirs.astype(np.float64), head, size), rtol=1e-5, atol=1e-6)
    assert np.array_equal(raw, before)


def test_extreme_values_give_no_warning_and_no_nonsense() -> None:
    """A logistic function of -1000 is 0, of 1000 it is 1."""
    raw = np.full((1, 85, 1, 1), -1000, dtype=np.float32)
    raw[0, 4:6] = 1000
    (row,) = heads.rows_of(raw, Yolo((0,), ((10, 14),)), 416)[0]
    assert row[:6].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 1.0] and not row[6:].any()


def test_a_head_is_the_layer_before_its_detection_layer() -> None:
    """As many outputs as detection layers, in file order, with open batch."""
    for model in MODELS:
        layers = layers_of(model)
        graph = only(onnx_writer.model_bytes(layers, "w"), 7)
        names = [only(value, 1).decode() for number, value in fields(graph) if number == 12]
        assert names == [f"head_{place}" for place in range(sum(isinstance(layer, Yolo) for layer in layers))]
        kinds = [only(value, 4).decode() for number, value in fields(graph) if number == 1]
        assert kinds.count("Conv") == sum(isinstance(layer, Conv) for layer in layers)
