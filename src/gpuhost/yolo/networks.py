"""The four networks as short programs that list their layers.

The architectures are those of the YOLOv3 and YOLOv4 papers (Redmon and Farhadi 2018; Bochkovskiy, Wang
and Liao 2020) as the Darknet configuration files of the same names describe them. Layer numbers count
from 0 and are the ones a configuration file has; a negative number counts back from the layer that uses
it.
"""

from typing import Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from ..errors import UsageError

CLASSES = 80
CHANNELS_PER_BOX = 5 + CLASSES
STRIDE = 32
"""An input side must be a multiple of this: the deepest head has one cell per 32 x 32 pixels."""


class Conv(NamedTuple):
    """A convolution, padded by half its size unless `pad` says otherwise, then batch normalisation (unless it is
    a head), then the activation.
    """

    filters: int
    size: int
    stride: int = 1
    activation: str = "leaky"
    normalised: bool = True
    groups: int = 1
    pad: Optional[int] = None

    @property
    def padding(self) -> int:
        """Cells on each side."""
        return self.size // 2 if self.pad is None else self.pad


class MaxPool(NamedTuple):
    """Maximum over a `size` x `size` window, padded so that a stride of 1 keeps the map's size unless `pad` (both
    sides together) says otherwise.
    """

    size: int
    stride: int
    pad: Optional[int] = None

    @property
    def padding(self) -> int:
        """Cells on both sides together; the smaller half lies in front."""
        return self.size - 1 if self.pad is None else self.pad


class Upsample(NamedTuple):
    """Each cell repeated `stride` times both ways."""

    stride: int = 2


class Route(NamedTuple):
    """Earlier layers joined along the channels; with `groups`, only one of that many equal shares of them: the last,
    unless `group` says otherwise.
    """

    sources: Tuple[int, ...]
    groups: int = 1
    group: Optional[int] = None

    @property
    def share(self) -> int:
        """The number of the share that is taken."""
        return self.groups - 1 if self.group is None else self.group


class Shortcut(NamedTuple):
    """The sum of the layer before and the layer `source`, over the channels that both have; the others stay as the
    layer before has them.
    """

    source: int
    activation: str = "linear"


class Scale(NamedTuple):
    """The layer `source` times the layer before: cell by cell (Darknet's `sam`), or with `channels` one
    factor a channel (`scale_channels`).
    """

    source: int
    channels: bool
    activation: str = "linear"


class AvgPool(NamedTuple):
    """The mean of each channel."""


class Reorg(NamedTuple):
    """Darknet's `reorg`: `stride` x `stride` neighbouring cells of the reshaped map become channels."""

    stride: int


class Yolo(NamedTuple):
    """A detection head: the anchors that it predicts boxes for (width, height in pixels of the input), and the scale of
    centres. With `new_coords` the layer before it has already applied the logistic function, and a size is (2 x)
    squared instead of e to the x.
    """

    mask: Tuple[int, ...]
    anchors: Tuple[Tuple[float, float], ...]
    scale_x_y: float = 1.0
    classes: int = CLASSES
    new_coords: bool = False


class Region(NamedTuple):
    """The detection head of YOLOv2: anchors in cells, one softmax over the classes of each box."""

    anchors: Tuple[Tuple[float, float], ...]
    classes: int


Layer = Union[Conv, MaxPool, AvgPool, Upsample, Reorg, Route, Shortcut, Scale, Yolo, Region]

_ANCHORS_V3 = ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326))
_ANCHORS_V4 = (
    (12, 16),
    (19, 36),
    (40, 28),
    (36, 75),
    (76, 55),
    (72, 146),
    (142, 110),
    (192, 243),
    (459, 401),
)
_ANCHORS_TINY = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))


def _head(layers: List[Layer], mask: Tuple[int, ...], anchors: Tuple[Tuple[int, int], ...], spread: float) -> None:
    """Append the 1 x 1 convolution that predicts one box per anchor of `mask`, and the layer that reads
    it.
    """
    layers.append(Conv(len(mask) * CHANNELS_PER_BOX, 1, activation="linear", normalised=False))
    layers.append(Yolo(mask, anchors, spread))


def _squeeze_and_spread(layers: List[Layer], filters: int, times: int) -> None:
    """Append `times` pairs of a 1 x 1 convolution to `filters` channels and a 3 x 3 one to twice as many."""
    for _ in range(times):
        layers += [Conv(filters, 1), Conv(2 * filters, 3)]


