"""How long detection takes, one photo at a time, as a pipeline, and as the reference loop does it, with what happens
once told apart from what happens every time.
"""

import json
import os
import pathlib
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..errors import GpuhostError, UsageError
from . import benchmark_single, environment, gate, photos, pipeline
from .benchmark_rounds import BASELINE, OFFLINE, SINGLE, Baseline, Offline, Single, Turns
from .benchmark_single import Faults
from .benchmark_text import as_text
from .darknet import Size, sides
from .detector import Detector, require_opencv
from .files import write_text
from .images import ImageError
from .models import Wanted, catalog, facts_of, files_of
from .progress import Progress
from .sampling import Sampler
from .table import check_offered, device_named

SCHEMA = 1
MODES = {"single": (SINGLE,), "offline": (OFFLINE,), "both": (SINGLE, OFFLINE)}
BATCH_ON_CARD = 8
"""Photos in a forward pass on a card. On a CPU one, because more were not faster there in any measurement."""
BATCHES_IN_A_ROUND, PHOTOS_IN_A_ROUND = 4, 8
"""With fewer the pipeline would be filling or emptying for most of a round."""
MOST_DECODERS = 4


class Settings(NamedTuple):
    """What to measure: the command line's options. `number` is how many photos (None: all that
    are given), `report` the JSON file, `batch` 0
    what suits the device, `baseline` the device of the reference loop, or None for no such loop. After `budget`
    seconds no further photo of a model is begun (None: all photos).
    """

    networks: Tuple[Wanted, ...]
    size: Optional[Size]
    device: str
    work: pathlib.Path
    photos: Optional[pathlib.Path]
    number: Optional[int]
    passes: int
    report: Optional[pathlib.Path]
    mode: str = "single"
    batch: int = 0
    baseline: Optional[str] = None
    budget: Optional[float] = None


def decoder_threads() -> int:
    """How many threads decode: as many as this process may use processors, up to MOST_DECODERS."""
    return min(MOST_DECODERS, len(os.sched_getaffinity(0)))


class Opened(NamedTuple):
    """What is measured of one model: the ways, and the photos in a forward pass of the pipeline."""

    detector: Detector
    turns: Turns
    batch: int
    warm_ups: Dict[str, Dict[str, Any]]


def _open(wanted: Wanted, settings: Settings, paths: Tuple[pathlib.Path, ...], faults: Faults) -> Opened:
    """Open the networks and run each until its time rests.

    The pipeline has a network of its own when it takes several photos at once: OpenCV sets a network up again
    for every change of shape.
    """

    def opened(device: str) -> Detector:
        return Detector(
            wanted.model, device, settings.work, settings.size, wanted.weights_dir,
            weights=wanted.weights, cfg=wanted.cfg, names=wanted.names,
        )  # fmt: skip

    names = MODES[settings.mode]
    detector = opened(settings.device)
    on = detector.network.device.name
    batch = settings.batch or (BATCH_ON_CARD if detector.network.device.on_card else 1)
    ways: List[Any] = []
    warm_ups: Dict[str, Dict[str, Any]] = {}
    if SINGLE in names:
        ways.append(Single(detector, faults, settings.budget))
        warm_ups[SINGLE] = benchmark_single.warm_up(_single_steps(detector, paths, faults))
    if OFFLINE in names:
        own = batch > 1 and (SINGLE in names or settings.baseline is not None)
        theirs = opened(on) if own else detector
        ways.append(Offline(theirs, faults, batch, decoder_threads()))
        if own or not warm_ups:
            warm_ups[OFFLINE] = benchmark_single.warm_up(_offline_steps(theirs, paths, batch, faults))
    if settings.baseline is not None:
        same = settings.baseline in (settings.device, on)
        old = detector if same else opened(settings.baseline)
        ways.append(Baseline(old, faults))
        if not same or (batch > 1 and SINGLE not in names):
            warm_ups[BASELINE] = benchmark_single.warm_up(_single_steps(old, paths, faults))
    return Opened(detector, Turns(ways, faults), batch, warm_ups)


def _usable(paths: Tuple[pathlib.Path, ...], faults: Faults) -> Iterator[pathlib.Path]:
    """The photos over and over, without those that are known as unusable."""
    while True:
        yield from faults.without(paths[:1000])
        if len(faults.without(paths[:1000])) == 0:
            yield from faults.without(paths)


def _single_steps(detector: Detector, paths: Tuple[pathlib.Path, ...], faults: Faults) -> Callable[[], float]:
    """One photo after the other, for the warm-up."""
    left = _usable(paths, faults)

    def step() -> float:
        while True:
            path = next(left)
            try:
                return benchmark_single.time_photo(detector, path).total
            except ImageError as problem:
                faults.add(path, problem)

    return step


def _offline_steps(
    detector: Detector, paths: Tuple[pathlib.Path, ...], batch: int, faults: Faults
) -> Callable[[], float]:
    """One batch after the other, for the warm-up."""
    left = _usable(paths, faults)

    def tell(group: pipeline.Finished) -> None:
        for photo in group.problems:
            if photo.problem is not None:
                faults.add(photo.path, photo.problem)

    def step() -> float:
        some = [next(left) for _ in range(batch)]
        return pipeline.time_all(detector, some, batch, decoder_threads(), pipeline.Pace(), tell)

    return step


