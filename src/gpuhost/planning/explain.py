"""Why there is no stack: the rules that block it, with their figures, and the nearest changes that would help."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, FrozenSet, Iterable, List, Optional, Set, Tuple

from ..shapes.lock import Near, Reason
from ..versions import capability
from .candidates import APART, NAMES, SHARED, WITHOUT_GPU, Candidate, Place, Request, as_driver
from .gpus import Gpu
from .resolve import Passing, Resolver, Stack
from .rules.driver import needs_open
from .rules.table import OWN, Rule
from .versions import span, version


def conflict(resolver: Resolver, request: Request, passing: Passing, without: FrozenSet[str]) -> Set[str]:
    """The ids of a smallest set of rules that cannot be kept together, those of `without` left aside.

    By deletion: a rule stays out when the request is refused without it as well. What is tried first is likelier to
    stay out, so what the user asked and the rules about cards, which tell most, come last.
    """
    matter = [r for r in resolver.rules if r.matters(request)]
    out = set(without)
    for r in sorted(matter, key=lambda r: (r.about == "user", r.with_gpu and not r.without_gpu)):
        if resolver.solve(request, passing, frozenset(out | {r.id})) is None:
            out.add(r.id)
    return {r.id for r in matter} - out


def emptying(resolver: Resolver, component: str, passing: Passing) -> Set[str]:
    """The ids of the rules that leave no candidate of a component; empty when some is left.

    A smallest set of rules that together leave none, and another one as long as, without those before, none is left.
    """
    mine = {r.id: passing[r.id] for r in resolver.rules if r.id in passing and r.holds_in(SHARED[component])}
    found: Set[str] = set()
    while not resolver.domain(component, mine):
        kept = set(mine)
        for identity in mine:
            if not resolver.domain(component, {i: mine[i] for i in kept - {identity}}):
                kept.discard(identity)
        found |= kept
        mine = {i: mask for i, mask in mine.items() if i not in kept}
    return found


def blocking(resolver: Resolver, request: Request, passing: Passing) -> List[Rule]:
    """The rules to name: for each component with no candidate left, those that empty it.

    Where each has some left: a smallest conflict, and another one as long as there is one that shares no rule with
    those before, so that without the rules named the request could be served.
    """
    named: Set[str] = set()
    for component in request.concerned:
        named |= emptying(resolver, component, passing)
    emptied = bool(named)
    while not emptied and resolver.solve(request, passing, named) is None:
        named |= conflict(resolver, request, passing, frozenset(named))
    return [r for r in resolver.rules if r.id in named]


def newest(found: Iterable[Candidate]) -> Optional[Candidate]:
    """Return the newest of some candidates, the first of equals; None where there are none."""
    return max(found, key=lambda c: version(c.version), default=None)


def versions_of(found: Iterable[Candidate]) -> List[str]:
    """Return the versions of some candidates, each once, oldest first."""
    return sorted({c.version for c in found}, key=version)


def sentence(resolver: Resolver, request: Request, passing: Passing, r: Rule, named: FrozenSet[str]) -> str:
    """What the rule says of the newest candidates it rules out: those that pass all other rules, or else the named."""
    for others in (frozenset({r.id}), frozenset(passing) - named | {r.id}, frozenset(passing)):
        domains = [resolver.domain(name, passing, others, place(r, name)) for name in r.on]
        if r.unary:
            candidate = newest(c for c in domains[0] if c not in passing[r.id])
            if candidate is not None:
                return r.unary(resolver.catalog, request, candidate) or r.title
            continue
        for a in sorted(domains[0], key=lambda c: version(c.version), reverse=True):
            allowed = frozenset(resolver.beside(request, r, a, domains[1]))
            b = newest(c for c in domains[1] if c not in allowed)
            if b is not None and r.binary is not None:
                return r.binary(a, b) or r.title
    return r.title


def place(r: Rule, component: str) -> Place:
    """The place in a stack of a component that a rule speaks of."""
    return APART.get(f"tensorflow.{component}", SHARED[component]) if r.where == OWN else SHARED[component]


def wants(resolver: Resolver, request: Request, passing: Passing, r: Rule) -> str:
    """What would keep the rule, in versions the catalog knows ('CUDA 12.8.0 or newer'), or that nothing does."""
    name = NAMES[r.on[0]]
    if not r.unary:
        return f"a {name} and a {NAMES[r.on[1]]} that go together"
    everything = versions_of(resolver.candidates.of(r.on[0]))
    if r.about == "user":
        known = f"the catalog holds {name} {everything[0]} to {everything[-1]}"
        return f"another {name}" if passing[r.id] else f"another {name}: {known}"
    good = versions_of(passing[r.id])
    if not good:
        return f"no {name} of the catalog would do"
    if good[-1] == everything[-1] and good[0] != everything[0]:
        return f"{name} {good[0]} or newer"
    return f"{name} {span(good)}"


def reasons(resolver: Resolver, request: Request, passing: Passing) -> List[Reason]:
    """The refusal's rows: rule id, what it says, what would keep it."""
    rules = blocking(resolver, request, passing)
    named = frozenset(r.id for r in rules)
    return [
        {
            "rule": r.id,
            "text": sentence(resolver, request, passing, r, named),
            "needs": wants(resolver, request, passing, r),
        }
        for r in rules
    ]


