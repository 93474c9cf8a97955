"""One photo after the other, with the time between the stages."""

import pathlib
import time
from array import array
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np

from . import images
from .detector import Detector
from .stats import blocks, percentile, summary

STAGES = ("read", "decode", "blob", "forward", "post")
FORWARD = STAGES.index("forward")
WARM_WINDOW, WARM_LIMIT, WARM_SECONDS, WARM_CHANGE = 5, 30, 15.0, 0.02


class Faults:
    """The photos that could not be used: all of them by path, the first few with what is wrong."""

    NAMED = 20

    def __init__(self, of: int) -> None:
        """None so far, of so many photos."""
        self._of = of
        self._paths: Dict[pathlib.Path, None] = {}
        self.named: List[Dict[str, str]] = []

    def add(self, path: pathlib.Path, problem: images.ImageError) -> None:
        """Set a photo aside. When none is left, `problem` is raised: there is nothing to measure."""
        if path not in self._paths and len(self.named) < self.NAMED:
            self.named.append({"photo": str(path), "problem": str(problem)})
        self._paths[path] = None
        if len(self._paths) >= self._of:
            raise problem

    def without(self, paths: Iterable[pathlib.Path]) -> List[pathlib.Path]:
        """The paths that are not known as unusable."""
        return [path for path in paths if path not in self._paths]

    def __len__(self) -> int:
        return len(self._paths)

    def as_json(self) -> Dict[str, Any]:
        """How many, and the first ones by name."""
        return {"count": len(self), "first": self.named}


class Sample(NamedTuple):
    """One photo's times in seconds, in the order of STAGES, and how many boxes were found."""

    stages: Tuple[float, ...]
    boxes: int

    @property
    def total(self) -> float:
        """From the file to the boxes."""
        return sum(self.stages)


class Samples:
    """The times of many photos, 48 bytes each."""

    def __init__(self) -> None:
        """None so far."""
        self.stages = tuple(array("d") for _ in STAGES)
        self.boxes = array("I")

    def add(self, sample: Sample) -> None:
        """Add the times of one more photo."""
        for column, seconds in zip(self.stages, sample.stages):
            column.append(seconds)
        self.boxes.append(sample.boxes)

    def __len__(self) -> int:
        return len(self.boxes)

    def totals(self) -> Any:
        """Each photo's seconds from the file to the boxes: float64, (n,)."""
        return np.sum([np.array(column) for column in self.stages], axis=0)


def time_photo(detector: Detector, path: pathlib.Path) -> Sample:
    """Detect in one photo and take the time between the stages."""
    clock = time.perf_counter
    marks = [clock()]
    data = images.read_bytes(path)
    marks.append(clock())
    image = images.decode(data, str(path))
    marks.append(clock())
    blob = detector.blob(image)
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


def warm_up(step: Callable[[], float]) -> Dict[str, Any]:
    """Call `step`, which returns the seconds of one detection, until the time no longer changes, at most 30
    times or about 15 seconds: how often, how long, and whether it settled.
    """
    times: List[float] = []
    while len(times) < WARM_LIMIT and not settled(times) and (len(times) < 3 or sum(times) < WARM_SECONDS):
        times.append(step())
    return {"runs": len(times), "seconds": sum(times), "settled": settled(times)}


def capped(name: str, values: Any) -> Dict[str, Any]:
    """Times for the report: each of them, or the means of so many neighbours (`of_each`) that the list stays
    short.
    """
    units, length = blocks(values)
    return {name: [round(float(value), 7) for value in units], "of_each": length}


def results(samples: Samples, photos_per_pass: int) -> Dict[str, Any]:
    """What the samples say. The headline is the first pass, read to boxes, as the reference figures
    were taken.
    """
    totals = samples.totals()
    first = totals[:photos_per_pass]
    forward = np.array(samples.stages[FORWARD])
    return {
        "headline": {
            "photos": len(first),
            "total_s": float(first.sum()),
            "mean_s": float(first.mean()),
            "includes": list(STAGES),
        },
        "per_photo_s": summary(totals),
        "stages_s": {name: summary(samples.stages[place]) for place, name in enumerate(STAGES)},
        "photos_per_s": len(totals) / float(totals.sum()),
        "outside_forward": 1.0 - float(forward.sum() / totals.sum()),
        "boxes": int(sum(samples.boxes[:photos_per_pass])),
        "samples_s": dict(capped("total", totals), forward=capped("forward", forward)["forward"]),
    }
