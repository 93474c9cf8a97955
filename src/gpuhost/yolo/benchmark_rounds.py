"""Ways to detect in the same photos, measured in turns: the photos are dealt into rounds, and each way takes
every round before the next begins.

What disturbs the machine meanwhile then meets all of them alike, and the rounds tell how sure a ratio is.
"""

import math
import pathlib
import time
from array import array
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from . import baseline, benchmark_single, pipeline
from .benchmark_single import Faults, Sample, Samples, capped
from .detector import Detector
from .images import ImageError
from .stats import MOST_UNITS, ratio, summary

ROUNDS = 24
"""So many rounds a pass has if the photos allow, when ways are compared."""
SINGLE, OFFLINE, BASELINE = "single", "offline", "baseline"
Tick = Callable[[int], None]


class Single:
    """Our detector, one photo after the other."""

    name = SINGLE

    def __init__(self, detector: Detector, faults: Faults, budget: Optional[float] = None) -> None:
        """Measure with `detector`; after `budget` seconds of detection no further photo is begun."""
        self._detector, self._faults = detector, faults
        self._left = math.inf if budget is None else budget
        self.samples = Samples()

    def run(self, paths: Sequence[pathlib.Path], tick: Tick) -> float:
        """Time each of `paths` that there is time for; returns their seconds together."""
        seconds = 0.0
        for path in paths:
            if self._left <= 0.0:
                break
            try:
                sample: Sample = benchmark_single.time_photo(self._detector, path)
            except ImageError as problem:
                self._faults.add(path, problem)
            else:
                self.samples.add(sample)
                seconds += sample.total
                self._left -= sample.total
            tick(1)
        return seconds

    def results(self, photos_per_pass: int) -> Dict[str, Any]:
        """The entries of the report."""
        return benchmark_single.results(self.samples, photos_per_pass) if len(self.samples) else {}


class Offline:
    """Our pipeline: decoding while the network computes, several photos in a forward pass."""

    name = OFFLINE

    def __init__(self, detector: Detector, faults: Faults, batch: int, decoders: int) -> None:
        """Measure with `detector`, `batch` photos in a forward pass and `decoders` threads before it."""
        self._detector, self._faults, self._batch, self._decoders = detector, faults, batch, decoders
        self._pace = pipeline.Pace()

    def run(self, paths: Sequence[pathlib.Path], tick: Tick) -> float:
        """Time the pipeline over `paths`, filling and emptying included; returns its seconds."""

        def tell(group: pipeline.Finished) -> None:
            for photo in group.problems:
                if photo.problem is not None:
                    self._faults.add(photo.path, photo.problem)
            tick(len(group.found) + len(group.problems))

        return pipeline.time_all(self._detector, paths, self._batch, self._decoders, self._pace, tell)

    def results(self, photos_per_pass: int) -> Dict[str, Any]:
        """The entries of the report: photos in a second with the interval that resampled batches give."""
        counts, seconds = np.array(self._pace.photos), np.array(self._pace.seconds)
        counts, seconds = counts[counts > 0], seconds[counts > 0]
        if not counts.size:
            return {}
        photos, total = int(counts.sum()), float(seconds.sum())
        pace = ratio(*_grouped(counts, seconds), paired=True)
        found = {
            "batch": self._batch,
            "decoders": self._decoders,
            "photos": photos,
            "total_s": total,
            "mean_s": total / photos,
            "photos_per_s": photos / total,
            "photos_per_s_ci95": None if pace is None else pace["ci95"],
            "outside_forward": 1.0 - self._pace.forward_s / total,
            "boxes": self._pace.boxes,
            "samples_s": capped("mean", seconds / counts),
        }
        return {"offline": found}


def _grouped(counts: Any, seconds: Any) -> Tuple[Any, Any]:
    """Photos and seconds of so many neighbouring batches together that both lists stay short."""
    starts = np.arange(0, len(counts), -(-len(counts) // MOST_UNITS))
    return np.add.reduceat(counts, starts), np.add.reduceat(seconds, starts)


class Baseline:
    """The reference loop on the same photos."""

    name = BASELINE

    def __init__(self, detector: Detector, faults: Faults) -> None:
        """Measure with the network of `detector`, its size and its thresholds."""
        self._detector, self._faults = detector, faults
        self._times, self._boxes = array("d"), 0

    def run(self, paths: Sequence[pathlib.Path], tick: Tick) -> float:
        """Time the loop over each of `paths`; returns their seconds together."""
        found, seconds = self._detector, 0.0
        for path in paths:
            begun = time.perf_counter()
            try:
                boxes = baseline.detect(found.network, path, found.size, found.confidence, found.overlap)
            except ImageError as problem:
                self._faults.add(path, problem)
            else:
                self._times.append(time.perf_counter() - begun)
                self._boxes += boxes
                seconds += self._times[-1]
            tick(1)
        return seconds

    def results(self, photos_per_pass: int) -> Dict[str, Any]:
        """The entries of the report."""
        if not self._times:
            return {}
        found = {
            "device": self._detector.network.device.name,
            "photos": len(self._times),
            "boxes": self._boxes,
            "per_photo_s": summary(self._times),
            "photos_per_s": len(self._times) / sum(self._times),
            "samples_s": capped("total", self._times),
        }
        return {"baseline": found}


def dealt(photos: Sequence[pathlib.Path], rounds: int, multiple: int) -> Iterator[Sequence[pathlib.Path]]:
    """`photos` in at most `rounds` parts of about equal size, each but the last a multiple of `multiple`."""
    each = -(-len(photos) // (rounds * multiple)) * multiple
    for start in range(0, len(photos), each):
        yield photos[start : start + each]


class Turns:
    """The ways in turns over the photos, and the seconds each took in each round."""

    def __init__(self, ways: Sequence[Any], faults: Faults) -> None:
        """Measure the `ways` (of which each has a name, run and results)."""
        self.ways, self._faults = ways, faults
        self.seconds: Dict[str, List[float]] = {way.name: [] for way in ways}
        self._round = 0

    def run_pass(self, photos: Sequence[pathlib.Path], multiple: int, tick: Tick) -> None:
        """Once over the photos. Which way begins changes from round to round; a photo that turned out unusable is
        left out from then on, and its round is not counted for the ratios.
        """
        for part in dealt(photos, ROUNDS if len(self.ways) > 1 else 1, multiple):
            paths, known = self._faults.without(part), len(self._faults)
            begin = self._round % len(self.ways)
            order = [*self.ways[begin:], *self.ways[:begin]]
            took = {way.name: way.run(paths, tick) for way in order}
            self._round += 1
            if paths and len(self._faults) == known:
                for name, seconds in took.items():
                    self.seconds[name].append(seconds)

    def results(self, photos_per_pass: int) -> Dict[str, Any]:
        """The entries of the report: each way's own, and how many times faster one is than another, round by round."""
        found: Dict[str, Any] = {}
        for way in self.ways:
            found.update(way.results(photos_per_pass))
        pairs = ((OFFLINE, BASELINE), (SINGLE, BASELINE), (OFFLINE, SINGLE))
        found["faster"] = {
            f"{fast}/{slow}": ratio(self.seconds[slow], self.seconds[fast], paired=True)
            for fast, slow in pairs
            if fast in self.seconds and slow in self.seconds
        }
        found["rounds_s"] = {name: [round(value, 6) for value in values] for name, values in self.seconds.items()}
        return found
