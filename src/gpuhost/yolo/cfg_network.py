"""From the sections of a Darknet configuration to layers that every engine here computes alike. Pure.

A layer, an option or a value that would change the result and cannot be computed is refused with its line. Two things
are expressed by convolutions with constant weights: an input of one channel, and the activation relu6, which OpenCV's
importer does not know.
"""

from typing import Dict, List, NamedTuple, Sequence, Tuple

from ..text import printable
from .cfg_sections import Section, sections_of
from .darknet import Shape, heads_of, shape_behind
from .networks import AvgPool, Conv, Layer, MaxPool, Region, Reorg, Route, Scale, Shortcut, Upsample, Yolo

LARGEST_SIDE, LARGEST_MAP = 8192, 1 << 28
"""Pixels of an input's side; values of one layer's output (1 GiB)."""
MOST_FILTERS, MOST_WINDOW, MOST_ANCHORS = 1 << 16, 255, 1000
SAME = {"conv": "convolutional", "max": "maxpool", "avg": "avgpool"}
ACTIVATIONS = ("linear", "leaky", "relu", "relu6", "logistic", "swish", "silu", "mish", "tanh")
GREY = (0.299, 0.587, 0.114)
"""Red, green, blue: the weights with which OpenCV and Darknet make a grey picture (ITU-R BT.601)."""
Constants = Tuple[Tuple[float, ...], float]
"""Of an inserted convolution: the weights of each filter, and the bias of all."""


class CfgNetwork(NamedTuple):
    """A network as a configuration describes it: its input in pixels, its layers, which of them are inserted
    convolutions with their constants, whether it was trained on letterboxed pictures, and notes for the user.
    """

    width: int
    height: int
    layers: List[Layer]
    inserted: Dict[int, Constants]
    letter_box: bool
    notes: List[str]


#: Options that change what a layer computes and are not computed here, with the values that change nothing.
NEUTRAL: Dict[str, Dict[str, Tuple[float, ...]]] = {
    "convolutional": {
        "flipped": (0,), "binary": (0,), "xnor": (0,), "bin_output": (0,), "antialiasing": (0,), "share_index": (),
        "sway": (0,), "rotate": (0,), "stretch": (0,), "stretch_sway": (0,), "reverse": (0,), "coordconv": (0,),
        "cbn": (0,), "deform": (0,),
    },
    "maxpool": {"maxpool_depth": (0,), "out_channels": (1,), "antialiasing": (0,)},
    "avgpool": {},
    "upsample": {"scale": (1,)},
    "reorg": {"reverse": (0,), "flatten": (0,), "extra": (0,)},
    "dropout": {},
    "route": {},
    "shortcut": {"alpha": (1,), "beta": (1,), "weights_normalization": ()},
    "scale_channels": {"scale_wh": (0,)},
    "sam": {},
    "yolo": {},
    "region": {"coords": (4,), "background": (0,), "softmax": (1,)},
}  # fmt: skip
EVERYWHERE = {"dontload": (0.0,), "dontloadscales": (0.0,)}
FILES = ("tree", "map")
#: Options that are read, or that matter only to training, to the display or to speed.
KNOWN: Dict[str, str] = {
    "convolutional": "filters size stride stride_x stride_y dilation groups pad padding batch_normalize activation "
    "assisted_excitation dot angle grad_centr stream wait_stream",
    "maxpool": "size stride stride_x stride_y padding",
    "avgpool": "",
    "upsample": "stride",
    "reorg": "stride",
    "dropout": "probability dropblock dropblock_size_rel dropblock_size_abs",
    "route": "layers groups group_id stream",
    "shortcut": "from activation weights_type",
    "scale_channels": "from activation",
    "sam": "from activation",
    "yolo": "classes num mask anchors scale_x_y new_coords max show_details max_delta counters_per_class "
    "label_smooth_eps objectness_smooth iou_normalizer obj_normalizer cls_normalizer delta_normalizer uc_normalizer "
    "iou_loss iou_thresh_kind beta_nms nms_kind jitter resize focal_loss ignore_thresh truth_thresh iou_thresh random "
    "track_history_size sim_thresh dets_for_track dets_for_show track_ciou_norm embedding_layer beta1",
    "region": "classes num anchors max log sqrt focal_loss jitter resize rescore thresh classfix absolute random "
    "coord_scale object_scale noobject_scale mask_scale class_scale bias_match",
}
TRAINING = {
    *("stopbackward", "learning_rate_scale", "lr_scale", "onlyforward", "train_only_bn", "dont_update"),
    *("burnin_update", "nonlinear", "truth", "keep_delta_gpu"),
}


def read(data: bytes, name: str) -> CfgNetwork:
    """Return the network that the configuration `data` describes; `Wrong` names the line of the file `name`
    that cannot be used.
    """
    sections, notes = sections_of(data, name)
    top, rest = sections[0], sections[1:]
    builder = _Builder(top, notes)
    for section in rest:
        builder.add(section)
    return builder.finished()


