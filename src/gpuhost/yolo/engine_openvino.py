"""OpenVINO on the CPU, and on Intel graphics and neural processors where it finds them."""

import pathlib
import time
from typing import Any, Callable, Dict, List, Tuple

from .darknet import Size, sides
from .engine import EngineNetwork, imported, onnx_file, threads
from .models import ModelFiles
from .network import refused
from .table import Device, DeviceError

PRECISION = {"fp32": "f32", "fp16": "f16"}


Run = Callable[[Any], List[Any]]


def plain(path: pathlib.Path, device: Device, _: str, size: Size) -> Tuple[Run, str, Any]:
    """Somebody's model: what runs a blob through it, the library, and its exceptions."""
    run, name, _settings = _compiled(lambda: path, device, 1, size)
    return run, name, (RuntimeError,)


def _compiled(
    made: Callable[[], pathlib.Path], device: Device, batch: int, size: Size
) -> Tuple[Run, str, Dict[str, Any]]:
    """The model of a file compiled for an input, the library with its version, and its settings; DeviceError when
    OpenVINO has no such device or refuses. The file is `made` when the device is there.
    """
    library = imported(device)
    name = "OpenVINO {}".format(library.__version__.split("-")[0])
    core = library.Core()
    found = list(core.available_devices)
    if not any(one.split(".")[0] == device.target for one in found):
        raise DeviceError(
            "not_offered",
            "{} finds no device {} here, only {}.".format(name, device.target, ", ".join(found) or "none"),
            "Install the device's driver, or use --device openvino or cpu.",
        )
    path = made()
    # Asked for always: without it OpenVINO computes in bf16 on processors that have it, 0.2 off with YOLOv3.
    options: Dict[str, Any] = {"INFERENCE_PRECISION_HINT": PRECISION[device.precision], "PERFORMANCE_HINT": "LATENCY"}
    if device.target == "CPU":
        options["INFERENCE_NUM_THREADS"] = threads()
    width, height = sides(size)
    try:
        model = core.read_model(str(path))
        model.reshape([batch, 3, height, width])
        request = core.compile_model(model, device.target, options).create_infer_request()
    except RuntimeError as problem:
        raise refused(device, name, problem) from problem

    def run(blobs: Any) -> List[Any]:
        return list(request.infer({0: blobs}).values())

    return run, name, options


def load(files: ModelFiles, device: Device) -> EngineNetwork:
    """Read the network and compile it; DeviceError when OpenVINO has no such device or refuses."""
    started = time.perf_counter()
    run, name, options = _compiled(lambda: onnx_file(files), device, -1, files.size)
    network = EngineNetwork(run, files, device, time.perf_counter() - started)
    network.library, network.errors, network.settings = name, (RuntimeError,), options
    return network
