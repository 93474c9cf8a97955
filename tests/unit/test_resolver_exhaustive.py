"""Every card on every platform: each plan is sound, each refusal is true, and no better stack was passed
over.

The brute force is the costly part. Cards that no constraint can tell apart (equal capability, generation,
claiming packages and first listed driver) are grouped for it; on two platforms, and in the full form on all, plans are
made and judged for each card by itself.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Tuple

import fastjsonschema
import pytest

from gpuhost.planning import plan
from gpuhost.planning.catalog import DATA

from . import asking, independent
from .independent import Ask

FACTS = independent.read()
PLATFORMS = sorted(FACTS["platforms"]["platforms"])
#: The platforms with drivers of their own in the catalog since the first release: each card is planned by itself there.
FIRST = ("debian-12", "ubuntu-18.04")
DEVICES = sorted(FACTS["gpus"]["devices"])
Signature = Tuple[str, str, Tuple[str, ...], Optional[str]]
FITS_SCHEMA = fastjsonschema.compile(json.loads((DATA / "plan.schema.json").read_text("utf-8")))


def signature(device: str) -> Signature:
    """What constraints see of a card: its capability, its generation, who claims it, who listed it first."""
    card = independent.card_of(FACTS, device)
    rows = [row for rows in FACTS["drivers"]["archives"].values() for row in rows]
    claims = tuple(sorted(f"{row['package']} {row['package_version']}" for row in rows if device in row["claims"]))
    listed = FACTS["gpus"]["devices"][device].get("first_listed_driver")
    return card.capability, independent.generation(FACTS, card), claims, listed


def groups() -> Dict[Signature, List[str]]:
    """The cards by signature."""
    found: Dict[Signature, List[str]] = {}
    for device in DEVICES:
        found.setdefault(signature(device), []).append(device)
    return found


GROUPS = groups()
ALIKE = [devices[0] for devices in GROUPS.values()]


def kinds(platform: str) -> List[str]:
    """One card of each kind, or of every third where the full form goes over all of them."""
    return ALIKE if platform in FIRST else ALIKE[::3]


def ask_for(device: str, platform: str) -> Ask:
    """One card on one platform, nothing else asked; without TensorFlow where it has no wheel for any Python."""
    tags = {"cp" + python.replace(".", "") for python in FACTS["platforms"]["platforms"][platform]["pythons"]}
    there = any(wheel["tag"] in tags for row in FACTS["tensorflow"]["releases"] for wheel in row["wheels"])
    return Ask(platform, (independent.card_of(FACTS, device),), without=() if there else ("tensorflow",))


def test_groups_hold_every_card() -> None:
    """The grouping leaves nobody out."""
    assert sorted(d for devices in GROUPS.values() for d in devices) == DEVICES
    assert len(DEVICES) == 1172


@pytest.mark.parametrize("platform", PLATFORMS)
def test_brute_force_agrees(platform: str) -> None:
    """For each kind of card: a stack exists exactly if the resolver finds one, and none has a newer
    TensorFlow, a newer Python with it, or a newer CUDA with both."""
    resolver = asking.resolver()
    planned = 0
    for device in kinds(platform):
        ask = ask_for(device, platform)
        stack = resolver.solve(asking.request_of(ask))
        found = asking.chosen(stack)
        planned += found is not None
        assert found == independent.best(FACTS, ask), device
        assert (found is not None) == independent.exists(FACTS, ask), device
    assert 0 < planned < len(kinds(platform))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_card_is_planned_soundly_or_refused(platform: str) -> None:
    """For each of the 1,172 ids, or the first and the last of each group: the plan passes the independent judge and its
    schema; what is refused is what cards of the same signature are refused, of which the brute force has confirmed one.
    """
    resolver = asking.resolver()
    for devices in GROUPS.values():
        verdicts = set()
        for device in devices if platform in FIRST else {devices[0], devices[-1]}:
            ask = ask_for(device, platform)
            request = asking.request_of(ask)
            verdicts.add(resolver.solve(request) is not None)
            if verdicts == {True}:
                found = plan.make(resolver, request)
                FITS_SCHEMA(found)
                assert independent.check(FACTS, ask, found) == [], device
                assert found["gpus"][0]["pci_id"] == f"10de:{device}"
        assert len(verdicts) == 1, devices


@pytest.mark.parametrize("platform", PLATFORMS)
def test_refusals_of_every_kind_of_card(platform: str) -> None:
    """Each kind of card that is refused is told why, in a plan of the same schema."""
    resolver = asking.resolver()
    for device in kinds(platform):
        request = asking.request_of(ask_for(device, platform))
        if resolver.solve(request) is None:
            found = plan.make(resolver, request)
            FITS_SCHEMA(found)
            assert found["status"] == "refused"
            assert found["reasons"]


@pytest.mark.full
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_card_whole(platform: str) -> None:
    """The same without grouping: brute force and the whole plan or refusal for each of the 1,172 ids."""
    resolver = asking.resolver()
    for device in DEVICES:
        ask = ask_for(device, platform)
        found: Dict[str, Any] = plan.make(resolver, asking.request_of(ask))
        FITS_SCHEMA(found)
        best = independent.best(FACTS, ask)
        assert (found["status"] == "planned") == (best is not None), device
        if best is not None:
            assert independent.check(FACTS, ask, found) == [], device
            assert (found["tensorflow"]["version"], found["cuda"]["version"]) == (best[0], best[2]), device
