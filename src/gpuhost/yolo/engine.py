"""What the engines beside OpenCV have in common: they read the network as ONNX, run it up to the heads, and
leave the boxes to `heads`.
"""

import importlib
import importlib.util
import pathlib
from typing import Any, Callable, List

import cv2

from .darknet import heads_of, sides
from .heads import rows_of
from .models import ModelFiles
from .network import Network, one_line
from .networks import Reorg
from .onnx_writer import WRITER, write_onnx
from .table import ENGINES, Device, DeviceError


class EngineNetwork(Network):
    """A network that an engine runs. `run` takes blobs (n, 3, side, side) to the raw heads in file order."""

    def __init__(self, run: Callable[[Any], List[Any]], files: ModelFiles, device: Device, load_s: float) -> None:
        """Wrap the engine's `run`; its loader fills in library, errors and settings."""
        super().__init__(device, load_s)
        self._run = run
        self._heads = heads_of(files.layers)
        self._size = files.size

    def forward_batch(self, blobs: Any) -> List[List[Any]]:
        """As Network says."""
        heads = [rows_of(raw, head, self._size) for raw, head in zip(self._run(blobs), self._heads)]
        return [[head[number] for head in heads] for number in range(len(blobs))]

    def raw_heads(self, blob: Any) -> List[Any]:
        """As Network says."""
        return self._run(blob)


def onnx_file(files: ModelFiles) -> pathlib.Path:
    """See that the network is beside its configuration as ONNX; its path. One serves every input size, but for a
    network with a Reorg.
    """
    fixed = any(isinstance(layer, Reorg) for layer in files.layers)
    name = f"{files.model}-{files.weights_sha256[:12]}-{WRITER}" + (
        "-{}x{}".format(*sides(files.size)) if fixed else ""
    )
    path = files.cfg.parent / (name + ".onnx")
    write_onnx(path, files.layers, files.weights, files.size)
    return path


def prepare(files: ModelFiles) -> None:
    """See that what the engines need is there, where this Python has one of them."""
    if any(importlib.util.find_spec(name) is not None for name in ENGINES):
        onnx_file(files)


def threads() -> int:
    """As many as OpenCV uses, so that engines and OpenCV are compared on the same processors."""
    return max(1, cv2.getNumThreads())


def imported(device: Device) -> Any:
    """The package of the device's engine; DeviceError when it is there and cannot be imported."""
    try:
        return importlib.import_module(device.engine)
    except ImportError as problem:
        raise DeviceError(
            "broken_package",
            f"{ENGINES[device.engine]} is installed and cannot be imported: {one_line(problem)}.",
            "Make the environment again with the engines (-e opencv_engines=true), or use --device cpu.",
        ) from problem