def _measure_model(
    wanted: Wanted,
    settings: Settings,
    chosen: photos.PhotoSet,
    faults: Faults,
    entry: Dict[str, Any],
    progress: Progress,
) -> None:
    """Fill `entry` with everything about one model; what is there when the work is interrupted stays
    valid.
    """
    model = wanted.title
    entry.update(model=model, size=settings.size, device=settings.device, device_asked=settings.device)
    entry.update(mode=settings.mode, passes=settings.passes, budget_s=settings.budget, complete=False)
    progress.say(f"{model}: files, device and correctness")
    if wanted.cfg is None:
        require_opencv(facts_of(model)["opencv_minimum"], model)
    files = files_of(wanted, settings.size, settings.work)
    width, height = sides(files.size)
    if width != height:
        raise UsageError(f"{model} has an input of {width} x {height} pixels.", next_step="Measure it with --size N.")
    entry["size"] = width
    entry["cfg"] = {"sha256": files.cfg_sha256}
    entry["weights"] = {
        "kind": files.weights_kind,
        "sha256": files.weights_sha256,
        "bytes": files.weights.stat().st_size,
    }
    # The check comes before the detector is opened, so that two networks are never in memory at once:
    # OpenCV's packed weights take several times the size of the file.
    entry["gate"] = gate.check(files, settings.work)
    progress.say(f"{model}: network and warm-up")
    detector, turns, batch, warm_ups = _open(wanted, settings, chosen.paths, faults)
    network = detector.network
    entry["device"] = network.device.name
    entry["proof"] = None if network.proof is None else dict(network.proof._asdict())
    entry["precision"] = network.device.precision if network.proof is None else network.proof.precision
    entry["native_log"] = network.native_log[-2000:]
    entry["settings"] = network.settings
    if network.trials:
        entry["trials"] = network.trials
    entry["load_s"], entry["first_forward_s"] = network.load_s, network.first_forward_s
    entry["warm_up"], entry["warm_ups"] = next(iter(warm_ups.values())), warm_ups
    multiple = max(PHOTOS_IN_A_ROUND, batch * BATCHES_IN_A_ROUND)
    done, of = 0, len(chosen.paths) * settings.passes * len(turns.ways)

    def tick(more: int) -> None:
        nonlocal done
        done += more
        progress.tick("{} on {}".format(model, entry["device"]), done, of)

    before = environment.usage()
    sampler = Sampler()
    try:
        with sampler:
            for _ in range(settings.passes):
                turns.run_pass(chosen.paths, multiple, tick)
        if done < of:  # photos that were left out, or that no time was left for
            tick(of - done)
        entry["complete"] = True
    finally:
        entry["usage"] = environment.since(before)
        entry["sampled"] = sampler.summary()
        entry.update(turns.results(len(chosen.paths) - len(faults)))
        entry["photos_timed"] = next((entry[name]["photos"] for name in ("offline", "baseline") if name in entry), 0)
        for way in turns.ways:
            if isinstance(way, Single):
                entry["photos_timed"] = len(way.samples)


def run(settings: Settings, progress: Progress, show: Callable[[str], None]) -> Dict[str, Any]:
    """Measure every model and return the report; with settings.report it is also written, interrupted or
    not. A photo that cannot be used is set aside and named in the report; ImageError when there is no other.
    """
    report: Dict[str, Any] = {
        "schema": SCHEMA,
        "complete": False,
        "stopped_by": None,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": environment.describe(),
        "photos": None,
        "models": [],
        "reference": catalog()["reference"],
    }
    faults = None
    try:
        for device in (settings.device, settings.baseline):
            if device is not None:
                check_offered(device_named(device))
        chosen = choose_photos(settings, progress)
        faults = Faults(len(chosen.paths))
        report["photos"] = {"kind": chosen.kind, "count": len(chosen.paths), "sha256": chosen.sha256}
        for wanted in settings.networks:
            entry: Dict[str, Any] = {}
            report["models"].append(entry)
            _measure_model(wanted, settings, chosen, faults, entry, progress)
            show(as_text(entry))
        report["complete"] = True
    except KeyboardInterrupt:
        report["stopped_by"] = "interrupt"
        raise
    except GpuhostError as problem:
        report["stopped_by"] = str(problem)
        raise
    finally:
        progress.close()
        if faults is not None:
            report["photos"]["unusable"] = faults.as_json()
        if settings.report is not None:
            write_text(settings.report, json.dumps(report, indent=1, allow_nan=False) + "\n", None)
    return report


def choose_photos(settings: Settings, progress: Progress) -> photos.PhotoSet:
    """The user's photos, or the made ones in the work folder."""
    if settings.photos is not None:
        return photos.given(settings.photos, settings.number)
    count = photos.COUNT if settings.number is None else settings.number
    progress.say("photos: {} in {}".format(count, settings.work / "photos"))
    return photos.make(settings.work / "photos", count, lambda done, of: progress.tick("photos", done, of))
