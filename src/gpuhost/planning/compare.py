"""Two cards side by side: what each would get on a platform, and what it can never get there."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List

from ..types import Json
from . import plan
from .candidates import Request
from .gpus import Gpu
from .resolve import Resolver, members
from .versions import span, version

# The rules that speak of the card, and those that speak of the platform alone, for each component.
OF_CARD = {
    "driver": ("driver-generation", "driver-claims"),
    "cuda": ("cuda-builds",),
    "cudnn": ("cudnn-cards",),
    "opencv": ("opencv-floor",),
    "tensorflow": ("tensorflow-code",),
}


def limits(resolver: Resolver, request: Request) -> Dict[str, Dict[str, str]]:
    """For each component, of what the platform has: the versions the cards can use, and those they cannot."""
    masks = resolver.masks(request)
    found = {}
    for component, ids in OF_CARD.items():
        card = {i: masks[i] for i in ids}
        rest = {i: m for i, m in masks.items() if i not in ids}
        there = resolver.domain(component, rest)
        fits = there & resolver.domain(component, card)
        found[component] = {
            "can": versions_of(resolver, component, fits),
            "cannot": versions_of(resolver, component, there & ~fits),
        }
    return found


def versions_of(resolver: Resolver, component: str, bits: int) -> str:
    """A set of candidates as version ranges: runs that are neighbours in the catalog are drawn together."""
    everything = sorted({c.version for c in resolver.candidates.of(component)}, key=version)
    chosen = {resolver.candidates.of(component)[i].version for i in members(bits)}
    runs: List[List[str]] = []
    for before, here in zip(["", *everything], everything):
        if here in chosen:
            if runs and runs[-1][-1] == before:
                runs[-1].append(here)
            else:
                runs.append([here])
    return ", ".join(span(run) for run in runs) or "none"


def side_by_side(resolver: Resolver, base: Request, cards: List[Gpu]) -> Json:
    """The plans and the limits of each card alone, all else as in the base request."""
    columns = []
    for gpu in cards:
        request = replace(base, gpus=(gpu,))
        columns.append({"plan": plan.make(resolver, request), "limits": limits(resolver, request)})
    return {"schema": plan.SCHEMA, "platform": base.platform, "cards": columns}
