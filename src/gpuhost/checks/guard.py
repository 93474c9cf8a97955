"""Checks of the guard that keeps updates from the driver and its kernel."""

from typing import TYPE_CHECKING

from ..host.guard.rules import PREFERENCES, UNATTENDED
from ..text import few
from .base import GUARD, Check, Outcome, held
from .driver import by_record
from .host import DRIVER_RECORD, PACKAGES
from .lock import installed

if TYPE_CHECKING:
    from ..shapes.answers import Guard
    from ..shapes.seen import Seen


def guard(seen: "Seen") -> "Guard":
    """The guard as the probe read it."""
    return installed(seen)["guard"]


def holds(seen: "Seen") -> Outcome:
    """Check that every installed package of the driver and its kernel is on hold."""
    found = guard(seen)
    free = set(found["stack"]) - set(found["held"])
    released = "the guard is released: " if found["record"] is None else ""
    fixes = installed(seen).get("fixes")
    moves = "; they move only as a pair that a boot has proved" if fixes is not None and fixes["automatic"] else ""
    actual = f"{released}not on hold: {few(sorted(free))}" if free else f"all on hold{moves}"
    required = f"{len(found['stack'])} packages of the driver and its kernel on hold"
    if not free and (found["record"] is None or not found["stack"]):
        actual = (
            "there is no record of a guard" if found["stack"] else "no package of the driver and its kernel is there"
        )
        return held(False, required, actual, GUARD)
    return held(not free, required, actual, GUARD)


def pins(seen: "Seen") -> Outcome:
    """Check that these packages are pinned at their installed versions."""
    found = guard(seen)
    told = [
        f"{name} {found['pins'].get(name, 'not at all')} instead of {version}"
        for name, version in sorted(found["stack"].items())
        if found["pins"].get(name) != version
    ]
    return held(not told, "each pinned at its installed version", few(sorted(told)) or "each pinned", GUARD)


def blacklist(seen: "Seen") -> Outcome:
    """Check that unattended-upgrades has these packages on its blacklist."""
    found = guard(seen)
    free = set(found["stack"]) - set(found["blacklist"])
    required = "each on the blacklist of unattended-upgrades"
    return held(not free, required, f"not on it: {few(sorted(free))}" if free else "all on it", GUARD)


CHECKS = (
    Check(
        "guard.holds",
        "The driver and its kernel are on hold",
        "One package that is not held is enough for an update to take them apart.",
        holds,
        (*PACKAGES, DRIVER_RECORD, "{root}/state/guard.json"),
        ("driver.installed",),
        gpu=True,
        found=by_record(holds),
    ),
    Check(
        "guard.pins",
        "They are pinned",
        "A hold falls with one command; a transitional package brings another branch past it.",
        pins,
        (*PACKAGES, DRIVER_RECORD, PREFERENCES),
        ("guard.holds",),
        gpu=True,
        found=by_record(pins),
    ),
    Check(
        "guard.blacklist",
        "Unattended upgrades skip them",
        "unattended-upgrades stops altogether when it meets a hold that it did not expect.",
        blacklist,
        (*PACKAGES, DRIVER_RECORD, UNATTENDED),
        ("guard.holds",),
        gpu=True,
        found=by_record(blacklist),
    ),
)
