"""Numbers that look random and are the same on every machine: a hash of a counter (SplitMix64, Steele,
Lea, Flood 2014).

NumPy promises the bits of its generators' integers but not those of its distributions, and the hash
needs only 64-bit multiplication and shifts, which are exact everywhere.
"""

from typing import Any

import numpy as np

_STEP = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_MASK = 0xFFFFFFFFFFFFFFFF


def stream(*keys: int) -> int:
    """A starting point (64 bits) for the sequence that belongs to `keys`, such as (seed, layer, kind)."""
    state = 0
    for key in keys:
        state = (state + _STEP * (key + 1)) & _MASK
        state = ((state ^ (state >> 30)) * _MIX_1) & _MASK
        state = ((state ^ (state >> 27)) * _MIX_2) & _MASK
        state ^= state >> 31
    return state


def hashes(start: int, count: int) -> Any:
    """The first `count` values of the sequence `start`: uint64, shape (count,)."""
    values = np.arange(1, count + 1, dtype=np.uint64)
    values *= np.uint64(_STEP)
    values += np.uint64(start)
    values ^= values >> np.uint64(30)
    values *= np.uint64(_MIX_1)
    values ^= values >> np.uint64(27)
    values *= np.uint64(_MIX_2)
    values ^= values >> np.uint64(31)
    return values


def uniforms(start: int, count: int) -> Any:
    """The first `count` values of the sequence `start` in [0, 1): float32, shape (count,), 24 random
    bits each.
    """
    return (hashes(start, count) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def between(start: int, count: int, low: float, high: float) -> Any:
    """The same values spread over [low, high): float32, shape (count,)."""
    return uniforms(start, count) * np.float32(high - low) + np.float32(low)
