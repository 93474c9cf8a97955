"""Random demands on random hosts: sound plans, true refusals, the same answer every time."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Optional, Tuple

import pytest

from gpuhost.planning import plan
from gpuhost.planning.candidates import COMPONENTS

from . import asking, independent
from .independent import Ask, Card

FACTS = independent.read()
PLATFORMS = sorted(FACTS["platforms"]["platforms"])
KERNELS = (
    "4.15.0-213-generic",
    "5.4.0-150-generic",
    "4.15.0-100-generic",
    "6.1.0-50-amd64",
    "3.10.0",
    "3.2.0",
)
VERSIONS = {
    "driver": sorted({r["version"] for r in FACTS["drivers"]["runfiles"]}, key=independent.figures),
    "cuda": [r["version"] for r in FACTS["cuda"]["releases"]],
    "cudnn": sorted({r["version"] for r in FACTS["cudnn"]["packages"]}, key=independent.figures),
    "opencv": [r["version"] for r in FACTS["opencv"]["releases"]],
    "tensorflow": sorted({r["version"] for r in FACTS["tensorflow"]["releases"]}, key=independent.figures),
}
#: Cards that some stack serves; hosts are made of these mostly, so that demands and not the card decide.
SERVED = [
    device
    for device in sorted(FACTS["gpus"]["devices"])
    if (3, 5) <= independent.figures(independent.card_of(FACTS, device).capability) <= (9, 0)
]
#: Of the parts, so many are judged in each run, and all of them under the mark `full`.
TOTAL, PARTS, SAMPLED = 2000, 8, 1


def some_card(dice: random.Random) -> Card:
    """A card: mostly one that can be served, sometimes any, sometimes only a capability."""
    kind = dice.random()
    if kind < 0.1:
        rows = FACTS["gpus"]["generations"]
        return Card(dice.choice([cc for row in rows for cc in row["capabilities"]]))
    devices = SERVED if kind < 0.9 else sorted(FACTS["gpus"]["devices"])
    return independent.card_of(FACTS, dice.choice(devices))


def some_demand(dice: random.Random, component: str) -> str:
    """A specifier of one of the forms people write, around a version that exists."""
    low, high = sorted(dice.sample(range(len(VERSIONS[component])), 2))
    older, newer = VERSIONS[component][low], VERSIONS[component][high]
    series = ".".join(older.split(".")[:2])
    forms = (f">={older}", f"<={newer}", f"<{newer}", f">={older},<{newer}", f"!={newer}", f"~={series}")
    exact = (series, series.partition(".")[0], older, f"=={older}", f"=={series}.*")
    return dice.choice(forms if dice.random() < 0.7 else exact)


def some_ask(dice: random.Random) -> Ask:
    """A host of no to four cards with up to three demands."""
    count = dice.choices((0, 1, 2, 3, 4), weights=(1, 5, 3, 2, 1))[0]
    components = dice.sample(list(COMPONENTS), dice.choices((0, 1, 2, 3), weights=(1, 4, 3, 2))[0])
    parts = ("opencv", "tensorflow")
    without = tuple(sorted(dice.sample(parts, dice.choices((0, 1, 2 if count else 1), weights=(6, 3, 1))[0])))
    components = [c for c in components if c not in without and (count or c in parts)]
    kernel = dice.choice(KERNELS) if dice.random() < 0.3 else None
    return Ask(
        dice.choice(PLATFORMS),
        tuple(some_card(dice) for _ in range(count)),
        tuple((c, some_demand(dice, c)) for c in sorted(components)),
        kernel,
        dice.choice((None, True, False)),
        dice.choices((None, True, False), weights=(20, 5, 1))[0],
        without,
    )


def asks(part: int) -> List[Ask]:
    """One part of the 2,000, the same in every run."""
    dice = random.Random(f"gpuhost {part}")  # noqa: S311 - a repeatable sample, not a secret
    return [some_ask(dice) for _ in range(TOTAL // PARTS)]


def stack_of(ask: Ask) -> Optional[Tuple[Optional[str], Optional[str], Optional[str]]]:
    """What the resolver chose, as `best` says it."""
    return asking.chosen(asking.resolver().solve(asking.request_of(ask)))


@pytest.mark.parametrize("part", [pytest.param(n, marks=[pytest.mark.full] * (n >= SAMPLED)) for n in range(PARTS)])
def test_plans_are_sound_and_refusals_true(part: int) -> None:
    """Random questions, 2,000 in all: each plan passes the judge, each refusal is confirmed by brute force over
    all candidates, and no stack that was passed over has a newer TensorFlow."""
    planned = 0
    for ask in asks(part):
        found = stack_of(ask)
        assert found == independent.best(FACTS, ask), ask
        if found is not None:
            planned += 1
            made = plan.make(asking.resolver(), asking.request_of(ask))
            assert independent.check(FACTS, ask, made) == [], ask
    assert TOTAL // PARTS // 5 < planned < TOTAL // PARTS * 4 // 5  # the sample tries both


def text_of(made: Any) -> str:
    """A plan as the bytes that a lock would hold."""
    return json.dumps(made, indent=2)


def test_same_question_same_answer() -> None:
    """Plans and refusals are equal to the byte when asked again."""
    for ask in asks(0)[:20]:
        request = asking.request_of(ask)
        assert text_of(plan.make(asking.resolver(), request)) == text_of(plan.make(asking.resolver(), request)), ask


def digest() -> str:
    """One checksum over the answers to some questions."""
    answers = [text_of(plan.make(asking.resolver(), asking.request_of(ask))) for ask in asks(1)[:20]]
    return hashlib.sha256("\n".join(answers).encode()).hexdigest()


AGAIN = """
import sys
sys.path.insert(0, sys.argv[1])
from unit import test_resolver_random
print(test_resolver_random.digest())
"""


def test_same_answer_in_another_process() -> None:
    """Nor does another process, with another order of its sets and dictionaries' hashes, answer otherwise."""
    run = subprocess.run(
        [sys.executable, "-B", "-c", AGAIN, str(Path(__file__).resolve().parents[1])],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    assert run.stdout.strip() == digest()


def test_order_of_cards_does_not_matter() -> None:
    """The stack of a host does not depend on which slot a card is in."""
    dice = random.Random("slots")  # noqa: S311 - a repeatable sample, not a secret
    mixed = [ask for ask in asks(2) if len(ask.cards) > 1]
    assert len(mixed) > 50
    for ask in mixed:
        request = asking.request_of(ask)
        shuffled = list(request.gpus)
        dice.shuffle(shuffled)
        other = replace(request, gpus=tuple(shuffled))
        assert asking.resolver().solve(request) == asking.resolver().solve(other), ask


def test_one_card_twice_is_one_card() -> None:
    """Two equal cards get the stack of one."""
    for ask in asks(3)[:60]:
        if len(ask.cards) == 1:
            assert stack_of(ask) == stack_of(ask._replace(cards=ask.cards * 2)), ask


def test_a_demand_that_the_plan_meets_changes_nothing() -> None:
    """Asking for exactly what one would get anyway gives the same stack: demands filter, and do not steer."""
    for ask in asks(4)[:60]:
        stack = asking.resolver().solve(asking.request_of(ask._replace(wanted=())))
        if stack is None or not ask.cards:
            continue
        exact = tuple((name, f"=={c.version}") for name, c in stack.parts().items())
        assert asking.resolver().solve(asking.request_of(ask._replace(wanted=exact))) == stack, ask
