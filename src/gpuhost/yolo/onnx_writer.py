"""A Darknet network as an ONNX file, for the engines that do not read Darknet's own.

The file is written without the package `onnx`: the format is a handful of messages (onnx.proto3 of the
ONNX project; the field numbers below are from it), and a target has only NumPy and OpenCV. Weights go
through one convolution at a time, so that a 258 MB network needs some 40 MB.

The graph takes `images` (batch, 3, side, side) and gives `head_0`, `head_1`, ... as they enter the
detection layers; batch and side are left open. Batch normalisation is folded into the convolutions, in
double precision and with OpenCV's epsilon, because the outputs are held against OpenCV's.
"""

import pathlib
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple, Union

import numpy as np

from .darknet import absolute, convolutions, shapes_of
from .files import whole_file
from .networks import Conv, Layer, MaxPool, Route, Shortcut, Upsample, Yolo
from .protobuf import block, integer, single, text
from .reference import EPSILON
from .weights import ConvWeights, read

WRITER = 1
"""Goes into the file's name: raise it when the same network would become other bytes."""
IR_VERSION, OPSET = 7, 13
"""Of ONNX 1.8 (2020): every release of the engines that can be had for a supported Python reads these."""
INPUT = "images"
PAGE = 4096
"""Constants begin at multiples of this in the data file, so that an engine can map the file instead of
reading it: 250 MB less at the peak with a full network.
"""
_FLOAT, _INT64, _EXTERNAL = 1, 7, 1
_FLOAT_ATTRIBUTE, _INT_ATTRIBUTE, _STRING_ATTRIBUTE, _INTS_ATTRIBUTE = 1, 2, 3, 7
_TO_THE_END = 2**31 - 1

Value = Union[int, float, str, Sequence[int]]


def _attribute(name: str, value: Value) -> bytes:
    """An AttributeProto inside its NodeProto."""
    if isinstance(value, float):
        content = single(2, value) + integer(20, _FLOAT_ATTRIBUTE)
    elif isinstance(value, int):
        content = integer(3, value) + integer(20, _INT_ATTRIBUTE)
    elif isinstance(value, str):
        content = text(4, value) + integer(20, _STRING_ATTRIBUTE)
    else:
        # Not packed: the field is of the older kind, one key per value.
        content = b"".join(integer(8, number) for number in value) + integer(20, _INTS_ATTRIBUTE)
    return block(5, text(1, name) + content)


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Value) -> bytes:
    """A NodeProto inside its GraphProto."""
    content = b"".join(text(1, name) for name in inputs) + text(2, output) + text(3, output) + text(4, kind)
    return block(1, content + b"".join(_attribute(name, value) for name, value in sorted(attributes.items())))


