"""How long detection takes, photo by photo, with what happens once told apart from what happens every
time.
"""

import json
import pathlib
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import GpuhostError
from . import environment, gate, images, photos
from .detector import Detector, require_opencv, to_blob
from .files import write_text
from .models import catalog, facts_of, model_files
from .progress import Progress
from .stats import percentile, summary
from .table import check_offered, device_named

SCHEMA = 1
STAGES = ("read", "decode", "blob", "forward", "post")
WARM_WINDOW, WARM_LIMIT, WARM_SECONDS, WARM_CHANGE = 5, 30, 15.0, 0.02


class Settings(NamedTuple):
    """What to measure: the command line's options. `number` is how many photos, `report` the JSON file."""

    models: Tuple[str, ...]
    size: int
    device: str
    work: pathlib.Path
    photos: Optional[pathlib.Path]
    weights_dir: Optional[pathlib.Path]
    number: int
    passes: int
    report: Optional[pathlib.Path]


class Sample(NamedTuple):
    """One photo's times in seconds, in the order of STAGES, and how many boxes were found."""

    stages: Tuple[float, ...]
    boxes: int

    @property
    def total(self) -> float:
        """From the file to the boxes."""
        return sum(self.stages)


def time_photo(detector: Detector, path: pathlib.Path) -> Sample:
    """Detect in one photo and take the time between the stages."""
    clock = time.perf_counter
    marks = [clock()]
    data = images.read_bytes(path)
    marks.append(clock())
    image = images.decode(data, str(path))
    marks.append(clock())
    blob = to_blob(image, detector.size)
    marks.append(clock())
    heads = detector.network.forward(blob)
    marks.append(clock())
    found = detector.boxes(heads, image.shape[1], image.shape[0])
    marks.append(clock())
    return Sample(tuple(after - before for before, after in zip(marks, marks[1:])), len(found))


def settled(times: Sequence[float]) -> bool:
    """Whether the median of the last five times is within 2 % of the five before them (which may
    overlap: at least six times).
    """
    if len(times) <= WARM_WINDOW:
        return False
    now, before = percentile(times[-WARM_WINDOW:], 50), percentile(times[-WARM_WINDOW - 1 : -1], 50)
    return abs(now - before) <= WARM_CHANGE * before


def warm_up(detector: Detector, paths: Sequence[pathlib.Path]) -> Dict[str, Any]:
    """Detect until the time no longer changes, at most 30 times or about 15 seconds: how often, how
    long, and whether it settled.
    """
    times: List[float] = []
    while len(times) < WARM_LIMIT and not settled(times) and (len(times) < 3 or sum(times) < WARM_SECONDS):
        times.append(time_photo(detector, paths[len(times) % len(paths)]).total)
    return {"runs": len(times), "seconds": sum(times), "settled": settled(times)}


def results(samples: Sequence[Sample], photos_per_pass: int) -> Dict[str, Any]:
    """What the samples say. The headline is the first pass, read to boxes, as the original measurement
    gave it.
    """
    totals = [sample.total for sample in samples]
    first = totals[:photos_per_pass]
    return {
        "headline": {
            "photos": len(first),
            "total_s": sum(first),
            "mean_s": sum(first) / len(first),
            "includes": list(STAGES),
        },
        "per_photo_s": summary(totals),
        "stages_s": {name: summary([sample.stages[place] for sample in samples]) for place, name in enumerate(STAGES)},
        "photos_per_s": len(totals) / sum(totals),
        "boxes": sum(sample.boxes for sample in samples[:photos_per_pass]),
        "samples_s": {
            "total": [round(value, 7) for value in totals],
            "forward": [round(sample.stages[STAGES.index("forward")], 7) for sample in samples],
        },
    }


