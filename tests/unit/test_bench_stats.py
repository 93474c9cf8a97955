"""Intervals of percentiles, means and ratios, checked against SciPy's and against how often they are right.

The figures of SciPy are recorded (1.17.1: scipy.stats.bootstrap with method="percentile", 9,999 resamples for the
percentiles and 19,999 for the rest, and scipy.stats.beta for the ends' ranks), because the project does not need it.
"""

from __future__ import annotations

import json
from typing import Dict, List, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuhost.yolo import stats

SAMPLE = np.random.RandomState(3).gamma(4.0, 10.0, 192)
#: percentile -> ends at the beta distribution's quantiles, and ends of SciPy's resampling.
SCIPY: Dict[int, Tuple[List[float], List[float]]] = {
    50: ([34.03634121, 41.16155772], [34.03634121, 41.16155772]),
    90: ([63.31457635, 82.06293179], [63.19586926, 81.93189515]),
    95: ([77.23972197, 88.68270429], [77.33763327, 88.68270429]),
}


@pytest.mark.parametrize("percent", SCIPY)
def test_a_percentiles_interval_is_scipys(percent: int) -> None:
    """To the last place where both count ranks; near SciPy's resampled ends otherwise."""
    exact, resampled = SCIPY[percent]
    found = stats.percentile_interval(SAMPLE, percent)
    assert found == pytest.approx(exact, rel=1e-9)
    assert found == pytest.approx(resampled, rel=0.005)


def test_a_mean_s_and_a_ratio_s_interval_are_scipys() -> None:
    """Up to the chance that is in 2,000 resamples: a fraction of the interval's width."""
    assert stats.mean_interval(SAMPLE) == pytest.approx((37.8927, 44.0895), abs=0.15)
    above, below = np.random.RandomState(4).gamma(4.0, 10.0, 150), np.random.RandomState(5).gamma(4.0, 4.0, 200)
    assert stats.ratio_interval(above, below) == pytest.approx((2.3341, 2.8769), abs=0.03)
    rounds, noise = np.random.RandomState(6).gamma(40, 0.1, 24), np.random.RandomState(7).normal(1, 0.03, 24)
    assert stats.paired_ratio_interval(rounds, rounds * noise / 2) == pytest.approx((1.97491, 2.02005), abs=0.003)


def test_what_rounds_share_does_not_widen_a_paired_ratio() -> None:
    """A machine that is slow for some rounds slows both: the pairs know it, the two samples apart do not."""
    rounds = np.random.RandomState(6).gamma(4, 1.0, 24)
    paired, apart = stats.paired_ratio_interval(2 * rounds, rounds), stats.ratio_interval(2 * rounds, rounds)
    assert paired == pytest.approx((2.0, 2.0))
    assert apart[1] - apart[0] > 0.5


def test_a_ratio_s_interval_holds_the_ratio_about_as_often_as_it_says() -> None:
    """Of 150 pairs of samples with a known ratio of 3, about 95 % hold it; the seeds are fixed."""
    random, hits = np.random.RandomState(11), 0
    for _ in range(150):
        low, high = stats.ratio_interval(random.exponential(3.0, 60), random.exponential(1.0, 60), resamples=300)
        hits += low <= 3.0 <= high
    assert 0.88 * 150 <= hits <= 0.99 * 150


def test_a_paired_ratio_s_interval_holds_the_ratio_about_as_often_as_it_says() -> None:
    """24 rounds, a load that comes and goes, and a little noise of each way's own."""
    random, hits = np.random.RandomState(12), 0
    for _ in range(150):
        load = random.gamma(4, 1.0, 24)
        slow, fast = 2 * load * random.normal(1, 0.05, 24), load * random.normal(1, 0.05, 24)
        low, high = stats.paired_ratio_interval(slow, fast, resamples=300)
        hits += low <= 2.0 <= high
    assert 0.86 * 150 <= hits <= 0.99 * 150


def test_times_that_hang_together_get_a_wider_interval_in_blocks() -> None:
    """A machine that is slow for a while: 20,000 times are not 20,000 independent ones."""
    slow = np.repeat(np.random.RandomState(1).normal(10, 1, 200), 100)
    alone = 2 * 1.96 * slow.std() / np.sqrt(slow.size)
    low, high = stats.mean_interval(slow)
    assert high - low > 2.5 * alone


def test_blocks_are_means_of_neighbours() -> None:
    """At most as many as asked, in order, without the rest; each value alone while they fit."""
    units, length = stats.blocks(range(10), most=4)
    assert (units.tolist(), length) == ([1.0, 4.0, 7.0], 3)
    assert stats.blocks([5.0, 6.0])[1] == 1
    assert stats.blocks([])[0].size == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.001, 10.0), min_size=1, max_size=80), st.sampled_from([50, 90, 95]))
def test_a_percentiles_interval_is_of_the_sample(values: List[float], percent: int) -> None:
    """Its ends are values of the sample, in order, and the order of the values does not matter."""
    low, high = stats.percentile_interval(values, percent)
    assert low <= high and {low, high} <= set(values)
    assert stats.percentile_interval(values[::-1], percent) == (low, high)


def test_p99_waits_for_six_passes() -> None:
    """One photo short of 1,152 there is none, and the report still is JSON."""
    few, enough = stats.summary(np.arange(1.0, 1152.0)), stats.summary(np.arange(1.0, 1153.0))
    assert few["p99"] is None and few["p99_ci95"] is None
    assert enough["p99"] == pytest.approx(np.percentile(np.arange(1.0, 1153.0), 99))
    assert enough["p99_ci95"][0] < enough["p99"] < enough["p99_ci95"][1]
    json.dumps(few, allow_nan=False)


def test_a_ratio_of_few_rounds_has_no_interval() -> None:
    """Five rounds would give one that looks surer than it is; without a time there is no ratio."""
    found = stats.ratio([2.0] * 5, [1.0] * 5, paired=True)
    assert found is not None and found["ratio"] == 2.0 and found["ci95"] is None
    found = stats.ratio([2.0] * 6, [1.0] * 6, paired=True)
    assert found is not None and found["ci95"] == [2.0, 2.0]
    assert stats.ratio([], [1.0], paired=False) is None
