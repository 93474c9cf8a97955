"""Darknet's configuration text for a network, and what follows from its layers: shapes, parameters,
bytes, operations.
"""

from typing import List, NamedTuple, Optional, Sequence

from ..errors import UsageError
from .networks import CLASSES, STRIDE, Conv, Layer, MaxPool, Route, Shortcut, Upsample, Yolo

HEADER_BYTES = 20
"""Darknet's weight file header: three int32 (version) and one uint64 (images seen)."""
LARGEST_SIDE = 4096


class Shape(NamedTuple):
    """A layer's output: channels, and the height and width in cells (all inputs here are square)."""

    channels: int
    side: int


class ConvShape(NamedTuple):
    """One convolution as it lies in a weight file: its layer's number, the layer, and its input channels."""

    layer: int
    conv: Conv
    inputs: int
    side: int

    @property
    def fan_in(self) -> int:
        """How many products one output value sums."""
        return self.inputs * self.conv.size * self.conv.size

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


def absolute(index: int, source: int) -> int:
    """The number of the layer that `source` (negative: counted back) means in layer `index`."""
    return index + source if source < 0 else source


def shapes_of(layers: Sequence[Layer], size: int) -> List[Shape]:
    """The output shape of each layer for a square RGB input of `size` pixels."""
    shapes: List[Shape] = []
    last = Shape(3, check_size(size))
    for index, layer in enumerate(layers):
        if isinstance(layer, Conv):
            last = Shape(layer.filters, (last.side - 1) // layer.stride + 1)
        elif isinstance(layer, MaxPool):
            last = Shape(last.channels, (last.side - 1) // layer.stride + 1)
        elif isinstance(layer, Upsample):
            last = Shape(last.channels, last.side * layer.stride)
        elif isinstance(layer, Route):
            joined = [shapes[absolute(index, source)] for source in layer.sources]
            if len({shape.side for shape in joined}) != 1:
                raise ValueError(f"layer {index} joins maps of different sizes")
            last = Shape(sum(shape.channels for shape in joined) // layer.groups, joined[0].side)
        elif isinstance(layer, Shortcut) and shapes[absolute(index, layer.source)] != last:
            raise ValueError(f"layer {index} adds maps of different shapes")
        shapes.append(last)
    return shapes


def convolutions(layers: Sequence[Layer], size: int = 416) -> List[ConvShape]:
    """The convolutions in file order, each with its input channels and its output's side for an input
    of `size`.
    """
    shapes = shapes_of(layers, size)
    found = []
    for index, layer in enumerate(layers):
        if isinstance(layer, Conv):
            inputs = shapes[index - 1].channels if index else 3
            found.append(ConvShape(index, layer, inputs, shapes[index].side))
    return found


def count_parameters(layers: Sequence[Layer]) -> int:
    """How many float32 values a weight file of this network holds."""
    return sum(shape.parameters for shape in convolutions(layers))


def weight_bytes(layers: Sequence[Layer]) -> int:
    """The exact length of a weight file of this network, header included."""
    return HEADER_BYTES + 4 * count_parameters(layers)


def count_flops(layers: Sequence[Layer], size: int) -> int:
    """Operations of one forward pass as Darknet counts them: two per multiply-accumulate, convolutions
    only.
    """
    return sum(2 * shape.conv.filters * shape.fan_in * shape.side**2 for shape in convolutions(layers, size))


def yolo_heads(layers: Sequence[Layer]) -> List[int]:
    """The numbers of the detection layers, in the order of the file."""
    return [index for index, layer in enumerate(layers) if isinstance(layer, Yolo)]


def _section(kind: str, **values: object) -> str:
    """One section of a configuration file."""
    lines = [f"[{kind}]"]
    lines += [f"{key}={value}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def _layer_text(layer: Layer) -> str:
    """The section that describes one layer."""
    if isinstance(layer, Conv):
        normalised: Optional[int] = 1 if layer.normalised else None
        return _section(
            "convolutional",
            batch_normalize=normalised,
            filters=layer.filters,
            size=layer.size,
            stride=layer.stride,
            pad=1,
            activation=layer.activation,
        )
    if isinstance(layer, MaxPool):
        return _section("maxpool", size=layer.size, stride=layer.stride)
    if isinstance(layer, Upsample):
        return _section("upsample", stride=layer.stride)
    if isinstance(layer, Shortcut):
        return _section("shortcut", **{"from": layer.source, "activation": "linear"})
    if isinstance(layer, Route):
        grouped = layer.groups > 1
        return _section(
            "route",
            layers=",".join(str(source) for source in layer.sources),
            groups=layer.groups if grouped else None,
            group_id=layer.groups - 1 if grouped else None,
        )
    # OpenCV's region layer would suppress boxes on the CPU in the middle of the network, and would zero every
    # score of 0.2 or less. Both are the detector's work, done once after the last head.
    return _section(
        "yolo",
        mask=",".join(str(number) for number in layer.mask),
        anchors=",".join(f"{width},{height}" for width, height in layer.anchors),
        classes=CLASSES,
        num=len(layer.anchors),
        scale_x_y=layer.scale_x_y if layer.scale_x_y != 1.0 else None,
        thresh=0,
        nms_threshold=0,
    )


def cfg_text(layers: Sequence[Layer], size: int) -> str:
    """The configuration file of this network for a square input of `size` pixels, one image at a time."""
    check_size(size)
    sections = [_section("net", batch=1, subdivisions=1, width=size, height=size, channels=3)]
    return "\n".join(sections + [_layer_text(layer) for layer in layers])
