"""A Darknet network in OpenCV: loading it for a device, and running it."""

import pathlib
import time
from typing import Any, List, NamedTuple, Optional

import cv2

from ..errors import EnvironmentProblem
from .table import Device, DeviceError


class Proof(NamedTuple):
    """How a device's output compared with the CPU's: worst relative error over the heads, the gate, and
    the precision it speaks for.
    """

    rel2: float
    gate: float
    precision: str


class Network:
    """A network on a device, proved to run there. Times are in seconds."""

    def __init__(self, net: Any, device: Device, load_s: float) -> None:
        """Wrap a loaded `net`; open_network fills in what it finds out."""
        self._net = net
        self._outputs = list(net.getUnconnectedOutLayersNames())
        self.device = device
        self.load_s = load_s
        self.first_forward_s = 0.0
        self.native_log = ""
        self.proof: Optional[Proof] = None

    def forward(self, blob: Any) -> List[Any]:
        """Run one blob (1, 3, side, side); each head's boxes: (rows, 85) of centre x, y, width, height
        in 0..1, objectness, scores.
        """
        return self._run(blob, self._outputs)

    def raw_heads(self, blob: Any) -> List[Any]:
        """What enters each detection layer, (1, 255, rows, columns). Asking for other layers makes
        OpenCV set the network up again.
        """
        names = set(self._net.getLayerNames())
        wanted = ["conv_{}".format(int(name.split("_")[-1]) - 1) for name in self._outputs]
        if not names.issuperset(wanted):
            raise EnvironmentProblem(
                "This OpenCV names the layers of a Darknet network in a way that is not known here.",
                next_step="Use an OpenCV from 4.2 to 4.14.",
            )
        return self._run(blob, wanted)

    def convolutions(self) -> int:
        """How many convolutions the network has."""
        return sum(name.startswith("conv_") for name in self._net.getLayerNames())

    def _run(self, blob: Any, names: List[str]) -> List[Any]:
        self._net.setInput(blob)
        return list(self._net.forward(names))


def load(cfg: pathlib.Path, weights: pathlib.Path, device: Device, cv: Any = cv2) -> Network:
    """Read the network and ask for `device`; nothing is computed yet. DeviceError when OpenCV refuses
    either.
    """
    started = time.perf_counter()
    try:
        net = cv.dnn.readNetFromDarknet(str(cfg), str(weights))
    except cv.error as problem:
        raise DeviceError(
            "unreadable_network",
            f"OpenCV {cv.__version__} cannot read the network {cfg.name}: {_one_line(problem)}.",
            "YOLOv4 networks need OpenCV 4.4 or later; otherwise make the files again with `prepare`.",
        ) from problem
    try:
        net.setPreferableBackend(getattr(cv.dnn, device.backend))
        net.setPreferableTarget(getattr(cv.dnn, device.target))
    except cv.error as problem:
        raise refused(device, problem, cv) from problem
    return Network(net, device, time.perf_counter() - started)


def refused(device: Device, problem: Exception, cv: Any) -> DeviceError:
    """The error for a device that made OpenCV raise."""
    reason = f"OpenCV {cv.__version__} refuses the device {device.name}: {_one_line(problem)}."
    return DeviceError("refused", reason, "Use another --device, or a build of OpenCV that has this one.")


def _one_line(problem: Exception) -> str:
    """An OpenCV error on one line, without the sentence's full stop."""
    return " ".join(str(problem).split()).rstrip(".")[:300]
