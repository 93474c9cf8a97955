"""OpenVINO on the processor, and on Intel graphics and neural processors where it finds them."""

import time
from typing import Any, Dict, List

from .darknet import sides
from .engine import EngineNetwork, imported, onnx_file, threads
from .models import ModelFiles
from .network import refused
from .table import Device, DeviceError

PRECISION = {"fp32": "f32", "fp16": "f16"}


def load(files: ModelFiles, device: Device) -> EngineNetwork:
    """Read the network and compile it; DeviceError when OpenVINO has no such device or refuses."""
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
    path = onnx_file(files)
    # Asked for always: without it OpenVINO computes in bf16 on processors that have it, 0.2 off with YOLOv3.
    options: Dict[str, Any] = {"INFERENCE_PRECISION_HINT": PRECISION[device.precision], "PERFORMANCE_HINT": "LATENCY"}
    if device.target == "CPU":
        options["INFERENCE_NUM_THREADS"] = threads()
    started = time.perf_counter()
    width, height = sides(files.size)
    try:
        model = core.read_model(str(path))
        model.reshape([-1, 3, height, width])
        request = core.compile_model(model, device.target, options).create_infer_request()
    except RuntimeError as problem:
        raise refused(device, name, problem) from problem

    def run(blobs: Any) -> List[Any]:
        return list(request.infer({0: blobs}).values())

    network = EngineNetwork(run, files, device, time.perf_counter() - started)
    network.library, network.errors, network.settings = name, (RuntimeError,), options
    return network