def _yolov3() -> List[Layer]:
    """YOLOv3: the residual backbone Darknet-53, then three heads, coarse to fine."""
    layers: List[Layer] = [Conv(32, 3)]
    for filters, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        layers.append(Conv(filters, 3, stride=2))
        for _ in range(blocks):
            layers += [Conv(filters // 2, 1), Conv(filters, 3), Shortcut(-3)]
    for filters, mask, joined in ((512, (6, 7, 8), None), (256, (3, 4, 5), 61), (128, (0, 1, 2), 36)):
        if joined is not None:
            layers += [Route((-4,)), Conv(filters, 1), Upsample(), Route((-1, joined))]
        _squeeze_and_spread(layers, filters, 3)
        _head(layers, mask, _ANCHORS_V3, 1.0)
    return layers


def _yolov3_tiny() -> List[Layer]:
    """YOLOv3-tiny: plain convolutions and pooling, two heads."""
    layers: List[Layer] = []
    for filters in (16, 32, 64, 128, 256):
        layers += [Conv(filters, 3), MaxPool(2, 2)]
    layers += [Conv(512, 3), MaxPool(2, 1), Conv(1024, 3), Conv(256, 1), Conv(512, 3)]
    _head(layers, (3, 4, 5), _ANCHORS_TINY, 1.0)
    layers += [Route((-4,)), Conv(128, 1), Upsample(), Route((-1, 8)), Conv(256, 3)]
    _head(layers, (0, 1, 2), _ANCHORS_TINY, 1.0)
    return layers


def _yolov4() -> List[Layer]:
    """YOLOv4: cross-stage partial backbone with Mish, spatial pyramid pooling, path aggregation, three
    heads, fine to coarse.
    """

    def mish(filters: int, size: int, stride: int = 1) -> Conv:
        return Conv(filters, size, stride, "mish")

    layers: List[Layer] = [mish(32, 3)]
    for filters, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        # The first stage keeps the full width on both paths; the later ones split it in two.
        path = filters if blocks == 1 else filters // 2
        layers += [mish(filters, 3, 2), mish(path, 1), Route((-2,)), mish(path, 1)]
        for _ in range(blocks):
            layers += [mish(filters // 2, 1), mish(path, 3), Shortcut(-3)]
        layers += [mish(path, 1), Route((-1, -(3 * blocks + 4))), mish(filters, 1)]
    layers += [Conv(512, 1), Conv(1024, 3), Conv(512, 1)]
    layers += [
        MaxPool(5, 1),
        Route((-2,)),
        MaxPool(9, 1),
        Route((-4,)),
        MaxPool(13, 1),
        Route((-1, -3, -5, -6)),
    ]
    layers += [Conv(512, 1), Conv(1024, 3), Conv(512, 1)]
    for filters, lateral in ((256, 85), (128, 54)):
        layers += [Conv(filters, 1), Upsample(), Route((lateral,)), Conv(filters, 1), Route((-1, -3))]
        _squeeze_and_spread(layers, filters, 2)
        layers.append(Conv(filters, 1))
    layers.append(Conv(256, 3))
    _head(layers, (0, 1, 2), _ANCHORS_V4, 1.2)
    for filters, mask, joined, spread in ((256, (3, 4, 5), -16, 1.1), (512, (6, 7, 8), -37, 1.05)):
        layers += [Route((-4,)), Conv(filters, 3, stride=2), Route((-1, joined))]
        _squeeze_and_spread(layers, filters, 3)
        _head(layers, mask, _ANCHORS_V4, spread)
    return layers


def _yolov4_tiny() -> List[Layer]:
    """YOLOv4-tiny: three cross-stage partial blocks on half of the channels, two heads."""
    layers: List[Layer] = [Conv(32, 3, stride=2), Conv(64, 3, stride=2)]
    for filters in (64, 128, 256):
        layers += [Conv(filters, 3), Route((-1,), groups=2), Conv(filters // 2, 3), Conv(filters // 2, 3)]
        layers += [Route((-1, -2)), Conv(filters, 1), Route((-6, -1)), MaxPool(2, 2)]
    layers += [Conv(512, 3), Conv(256, 1), Conv(512, 3)]
    _head(layers, (3, 4, 5), _ANCHORS_TINY, 1.05)
    layers += [Route((-4,)), Conv(128, 1), Upsample(), Route((-1, 23)), Conv(256, 3)]
    _head(layers, (1, 2, 3), _ANCHORS_TINY, 1.05)
    return layers


def _probe() -> List[Layer]:
    """A network of five convolutions: enough arithmetic to tell one device's rounding from another's."""
    layers: List[Layer] = [Conv(32, 3, stride=2), Conv(64, 3, stride=2), Conv(64, 3), Conv(128, 3, stride=2)]
    _head(layers, (0, 1, 2), _ANCHORS_TINY, 1.0)
    return layers


PROBE = "probe"
_BUILDERS: Dict[str, Callable[[], List[Layer]]] = {
    "yolov3": _yolov3,
    "yolov3-tiny": _yolov3_tiny,
    "yolov4": _yolov4,
    "yolov4-tiny": _yolov4_tiny,
    PROBE: _probe,
}
MODELS = tuple(name for name in _BUILDERS if name != PROBE)
"""The models that a user can name."""


def layers_of(model: str) -> List[Layer]:
    """The layers of `model`; UsageError for a name that is none of MODELS (or PROBE)."""
    if model not in _BUILDERS:
        raise UsageError(f"There is no model {model!r}.", next_step="Use one of: {}.".format(", ".join(MODELS)))
    return _BUILDERS[model]()
