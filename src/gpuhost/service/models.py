"""The networks that are served: files checked, opened on the device with its proof, the best batch measured."""

import statistics
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np

from ..errors import ArtifactError, UsageError
from ..host.files import sha256
from ..text import printable
from ..yolo.detector import Detector
from ..yolo.devices import noise_blob
from ..yolo.models import facts_of, file_of_user
from ..yolo.networks import MODELS
from ..yolo.table import device_named
from .settings import CFG, PUBLISHED, SYNTHETIC, Model, Settings

BATCHES = (1, 2, 4, 8)
#: A smaller batch is taken when its time a photo is within this part of the best: it answers sooner.
NEAR = 1.05
_PASSES = 5


class Served(NamedTuple):
    """A network that is open and proved. `batch` pictures go through it at once, never another number of them;
    `noise` is the input that probes it, and `expected` what it made of that when it was proved.
    """

    name: str
    detector: Detector
    batch: int
    noise: Any
    expected: List[Any]


def check(settings: Settings) -> None:
    """UsageError or ArtifactError for a device or a network that there is not, and for files that are not as they were
    when they were locked; opens nothing.
    """
    device_named(settings.device)
    for model in settings.models:
        if model.kind == PUBLISHED and model.name not in MODELS:
            raise UsageError(
                f"There is no published network {model.name}.", "Use one of: {}.".format(", ".join(MODELS))
            )
        for path in files_of(model):
            found = file_of_user(path, "file", sha256)
            wanted = model.sha256.get(str(path), model.sha256.get(path.name))
            if wanted is not None and found != wanted:
                raise ArtifactError(
                    f"{printable(path, 300)} is not the file that was locked: its SHA-256 is {found}, not {wanted}.",
                    "Run site.yml again, which copies it.",
                )


def files_of(model: Model) -> List[Path]:
    """Return the files of a network that somebody has brought."""
    weights = None if model.weights in (None, SYNTHETIC) else Path(str(model.weights))
    return [path for path in (model.cfg, weights, model.names, model.onnx) if path is not None]


def open_all(settings: Settings) -> Dict[str, Served]:
    """Open every network on the device of the settings; GpuhostError where it is not served or not proved there."""
    check(settings)
    return {model.name: opened(model, settings) for model in settings.models}


def opened(model: Model, settings: Settings) -> Served:
    """Open one network."""
    detector = _detector(model, settings)
    network, noise = detector.network, noise_blob(detector.size)
    # OpenCV on the CPU gains nothing from a batch, and pays for each change of its size.
    batch = best_batch(network.forward_batch, noise) if network.device.on_card else 1
    expected = network.forward_batch(repeated(noise, batch))[0]
    return Served(model.name, detector, batch, noise, [np.array(head) for head in expected])


def _detector(model: Model, settings: Settings) -> Detector:
    """Return the detector of one network, on its device."""
    common: Dict[str, Any] = {
        "device": settings.device,
        "work": settings.work,
        "size": model.size,
        "confidence": settings.confidence,
    }
    if model.kind == PUBLISHED:
        weights = Path(str(model.weights))
        if model.weights == SYNTHETIC:
            return Detector(model.name, weights=SYNTHETIC, **common)
        if weights.name == f"{model.name}.weights" and sha256(weights) == facts_of(model.name)["weights"]["sha256"]:
            return Detector(model.name, weights_dir=weights.parent, **common)
        return Detector(model.name, weights=str(weights), **common)
    if model.kind == CFG:
        return Detector(cfg=model.cfg, weights=model.weights, names=model.names, **common)
    return Detector(onnx=model.onnx, names=model.names, **common)


def repeated(blob: Any, count: int) -> Any:
    """Return a blob so many times, as one batch."""
    return blob if count == 1 else np.concatenate([blob] * count)


def best_batch(forward: Callable[[Any], Any], noise: Any, clock: Callable[[], float] = time.perf_counter) -> int:
    """Return how many pictures a forward pass should take: the fewest whose time a picture is near the best."""
    times = {}
    for size in BATCHES:
        blobs = repeated(noise, size)
        forward(blobs)  # sets the network up for this size
        rows = []
        for _ in range(_PASSES):
            begun = clock()
            forward(blobs)
            rows.append(clock() - begun)
        times[size] = statistics.median(rows) / size
    return chosen(times)


def chosen(times: Dict[int, float]) -> int:
    """Return the smallest size whose time a picture is within NEAR of the best."""
    best = min(times.values())
    return min(size for size, seconds in times.items() if seconds <= NEAR * best)


def padded(blobs: Sequence[Any], size: int) -> Any:
    """Return some inputs as one batch of `size`: another number of them would make OpenCV set the network up again."""
    if size == 1:
        return blobs[0]
    return np.concatenate([*blobs, *[blobs[-1]] * (size - len(blobs))])
