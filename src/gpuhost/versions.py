"""Dotted versions as numbers.

Python 3.6 and the standard library: modules that run on a target use it too.
"""

from typing import Mapping, Tuple


def release(text: str) -> Tuple[int, ...]:
    """Return the leading figures as numbers, also of what PEP 440 does not know ('4.15.0-213-generic')."""
    figures = []
    for part in text.replace("-", ".").split("."):
        if not part.isdigit():
            break
        figures.append(int(part))
    return tuple(figures)


def capability(text: str) -> Tuple[int, int]:
    """Return a dotted compute capability ('6.1') as two numbers, so that 10.0 sorts after 9.0."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def at_most(value: str, bound: str) -> bool:
    """Return whether `value` is at most `bound`, where a short bound means all of its series ('8' holds 8.9.7)."""
    limit = release(bound)
    return release(value)[: len(limit)] <= limit


def within(value: str, bounds: Mapping[str, str]) -> bool:
    """Return whether a version lies between the bounds `min` and `max`, a short `max` holding all of its series."""
    return release(value) >= release(bounds["min"]) and at_most(value, bounds["max"])


def in_series(value: str, series: str) -> bool:
    """Return whether the version belongs to the series ('11' holds 11.8.0, '10.2' holds 10.2.89)."""
    wanted = release(series)
    return release(value)[: len(wanted)] == wanted
