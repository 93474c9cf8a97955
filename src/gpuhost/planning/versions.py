"""Versions and specifiers as this field writes them, on top of `packaging`."""

from __future__ import annotations

import functools
from typing import Iterable, Optional

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from ..errors import UsageError

#: A version of each component, to show how one is written.
EXAMPLES = {
    "driver": "535",
    "cuda": "11.8",
    "cudnn": "8.9",
    "opencv": "4.11",
    "tensorflow": "2.15",
    "virtualbox": "6.0.24",
}


@functools.lru_cache(maxsize=None)
def version(text: str) -> Version:
    """A comparable version; the catalog holds only strings that parse (a law of the tests)."""
    return Version(text)


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
            f"Write a version (--{component} {EXAMPLES[component]}) or a PEP 440 specifier "
            f"(--{component} '>={EXAMPLES[component]}'). Without --{component} it is the newest that fits.",
        ) from None


def admits(wanted: Optional[SpecifierSet], value: str) -> bool:
    """Return whether the user's specifier, if there is one, admits the version."""
    return wanted is None or wanted.contains(version(value), prereleases=True)


def span(values: Iterable[str]) -> str:
    """The range of some versions in words: '12.8.0 or newer' is for the caller; this says '2.13.0 to 2.13.1'."""
    ordered = sorted(set(values), key=version)
    if not ordered:
        return "none"
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"
