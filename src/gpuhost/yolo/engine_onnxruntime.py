"""ONNX Runtime, on the CPU and on an NVIDIA card.

Asked for a card that it cannot use, ONNX Runtime warns on its log and computes on the CPU. So its build is read
first, for code that the card runs, and afterwards it is asked which provider it took.
"""

import pathlib
import time
from typing import Any, Callable, Dict, List, Tuple

from ..gpucode import reach
from ..host import fatbin
from ..host.probe.cuda import cuda
from .darknet import Size, sides
from .engine import EngineNetwork, imported, onnx_file, threads
from .models import ModelFiles
from .network import refused
from .onnx_writer import INPUT
from .table import Device, DeviceError

PROVIDER = "capi/libonnxruntime_providers_cuda.so"
"""The file of onnxruntime-gpu that holds the code for cards."""


def check_card(library: Any) -> None:
    """Raise DeviceError unless this ONNX Runtime has code for the card that CUDA counts first."""
    name = f"ONNX Runtime {library.__version__}"
    file = pathlib.Path(library.__file__).parent / PROVIDER
    if not file.is_file():
        raise DeviceError(
            "not_built",
            f"This {name} was built without CUDA, so it cannot use the card.",
            "Install onnxruntime-gpu in its place, or use another --device.",
        )
    try:
        code = fatbin.read(file).code
    except (OSError, ValueError) as problem:
        raise DeviceError(
            "broken_package", f"{file} of {name} cannot be read: {problem}.", "Install onnxruntime-gpu again."
        ) from problem
    seen = cuda()
    if not seen["devices"]:
        said = seen["error"] or seen["ended"] or (seen["init"] or {}).get("text") or "it counts none"
        raise DeviceError(
            "no_card",
            f"{name} is built with CUDA, and CUDA finds no card: {said}.",
            "Look at `nvidia-smi`, or type: gpuhost doctor",
        )
    card = seen["devices"][0]
    if reach(code, card["capability"]) == "none":
        raise DeviceError(
            "no_code",
            f"{name} has no code for {card['name']} ({card['capability']}): it holds {', '.join(code) or 'none'}.",
            "Use a release of onnxruntime-gpu that has it (docs/how-to/engines.md), or --device cuda.",
        )


def _session(path: pathlib.Path, device: Device, open_sides: Dict[str, int]) -> Tuple[Any, str, Any]:
    """A session for a model, the library with its version, and its exceptions; DeviceError when it refuses."""
    library = imported(device)
    name = f"ONNX Runtime {library.__version__}"
    # Its exceptions have no base class of their own but Exception.
    states = vars(library.capi.onnxruntime_pybind11_state).values()
    errors = tuple(kind for kind in states if isinstance(kind, type) and issubclass(kind, Exception))
    if device.on_card:
        check_card(library)
    options = library.SessionOptions()
    options.intra_op_num_threads = threads()
    # Threads that wait do not spin: beside other work that took half of the CPU from this very network.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name_of_side, side in open_sides.items():
        options.add_free_dimension_override_by_name(name_of_side, side)
    try:
        session = library.InferenceSession(str(path), options, providers=[device.target])
    except errors as problem:
        raise refused(device, name, problem) from problem
    if session.get_providers()[0] != device.target:
        raise DeviceError(
            "fell_back",
            f"{name} took {session.get_providers()[0]} in place of {device.target}.",
            "It needs the CUDA and cuDNN that it was built with, where the linker finds them: docs/how-to/engines.md",
        )
    return session, name, errors


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
