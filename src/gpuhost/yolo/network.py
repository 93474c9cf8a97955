"""A Darknet network that can be run, and how OpenCV loads and runs one."""

import abc
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Type

import cv2

from ..errors import EnvironmentProblem
from .darknet import heads_of, is_plain, yolo_heads
from .heads import rows_of
from .memory import winograd_fits
from .models import ModelFiles
from .table import Device, DeviceError


class Proof(NamedTuple):
    """How a device's output compared with the CPU's: worst relative error over the heads, the gate, and
    the precision it speaks for.
    """

    rel2: float
    gate: float
    precision: str


class Network(abc.ABC):
    """A network on a device, proved to run there. Times are in seconds.

    `library` and `settings` say what runs it and what was set beyond the device, `errors` are the exceptions
    with which that library refuses, and `trials` tells how the device was chosen where `auto` chose it.
    """

    library = ""
    errors: Tuple[Type[Exception], ...] = ()

    def __init__(self, device: Device, load_s: float) -> None:
        """Keep what is known when it is loaded; open_network fills in what it finds out."""
        self.device = device
        self.load_s = load_s
        self.first_forward_s = 0.0
        self.native_log = ""
        self.proof: Optional[Proof] = None
        self.settings: Dict[str, Any] = {}
        self.trials: List[Dict[str, Any]] = []

    def forward(self, blob: Any) -> List[Any]:
        """Run one blob (1, 3, height, width); each head's boxes: (rows, 85) of centre x, y, width, height
        in 0..1, objectness, scores.
        """
        return self.forward_batch(blob)[0]

    @abc.abstractmethod
    def forward_batch(self, blobs: Any) -> List[List[Any]]:
        """Run blobs (n, 3, side, side) at once; for each what `forward` gives."""

    @abc.abstractmethod
    def raw_heads(self, blob: Any) -> List[Any]:
        """What enters each detection layer, (n, 255, rows, columns)."""


class OpenCvNetwork(Network):
    """A network that OpenCV runs."""

    def __init__(self, net: Any, files: ModelFiles, device: Device, load_s: float) -> None:
        """Wrap a loaded `net`."""
        super().__init__(device, load_s)
        self._net, self._size = net, files.size
        self._heads = heads_of(files.layers)
        plain = [is_plain(files.layers, index) for index in yolo_heads(files.layers)]
        numbers = [(index, own) for index, own in zip(yolo_heads(files.layers), plain)]
        self._outputs = [f"yolo_{index}" if own else f"identity_{index}" for index, own in numbers]
        self._raw = [f"conv_{index - 1}" if own else f"identity_{index}" for index, own in numbers]
        self._plain = plain

    def forward_batch(self, blobs: Any) -> List[List[Any]]:
        """As Network says. OpenCV sets the network up again whenever the number of blobs changes."""
        heads = []
        for found, head, plain in zip(self._run(blobs, self._outputs), self._heads, self._plain):
            heads.append(found.reshape(len(blobs), -1, found.shape[-1]) if plain else rows_of(found, head, self._size))
        return [[head[number] for head in heads] for number in range(len(blobs))]

    def raw_heads(self, blob: Any) -> List[Any]:
        """As Network says. Asking for other layers makes OpenCV set the network up again."""
        if not set(self._net.getLayerNames()).issuperset(self._raw):
            raise EnvironmentProblem(
                "This OpenCV names the layers of a Darknet network in a way that is not known here.",
                next_step="Use an OpenCV from 4.2 to 4.14.",
            )
        return self._run(blob, self._raw)

    def _run(self, blob: Any, names: List[str]) -> List[Any]:
        self._net.setInput(blob)
        return list(self._net.forward(names))


def load(files: ModelFiles, device: Device, cv: Any = cv2, winograd: Optional[bool] = None) -> OpenCvNetwork:
    """Read the network and ask OpenCV for `device`; nothing is computed yet. DeviceError when OpenCV
    refuses either.

    `winograd` says whether the fast convolution may take its memory; None: where the machine has it.
    """
    started = time.perf_counter()
    try:
        net = cv.dnn.readNetFromDarknet(str(files.cfg), str(files.weights))
    except cv.error as problem:
        raise DeviceError(
            "unreadable_network",
            f"OpenCV {cv.__version__} cannot read the network {files.cfg.name}: {one_line(problem)}.",
            "YOLOv4 networks need OpenCV 4.4 or later; otherwise make the files again with `prepare`.",
        ) from problem
    try:
        net.setPreferableBackend(getattr(cv.dnn, device.backend))
        net.setPreferableTarget(getattr(cv.dnn, device.target))
    except cv.error as problem:
        raise refused(device, f"OpenCV {cv.__version__}", problem) from problem
    allowed = winograd_fits(files.layers) if winograd is None else winograd
    if hasattr(net, "enableWinograd"):
        net.enableWinograd(allowed)
    network = OpenCvNetwork(net, files, device, time.perf_counter() - started)
    network.library, network.errors = f"OpenCV {cv.__version__}", (cv.error,)
    network.settings = {"winograd": allowed and hasattr(net, "enableWinograd")}
    return network


def refused(
    device: Device,
    library: str,
    problem: Exception,
    next_step: str = "Use another --device, or another release of that library.",
) -> DeviceError:
    """The error for a device that made `library` (name and version) raise."""
    reason = f"{library} refuses the device {device.name}: {one_line(problem)}."
    return DeviceError("refused", reason, next_step)


def one_line(problem: Exception) -> str:
    """A library's error on one line, without the sentence's full stop."""
    return " ".join(str(problem).split()).rstrip(".")[:300]
