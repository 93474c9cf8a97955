"""A street in front of a camera, made up: vehicles pass beside a parked car, seen by a detector that is not perfect.

Boxes are cut at the picture's edges and tremble, now and then one is missed, and a car is a truck once in ten times.
"""

from __future__ import annotations

import itertools
import random
from typing import List, NamedTuple, Tuple

from gpuhost.service.boxes import Box
from gpuhost.service.events import Watcher
from gpuhost.service.hook_settings import HookSettings
from gpuhost.service.tracks import PASSED, Seen

PARKED = Box(0.6, 0.6, 0.25, 0.2)


class Street(NamedTuple):
    """What passes: widths that a vehicle goes between two pictures, from and to; the part of sightings that is missed;
    vehicles in an event, one behind the other, and the time between two in those that one needs for its own width.
    """

    least: float
    most: float
    missed: float
    vehicles: int = 1
    behind: float = 1.5


class Result(NamedTuple):
    """Parts of the vehicles that were counted too often and not at all, and the alerts about the parked car."""

    twice: float
    never: float
    parked: int


class _Vehicle(NamedTuple):
    width: float
    step: float
    to_right: bool
    since: float


def watched(street: Street, events: int, seed: int) -> Result:
    """Count what passes in a number of events."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    numbers = itertools.count()
    watcher = Watcher(HookSettings(), lambda: str(next(numbers)))
    twice = never = parked = 0
    for event in range(events):
        passed = 0
        for at, seen in enumerate(_pictures(street, chance)):
            outcome = watcher.picture("d", "c", event, f"{event}-{at}", at, seen, 1000.0 * event + at)
            if outcome is not None:
                passed = sum(one.how == PASSED for one in outcome.objects)
                parked += sum(abs(one.box.left - 0.6) + abs(one.box.top - 0.6) < 0.06 for one in outcome.alert)
        twice += max(0, passed - street.vehicles)
        never += max(0, street.vehicles - passed)
    total = events * street.vehicles
    return Result(twice / total, never / total, parked)


def _pictures(street: Street, chance: random.Random) -> List[List[Seen]]:
    """The pictures of an event."""
    vehicles, since, to_right = [], 0.0, chance.random() < 0.5
    for _ in range(street.vehicles):
        width = chance.uniform(0.1, 0.3)
        step = width * chance.uniform(street.least, street.most)
        vehicles.append(_Vehicle(width, step, to_right, since))
        since += street.behind * width / step
    last = max(one.since + (1 + one.width) / one.step for one in vehicles)
    return [_picture(street, vehicles, at, chance) for at in range(int(last) + 1)]


def _picture(street: Street, vehicles: List[_Vehicle], at: int, chance: random.Random) -> List[Seen]:
    """What a detector sees."""

    def trembling(value: float, width: float) -> float:
        return value + chance.gauss(0, 0.03 * width)

    seen = []
    if chance.random() > street.missed:
        sides: Tuple[float, ...] = tuple(trembling(side, 0.15) for side in PARKED)
        seen.append(Seen("car", chance.uniform(0.45, 0.9), Box(*sides)))
    for one in vehicles:
        gone = one.step * (at - one.since)
        left = gone - one.width if one.to_right else 1 - gone
        begin, end = max(0.0, left), min(1.0, left + one.width)
        if at < one.since or end - begin < max(0.02, 0.25 * one.width) or chance.random() < street.missed:
            continue
        sides = (begin, 0.35, end - begin, 0.7 * one.width)
        label = chance.choices(["car", "truck"], [9, 1])[0]
        seen.append(Seen(label, chance.uniform(0.5, 0.95), Box(*(trembling(side, one.width) for side in sides))))
    return seen
