"""A Darknet network as an ONNX file, for the engines that do not read Darknet's own.

The file is written without the package `onnx`: the format is a handful of messages (onnx.proto3 of the
ONNX project; the field numbers below are from it), and a target has only NumPy and OpenCV. Weights go
through one convolution at a time, so that a 258 MB network needs some 40 MB.

The graph takes `images` (batch, 3, height, width) and gives `head_0`, `head_1`, ... as they enter the
detection layers; batch and sides are left open. Batch normalisation is folded into the convolutions, in
double precision and with OpenCV's epsilon, because the outputs are checked against OpenCV's.
"""

import pathlib
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple, Union

import numpy as np

from .darknet import Shape, Size, absolute, convolutions, shapes_of
from .files import whole_file
from .networks import AvgPool, Conv, Layer, MaxPool, Reorg, Route, Scale, Shortcut, Upsample
from .protobuf import block, integer, single, text
from .reference import EPSILON
from .weights import ConvWeights, read

WRITER = 2
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


def _activation(kind: str, plain: str, name: str) -> bytes:
    """The activation between the values `plain` and `name`."""
    if kind == "leaky":
        return node("LeakyRelu", [plain], name, alpha=0.1)
    if kind == "mish":
        coded = node("Softplus", [plain], name + "_softplus") + node("Tanh", [name + "_softplus"], name + "_tanh")
        return coded + node("Mul", [plain, name + "_tanh"], name)
    if kind == "swish":
        return node("Sigmoid", [plain], name + "_sigmoid") + node("Mul", [plain, name + "_sigmoid"], name)
    simple = {"relu": "Relu", "logistic": "Sigmoid", "tanh": "Tanh"}
    return b"" if kind == "linear" else node(simple[kind], [plain], name)


def _joined(kind: str, activation: str, sources: Sequence[str], name: str) -> bytes:
    """An arithmetic operation on two maps, with its activation."""
    plain = name if activation == "linear" else name + "_plain"
    return node(kind, sources, plain) + _activation(activation, plain, name)


def _reshaped(source: str, name: str, shape: Sequence[int]) -> Tuple[bytes, bytes]:
    """A Reshape and the constant that it takes."""
    return node("Reshape", [source, name + "_shape"], name), _whole_numbers(name + "_shape", shape)


