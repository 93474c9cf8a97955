"""Where a network can run, and the proof that it really runs there.

OpenCV does not always say when it cannot serve a device. Asked for CUDA, a 4.10 without it warns on its
log and computes on the CPU; 4.14 raises; 4.2 has no way to ask first; 5.0 reads no Darknet network at
all. So a device other than the CPU must offer its target, must run one forward pass without a word
about a fall back, must not return the CPU's very bits, and must agree with the CPU within a gate.

An engine beside OpenCV (ONNX Runtime, OpenVINO) computes on its own, so there the gate alone decides.
"""

import pathlib
import time
from typing import Any, Dict, List, Optional, Sequence

import cv2
import numpy as np

from ..host.files import temporary
from . import auto, engine_onnxruntime, engine_openvino
from .counter import stream, uniforms
from .darknet import Size, cfg_text, sides
from .files import write_text
from .memory import give_back
from .models import ModelFiles
from .native import captured_output, verbose
from .network import Network, Proof, load, refused
from .networks import PROBE, Conv, Layer, layers_of
from .reference import relative_error
from .synthetic import write_weights
from .table import AUTO, DEVICES, OPENCV, Device, DeviceError, check_offered, device_named

ENGINES = {"onnxruntime": engine_onnxruntime.load, "openvino": engine_openvino.load}
"""How each engine beside OpenCV loads a network."""

GATE_FP32 = 5e-4
"""Largest relative error (rel2) that single precision may have: 6 times the worst that was measured
between libraries.
"""
SEEN_FP32 = 1e-4
"""An error up to this is called single precision; half precision and TF32 were never seen below 2e-3."""
GATE_REDUCED = {"shallow": 0.02, "deep": 0.1}
"""The same for half precision and TF32, for networks of up to 30 convolutions and for deeper ones; from
emulation, not from a card.
"""
FALLBACK_WORDS = (
    "switching to CPU",
    "fallback to the CPU",
    "fall back to CPU",
    "not supported by the new graph engine",
    "Targets are not supported",
    "does not support FP16",
)
"""What OpenCV's log says, in one version or another, when it does not do what it was asked."""
PROBE_SIZE = 64


def gate_for(device: Device, convolutions: int) -> float:
    """The largest relative error to the CPU that `device` may have with a network of so many convolutions."""
    # A card's fp32 is in the reduced group, because cuDNN may use TF32 for it on capability 8.0 and later.
    if device.precision == "fp32" and not device.on_card:
        return GATE_FP32
    return GATE_REDUCED["shallow" if convolutions <= 30 else "deep"]


def noise_blob(size: Size) -> Any:
    """A fixed input of the shape (1, 3, height, width), float32 in [0, 1)."""
    width, height = sides(size)
    return uniforms(stream(PROBE_SIZE, width), 3 * width * height).reshape(1, 3, height, width)


def open_network(files: ModelFiles, device: str, cv: Any = cv2) -> Network:
    """The network of `files` on `device`, run once and proved; DeviceError before anything is timed if it is
    not served. `auto` is the fastest device that works here in single precision.
    """
    row, expected = device_named(device), Expected(files, cv)
    if row != AUTO:
        return _open(files, row, expected, cv)
    return auto.fastest(DEVICES, lambda one: _open(files, one, expected, cv), noise_blob(files.size))


def cpu_raw_heads(files: ModelFiles, blob: Any, cv: Any = cv2, winograd: Optional[bool] = None) -> List[Any]:
    """What OpenCV's CPU makes of a blob, up to the heads; the network and its memory are gone afterwards.

    The network is asked for nothing else, because set up for a second choice of outputs it takes a third more
    memory: 805 MiB in place of 585 with YOLOv3.
    """
    row = device_named("cpu")
    check_offered(row, cv)
    network = load(files, row, cv, winograd)
    try:
        heads = network.raw_heads(blob)
    except network.errors as problem:
        raise refused(row, network.library, problem) from problem
    del network
    give_back()
    return heads


class Expected:
    """What OpenCV's CPU makes of the noise, computed when it is first asked for."""

    def __init__(self, files: ModelFiles, cv: Any) -> None:
        """For the network of `files`."""
        self._files, self._cv = files, cv
        self._heads: Dict[bool, List[Any]] = {}

    def heads(self, by_opencv: bool) -> List[Any]:
        """The raw heads. Where OpenCV serves the device, with the very settings it would have if it fell back;
        elsewhere without Winograd's convolution, which is nearer to the exact result and takes less memory.
        """
        if by_opencv not in self._heads:
            blob = noise_blob(self._files.size)
            self._heads[by_opencv] = cpu_raw_heads(self._files, blob, self._cv, None if by_opencv else False)
        return self._heads[by_opencv]


