"""ONNX Runtime on the processor."""

import time
from typing import Any, List

from .darknet import sides
from .engine import EngineNetwork, imported, onnx_file, threads
from .models import ModelFiles
from .network import refused
from .onnx_writer import INPUT
from .table import Device


def load(files: ModelFiles, device: Device) -> EngineNetwork:
    """Read the network and make a session for it; DeviceError when ONNX Runtime refuses."""
    library = imported(device)
    path = onnx_file(files)
    name = f"ONNX Runtime {library.__version__}"
    # Its exceptions have no base class of their own but Exception.
    states = vars(library.capi.onnxruntime_pybind11_state).values()
    errors = tuple(kind for kind in states if isinstance(kind, type) and issubclass(kind, Exception))
    options = library.SessionOptions()
    options.intra_op_num_threads = threads()
    # Threads that wait do not spin: beside other work that took half of the processor from this very network.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name_of_side, side in zip(("width", "height"), sides(files.size)):
        options.add_free_dimension_override_by_name(name_of_side, side)
    started = time.perf_counter()
    try:
        session = library.InferenceSession(str(path), options, providers=[device.target])
    except errors as problem:
        raise refused(device, name, problem) from problem

    def run(blobs: Any) -> List[Any]:
        return list(session.run(None, {INPUT: blobs}))

    network = EngineNetwork(run, files, device, time.perf_counter() - started)
    network.library, network.errors = name, errors
    network.settings = {"threads": options.intra_op_num_threads, "providers": session.get_providers()}
    return network
