"""A refusal is told well: true reasons, each needed, and ways out that really lead out."""

from __future__ import annotations

import functools
import itertools
import re
from dataclasses import replace
from typing import Any, Dict, FrozenSet, List, Optional, Tuple

import pytest

from gpuhost.planning import gpus as gpu
from gpuhost.planning import plan
from gpuhost.planning.candidates import COMPONENTS, Request
from gpuhost.planning.explain import summary
from gpuhost.planning.resolve import Resolver
from gpuhost.planning.rules.table import RULES

from . import asking, independent
from .test_resolver_exhaustive import ALIKE, PLATFORMS, ask_for
from .test_resolver_random import asks

Json = Dict[str, Any]
FACTS = independent.read()
BY_ID = {rule.id: rule for rule in RULES}


@functools.lru_cache(maxsize=None)
def refused() -> Tuple[Tuple[Request, Any], ...]:
    """Recorded refusals: one of each kind of card, and what random demands on random hosts are refused."""
    cards = [asking.request_of(ask_for(device, platform)) for device in ALIKE for platform in PLATFORMS]
    demands = [asking.request_of(ask) for ask in asks(5)]
    resolver = asking.resolver()
    chosen = [r for r in cards if resolver.solve(r) is None][::4]
    chosen += [r for r in demands if resolver.solve(r) is None][:60]
    return tuple((request, plan.make(resolver, request)) for request in chosen)


def named(found: Json) -> List[str]:
    """The rule ids of a refusal."""
    return [reason["rule"] for reason in found["reasons"]]


def emptied(resolver: Resolver, request: Request) -> List[str]:
    """The components of which nothing is left."""
    passing = resolver.passing(request)
    return [name for name in request.components if not resolver.domain(name, passing)]


def matter(request: Request) -> FrozenSet[str]:
    """The ids of all rules for such a host."""
    return frozenset(rule.id for rule in RULES if rule.matters(request))


def test_reasons_are_told() -> None:
    """Each refusal has a reason, each reason a rule that exists, a sentence and what would keep it; none
    is said twice."""
    assert len(refused()) > 60
    for request, found in refused():
        assert found["status"] == "refused"
        assert named(found)
        assert len(set(named(found))) == len(named(found))
        for reason in found["reasons"]:
            assert reason["rule"] in matter(request)
            assert reason["text"].strip()
            assert reason["needs"].strip()
            assert "None" not in reason["text"] + reason["needs"]
        assert all(found[name] is None for name in COMPONENTS)


def test_reasons_block() -> None:
    """The named rules alone refuse the request: with every other rule left out there is still no stack."""
    resolver = asking.resolver()
    for request, found in refused():
        others = matter(request) - set(named(found))
        assert resolver.solve(request, without=others) is None, (request, named(found))


def test_leaving_the_reasons_out_frees() -> None:
    """Without the named rules there is a stack, or, where components were emptied, candidates are left in
    each."""
    resolver = asking.resolver()
    for request, found in refused():
        without = frozenset(named(found))
        empty = emptied(resolver, request)
        passing = resolver.passing(request)
        if empty:
            assert all(resolver.domain(name, passing, without) for name in empty), (request, named(found))
        else:
            assert resolver.solve(request, without=without) is not None, (request, named(found))


def needed(request: Request, identity: str, rest: List[str]) -> bool:
    """Is there a choice of the other named rules that lets a stack pass, and with this rule none?"""
    resolver = asking.resolver()

    def served(kept: Tuple[str, ...]) -> bool:
        return resolver.solve(request, without=matter(request) - set(kept)) is not None

    choices = (kept for size in range(len(rest), -1, -1) for kept in itertools.combinations(rest, size))
    return any(served(kept) and not served((*kept, identity)) for kept in choices)


def test_no_reason_is_idle() -> None:
    """Each named rule is needed: some choice of the rest leaves candidates in the component it empties, or, where
    rules conflict, a stack, and none together with it."""
    resolver = asking.resolver()
    for request, found in refused():
        passing = resolver.passing(request)
        empty = emptied(resolver, request)
        for identity in named(found):
            rest = [i for i in named(found) if i != identity]
            if empty:
                component = BY_ID[identity].on[0]
                assert component in empty, (request, identity)
                mine = [i for i in rest if BY_ID[i].on == (component,)]
                choices = (kept for size in range(len(mine) + 1) for kept in itertools.combinations(mine, size))
                left = ({i: passing[i] for i in kept} for kept in choices)
                full = {identity: passing[identity]}
                some = (k for k in left if resolver.domain(component, k))
                assert any(not resolver.domain(component, {**k, **full}) for k in some), (request, identity)
            else:
                assert needed(request, identity, rest), (request, identity)


