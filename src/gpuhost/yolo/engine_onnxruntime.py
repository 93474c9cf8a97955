"""ONNX Runtime on the processor."""

import pathlib
import time
from typing import Any, Callable, Dict, List, Tuple

from .darknet import Size, sides
from .engine import EngineNetwork, imported, onnx_file, threads
from .models import ModelFiles
from .network import refused
from .onnx_writer import INPUT
from .table import Device


def _session(path: pathlib.Path, device: Device, open_sides: Dict[str, int]) -> Tuple[Any, str, Any]:
    """A session for a model, the library with its version, and its exceptions; DeviceError when it refuses."""
    library = imported(device)
    name = f"ONNX Runtime {library.__version__}"
    # Its exceptions have no base class of their own but Exception.
    states = vars(library.capi.onnxruntime_pybind11_state).values()
    errors = tuple(kind for kind in states if isinstance(kind, type) and issubclass(kind, Exception))
    options = library.SessionOptions()
    options.intra_op_num_threads = threads()
    # Threads that wait do not spin: beside other work that took half of the processor from this very network.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name_of_side, side in open_sides.items():
        options.add_free_dimension_override_by_name(name_of_side, side)
    try:
        return library.InferenceSession(str(path), options, providers=[device.target]), name, errors
    except errors as problem:
        raise refused(device, name, problem) from problem


def plain(path: pathlib.Path, device: Device, entry: str, _: Size) -> Tuple[Callable[[Any], List[Any]], str, Any]:
    """Somebody's model: what runs a blob through it, the library, and its exceptions."""
    session, name, errors = _session(path, device, {})
    return lambda blob: list(session.run(None, {entry: blob})), name, errors


def load(files: ModelFiles, device: Device) -> EngineNetwork:
    """Read the network and make a session for it; DeviceError when ONNX Runtime refuses."""
    imported(device)  # before the file is made
    path = onnx_file(files)
    started = time.perf_counter()
    session, name, errors = _session(path, device, dict(zip(("width", "height"), sides(files.size))))

    def run(blobs: Any) -> List[Any]:
        return list(session.run(None, {INPUT: blobs}))

    network = EngineNetwork(run, files, device, time.perf_counter() - started)
    network.library, network.errors = name, errors
    network.settings = {"threads": threads(), "providers": session.get_providers()}
    return network
