"""Versions and specifiers as this field writes them, on top of `packaging`."""

from __future__ import annotations

import functools
from typing import Iterable, Mapping, Optional, Tuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from .errors import UsageError


@functools.lru_cache(maxsize=None)
def version(text: str) -> Version:
    """A comparable version; the catalog holds only strings that parse (a law of the tests)."""
    return Version(text)


def release(text: str) -> Tuple[int, ...]:
    """The dotted figures as numbers, also for what is no version to `packaging` ('4.15.0-213-generic')."""
    figures = []
    for part in text.replace("-", ".").split("."):
        if not part.isdigit():
            break
        figures.append(int(part))
    return tuple(figures)


def capability(text: str) -> Tuple[int, int]:
    """A dotted compute capability ('6.1') as two numbers, so that 10.0 sorts after 9.0."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def at_most(value: str, bound: str) -> bool:
    """Is `value` at most `bound`, where a short bound means all of its series ('8' holds 8.9.7)?"""
    limit = release(bound)
    return release(value)[: len(limit)] <= limit


def within(value: str, bounds: Mapping[str, str]) -> bool:
    """Return whether a version lies between the bounds `min` and `max`, a short `max` holding all of its series."""
    return version(value) >= version(bounds["min"]) and at_most(value, bounds["max"])


def in_series(value: str, series: str) -> bool:
    """Does the version belong to the series ('11' holds 11.8.0, '10.2' holds 10.2.89)?"""
    wanted = release(series)
    return release(value)[: len(wanted)] == wanted


def specifier(component: str, text: str) -> SpecifierSet:
    """What a user asks of a component: a bare version means its series ('4.2' is `==4.2.*`), else PEP 440."""
    cleaned = text.strip()
    try:
        if cleaned[:1].isdigit() and "," not in cleaned:
            cleaned = cleaned[:-2] if cleaned.endswith(".*") else cleaned
            Version(cleaned)
            return SpecifierSet(f"=={cleaned}.*")
        found = SpecifierSet(cleaned)
        if not len(found):
            raise InvalidSpecifier("it demands nothing")
        return found
    except (InvalidSpecifier, InvalidVersion):
        raise UsageError(
            f"'{text}' is not a version or a specifier for {component}.",
            f"Write a version (--{component} 11.8) or a PEP 440 specifier (--{component} '>=11.2,<12').",
        ) from None


def admits(wanted: Optional[SpecifierSet], value: str) -> bool:
    """Does the user's specifier, if there is one, admit the version?"""
    return wanted is None or wanted.contains(version(value), prereleases=True)


def span(values: Iterable[str]) -> str:
    """The range of some versions in words: '12.8.0 or newer' is for the caller; this says '2.13.0 to 2.13.1'."""
    ordered = sorted(set(values), key=version)
    if not ordered:
        return "none"
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"