def summary(stack: Stack) -> str:
    """A stack in one line."""
    told = [f"{NAMES[n]} {c.version}" for n, c in stack.parts().items()]
    own = [f"{NAMES[c.component]} {c.version}" for c in (stack.own_cuda, stack.own_cudnn) if c is not None]
    return ", ".join(told) + (f" with {' and '.join(own)} of its own" if own else "")


def nearest(resolver: Resolver, request: Request) -> List[Near]:
    """Return changes that would help, nearest first: one demand dropped, another platform, the lowest capability."""
    found: List[Near] = []
    for name in request.concerned:
        if name in request.wanted:
            rest = {k: v for k, v in request.wanted.items() if k != name}
            stack = resolver.solve(replace(request, wanted=rest))
            if stack:
                found.append({"change": f"without --{name} {request.asked[name]}", "gives": summary(stack)})
    for platform in resolver.catalog.platforms["platforms"]:
        if platform != request.platform:
            stack = resolver.solve(replace(request, platform=platform, kernel=None))
            if stack:
                found.append({"change": f"on {platform}", "gives": summary(stack)})
    found.extend(other_card(resolver, request))
    if len(request.gpus) > 1:
        found.extend(fewer_cards(resolver, request))
    return found


def obstacles(resolver: Resolver, request: Request) -> List[Dict[str, str]]:
    """The components that stand in the way by themselves: left out, the request is served. What would be had then."""
    found = []
    for name in WITHOUT_GPU if len(request.components) > 1 else ():
        if name in request.components:
            wanted = {k: v for k, v in request.wanted.items() if k != name}
            stack = resolver.solve(replace(request, without=request.without | {name}, wanted=wanted))
            if stack:
                found.append({"component": name, "gives": summary(stack)})
    return found


def other_card(resolver: Resolver, request: Request) -> List[Near]:
    """The lowest and the highest compute capability of a single card that could be served as asked."""
    if not request.gpus:
        return []
    rows = [(cc, str(row["name"])) for row in resolver.catalog.gpus["generations"] for cc in row["capabilities"]]
    ordered = sorted(rows, key=lambda x: capability(x[0]))

    def first(cards: Iterable[Tuple[str, str]]) -> Optional[Tuple[str, Stack]]:
        """The first of these cards that could be served, with its stack."""
        for cc, generation in cards:
            stack = resolver.solve(replace(request, gpus=(Gpu(cc, generation),)))
            if stack:
                return cc, stack
        return None

    low = first(ordered)
    high = first(reversed(ordered)) if low else None
    if low is None or high is None:
        return []
    change = f"a card of compute capability {low[0]}" + ("" if low[0] == high[0] else f" to {high[0]}")
    return [{"change": change, "gives": f"on {low[0]}: {summary(low[1])}"}]


def fewer_cards(resolver: Resolver, request: Request) -> List[Near]:
    """On a mixed host: which single card could be taken out."""
    found: List[Near] = []
    for i, gpu in enumerate(request.gpus):
        rest = request.gpus[:i] + request.gpus[i + 1 :]
        stack = resolver.solve(replace(request, gpus=rest))
        if stack:
            found.append({"change": f"without the {gpu.label}", "gives": summary(stack)})
    return found


def card_needs(resolver: Resolver, request: Request, passing: Passing) -> Dict[str, str]:
    """What the cards need of each component, platform and demands aside: the version range of the catalog."""
    others = frozenset(r.id for r in resolver.rules if r.about != "card")
    found = {}
    for component in request.components if request.gpus else ():
        good = resolver.domain(component, passing, others)
        found[component] = span(c.version for c in good) + ("" if good else " in the catalog")
        if component == "driver" and good and all(needs_open(as_driver(c), request) for c in good):
            found[component] += ", open kernel modules"
    return found
