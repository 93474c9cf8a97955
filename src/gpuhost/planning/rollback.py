"""Which generation a host goes back to, and what that means. Pure.

Without a number it is the one before: the generation that was in force before the present one, or the present one
itself where only the driver has changed (a rebuild that was stopped before its switch), or where an earlier going back
was stopped. So the same command, typed again, always ends in the same generation.
"""

from __future__ import annotations

from typing import Any, List, Optional, TypedDict

from ..errors import LockError, RefusedError, UsageError
from ..shapes.answers import Generations
from ..shapes.lock import Lock
from ..shapes.observation import Observation
from . import lock as locks
from . import rebuild, words
from .candidates import COMPONENTS, NAMES

PLAYBOOK = "./run ansible-playbook playbooks/rollback.yml"


class Rollback(TypedDict):
    """What `prepare` returns."""

    generation: int
    lock: Lock
    lines: List[str]


def prepare(
    host: str, found: Generations, lock: Optional[Lock], pending: Optional[Lock], to: Any, observation: Observation
) -> Rollback:
    """`generation` (its number), `lock` (the one it carries out) and `lines` for a person.

    The generation's record is the host's word, so it passes the same check as a lock from a file.
    """
    number = wanted(found, lock, pending, to)
    rows = {int(row["number"]): row for row in found["generations"]}
    try:
        stack = locks.check(rows[number]["stack"], f"of generation {number}", host)
    except LockError as error:
        raise RefusedError(
            f"Generation {number} has no complete stack.json for this host, so it is not known what it needs. Nothing "
            f"was changed. {error.message}",
            f"Choose another: {listed(found)}.",
        ) from None
    now = rows[found["current"]]["stack"] if found["current"] in rows else None
    return {"generation": number, "lock": stack, "lines": lines(found, number, stack, now, observation)}


def wanted(found: Generations, lock: Optional[Lock], pending: Optional[Lock], to: Any) -> int:
    """The number of the generation to go back to."""
    numbers = [int(row["number"]) for row in found["generations"]]
    if to not in (None, ""):
        if not str(to).isdigit() or int(to) not in numbers:
            raise UsageError(f"There is no generation {to} on this host.", f"Choose one of: {listed(found)}.")
        return int(to)
    current = found["current"]
    if current is None:
        raise RefusedError("No generation is in force on this host.", "Provision it: ./run ansible-playbook site.yml")
    in_force = next(row["stack"] for row in found["generations"] if row["number"] == current)
    # A rebuild that was stopped between its last two steps has gone through: only its own lock is left to be removed.
    if pending is not None and pending != lock and in_force == lock:
        return int(current)  # a rebuild that has not come to its switch
    if found["came_by"] == "back":
        return int(current)  # an earlier going back that was stopped behind its rename, or that has ended
    if in_force not in (lock, pending):
        text = f"The lock of this host is not that of generation {current}, which is in force."
        raise RefusedError(
            f"{text} Nothing was changed.", f"Say which one is meant: {PLAYBOOK} -e rollback_to=N ({listed(found)})"
        )
    if found["before"] is None:
        raise RefusedError(f"There is no generation before {current}.", f"There are: {listed(found)}.")
    return int(found["before"])


def listed(found: Generations) -> str:
    """The generations of a host with their marks."""
    told = []
    for row in found["generations"]:
        number = int(row["number"])
        marks = [
            word
            for word, is_so in (("in force", number == found["current"]), ("good", number in found["good"]))
            if is_so
        ]
        told.append(str(number) + (f" ({', '.join(marks)})" if marks else ""))
    return ", ".join(told) or "none"


def lines(found: Generations, number: int, stack: Lock, now: Optional[Lock], observation: Observation) -> List[str]:
    """What going back means, for a person."""
    told = [f"generations: {listed(found)}", f"going back to generation {number}: {words.cards(stack['plan'])}"]
    for name in COMPONENTS:
        before, after = now and now["plan"][name], stack["plan"][name]
        there, here = rebuild.described(name, after), rebuild.described(name, before)
        there = "not asked for" if name in locks.left_out(stack["plan"]) else there
        told.append(f"{NAMES[name]}: {there}" + ("" if before == after else f"  (now {here})"))
    told += [f"ATTENTION {text}" for text in locks.differences(stack, observation, {}) if not text.startswith("asked:")]
    return told