def _need(section: Section, key: str, value: int, least: int, most: int) -> int:
    """Return `value` when it lies in its bounds."""
    if not least <= value <= most:
        raise section.fail(f"{key}={value} is not possible here.", f"Use a number from {least} to {most}.", key)
    return value


def _stride(section: Section, default: int, most: int = 64) -> int:
    """Return the stride, which must be the same both ways."""
    both = [section.whole(key, -1) for key in ("stride_x", "stride_y")]
    plain = section.whole("stride", default)
    across, down = (value if value >= 1 else plain for value in both)
    if across != down:
        raise section.fail("stride_x and stride_y differ, which is not computed here.", "Use one stride.", "stride_x")
    return _need(section, "stride", across, 1, most)


class _Builder:
    """The layers so far. `_place` leads from a layer's number in the file to its number here, `_shapes` has the
    shape of each layer of the file.
    """

    def __init__(self, top: Section, notes: List[str]) -> None:
        """Read the section [net]."""
        self._top, self._notes = top, notes
        for key in ("width", "height", "channels"):
            if key not in top.options:
                raise top.fail(f"[{top.kind}] says no {key}.", f"Add {key}= to it.")
        self._width, self._height = (_need(top, key, top.whole(key, 0), 1, LARGEST_SIDE) for key in ("width", "height"))
        channels = _need(top, "channels", top.whole("channels", 3), 1, 3)
        if channels == 2:
            raise top.fail("An input of 2 channels is not a picture.", "Use channels=3 or channels=1.", "channels")
        self._layers: List[Layer] = []
        self._inserted: Dict[int, Constants] = {}
        self._place: List[int] = []
        self._shapes: List[Shape] = []
        self._heads: List[int] = []
        self._last = Shape(3, self._height, self._width)
        if channels == 1:
            self._insert(Conv(1, 1, activation="linear", normalised=False), (GREY, 0.0))
            self._last = Shape(1, self._height, self._width)

    def _insert(self, conv: Conv, constants: Constants) -> None:
        """Append a convolution that the file does not have."""
        self._inserted[len(self._layers)] = constants
        self._layers.append(conv)

    def add(self, section: Section) -> None:
        """Append the layer of one section."""
        kind = SAME.get(section.kind, section.kind)
        if kind not in KNOWN:
            shown = printable(section.kind, 40)
            lower = kind.lower()
            hint = " Kinds are written in lower case." if lower != kind and lower in {*KNOWN, *SAME, "net"} else ""
            raise section.fail(f"A layer of the kind [{shown}] is not computed here.{hint}",
                               "Use a network without it, or Darknet itself.")  # fmt: skip
        self._check_options(section, kind)
        if self._heads and self._heads[-1] == len(self._shapes) - 1 and kind != "route":
            raise section.fail("It takes the boxes of the detection layer before it.", "Begin with [route] there.")
        layer = getattr(self, "_" + kind)(section)
        try:
            shape = shape_behind(len(self._shapes), layer, self._last, self._shapes)
        except ValueError as problem:
            raise section.fail(
                f"{_sentence(problem)}.", "Correct its sources, or width and height in [net]."
            ) from problem
        if min(shape) < 1 or shape.channels * shape.rows * shape.columns > LARGEST_MAP:
            size = f"{shape.columns} x {shape.rows} x {shape.channels}"
            raise section.fail(f"Its output would have {size} values.", "Correct this layer, or the size in [net].")
        self._shapes.append(shape)
        self._last = shape
        self._append(section, layer)

    def _append(self, section: Section, layer: Layer) -> None:
        """Append a layer, with numbers of this list and with what its activation needs behind it."""
        place = self._place
        if isinstance(layer, Route):
            layer = layer._replace(sources=tuple(place[source] for source in layer.sources))
        elif isinstance(layer, (Shortcut, Scale)):
            layer = layer._replace(source=place[layer.source])
        six = isinstance(layer, (Conv, Shortcut, Scale)) and layer.activation == "relu6"
        if six and isinstance(layer, (Conv, Shortcut, Scale)):
            layer = layer._replace(activation="relu")
        self._layers.append(layer)
        if six:  # min(max(x, 0), 6) = 6 - relu(6 - relu(x))
            channels = self._last.channels
            for activation in ("relu", "linear"):
                conv = Conv(channels, 1, activation=activation, normalised=False, groups=channels)
                self._insert(conv, ((-1.0,), 6.0))
        self._place.append(len(self._layers) - 1)

    def _check_options(self, section: Section, kind: str) -> None:
        """Refuse options that cannot be obeyed, and note those that are not known."""
        known = {*KNOWN[kind].split(), *TRAINING}
        for key, (written, line) in section.options.items():
            neutral = NEUTRAL[kind].get(key, EVERYWHERE.get(key))
            if key in FILES:
                raise section.fail(f"{key}= (a hierarchy of classes) is not computed here.", "Use Darknet itself.", key)
            if neutral is not None:
                if not neutral or section.number(key, 0) not in neutral:
                    raise section.fail(f"{key}={printable(written, 40)} is not computed here.",
                                       "Use a network without it, or Darknet itself.", key)  # fmt: skip
            elif key not in known:
                shown = printable(key, 40)
                self._notes.append(f"{printable(section.file, 300)}:{line}: [{section.kind}] has no option "
                                   f"{shown!r}; it is passed over, as Darknet does.")  # fmt: skip
        if kind == "region" and "softmax" not in section.options:
            raise section.fail("Darknets differ in what [region] is without softmax=1.", "Use Darknet itself.")
        if kind == "region" and section.whole("classfix", 0) < 0:
            raise section.fail("classfix=-1 is not computed here.", "Use Darknet itself.", "classfix")

    def _activation(self, section: Section, default: str) -> str:
        """Return the activation; one that Darknet does not know would silently be relu there."""
        name = section.text("activation", default)
        if name not in ACTIVATIONS:
            raise section.fail(f"The activation {printable(name, 40)!r} is not computed here.",
                               "Use one of: {}.".format(", ".join(ACTIVATIONS)), "activation")  # fmt: skip
        return "swish" if name == "silu" else name

    def _source(self, section: Section, key: str, number: int) -> int:
        """Return the number in the file of the layer that `number` means; negative ones count back."""
        here = len(self._shapes)
        found = here + number if number < 0 else number
        if not 0 <= found < here:
            raise section.fail(f"{key} names the layer {number}, and before layer {here} there is no such one.",
                               f"Correct {key}=.", key)  # fmt: skip
        if found in self._heads:
            raise section.fail(f"{key} names the detection layer {found}.", f"Correct {key}=.", key)
        return found

    def _one_source(self, section: Section) -> int:
        """Return the only source of `from`."""
        if "from" not in section.options:
            raise section.fail(f"[{section.kind}] says no from.", "Add from= to it.")
        sources = section.wholes("from", (), 100)
        if len(sources) > 1:
            raise section.fail("Several sources are not computed here.", "Use a network with one.", "from")
        return self._source(section, "from", sources[0])

    def _convolutional(self, section: Section) -> Layer:
        size = _need(section, "size", section.whole("size", 1), 1, MOST_WINDOW)
        if size > 1 and section.whole("dilation", 1) != 1:
            raise section.fail("dilation is not computed here.", "Use Darknet itself.", "dilation")
        filters = _need(section, "filters", section.whole("filters", 1), 1, MOST_FILTERS)
        groups = _need(section, "groups", section.whole("groups", 1), 1, MOST_FILTERS)
        if filters % groups or self._last.channels % groups:
            raise section.fail(f"groups={groups} must divide {self._last.channels} channels and {filters} filters.",
                               "Correct groups= or filters=.", "groups")  # fmt: skip
        normalised = _need(section, "batch_normalize", section.whole("batch_normalize", 0), 0, 1)
        pad = size // 2 if section.whole("pad", 0) else _need(section, "padding", section.whole("padding", 0), 0, 255)
        activation, stride = self._activation(section, "logistic"), _stride(section, 1)
        return Conv(filters, size, stride, activation, bool(normalised), groups, None if pad == size // 2 else pad)

    def _maxpool(self, section: Section) -> Layer:
        stride = _stride(section, 1)
        size = _need(section, "size", section.whole("size", stride), 1, MOST_WINDOW)
        # OpenCV wants padding on each side to be smaller than the window.
        pad = _need(section, "padding", section.whole("padding", size - 1), 0, 2 * size - 2)
        return MaxPool(size, stride, None if pad == size - 1 else pad)

    def _avgpool(self, section: Section) -> Layer:
        return AvgPool()

    def _upsample(self, section: Section) -> Layer:
        return Upsample(_need(section, "stride", section.whole("stride", 2), 1, 64))

    def _reorg(self, section: Section) -> Layer:
        stride = _need(section, "stride", section.whole("stride", 1), 1, 64)
        if self._last.channels % stride**2:
            raise section.fail(f"{self._last.channels} channels cannot be reorganised by {stride}.", "Correct stride=.")
        return Reorg(stride)

    def _dropout(self, section: Section) -> Layer:
        """It does nothing outside of training."""
        return Route((self._source(section, "the layer before", -1),))

    def _route(self, section: Section) -> Layer:
        if "layers" not in section.options:
            raise section.fail("[route] says no layers.", "Add layers= to it.")
        sources = tuple(self._source(section, "layers", one) for one in section.wholes("layers", (), 1000))
        groups = _need(section, "groups", section.whole("groups", 1), 1, MOST_FILTERS)
        group = _need(section, "group_id", section.whole("group_id", 0), 0, groups - 1)
        if groups > 1 and len(sources) > 1:
            raise section.fail("groups of several layers are not computed here.", "Use one layer.", "groups")
        if any(self._shapes[source].channels % groups for source in sources):
            raise section.fail(f"groups={groups} does not divide the channels.", "Correct groups=.", "groups")
        return Route(sources, groups, None if group == groups - 1 else group)

    def _shortcut(self, section: Section) -> Layer:
        if section.text("weights_type", "none") != "none":
            raise section.fail("Weighted shortcuts are not computed here.", "Use Darknet itself.", "weights_type")
        return Shortcut(self._one_source(section), self._activation(section, "linear"))

    def _scale_channels(self, section: Section) -> Layer:
        return Scale(self._one_source(section), True, self._activation(section, "linear"))

    def _sam(self, section: Section) -> Layer:
        return Scale(self._one_source(section), False, self._activation(section, "linear"))

    def _head(self, section: Section, anchors: int, classes: int) -> None:
        """Remember a head, whose input must be as deep as its boxes need."""
        wanted = anchors * (5 + classes)
        if self._last.channels != wanted:
            raise section.fail(
                f"[{section.kind}] with {anchors} anchors and {classes} classes needs {wanted} filters in the layer "
                f"before it, which has {self._last.channels}.",
                f"Set filters={wanted} there, or correct classes=.", "classes",
            )  # fmt: skip
        self._heads.append(len(self._shapes))

    def _anchors(self, section: Section, used: Sequence[int]) -> Tuple[Tuple[float, float], ...]:
        """Return the anchors with the numbers `used`."""
        if "anchors" not in section.options:
            raise section.fail(f"[{section.kind}] says no anchors.", "Add anchors= to it.")
        values = section.numbers("anchors", (), 2 * MOST_ANCHORS)
        if len(values) < 2 * (max(used) + 1):
            raise section.fail(f"anchors has {len(values)} numbers, and {2 * (max(used) + 1)} are needed.",
                               "Correct anchors=, mask= or num=.", "anchors")  # fmt: skip
        chosen = tuple((values[2 * one], values[2 * one + 1]) for one in used)
        if not all(0 < value < 1e6 for anchor in chosen for value in anchor):
            raise section.fail("An anchor is not above 0.", "Correct anchors=.", "anchors")
        return chosen

    def _yolo(self, section: Section) -> Layer:
        classes = _need(section, "classes", section.whole("classes", 20), 1, MOST_FILTERS)
        num = _need(section, "num", section.whole("num", 1), 1, MOST_ANCHORS)
        mask = section.wholes("mask", range(num), MOST_ANCHORS)
        if not all(0 <= one < num for one in mask):
            raise section.fail(f"mask names an anchor that num={num} does not have.", "Correct mask= or num=.", "mask")
        anchors = self._anchors(section, mask)
        spread = section.number("scale_x_y", 1.0)
        if not 0 < spread < 100:
            raise section.fail(f"scale_x_y={spread} is not possible.", "Correct scale_x_y=.", "scale_x_y")
        new_coords = bool(_need(section, "new_coords", section.whole("new_coords", 0), 0, 1))
        if section.text("nms_kind", "") == "diounms" and not self._heads:
            self._notes.append(f"{printable(section.file, 300)}:{section.line}: nms_kind=diounms: boxes are suppressed "
                               "by plain overlap here.")  # fmt: skip
        self._head(section, len(mask), classes)
        return Yolo(tuple(range(len(mask))), anchors, spread, classes, new_coords)

    def _region(self, section: Section) -> Layer:
        classes = _need(section, "classes", section.whole("classes", 20), 1, MOST_FILTERS)
        num = _need(section, "num", section.whole("num", 1), 1, MOST_ANCHORS)
        anchors = self._anchors(section, range(num))
        self._head(section, num, classes)
        return Region(anchors, classes)

    def finished(self) -> CfgNetwork:
        """Return the network; it must have a head, and all heads the same classes."""
        heads = heads_of(self._layers)
        if not heads:
            raise self._top.fail("It has no detection layer ([yolo] or [region]).", "Name a detector's .cfg file.")
        if len({head.classes for head in heads}) > 1:
            raise self._top.fail("Its detection layers have different numbers of classes.", "Correct classes=.")
        letter_box = self._top.whole("letter_box", 0) != 0
        return CfgNetwork(self._width, self._height, self._layers, self._inserted, letter_box, self._notes)


def _sentence(problem: Exception) -> str:
    """Return the words of an error as the beginning of a sentence."""
    text = str(problem)
    return text[:1].upper() + text[1:]