def _open(files: ModelFiles, row: Device, cpu: Expected, cv: Any) -> Network:
    """The network on one row of the table."""
    check_offered(row, cv)
    blob = noise_blob(files.size)
    # Before the device's own network is there: two at once would double the memory.
    expected = [] if row.name == "cpu" else cpu.heads(row.engine == OPENCV)
    with captured_output() as log, verbose(cv):
        network = load(files, row, cv) if row.engine == OPENCV else ENGINES[row.engine](files, row)
        try:
            started = time.perf_counter()
            heads = network.forward(blob)
            network.first_forward_s = time.perf_counter() - started
            raw = network.raw_heads(blob) if expected else []
        except network.errors as problem:
            raise refused(row, network.library, problem) from problem
    network.native_log = log.text
    _check_log(row, log.text)
    if not all(np.isfinite(head).all() for head in heads):
        raise DeviceError(
            "not_finite",
            f"The device {row.name} returned values that are not numbers.",
            "Use another release of the library behind it, or another device; with a card, look at `nvidia-smi -q`.",
        )
    if expected:
        network.proof = _prove(row, files.layers, raw, expected)
        network.forward(blob)  # Back to the plain outputs, so that the set-up is not part of a later measurement.
    return network


def _check_log(device: Device, text: str) -> None:
    """Raise DeviceError when OpenCV's own log says that it does not use `device`."""
    if device.name == "cpu" or device.engine != OPENCV:
        return
    for line in text.splitlines():
        if any(words.lower() in line.lower() for words in FALLBACK_WORDS):
            raise DeviceError(
                "fell_back",
                "OpenCV took the CPU, or another precision, in place of {}: {}.".format(
                    device.name, line.strip().rstrip(".")[:200]
                ),
                "Build OpenCV for the card (playbooks/opencv.yml), or use --device cpu.",
            )


def _prove(device: Device, layers: Sequence[Layer], found: List[Any], expected: List[Any]) -> Proof:
    """Hold the device's raw heads against the CPU's: a large error is a wrong result, and where OpenCV could
    fall back, equal bits mean that it did.
    """
    if device.engine == OPENCV and all(np.array_equal(ours, theirs) for ours, theirs in zip(found, expected)):
        raise DeviceError(
            "fell_back",
            f"The output for {device.name} is the CPU's bit for bit: the network ran on the CPU.",
            "Build OpenCV for the card (playbooks/opencv.yml), or use --device cpu.",
        )
    worst = max(relative_error(ours, theirs) for ours, theirs in zip(found, expected))
    gate = gate_for(device, sum(isinstance(layer, Conv) for layer in layers))
    if not worst <= gate:
        raise DeviceError(
            "wrong_output",
            f"The output for {device.name} is {worst:.1e} away from the CPU's, more than {gate:.0e}.",
            "Use another release of the library behind it; with a card, see that OpenCV's build fits it and its cuDNN.",
        )
    return Proof(worst, gate, "fp32" if worst <= SEEN_FP32 else "reduced")


def probe_files(folder: pathlib.Path) -> ModelFiles:
    """The small network that the device table is found out with, made in `folder`."""
    cfg, weights, layers = folder / "probe.cfg", folder / "probe.weights", layers_of(PROBE)
    write_text(cfg, cfg_text(layers, PROBE_SIZE))
    made = write_weights(weights, layers)
    return ModelFiles(PROBE, PROBE_SIZE, layers, cfg, "", weights, made.sha256, "synthetic", ())


def survey(cv: Any = cv2) -> List[Dict[str, Any]]:
    """The device table with what this machine can serve, found by running a small network: name, title,
    available, code, reason, next_step.
    """
    rows = []
    with temporary() as folder:
        files = probe_files(folder)
        for device in DEVICES:
            row: Dict[str, Any] = {"name": device.name, "title": device.title, "precision": device.precision}
            try:
                open_network(files, device.name, cv)
                row.update(available=True, code=None, reason=None, next_step=None)
            except DeviceError as problem:
                row.update(available=False, code=problem.code, reason=problem.message, next_step=problem.next_step)
            rows.append(row)
    return rows
