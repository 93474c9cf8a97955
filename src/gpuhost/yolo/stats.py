"""Percentiles and the interval of a mean, the same on every machine for the same times."""

from typing import Any, Dict, Sequence, Tuple

import numpy as np

from .counter import hashes, stream

RESAMPLES = 2000
LEVEL = 0.95
_SEED = 20


def percentile(values: Any, percent: float) -> float:
    """The value below which `percent` of the values lie, interpolated linearly between neighbours
    (NumPy's default).
    """
    return float(np.percentile(np.asarray(values, dtype=np.float64), percent))


def mean_interval(values: Sequence[float], level: float = LEVEL, resamples: int = RESAMPLES) -> Tuple[float, float]:
    """The percentile bootstrap interval of the mean (Efron 1979), from resamples that the counter hash
    draws.
    """
    sample = np.asarray(values, dtype=np.float64)
    means = np.empty(resamples)
    for number in range(resamples):
        drawn = hashes(stream(_SEED, number), sample.size) % np.uint64(sample.size)
        means[number] = sample[drawn.astype(np.int64)].mean()
    rest = 50.0 * (1.0 - level)
    return percentile(means, rest), percentile(means, 100.0 - rest)


def summary(values: Sequence[float]) -> Dict[str, Any]:
    """Total, mean with its 95 % interval, median, 90th percentile and minimum of some times, in the
    unit they have.
    """
    sample = np.asarray(values, dtype=np.float64)
    low, high = mean_interval(values)
    return {
        "total": float(sample.sum()),
        "mean": float(sample.mean()),
        "mean_ci95": [low, high],
        "p50": percentile(values, 50),
        "p90": percentile(values, 90),
        "min": float(sample.min()),
    }
