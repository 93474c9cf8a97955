"""Where a network can run, and the proof that it really runs there.

OpenCV does not always say when it cannot serve a device. Asked for CUDA, a 4.10 without it warns on its
log and computes on the CPU; 4.14 raises; 4.2 has no way to ask first; 5.0 reads no Darknet network at
all. So a device other than the CPU must offer its target, must run one forward pass without a word
about a fall back, must not return the CPU's very bits, and must agree with the CPU within a gate.
"""

import pathlib
import tempfile
import time
from typing import Any, Dict, List

import cv2
import numpy as np

from .counter import stream, uniforms
from .darknet import cfg_text
from .native import captured_output, verbose
from .network import Network, Proof, load, refused
from .networks import PROBE, layers_of
from .reference import relative_error
from .synthetic import write_weights
from .table import DEVICES, Device, DeviceError, check_offered, device_named

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
    # CUDA's fp32 is in the reduced group, because cuDNN may use TF32 for it on capability 8.0 and later.
    return GATE_FP32 if device.name == "cpu" else GATE_REDUCED["shallow" if convolutions <= 30 else "deep"]


def noise_blob(size: int) -> Any:
    """A fixed input of the shape (1, 3, size, size), float32 in [0, 1)."""
    return uniforms(stream(PROBE_SIZE, size), 3 * size * size).reshape(1, 3, size, size)


def open_network(cfg: pathlib.Path, weights: pathlib.Path, device: str, size: int = 416, cv: Any = cv2) -> Network:
    """The network of `cfg` (input side `size`) on `device`, run once and proved; DeviceError before
    anything is timed if it is not served.
    """
    row = device_named(device)
    check_offered(row, cv)
    blob = noise_blob(size)
    network = None
    with captured_output() as log, verbose(cv):
        try:
            network = load(cfg, weights, row, cv)
            started = time.perf_counter()
            heads = network.forward(blob)
            network.first_forward_s = time.perf_counter() - started
            raw = network.raw_heads(blob) if row.name != "cpu" else []
        except cv.error as problem:
            raise refused(row, problem, cv) from problem
    network.native_log = log.text
    _check_log(row, log.text)
    if not all(np.isfinite(head).all() for head in heads):
        raise DeviceError(
            "not_finite",
            f"The device {row.name} returned values that are not numbers.",
            "Use another build of OpenCV, or another device; with a card, look at `nvidia-smi -q` first.",
        )
    if row.name != "cpu":
        network.proof = _prove(row, raw, load(cfg, weights, device_named("cpu"), cv), blob)
        network.forward(blob)  # Back to the plain outputs, so that the set-up is not part of a later measurement.
    return network


def _check_log(device: Device, text: str) -> None:
    """Raise DeviceError when OpenCV's own log says that it does not use `device`."""
    if device.name == "cpu":
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


def _prove(device: Device, found: List[Any], cpu: Network, blob: Any) -> Proof:
    """Hold the device's raw heads against the CPU's: equal bits are a fall back, a large error is a
    wrong result.
    """
    expected = cpu.raw_heads(blob)
    if all(np.array_equal(ours, theirs) for ours, theirs in zip(found, expected)):
        raise DeviceError(
            "fell_back",
            f"The output for {device.name} is the CPU's bit for bit: the network ran on the CPU.",
            "Build OpenCV for the card (playbooks/opencv.yml), or use --device cpu.",
        )
    worst = max(relative_error(ours, theirs) for ours, theirs in zip(found, expected))
    gate = gate_for(device, cpu.convolutions())
    if not worst <= gate:
        raise DeviceError(
            "wrong_output",
            f"The output for {device.name} is {worst:.1e} away from the CPU's, more than {gate:.0e}.",
            "Check that the build of OpenCV fits the card and its cuDNN, and the card itself.",
        )
    return Proof(worst, gate, "fp32" if worst <= SEEN_FP32 else "reduced")


def survey(cv: Any = cv2) -> List[Dict[str, Any]]:
    """The device table with what this machine can serve, found by running a small network: name, title,
    available, code, reason, next_step.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="gpuhost-yolo-") as folder:
        cfg, weights = pathlib.Path(folder) / "probe.cfg", pathlib.Path(folder) / "probe.weights"
        layers = layers_of(PROBE)
        cfg.write_text(cfg_text(layers, PROBE_SIZE), encoding="ascii")
        write_weights(weights, layers)
        for device in DEVICES:
            row: Dict[str, Any] = {"name": device.name, "title": device.title, "precision": device.precision}
            try:
                open_network(cfg, weights, device.name, PROBE_SIZE, cv)
                row.update(available=True, code=None, reason=None, next_step=None)
            except DeviceError as problem:
                row.update(available=False, code=problem.code, reason=problem.message, next_step=problem.next_step)
            rows.append(row)
    return rows
