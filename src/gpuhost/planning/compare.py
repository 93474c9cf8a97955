"""Two cards side by side: what each would get on a platform, and what it can never get there."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterable, List, TypedDict

from ..shapes.lock import Plan
from . import plan
from .candidates import Candidate, Request
from .explain import versions_of
from .gpus import Gpu
from .resolve import Resolver
from .versions import span


class Column(TypedDict):
    """A card: its plan, and of each component the versions that it can use and those that it cannot."""

    plan: Plan
    limits: Dict[str, Dict[str, str]]


class Comparison(TypedDict):
    """Some cards on a platform, side by side."""

    schema: int
    platform: str
    cards: List[Column]


def limits(resolver: Resolver, request: Request) -> Dict[str, Dict[str, str]]:
    """For each component that was not left out, of what the platform has: the versions the cards can use, and those
    they cannot.
    """
    passing = resolver.passing(request)
    of_card = frozenset(r.id for r in resolver.rules if r.about == "card")
    found = {}
    for component in request.concerned:
        there = resolver.domain(component, passing, of_card)
        fits = frozenset(resolver.domain(component, passing))
        found[component] = {
            "can": ranges(resolver, component, fits),
            "cannot": ranges(resolver, component, [c for c in there if c not in fits]),
        }
    return found


def ranges(resolver: Resolver, component: str, found: Iterable[Candidate]) -> str:
    """Some candidates as version ranges: runs that are neighbours in the catalog are drawn together."""
    chosen = {c.version for c in found}
    runs: List[List[str]] = []
    everything = versions_of(resolver.candidates.of(component))
    for before, here in zip(["", *everything], everything):
        if here in chosen:
            if runs and runs[-1][-1] == before:
                runs[-1].append(here)
            else:
                runs.append([here])
    return ", ".join(span(run) for run in runs) or "none"


def side_by_side(resolver: Resolver, base: Request, cards: List[Gpu]) -> Comparison:
    """The plans and the limits of each card alone, all else as in the base request."""
    columns: List[Column] = []
    for gpu in cards:
        request = replace(base, gpus=(gpu,))
        columns.append({"plan": plan.make(resolver, request), "limits": limits(resolver, request)})
    return {"schema": plan.SCHEMA, "platform": base.platform, "cards": columns}
