"""The resolver obeys whatever stands in the table of rules: a new rule needs no line of the resolver."""

from __future__ import annotations

import itertools
from typing import Any, Dict, List, Tuple

import pytest

from gpuhost.planning import plan
from gpuhost.planning.candidates import COMPONENTS, WITHOUT_GPU
from gpuhost.planning.catalog import shipped
from gpuhost.planning.resolve import Resolver
from gpuhost.planning.rules.table import RULES, Rule

from . import asking

UBUNTU = "ubuntu-18.04"


def made(rule: Rule, *cards: str) -> Dict[str, Any]:
    """Return the plan that the shipped rules and one more give."""
    return plan.make(Resolver(shipped(), (*RULES, rule)), asking.request(UBUNTU, *cards))


def pair(on: Tuple[str, ...], **rest: Any) -> Rule:
    """Return a rule that forbids every pair of two components."""
    return Rule("forbidden", on, "they never go together", "a test", binary=lambda a, b: "never", **rest)


def reasons(found: Dict[str, Any]) -> List[Tuple[str, str]]:
    """Return the rule and the text of each reason of a refusal."""
    assert found["status"] == "refused"
    return [(reason["rule"], reason["text"]) for reason in found["reasons"]]


@pytest.mark.parametrize("on", list(itertools.permutations(COMPONENTS, 2)), ids="-".join)
def test_forbidden_pair_is_refused(on: Tuple[str, ...]) -> None:
    """Whichever two components the rule is about, and whichever comes first: it alone is the reason."""
    assert reasons(made(pair(on), "P2000")) == [("forbidden", "never")]


@pytest.mark.parametrize("on", list(itertools.permutations(WITHOUT_GPU, 2)), ids="-".join)
def test_forbidden_pair_is_refused_without_a_card(on: Tuple[str, ...]) -> None:
    """A host without a card obeys a pair rule that matters there, and no other."""
    assert reasons(made(pair(on, without_gpu=True))) == [("forbidden", "never")]
    assert made(pair(on))["status"] == "planned"


@pytest.mark.parametrize("component", COMPONENTS)
def test_forbidden_component_is_refused(component: str) -> None:
    """So is a rule that lets no candidate of a component pass."""
    rule = Rule("forbidden", (component,), "nothing will do", "a test", unary=lambda catalog, request, c: "never")
    assert reasons(made(rule, "P2000")) == [("forbidden", "never")]


def test_pair_that_is_forbidden_is_passed_over() -> None:
    """A rule against one pair alone costs the less preferred component its first choice, and the others nothing."""
    before = asking.planned(UBUNTU, "P2000")
    best = (before["driver"]["version"], before["opencv"]["version"])
    rule = Rule(
        "quarrel",
        ("driver", "opencv"),
        "these two do not go together",
        "a test",
        binary=lambda d, o: "no" if (d.version, o.version) == best else None,
    )
    after = made(rule, "P2000")
    assert after["status"] == "planned"
    assert after["opencv"] == before["opencv"]
    assert after["driver"]["version"] != before["driver"]["version"]


def test_pair_rule_is_narrowed_to_what_it_concerns() -> None:
    """A pair rule says nothing of a candidate that its `when` leaves out, on either side of the search."""
    newest = asking.planned(UBUNTU, "P2000")["tensorflow"]["version"]
    for on in (("cuda", "tensorflow"), ("tensorflow", "cuda")):
        second = on[1]
        chosen = asking.planned(UBUNTU, "P2000")[second]["version"]
        aside = made(pair(on, when=lambda request, c, chosen=chosen: c.version != chosen), "P2000")
        assert aside["tensorflow"]["version"] == newest
        hit = made(pair(on, when=lambda request, c, chosen=chosen: c.version == chosen), "P2000")
        assert hit["status"] == "planned"
        assert hit[second]["version"] != chosen
