"""Detection models in ONNX: the exports of YOLOv5, v7, v8, v9, v10 and v11, told apart by what they give.

v5       (1, boxes, 5 + classes): centre x, y, width, height in pixels of the input, objectness, class scores
v8       (1, 4 + classes, boxes): the same without objectness
end2end  (1, boxes, 6): left, top, right, bottom, score, class: already suppressed

YOLOv7 writes the last as (boxes, 7): number of the picture, left, top, right, bottom, class, score. YOLOv9's networks
with auxiliary heads give an output for each, the one that counts last (val_dual.py and val_triple.py of its authors).
"""

import mmap
import pathlib
import time
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from .. import reading
from ..errors import UsageError
from ..host.files import sha256
from ..text import printable
from . import auto, engine_onnxruntime, engine_openvino, onnx_reader
from .darknet import Size, sides
from .devices import noise_blob
from .models import OWN, ModelFiles, file_of_user, names_of
from .network import Network, refused
from .table import AUTO, DEVICES, OPENCV, Device, check_offered, device_named

Run = Callable[[Any], List[Any]]
END2END = "end2end"
LAYOUTS = ("v5", "v8", END2END)
OF_V7 = (1, 2, 3, 4, 6, 5)
"""The columns of YOLOv7's finished boxes in the order of `end2end`."""
DEFAULT_SIZE = 640
LARGEST = 4 << 30
STRIDES = ((8, 16, 32), (8, 16, 32, 64))
"""Of the heads of the usual networks, and of those for large pictures."""


class Asked(NamedTuple):
    """An ONNX model that somebody named: the file, the names of its classes, the input's size and the layout."""

    path: pathlib.Path
    names: Optional[pathlib.Path] = None
    size: Optional[Size] = None
    layout: Optional[str] = None