def _measure_model(
    model: str, settings: Settings, chosen: photos.PhotoSet, entry: Dict[str, Any], progress: Progress
) -> None:
    """Fill `entry` with everything about one model; what is there when the work is interrupted stays
    valid.
    """
    entry.update(model=model, size=settings.size, device=settings.device)
    entry.update(passes=settings.passes, complete=False)
    progress.say(f"{model}: files, device and correctness")
    require_opencv(facts_of(model)["opencv_minimum"], model)
    files = model_files(model, settings.size, settings.work, settings.weights_dir)
    entry["cfg"] = {"sha256": files.cfg_sha256}
    entry["weights"] = {
        "kind": files.weights_kind,
        "sha256": files.weights_sha256,
        "bytes": files.weights.stat().st_size,
    }
    # The check comes before the detector is opened, so that two networks are never in memory at once:
    # OpenCV's packed weights take several times the size of the file.
    entry["gate"] = gate.check(files, settings.work)
    detector = Detector(model, settings.device, settings.work, settings.size, settings.weights_dir)
    network = detector.network
    entry["proof"] = None if network.proof is None else dict(network.proof._asdict())
    entry["precision"] = network.device.precision if network.proof is None else network.proof.precision
    entry["device"], entry["trials"], entry["settings"] = network.device.name, network.trials, network.settings
    entry["native_log"] = network.native_log[-2000:]
    entry["load_s"], entry["first_forward_s"] = network.load_s, network.first_forward_s
    progress.say(f"{model}: warm-up")
    entry["warm_up"] = warm_up(detector, chosen.paths)
    samples: List[Sample] = []
    before, of = environment.usage(), len(chosen.paths) * settings.passes
    try:
        for _ in range(settings.passes):
            for path in chosen.paths:
                samples.append(time_photo(detector, path))
                progress.tick(f"{model} on {settings.device}", len(samples), of)
        entry["complete"] = True
    finally:
        entry["usage"] = environment.since(before)
        entry["photos_timed"] = len(samples)
        if samples:
            entry.update(results(samples, len(chosen.paths)))


def run(settings: Settings, progress: Progress, show: Callable[[str], None]) -> Dict[str, Any]:
    """Measure every model and return the report; with settings.report it is also written, interrupted or
    not.
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
    try:
        check_offered(device_named(settings.device))
        chosen = choose_photos(settings, progress)
        report["photos"] = {"kind": chosen.kind, "count": len(chosen.paths), "sha256": chosen.sha256}
        for model in settings.models:
            entry: Dict[str, Any] = {}
            report["models"].append(entry)
            _measure_model(model, settings, chosen, entry, progress)
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
        if settings.report is not None:
            write_text(settings.report, json.dumps(report, indent=1, allow_nan=False) + "\n")
    return report


def choose_photos(settings: Settings, progress: Progress) -> photos.PhotoSet:
    """The user's photos, or the made ones in the work folder."""
    if settings.photos is not None:
        return photos.given(settings.photos, settings.number)
    progress.say("photos: {} in {}".format(settings.number, settings.work / "photos"))
    return photos.make(settings.work / "photos", settings.number, lambda done, of: progress.tick("photos", done, of))


def as_text(entry: Dict[str, Any]) -> str:
    """One model's result for people: the original's line first, then what stands behind it."""
    headline, each, stages = entry["headline"], entry["per_photo_s"], entry["stages_s"]
    low, high = (1e3 * value for value in each["mean_ci95"])
    lines = [
        "[INFO] {} photos in {:.2f} s ({:.3f} s each): {} at {} on {}, {} weights".format(
            headline["photos"],
            headline["total_s"],
            headline["mean_s"],
            entry["model"],
            entry["size"],
            entry["device"],
            entry["weights"]["kind"],
        ),
        "  each   p50 {:.1f} ms, p90 {:.1f} ms, mean {:.1f} ms (95 % interval {:.1f} to {:.1f})".format(
            1e3 * each["p50"], 1e3 * each["p90"], 1e3 * each["mean"], low, high
        )
        + ", {:.1f} photos/s".format(entry["photos_per_s"]),
        "  mean   " + ", ".join("{} {:.2f} ms".format(name, 1e3 * stages[name]["mean"]) for name in STAGES),
        "  once   load {:.2f} s, first forward {:.2f} s, warm-up {} photos in {:.1f} s".format(
            entry["load_s"], entry["first_forward_s"], entry["warm_up"]["runs"], entry["warm_up"]["seconds"]
        ),
        "  right  {:.1e} from the NumPy reference at most (limit {:.0e}); {} boxes; weights {}".format(
            max(entry["gate"]["rel2"]),
            entry["gate"]["limit"],
            entry["boxes"],
            entry["weights"]["sha256"][:12],
        ),
    ]
    return "\n".join(lines)