def _reorg(layer: Reorg, before: Shape, source: str, name: str) -> Tuple[List[bytes], List[bytes]]:
    """Nodes and constants of Darknet's reorg, as `reference.reorganised` computes it."""
    step, (channels, rows, columns) = layer.stride, before
    blocks = [-1, channels // step**2, rows, step, columns, step]
    first, shape = _reshaped(source, name + "_blocks", blocks)
    turned = node("Transpose", [name + "_blocks"], name + "_turned", perm=[0, 3, 5, 1, 2, 4])
    last, wanted = _reshaped(name + "_turned", name, [-1, channels * step**2, rows // step, columns // step])
    return [first, turned, last], [shape, wanted]


def _slice(source: str, name: str, start: int, end: int) -> Tuple[bytes, List[bytes]]:
    """Channels `start` to `end` (exclusive) of a map."""
    parts = {f"{name}_start": start, f"{name}_end": end, f"{name}_axis": 1}
    return node("Slice", [source, *parts], name), [_whole_numbers(part, [value]) for part, value in parts.items()]


def _shortcut(
    layer: Shortcut, channels: Tuple[int, int], sources: Tuple[str, str], name: str
) -> Tuple[List[bytes], List[bytes]]:
    """Nodes and constants of a sum over the channels that both maps have; `channels` are theirs, that of the layer
    before first.
    """
    (own, other), (last, source) = channels, sources
    nodes: List[bytes] = []
    constants: List[bytes] = []

    def part(of: str, to: str, start: int, end: int) -> str:
        coded, values = _slice(of, to, start, end)
        nodes.append(coded)
        constants.extend(values)
        return to

    if other > own:
        source = part(source, name + "_part", 0, own)
    if other >= own:
        nodes.append(_joined("Add", layer.activation, [last, source], name))
        return nodes, constants
    common = part(last, name + "_common", 0, other)
    rest = part(last, name + "_rest", other, own)
    nodes.append(node("Add", [common, source], name + "_sum"))
    plain = name if layer.activation == "linear" else name + "_plain"
    nodes.append(node("Concat", [name + "_sum", rest], plain, axis=1))
    nodes.append(_activation(layer.activation, plain, name))
    return nodes, constants


def _convolution(index: int, conv: Conv, source: str, name: str) -> bytes:
    """A convolution with its activation; the result has the name `name`."""
    plain = name if conv.activation == "linear" else name + "_plain"
    group = {"group": conv.groups} if conv.groups > 1 else {}
    coded = node(
        "Conv", [source, f"weights_{index}", f"bias_{index}"], plain,
        kernel_shape=[conv.size] * 2, strides=[conv.stride] * 2, pads=[conv.padding] * 4, **group,
    )  # fmt: skip
    return coded + _activation(conv.activation, plain, name)


def _graph(layers: Sequence[Layer], size: Size) -> bytes:
    """The network's nodes, small constants and outputs, inside its GraphProto; a value has the name of the
    layer that makes it.
    """
    nodes, constants, outputs = [], [], []
    names: List[str] = []
    shapes = shapes_of(layers, size)
    channels = [shape.channels for shape in shapes]
    last, heads = INPUT, 0
    for index, layer in enumerate(layers):
        name = f"layer_{index}"
        if isinstance(layer, Conv):
            nodes.append(_convolution(index, layer, last, name))
        elif isinstance(layer, MaxPool):
            before = layer.padding // 2
            pads = [before] * 2 + [layer.padding - before] * 2
            kernel, strides = [layer.size] * 2, [layer.stride] * 2
            nodes.append(node("MaxPool", [last], name, kernel_shape=kernel, strides=strides, pads=pads))
        elif isinstance(layer, Upsample):
            constants.append(_scales(f"scales_{index}", layer.stride))
            nodes.append(
                node("Resize", [last, "", f"scales_{index}"], name, mode="nearest", nearest_mode="floor",
                     coordinate_transformation_mode="asymmetric")
            )  # fmt: skip
        elif isinstance(layer, Shortcut):
            other = absolute(index, layer.source)
            both = (channels[index], channels[other])
            for coded, part in zip(_shortcut(layer, both, (last, names[other]), name), (nodes, constants)):
                part.extend(coded)
        elif isinstance(layer, Scale):
            nodes.append(_joined("Mul", layer.activation, [last, names[absolute(index, layer.source)]], name))
        elif isinstance(layer, AvgPool):
            nodes.append(node("GlobalAveragePool", [last], name))
        elif isinstance(layer, Reorg):
            for coded, part in zip(_reorg(layer, shapes[index - 1], last, name), (nodes, constants)):
                part.extend(coded)
        elif isinstance(layer, Route):
            sources = [absolute(index, source) for source in layer.sources]
            name = names[sources[0]]
            if len(sources) > 1:
                name = f"layer_{index}"
                nodes.append(node("Concat", [names[source] for source in sources], name, axis=1))
            if layer.groups > 1:
                start = channels[index] * layer.share
                share, values = _slice(name, f"share_{index}", start, start + channels[index])
                nodes.append(share)
                constants.extend(values)
                name = f"share_{index}"
        else:
            name, output = last, f"head_{heads}"
            heads += 1
            nodes.append(node("Identity", [last], output))
            outputs.append(_value_info(12, output, ["batch", channels[index], f"{output}_rows", f"{output}_columns"]))
        last = name
        names.append(name)
    return b"".join(nodes + constants + outputs)


def _tensors(layers: Sequence[Layer]) -> List[Tensor]:
    """The constants of the convolutions, in the order in which `folded` gives their values."""
    found: List[Tensor] = []
    for shape in convolutions(layers):
        conv = shape.conv
        sides = (conv.filters, shape.depth, conv.size, conv.size)
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


def model_bytes(layers: Sequence[Layer], location: str, size: Size = 416) -> bytes:
    """The ModelProto, whose weights are in the file `location` of the same folder. It serves every `size`, unless a
    layer is a Reorg.
    """
    constants = b"".join(tensor.encoded(location) for tensor in _tensors(layers))
    images = _value_info(11, INPUT, ["batch", 3, "height", "width"])
    graph = _graph(layers, size) + text(2, "darknet") + constants + images
    return integer(1, IR_VERSION) + text(2, "gpuhost") + block(8, integer(2, OPSET)) + block(7, graph)


def _data(layers: Sequence[Layer], weights: pathlib.Path) -> Iterator[bytes]:
    """The data file, constant by constant; ArtifactError when `weights` is another network's."""
    tensors = iter(_tensors(layers))
    for shape, arrays in read(weights, layers):
        for values in folded(shape.conv, arrays):
            tensor, raw = next(tensors), np.ascontiguousarray(values, dtype="<f4").tobytes()
            yield raw + bytes(tensor.end - tensor.offset - len(raw))


def write_onnx(path: pathlib.Path, layers: Sequence[Layer], weights: pathlib.Path, size: Size = 416) -> pathlib.Path:
    """See that the network with its weights (a Darknet file) is in `path` as ONNX, with its data beside it
    under the same name and `.data`; returns the data's path.

    What is there already is kept when the graph is this one and the data has its length: each file appears
    whole or not at all, and a network is checked against OpenCV before its output is used.
    """
    data = path.with_name(path.name + ".data")
    model = model_bytes(layers, data.name, size)
    whole = data.is_file() and data.stat().st_size == _tensors(layers)[-1].end
    if not (whole and path.is_file() and path.read_bytes() == model):
        with whole_file(data) as handle:
            for values in _data(layers, weights):
                handle.write(values)
        with whole_file(path) as handle:
            handle.write(model)
    return data