def cells_of(size: Size) -> Tuple[int, ...]:
    """How many places the heads have together, for each of STRIDES."""
    width, height = sides(size)
    return tuple(sum((width // step) * (height // step) for step in steps) for steps in STRIDES)


def layout_of(shape: Tuple[int, ...], size: Size, suppressed: bool = False) -> Optional[str]:
    """The layout of an output of `shape`, None where it is not one of LAYOUTS without a doubt. `suppressed` is what the
    metadata says: a small input leaves a row for each place, and then the shape alone does not tell.
    """
    if len(shape) != 3:
        return None
    cells = cells_of(size)
    if shape[2] in cells and shape[1] > 4:
        return "v8"
    if shape[1] in [3 * one for one in cells] and shape[2] > 5:
        return "v5"
    if shape[2] == 6 and (suppressed or shape[1] not in cells):
        return END2END
    return None


def classes_of(shape: Tuple[int, ...], layout: str) -> Optional[int]:
    """How many classes an output of `shape` tells apart; None where it does not say."""
    return {"v8": shape[1] - 4, "v5": shape[2] - 5}.get(layout)


def _can_be(output: Any, layout: str) -> bool:
    """Whether an output can be of that layout: it has the columns, and the numbers of classes are integers."""
    if layout == "v8":
        return len(output) > 4
    if layout == "v5":
        return bool(output.shape[1] > 5)
    return output.shape[1] == 6 and np.array_equal(output[:, 5], np.round(output[:, 5]))


def rows_of(output: Any, layout: str, size: Size, classes: int) -> Any:
    """Boxes as Network.forward gives them: float32 (rows, 5 + classes). A row with what is not a number is left out."""
    values = np.asarray(output, dtype=np.float32)
    values = values.T if layout == "v8" else values
    values = values[np.isfinite(values).all(axis=1)]
    if layout == "v8":
        rows = np.concatenate([values[:, :4], values[:, 4:].max(axis=1, keepdims=True), values[:, 4:]], axis=1)
    elif layout == "v5":
        rows = values.copy()
        rows[:, 5:] *= rows[:, 4:5]
    else:
        rows = np.zeros((len(values), 5 + classes), dtype=np.float32)
        rows[:, :2], rows[:, 2:4] = (values[:, :2] + values[:, 2:4]) / 2, values[:, 2:4] - values[:, :2]
        numbers = values[:, 5].astype(np.int64)
        known = (numbers >= 0) & (numbers < classes)
        rows[known, 4] = values[known, 4]
        rows[np.arange(len(rows))[known], 5 + numbers[known]] = values[known, 4]
    width, height = sides(size)
    rows[:, :4] /= np.array([width, height, width, height], dtype=np.float32)
    return rows


class OnnxNetwork(Network):
    """A detection model that one of the engines runs; `run` takes one blob to all outputs."""

    def __init__(self, run: Run, asked: Asked, size: Size, device: Device) -> None:
        """Wrap `run`; the layout is known after `recognise`."""
        super().__init__(device, 0.0)
        self._run, self._asked, self._size = run, asked, size
        self.layout, self.classes = "", 0

    def recognise(self, known: Optional[int], suppressed: bool) -> None:
        """Run once, and see what the model gives; `known` is the number of classes that others tell of, and
        `suppressed` whether the metadata speaks of finished boxes.
        """
        started = time.perf_counter()
        outputs = self._run(noise_blob(self._size))
        self.first_forward_s = time.perf_counter() - started
        output = self._boxes(outputs)
        suppressed = suppressed or outputs[0].ndim == 2
        self.layout = self._asked.layout or layout_of(output.shape, self._size, suppressed) or ""
        if not self.layout:
            raise self._unknown(output.shape)
        found = classes_of(output.shape, self.layout)
        if found is not None and known is not None and found != known:
            raise UsageError(
                f"{printable(self._asked.path, 300)} has {found} classes, and there are {known} names.",
                next_step="Give the file of names that it was trained with: --names FILE",
            )
        if not _can_be(output[0], self.layout):
            raise self._unknown(output.shape)
        if found is None and known is None:
            raise UsageError(
                f"{printable(self._asked.path, 300)} does not say how many classes it has.",
                next_step="Give the file of their names: --names FILE",
            )
        self.classes = found or known or 0

    def _unknown(self, shape: Tuple[int, ...]) -> UsageError:
        """The error for an output of which nothing is known."""
        told = " x ".join(str(side) for side in shape)
        return UsageError(
            f"The output of {printable(self._asked.path, 300)} is {told}, which is none of the known layouts.",
            next_step="Name it, if you know it: --layout {}".format("|".join(LAYOUTS)),
        )

    def _boxes(self, outputs: List[Any]) -> Any:
        """The output that holds boxes, with three dimensions; with some exports the raw heads stand behind it."""
        if len(outputs) == 1 and outputs[0].ndim == 2 and outputs[0].shape[1] == len(OF_V7) + 1:
            return outputs[0][None][..., OF_V7]
        found = [output for output in outputs if output.ndim == 3 and len(output) == 1]
        if len({output.shape for output in found}) != 1 or any(output.ndim == 4 for output in outputs):
            told = ", ".join(" x ".join(map(str, output.shape)) for output in outputs[:8])
            raise UsageError(
                f"{printable(self._asked.path, 300)} is not a detection model with its boxes: it gives {told}.",
                next_step="Export it for detection, with the detection layer.",
            )
        return found[-1]

    def forward_batch(self, blobs: Any) -> List[List[Any]]:
        """As Network says; one after the other, because most exports take one picture at a time."""
        outputs = [self._boxes(self._run(blobs[number : number + 1]))[0] for number in range(len(blobs))]
        return [[rows_of(output, self.layout, self._size, self.classes)] for output in outputs]

    def raw_heads(self, blob: Any) -> List[Any]:
        """What the model gives."""
        return self._run(blob)


def _by_opencv(path: pathlib.Path, device: Device, outputs: Sequence[str]) -> Tuple[Run, str, Tuple[Any, ...]]:
    """OpenCV's own importer, asked for the `outputs` in the model's order, which is not its own."""
    library = f"OpenCV {cv2.__version__}"
    try:
        net = cv2.dnn.readNetFromONNX(str(path))
        net.setPreferableBackend(getattr(cv2.dnn, device.backend))
        net.setPreferableTarget(getattr(cv2.dnn, device.target))
    except (cv2.error, AttributeError) as problem:
        raise refused(
            device, library, problem, "Export it without dynamic and nms, or use --device onnxruntime or openvino."
        ) from problem

    own = net.getUnconnectedOutLayersNames()
    names = list(outputs) if set(outputs) == set(own) else own

    def run(blob: Any) -> List[Any]:
        net.setInput(blob)
        return list(net.forward(names))

    return run, library, (cv2.error,)


class _Described(NamedTuple):
    """What the file says: the name of its input, the input's size, the number of classes, whether the boxes come
    suppressed, and the names of its outputs.
    """

    entry: str
    size: Size
    classes: Optional[int]
    suppressed: bool
    outputs: Tuple[str, ...]


def _open(asked: Asked, said: _Described, device: Device) -> OnnxNetwork:
    """The model on one row of the device table, run once."""
    check_offered(device)
    started = time.perf_counter()
    if device.engine == OPENCV:
        run, library, errors = _by_opencv(asked.path, device, said.outputs)
    else:
        engine = {"onnxruntime": engine_onnxruntime, "openvino": engine_openvino}[device.engine]
        run, library, errors = engine.plain(asked.path, device, said.entry, said.size)
    network = OnnxNetwork(run, asked, said.size, device)
    network.load_s = time.perf_counter() - started
    network.library, network.errors = library, errors
    try:
        network.recognise(said.classes, said.suppressed)
    except errors as problem:
        raise refused(device, library, problem) from problem
    return network


def _read(path: pathlib.Path) -> onnx_reader.OnnxModel:
    """What the file says of itself."""
    file_of_user(path, "ONNX model", reading.check)
    with path.open("rb") as handle:
        if not 0 < path.stat().st_size <= LARGEST:
            raise UsageError(f"{printable(path, 300)} is empty or larger than 4 GiB.", next_step="Export it again.")
        return onnx_reader.read(memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)), str(path))


def _input_of(path: pathlib.Path, model: onnx_reader.OnnxModel, size: Optional[Size]) -> Tuple[str, Size]:
    """The name of the model's input and its size: as it is fixed there, else as asked for, else as the metadata tells,
    else 640.
    """
    name = printable(path, 300)
    task = model.metadata.get("task", "detect")
    if task != "detect":
        raise UsageError(f"{name} was exported for {printable(task, 40)!r}.", next_step="Name a model that detects.")
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4 or model.inputs[0].shape[1] not in (None, 3):
        raise UsageError(f"{name} does not take one picture of three channels.", next_step="Name a detection model.")
    entry = model.inputs[0]
    if entry.kind != onnx_reader.FLOAT:
        raise UsageError(f"{name} takes another number type than float32.", next_step="Export it without half or int8.")
    height, width = entry.shape[2:]
    if not width or not height:
        if size is not None:
            return entry.name, size
        width, height = model.size or (DEFAULT_SIZE, DEFAULT_SIZE)
    if not (0 < width <= 8192 and 0 < height <= 8192):
        raise UsageError(f"{name} wants pictures of {width} x {height} pixels.", next_step="Export it smaller.")
    if size is not None and sides(size) != (width, height):
        raise UsageError(
            f"{name} was exported for {width} x {height} pixels.", next_step="Leave --size out, or export it dynamic."
        )
    return entry.name, width if width == height else (width, height)


def open_onnx(asked: Asked, device: str) -> Tuple[OnnxNetwork, ModelFiles]:
    """The model on `device`, run once, and what else is known of it; UsageError when it is not understood."""
    if asked.layout not in (None, *LAYOUTS):
        known_ones = ", ".join(LAYOUTS)
        raise UsageError(f"There is no layout {asked.layout!r}.", next_step=f"Use one of: {known_ones}.")
    model = _read(asked.path)
    entry, size = _input_of(asked.path, model, asked.size)
    labels = names_of(asked.names) if asked.names is not None else model.names
    row = device_named(device)
    said = _Described(entry, size, None if labels is None else len(labels), model.suppressed, model.outputs)

    def opened(one: Device) -> OnnxNetwork:
        return _open(asked, said, one)

    found: Any = auto.fastest(DEVICES, opened, noise_blob(size)) if row == AUTO else opened(row)
    if labels is None:
        labels = tuple(f"class {number}" for number in range(found.classes))
    digest = sha256(asked.path)
    return found, ModelFiles(
        "own-" + digest[:12], size, [], asked.path, digest, asked.path, digest, OWN, labels, (), True
    )
