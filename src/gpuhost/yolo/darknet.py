"""Darknet's configuration text for a network, and what follows from its layers: shapes, parameters,
bytes, operations.
"""

import re
from typing import List, NamedTuple, Sequence, Tuple, Union

from ..errors import UsageError
from ..text import printable
from .networks import STRIDE, AvgPool, Conv, Layer, MaxPool, Region, Reorg, Route, Scale, Shortcut, Upsample, Yolo

HEADER_BYTES = 20
"""Darknet's weight file header: three int32 (version) and one uint64 (images seen)."""
LARGEST_SIDE = 4096


Size = Union[int, Tuple[int, int]]
"""A network's input in pixels: the side of a square, or width and height."""


def sides(size: Size) -> Tuple[int, int]:
    """Width and height of an input."""
    return (size, size) if isinstance(size, int) else size


class Shape(NamedTuple):
    """A layer's output: channels, and the height and width in cells."""

    channels: int
    rows: int
    columns: int


class ConvShape(NamedTuple):
    """One convolution as it lies in a weight file: its layer's number, the layer, and its input channels."""

    layer: int
    conv: Conv
    inputs: int

    @property
    def depth(self) -> int:
        """How many input channels one filter sees."""
        return self.inputs // self.conv.groups

    @property
    def fan_in(self) -> int:
        """How many products one output value sums."""
        return self.depth * self.conv.size * self.conv.size

    @property
    def parameters(self) -> int:
        """Weights and biases, and with batch normalisation its scale, mean and variance as well."""
        return self.conv.filters * (self.fan_in + (4 if self.conv.normalised else 1))


def check_size(size: int) -> int:
    """`size` (pixels) when it can be an input side, else UsageError."""
    if size < STRIDE or size > LARGEST_SIDE or size % STRIDE:
        raise UsageError(
            f"An input size of {size} pixels is not possible.",
            next_step=f"Use a multiple of {STRIDE} from {STRIDE} to {LARGEST_SIDE}, such as 416.",
        )
    return size


def told(size: Size) -> str:
    """An input as somebody types it: 416, or 608x352."""
    width, height = sides(size)
    return str(width) if width == height else f"{width}x{height}"


def typed(text: str) -> Size:
    """The input that somebody typed; UsageError when it cannot be one."""
    if not re.fullmatch("[0-9]{1,5}(x[0-9]{1,5})?", text):
        raise UsageError(
            f"An input size of {printable(text, 40)} is not possible.", next_step="Use one such as 416, or 608x352."
        )
    width, _, height = text.partition("x")
    size = (check_size(int(width)), check_size(int(height or width)))
    return size[0] if size[0] == size[1] else size


def absolute(index: int, source: int) -> int:
    """The number of the layer that `source` (negative: counted back) means in layer `index`."""
    return index + source if source < 0 else source


