"""Percentiles, and intervals of means, percentiles and ratios: the same on every machine for the same times.

Every interval here is a percentile bootstrap interval (Efron 1979) of 95 %. What is resampled is drawn
by the counter hash, so that the same times give the same interval.
"""

from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np

from .counter import hashes, stream

RESAMPLES = 2000
LEVEL = 0.95
MOST_UNITS = 2048
"""So many values, or means of neighbours, are kept and resampled at most."""
P99_FROM = 1152
"""Six passes over 192 photos: with fewer times the 99th percentile rests on a handful of them."""
FEWEST_UNITS = 6
"""A ratio has no interval from fewer values, or rounds, than these."""
_SEED = 20

Interval = Tuple[float, float]


def percentile(values: Any, percent: float) -> float:
    """The value below which `percent` of the values lie, interpolated linearly between neighbours
    (NumPy's default).
    """
    return float(np.percentile(np.asarray(values, dtype=np.float64), percent))


def blocks(values: Any, most: int = MOST_UNITS) -> Tuple[Any, int]:
    """`values` as at most `most` means of equally many neighbours, and how many neighbours each is of.

    Neighbours are kept together because times that follow one another are alike (heat, other loads):
    resampling blocks keeps that (Carlstein 1986). A rest that fills no block is left out.
    """
    sample = np.asarray(values, dtype=np.float64)
    length = -(-sample.size // most) if sample.size else 1
    whole = sample.size // length * length
    return sample[:whole].reshape(-1, length).mean(axis=1), length


def _drawn(size: int, number: int, seed: int) -> Any:
    """The places (size,) that resample `number` takes of `size` values."""
    return (hashes(stream(seed, number), size) % np.uint64(size)).astype(np.int64)


def _middle(estimates: Any, level: float) -> Interval:
    """The central part of the resampled estimates."""
    rest = 50.0 * (1.0 - level)
    return percentile(estimates, rest), percentile(estimates, 100.0 - rest)


def mean_interval(values: Any, level: float = LEVEL, resamples: int = RESAMPLES) -> Interval:
    """The interval of the mean; beyond MOST_UNITS values, of block means."""
    units, _ = blocks(values)
    means = np.array([units[_drawn(units.size, number, _SEED)].mean() for number in range(resamples)])
    return _middle(means, level)


def ratio_interval(above: Sequence[float], below: Sequence[float], resamples: int = RESAMPLES) -> Interval:
    """The interval of mean(above) / mean(below) for two samples that were taken apart."""
    first, second = blocks(above)[0], blocks(below)[0]
    ratios = np.empty(resamples)
    for number in range(resamples):
        mean = first[_drawn(first.size, number, _SEED + 1)].mean()
        ratios[number] = mean / second[_drawn(second.size, number, _SEED + 2)].mean()
    return _middle(ratios, LEVEL)


def paired_ratio_interval(above: Sequence[float], below: Sequence[float], resamples: int = RESAMPLES) -> Interval:
    """The interval of sum(above) / sum(below) for two times of each round: rounds are drawn, so what both
    times of a round share (another load, heat) does not widen it.
    """
    first, second = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    ratios = np.empty(resamples)
    for number in range(resamples):
        drawn = _drawn(first.size, number, _SEED + 3)
        ratios[number] = first[drawn].sum() / second[drawn].sum()
    return _middle(ratios, LEVEL)


def _at_most(log_choose: Any, counts: Any, successes: int, chance: float) -> float:
    """P(X < successes) for X binomial with `chance`, from the logarithms of the binomial coefficients."""
    terms = log_choose + counts * np.log(chance) + counts[::-1] * np.log1p(-chance)
    return float(np.exp(terms[:successes]).sum())


def percentile_interval(values: Any, percent: float, level: float = LEVEL) -> Interval:
    """The interval of a percentile, as infinitely many resamples would give it.

    A resample's k-th smallest value is at most the i-th smallest of all n with the probability that at
    least k of n draws fall on the first i: so the ends are the values at those shares q where
    P(Binomial(n, q) >= k) is 2.5 % and 97.5 % (Hutson and Ernst 2000).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    size = ordered.size
    rank = 1 + round((size - 1) * percent / 100.0)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, size + 1)))])
    log_choose, counts = logs[-1] - logs - logs[::-1], np.arange(size + 1)
    ends = []
    for probability in ((1.0 - level) / 2.0, (1.0 + level) / 2.0):
        low, high = 0.0, 1.0
        for _ in range(40):  # halves: 2^-40 is far below one place of any sample
            share = (low + high) / 2.0
            if 1.0 - _at_most(log_choose, counts, rank, share) < probability:
                low = share
            else:
                high = share
        ends.append(float(ordered[min(int(np.ceil(high * size)), size) - 1]))
    return ends[0], ends[1]


def summary(values: Sequence[float]) -> Dict[str, Any]:
    """Total, mean and percentiles of some times with their 95 % intervals, and the extremes, in the unit they
    have. `p99` is None below P99_FROM values.
    """
    sample = np.asarray(values, dtype=np.float64)
    found: Dict[str, Any] = {
        "total": float(sample.sum()),
        "mean": float(sample.mean()),
        "mean_ci95": list(mean_interval(sample)),
        "min": float(sample.min()),
        "max": float(sample.max()),
    }
    for percent in (50, 90, 95, 99):
        enough = percent < 99 or sample.size >= P99_FROM
        found[f"p{percent}"] = percentile(sample, percent) if enough else None
        found[f"p{percent}_ci95"] = list(percentile_interval(sample, percent)) if enough else None
    return found


def ratio(above: Any, below: Any, paired: bool) -> Optional[Dict[str, Any]]:
    """mean(above) / mean(below) with its interval; None when one of them is empty. `paired` when the two were
    measured in turns. `ci95` is None below FEWEST_UNITS: an interval from a few values looks surer than it is.
    """
    if not len(above) or not len(below):
        return None
    value = float(np.sum(above) / np.sum(below)) if paired else float(np.mean(above) / np.mean(below))
    ends = None
    if min(len(above), len(below)) >= FEWEST_UNITS:
        ends = list((paired_ratio_interval if paired else ratio_interval)(above, below))
    return {"ratio": value, "ci95": ends, "units": [len(above), len(below)]}