def changed(request: Request, change: str) -> List[Request]:
    """The requests that a `nearest` entry promises to be served."""
    dropped = re.fullmatch(r"without --(\w+) (.+)", change)
    if dropped:
        name = dropped.group(1)
        assert request.asked[name] == dropped.group(2)
        return [replace(request, wanted={k: v for k, v in request.wanted.items() if k != name})]
    platform = re.fullmatch(r"on (\S+)", change)
    if platform:
        return [replace(request, platform=platform.group(1), kernel=None)]
    capability = re.fullmatch(r"a card of compute capability ([\d.]+)(?: to ([\d.]+))?", change)
    if capability:
        low, high = capability.group(1), capability.group(2) or capability.group(1)
        rows = FACTS["gpus"]["generations"]
        figures = independent.figures
        between = [c for row in rows for c in row["capabilities"] if figures(low) <= figures(c) <= figures(high)]
        assert {low, high} <= set(between)
        return [
            replace(request, gpus=(gpu.Gpu(c, independent.generation(FACTS, independent.Card(c))),)) for c in between
        ]
    taken = re.fullmatch(r"without the (.+)", change)
    assert taken, f"an unknown kind of change: {change}"
    labels = [g.label for g in request.gpus]
    assert taken.group(1) in labels
    return [
        replace(request, gpus=request.gpus[:i] + request.gpus[i + 1 :])
        for i, label in enumerate(labels)
        if label == taken.group(1)
    ]


def test_ways_out_lead_out() -> None:
    """Each `nearest` change, applied, is served, and the first of a range of cards gets just what was
    said."""
    resolver = asking.resolver()
    offered = 0
    for request, found in refused():
        for entry in found["nearest"]:
            offered += 1
            stacks = [resolver.solve(other) for other in changed(request, entry["change"])]
            assert all(stacks), (request, entry)
            first = stacks[0]
            assert first is not None
            assert entry["gives"].endswith(summary(first)), (request, entry)
    assert offered > 50


def test_every_way_out_is_offered() -> None:
    """Where dropping one demand, or the other platform, would do, the refusal says so."""
    resolver = asking.resolver()
    for request, found in refused():
        changes = {entry["change"] for entry in found["nearest"]}
        for name in request.wanted:
            rest = {k: v for k, v in request.wanted.items() if k != name}
            served = resolver.solve(replace(request, wanted=rest)) is not None
            assert served == (f"without --{name} {request.asked[name]}" in changes), (request, name)
        for platform in PLATFORMS:
            if platform != request.platform:
                served = resolver.solve(replace(request, platform=platform, kernel=None)) is not None
                assert served == (f"on {platform}" in changes), (request, platform)


CONTRADICTIONS: List[Tuple[Tuple[str, ...], Dict[str, str]]] = [
    (("ubuntu-18.04", "P2000"), {"cuda": ">=11,<11"}),
    (("ubuntu-18.04", "P2000"), {"tensorflow": "99"}),
    (("ubuntu-18.04", "P2000"), {"driver": "999"}),
    (("ubuntu-18.04", "P2000"), {"driver": "390", "tensorflow": "2.13", "opencv": "4.2"}),
    (("debian-12",), {"opencv": "3.4"}),
]


@pytest.mark.parametrize(("words", "asked"), CONTRADICTIONS)
def test_contradictions_are_refused(words: Tuple[str, ...], asked: Dict[str, str]) -> None:
    """What cannot be is refused in words, with the demand among the reasons."""
    found = asking.planned(*words, **asked)
    assert found["status"] == "refused"
    assert any(rule.startswith("asked-") for rule in named(found))


def test_what_the_card_needs_is_told() -> None:
    """`card_needs` names, for each component, exactly the versions that the card's own rules leave."""
    found: Optional[Json] = asking.planned("ubuntu-18.04", "RTX 5090")["card_needs"]
    assert found is not None
    ask = independent.Ask("ubuntu-18.04", (independent.card_of(FACTS, "2b85"),))
    fit = [r["version"] for r in FACTS["cudnn"]["packages"] if not any(independent.cudnn_faults(FACTS, ask, r))]
    fit.sort(key=independent.figures)
    assert found["cudnn"] == f"{fit[0]} to {fit[-1]}"