def _windows(last: Shape, channels: int, size: int, padding: int, stride: int) -> Shape:
    """The shape behind windows of `size` cells; `padding` is that of both sides together."""
    rows, columns = ((side + padding - size) // stride + 1 for side in last[1:])
    return Shape(channels, rows, columns)


def shape_behind(index: int, layer: Layer, last: Shape, shapes: Sequence[Shape]) -> Shape:
    """Return the output shape of a layer whose input has the shape `last`.

    Raise ValueError if the layers that it joins do not fit together."""
    if isinstance(layer, Conv):
        return _windows(last, layer.filters, layer.size, 2 * layer.padding, layer.stride)
    if isinstance(layer, MaxPool):
        return _windows(last, last.channels, layer.size, layer.padding, layer.stride)
    if isinstance(layer, AvgPool):
        return Shape(last.channels, 1, 1)
    if isinstance(layer, Upsample):
        return Shape(last.channels, last.rows * layer.stride, last.columns * layer.stride)
    if isinstance(layer, Reorg):
        if any(side % layer.stride for side in last[1:]):
            raise ValueError(f"layer {index} reorganises a map that its stride does not divide")
        return Shape(last.channels * layer.stride**2, last.rows // layer.stride, last.columns // layer.stride)
    if isinstance(layer, Route):
        joined = [shapes[absolute(index, source)] for source in layer.sources]
        if len({shape[1:] for shape in joined}) != 1:
            raise ValueError(f"layer {index} joins maps of different sizes")
        return Shape(sum(shape.channels for shape in joined) // layer.groups, *joined[0][1:])
    if isinstance(layer, Shortcut):
        if shapes[absolute(index, layer.source)][1:] != last[1:]:
            raise ValueError(f"layer {index} adds maps of different shapes")
    elif isinstance(layer, Scale):
        source = shapes[absolute(index, layer.source)]
        if last != (Shape(source.channels, 1, 1) if layer.channels else source):
            raise ValueError(f"layer {index} multiplies maps of different shapes")
        return source
    return last


def shapes_of(layers: Sequence[Layer], size: Size) -> List[Shape]:
    """The output shape of each layer for an RGB input of `size` pixels."""
    width, height = sides(check_size(size) if isinstance(size, int) else size)
    shapes: List[Shape] = []
    last = Shape(3, height, width)
    for index, layer in enumerate(layers):
        last = shape_behind(index, layer, last, shapes)
        shapes.append(last)
    return shapes


def channels_of(layers: Sequence[Layer]) -> List[int]:
    """The output channels of each layer, which no input size changes."""
    found: List[int] = []
    last = 3
    for index, layer in enumerate(layers):
        if isinstance(layer, Conv):
            last = layer.filters
        elif isinstance(layer, Reorg):
            last *= layer.stride**2
        elif isinstance(layer, Route):
            last = sum(found[absolute(index, source)] for source in layer.sources) // layer.groups
        found.append(last)
    return found


def convolutions(layers: Sequence[Layer]) -> List[ConvShape]:
    """The convolutions in file order, each with its input channels."""
    entering = [3, *channels_of(layers)]
    return [ConvShape(index, layer, entering[index]) for index, layer in enumerate(layers) if isinstance(layer, Conv)]


def count_parameters(layers: Sequence[Layer]) -> int:
    """How many float32 values a weight file of this network holds."""
    return sum(shape.parameters for shape in convolutions(layers))


def weight_bytes(layers: Sequence[Layer]) -> int:
    """The exact length of a weight file of this network, header included."""
    return HEADER_BYTES + 4 * count_parameters(layers)


def count_flops(layers: Sequence[Layer], size: Size) -> int:
    """Operations of one forward pass as Darknet counts them: two per multiply-accumulate, convolutions
    only.
    """
    cells = [shape.rows * shape.columns for shape in shapes_of(layers, size)]
    return sum(2 * shape.conv.filters * shape.fan_in * cells[shape.layer] for shape in convolutions(layers))


def yolo_heads(layers: Sequence[Layer]) -> List[int]:
    """The numbers of the detection layers, in the order of the file."""
    return [index for index, layer in enumerate(layers) if isinstance(layer, (Yolo, Region))]


def heads_of(layers: Sequence[Layer]) -> List[Union[Yolo, Region]]:
    """The detection layers, in the order of the file."""
    return [layer for layer in layers if isinstance(layer, (Yolo, Region))]


def is_plain(layers: Sequence[Layer], index: int) -> bool:
    """Whether OpenCV computes the head `index` itself: a yolo layer behind a bare convolution. The others it is given
    as a route, and `heads` makes their boxes.
    """
    head, before = layers[index], layers[index - 1]
    bare = isinstance(before, Conv) and before.activation == "linear" and not before.normalised
    return isinstance(head, Yolo) and bare and not head.new_coords


def _section(kind: str, **values: object) -> str:
    """One section of a configuration file."""
    lines = [f"[{kind}]"]
    lines += [f"{key}={value}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    """A number as short as it can be written without a loss."""
    return str(int(value)) if value == int(value) else repr(value)


def _layer_text(layer: Layer, plain: bool) -> str:
    """The section that describes one layer; a head that is not `plain` only passes on what enters it."""
    if isinstance(layer, Conv):
        padding = {"pad": 1} if layer.pad is None else {"padding": layer.pad}
        return _section(
            "convolutional",
            batch_normalize=1 if layer.normalised else None,
            filters=layer.filters,
            size=layer.size,
            stride=layer.stride,
            **padding,
            groups=layer.groups if layer.groups > 1 else None,
            activation=layer.activation,
        )
    if isinstance(layer, MaxPool):
        return _section("maxpool", size=layer.size, stride=layer.stride, padding=layer.pad)
    if isinstance(layer, AvgPool):
        return _section("avgpool")
    if isinstance(layer, Upsample):
        return _section("upsample", stride=layer.stride)
    if isinstance(layer, Reorg):
        return _section("reorg", stride=layer.stride)
    if isinstance(layer, Shortcut):
        return _section("shortcut", **{"from": layer.source, "activation": layer.activation})
    if isinstance(layer, Scale):
        kind = "scale_channels" if layer.channels else "sam"
        return _section(kind, **{"from": layer.source, "activation": layer.activation})
    if isinstance(layer, Route):
        grouped = layer.groups > 1
        return _section(
            "route",
            layers=",".join(str(source) for source in layer.sources),
            groups=layer.groups if grouped else None,
            group_id=layer.share if grouped else None,
        )
    if isinstance(layer, Region) or not plain:
        return _section("route", layers=-1)
    # OpenCV's region layer would suppress boxes on the CPU in the middle of the network, and would zero every
    # score of 0.2 or less. Both are the detector's work, done once after the last head.
    return _section(
        "yolo",
        mask=",".join(str(number) for number in layer.mask),
        anchors=",".join(_number(value) for anchor in layer.anchors for value in anchor),
        classes=layer.classes,
        num=len(layer.anchors),
        scale_x_y=layer.scale_x_y if layer.scale_x_y != 1.0 else None,
        thresh=0,
        nms_threshold=0,
    )


def cfg_text(layers: Sequence[Layer], size: Size) -> str:
    """The configuration file of this network for an input of `size` pixels, one image at a time."""
    width, height = sides(check_size(size) if isinstance(size, int) else size)
    sections = [_section("net", batch=1, subdivisions=1, width=width, height=height, channels=3)]
    return "\n".join(sections + [_layer_text(layer, is_plain(layers, index)) for index, layer in enumerate(layers)])
