"""Hosts whose release the catalog does not know: which platform one may be taken for, and as that. Pure."""

from __future__ import annotations

from typing import List, Optional

from ..errors import UsageError
from ..shapes.lock import Lock
from ..shapes.observation import Observation, Platform
from ..text import printable
from ..versions import release
from .catalog import Catalog
from .request import platform_named

PAGE = "docs/how-to/other-releases.md"


def fitting(catalog: Catalog, platform: Platform) -> List[str]:
    """Return the platforms that a host of an unknown release may be taken for, the nearest first.

    A derivative says which release it is made from: that one alone, where the catalog has it. Anything else is another
    release of a known distribution: any of those, the newest that is not newer first.
    """
    rows = catalog.platforms["platforms"]
    names = [name for name, row in rows.items() if row["distribution"] == platform["distribution"]]
    same = [name for name in names if rows[name]["codename"] == platform["codename"]]
    if same:
        return same
    own = release(platform["version"]) if platform["id"].startswith(platform["distribution"]) else ()
    names.sort(key=lambda name: release(rows[name]["version"]), reverse=True)
    later = [name for name in names if own and release(rows[name]["version"]) > own]
    return [name for name in names if name not in later] + later[::-1]


def unknown(catalog: Catalog, platform: Platform, option: str) -> Optional[UsageError]:
    """Return what is to be said of a platform that the catalog does not know, with the `option` that takes it for one
    that it does; None for a known one.
    """
    known = catalog.platforms["platforms"]
    if platform["id"] in known:
        return None
    names = fitting(catalog, platform)
    told = f"{printable(platform['pretty_name'], 80)} ({platform['id']}) is not in the catalog"
    if not names:
        return UsageError(f"{told}, and neither Debian nor Ubuntu.", f"These are known: {', '.join(known)}.")
    row = known[names[0]]
    if row["codename"] == platform["codename"]:
        told += f"; it says that it is made from {row['name']}"
    return UsageError(f"{told}.", f"To take it for {row['name']}, which nobody has tried: {option}{names[0]} ({PAGE}).")


def taken_as(catalog: Catalog, observation: Observation, wanted: str) -> Observation:
    """Return the observation of a host as one of the wanted platform's; a `UsageError` where it is not such a host.

    Its own platform's name stays beside it as `own`. A host of the wanted platform stays as it is.
    """
    platform, name = observation["platform"], platform_named(catalog, wanted)
    if platform["id"] == name:
        return observation
    if platform["id"] in catalog.platforms["platforms"]:
        text = f"This host is {platform['id']}, which the catalog knows: it cannot be taken for {name}."
        raise UsageError(text, f"Leave {wanted} out.")
    names = fitting(catalog, platform)
    if name not in names:
        text = f"{printable(platform['pretty_name'], 80)} ({platform['id']}) cannot be taken for {name}."
        raise UsageError(text, f"It can be for {names[0]}." if names else "It is neither Debian nor Ubuntu.")
    row = catalog.platforms["platforms"][name]
    taken: Platform = {
        **platform,
        "distribution": row["distribution"],
        "version": row["version"],
        "codename": row["codename"],
        "id": name,
        "own": platform["id"],
    }
    return {**observation, "platform": taken}


def as_locked(catalog: Catalog, observation: Observation, lock: Optional[Lock]) -> Observation:
    """Return the observation of a host as its lock takes it; as it is where the lock takes it for nothing else."""
    own = None if lock is None else lock.get("own_platform")
    if lock is None or own is None or own != observation["platform"]["id"]:
        return observation
    return taken_as(catalog, observation, lock["plan"]["platform"])


def untested(observation: Observation, typed: str) -> str:
    """Return why nothing is installed on a host that is taken for another platform, until its own name was typed; ""
    for any other.
    """
    own = observation["platform"].get("own")
    if own is None or typed == own:
        return ""
    return (
        f"{own} is taken for {observation['platform']['id']}, and nobody has tried that: packages, kernels and what "
        f"updates do can differ. To install all the same: -e gpu_stack_untested={own} ({PAGE})."
    )