class Tensor(NamedTuple):
    """A constant that lies in the data file: name, shape, and where it begins there; float32."""

    name: str
    shape: Tuple[int, ...]
    offset: int

    @property
    def end(self) -> int:
        """Where the constant after it may begin."""
        length = 4 * int(np.prod(self.shape, dtype=np.int64))
        return -(-(self.offset + length) // PAGE) * PAGE

    def encoded(self, location: str) -> bytes:
        """The TensorProto inside its GraphProto, for a data file of the name `location`."""
        length = 4 * int(np.prod(self.shape, dtype=np.int64))
        places = (("location", location), ("offset", str(self.offset)), ("length", str(length)))
        coded = b"".join(integer(1, side) for side in self.shape) + integer(2, _FLOAT) + text(8, self.name)
        coded += b"".join(block(13, text(1, key) + text(2, value)) for key, value in places)
        return block(5, coded + integer(14, _EXTERNAL))


def _whole_numbers(name: str, values: Sequence[int]) -> bytes:
    """A constant of int64, shape (n,), inside its GraphProto."""
    raw = np.asarray(values, dtype="<i8").tobytes()
    return block(5, integer(1, len(values)) + integer(2, _INT64) + text(8, name) + block(9, raw))


def _scales(name: str, stride: int) -> bytes:
    """The constant that a Resize takes: how many times each dimension grows."""
    raw = np.asarray([1, 1, stride, stride], dtype="<f4").tobytes()
    return block(5, integer(1, 4) + integer(2, _FLOAT) + text(8, name) + block(9, raw))


def _value_info(field: int, name: str, shape: Sequence[Union[int, str]]) -> bytes:
    """A ValueInfoProto of float32; a dimension that is a name is open."""
    sides = b"".join(block(1, text(2, side) if isinstance(side, str) else integer(1, side)) for side in shape)
    return block(field, text(1, name) + block(2, block(1, integer(1, _FLOAT) + block(2, sides))))


def _convolution(index: int, conv: Conv, source: str, name: str) -> bytes:
    """A convolution with its activation; the result has the name `name`."""
    plain = name if conv.activation == "linear" else name + "_plain"
    pad = conv.size // 2
    coded = node(
        "Conv", [source, f"weights_{index}", f"bias_{index}"], plain,
        kernel_shape=[conv.size] * 2, strides=[conv.stride] * 2, pads=[pad] * 4,
    )  # fmt: skip
    if conv.activation == "leaky":
        coded += node("LeakyRelu", [plain], name, alpha=0.1)
    elif conv.activation == "mish":
        coded += node("Softplus", [plain], name + "_softplus") + node("Tanh", [name + "_softplus"], name + "_tanh")
        coded += node("Mul", [plain, name + "_tanh"], name)
    return coded


def _graph(layers: Sequence[Layer]) -> bytes:
    """The network's nodes, small constants and outputs, inside its GraphProto; a value has the name of the
    layer that makes it.
    """
    nodes, constants, outputs = [], [], []
    names: List[str] = []
    channels = [shape.channels for shape in shapes_of(layers, 416)]
    last, heads = INPUT, 0
    for index, layer in enumerate(layers):
        name = f"layer_{index}"
        if isinstance(layer, Conv):
            if isinstance(layers[index + 1], Yolo):
                name = f"head_{heads}"
                heads += 1
                outputs.append(_value_info(12, name, ["batch", layer.filters, f"{name}_side", f"{name}_side"]))
            nodes.append(_convolution(index, layer, last, name))
        elif isinstance(layer, MaxPool):
            before = (layer.size - 1) // 2
            pads = [before, before, layer.size - 1 - before, layer.size - 1 - before]
            kernel, strides = [layer.size] * 2, [layer.stride] * 2
            nodes.append(node("MaxPool", [last], name, kernel_shape=kernel, strides=strides, pads=pads))
        elif isinstance(layer, Upsample):
            constants.append(_scales(f"scales_{index}", layer.stride))
            nodes.append(
                node("Resize", [last, "", f"scales_{index}"], name, mode="nearest", nearest_mode="floor",
                     coordinate_transformation_mode="asymmetric")
            )  # fmt: skip
        elif isinstance(layer, Shortcut):
            nodes.append(node("Add", [last, names[absolute(index, layer.source)]], name))
        elif isinstance(layer, Route):
            sources = [absolute(index, source) for source in layer.sources]
            name = names[sources[0]]
            if len(sources) > 1:
                name = f"layer_{index}"
                nodes.append(node("Concat", [names[source] for source in sources], name, axis=1))
            if layer.groups > 1:
                start = channels[index] * (layer.groups - 1)
                for part, value in (("start", start), ("end", _TO_THE_END), ("axis", 1)):
                    constants.append(_whole_numbers(f"{part}_{index}", [value]))
                slices = [f"start_{index}", f"end_{index}", f"axis_{index}"]
                nodes.append(node("Slice", [name, *slices], f"layer_{index}"))
                name = f"layer_{index}"
        last = name
        names.append(name)
    return b"".join(nodes + constants + outputs)


def _tensors(layers: Sequence[Layer]) -> List[Tensor]:
    """The constants of the convolutions, in the order in which `folded` gives their values."""
    found: List[Tensor] = []
    for shape in convolutions(layers):
        conv = shape.conv
        sides = (conv.filters, shape.inputs, conv.size, conv.size)
        for name, size in (("weights", sides), ("bias", sides[:1])):
            found.append(Tensor(f"{name}_{shape.layer}", size, found[-1].end if found else 0))
    return found


def folded(conv: Conv, arrays: ConvWeights) -> Tuple[Any, Any]:
    """Weights (n, c, k, k) and biases (n,), float32, that do the work of the convolution and its batch
    normalisation.
    """
    if not conv.normalised:
        return arrays["weights"], arrays["biases"]
    values = {name: array.astype(np.float64) for name, array in arrays.items()}
    factor = values["scales"] / np.sqrt(values["variances"] + EPSILON)
    weights = values["weights"] * factor.reshape(-1, 1, 1, 1)
    return weights.astype(np.float32), (values["biases"] - values["means"] * factor).astype(np.float32)


def model_bytes(layers: Sequence[Layer], location: str) -> bytes:
    """The ModelProto, whose weights are in the file `location` of the same folder."""
    constants = b"".join(tensor.encoded(location) for tensor in _tensors(layers))
    images = _value_info(11, INPUT, ["batch", 3, "side", "side"])
    graph = _graph(layers) + text(2, "darknet") + constants + images
    return integer(1, IR_VERSION) + text(2, "gpuhost") + block(8, integer(2, OPSET)) + block(7, graph)


def _data(layers: Sequence[Layer], weights: pathlib.Path) -> Iterator[bytes]:
    """The data file, constant by constant; ArtifactError when `weights` is another network's."""
    tensors = iter(_tensors(layers))
    for shape, arrays in read(weights, layers):
        for values in folded(shape.conv, arrays):
            tensor, raw = next(tensors), np.ascontiguousarray(values, dtype="<f4").tobytes()
            yield raw + bytes(tensor.end - tensor.offset - len(raw))


def write_onnx(path: pathlib.Path, layers: Sequence[Layer], weights: pathlib.Path) -> pathlib.Path:
    """See that the network with its weights (a Darknet file) is in `path` as ONNX, with its data beside it
    under the same name and `.data`; returns the data's path.

    What is there already is kept when the graph is this one and the data has its length: each file appears
    whole or not at all, and a network is held against OpenCV before its output is used.
    """
    data = path.with_name(path.name + ".data")
    model = model_bytes(layers, data.name)
    whole = data.is_file() and data.stat().st_size == _tensors(layers)[-1].end
    if not (whole and path.is_file() and path.read_bytes() == model):
        with whole_file(data) as handle:
            for values in _data(layers, weights):
                handle.write(values)
        with whole_file(path) as handle:
            handle.write(model)
    return data
