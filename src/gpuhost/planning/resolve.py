"""Choosing one stack: every candidate that passes the rules, in a documented order of preference.

One toolkit for the host and for TensorFlow is tried first, then one for each. Each is a plain backtracking search over
the table of rules: it places one component after another and drops at once what a
rule forbids beside it, so that it turns back as soon as a component has nothing left. It knows no rule by name.
The order of preference is argued in docs/decisions/0002-preference.md.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import (
    AbstractSet,
    Any,
    Callable,
    Dict,
    FrozenSet,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from ..checks.toolkit import too_old
from ..types import Json
from ..versions import in_series, release
from .candidates import (
    COMPONENTS,
    SHARED,
    Candidate,
    Candidates,
    Driver,
    Place,
    Request,
    TensorFlow,
    Toolkit,
    as_driver,
    as_tensorflow,
    as_toolkit,
)
from .catalog import Catalog, shipped
from .rules.table import RULES, Rule
from .versions import version

NOTHING: AbstractSet[str] = frozenset()
#: The candidates that pass each rule about one component, by the rule's id.
Passing = Mapping[str, FrozenSet[Candidate]]
#: The candidates chosen so far, by their place in the stack.
Chosen = Mapping[str, Candidate]
#: The candidates that are left for each place, as what can be kept in a set.
Left = Tuple[Tuple[str, Tuple[Candidate, ...]], ...]
#: What the candidates of a component are sorted by, smallest first.
Order = Callable[[Candidate], Any]


class Pair(NamedTuple):
    """A rule about two components, and the two places of a stack that it relates."""

    rule: Rule
    first: str
    second: str

    def other(self, place: str) -> Optional[str]:
        """Return the place that the rule relates to this one; None where it does not speak of this one."""
        return {self.first: self.second, self.second: self.first}.get(place)


class Choice(NamedTuple):
    """How far the search has come: the candidates `chosen`, and what is `left` for each other place."""

    chosen: Chosen
    left: Mapping[str, Sequence[Candidate]]


@dataclass(frozen=True)
class Stack:
    """The chosen candidate of each component that the request is for."""

    driver: Optional[Driver] = None
    cuda: Optional[Toolkit] = None
    cudnn: Optional[Candidate] = None
    opencv: Optional[Candidate] = None
    tensorflow: Optional[TensorFlow] = None
    #: What TensorFlow has of its own; None where it shares the host's.
    own_cuda: Optional[Candidate] = None
    own_cudnn: Optional[Candidate] = None

    @classmethod
    def of(cls, chosen: Chosen) -> Stack:
        """Make a stack of the candidates chosen."""
        driver = as_driver(chosen["driver"]) if "driver" in chosen else None
        tensorflow = as_tensorflow(chosen["tensorflow"]) if "tensorflow" in chosen else None
        cuda = as_toolkit(chosen["cuda"]) if "cuda" in chosen else None
        cudnn, opencv, *own = map(chosen.get, ("cudnn", "opencv", "tensorflow.cuda", "tensorflow.cudnn"))
        return cls(driver, cuda, cudnn, opencv, tensorflow, *own)

    def parts(self) -> Dict[str, Candidate]:
        """Return the components that are there, by name."""
        return {name: getattr(self, name) for name in COMPONENTS if getattr(self, name) is not None}


class Resolver:
    """All rules over one catalog. Pure: the same request, catalog and rules give the same stack."""

    def __init__(self, catalog: Catalog, rules: Sequence[Rule] = RULES) -> None:
        """Make the candidates."""
        self.catalog = catalog
        self.rules = rules
        self.candidates = Candidates.of_catalog(catalog)
        # Pair rules depend on the catalog only, so what a candidate goes with is worked out once, when first needed.
        self._partners: Dict[Tuple[str, Candidate], FrozenSet[Candidate]] = {}

    def passing(self, request: Request) -> Passing:
        """Return what passes each rule about one component that matters for the request, by rule id."""
        found = {}
        for r in self.rules:
            if r.unary is not None and r.matters(request):
                fits = (c for c in self.candidates.of(r.on[0]) if r.unary(self.catalog, request, c) is None)
                found[r.id] = frozenset(fits)
        return found

    def domain(
        self, component: str, passing: Passing, without: AbstractSet[str] = NOTHING, place: Optional[Place] = None
    ) -> List[Candidate]:
        """Return the candidates of a component that pass all its rules in `passing` but those of `without`.

        Which rules these are depends on its place; without one it is the host's.
        """
        place = SHARED[component] if place is None else place
        found = self.candidates.of(component)
        for r in self.rules:
            if r.id in passing and r.id not in without and r.holds_in(place):
                found = [c for c in found if c in passing[r.id]]
        return found

    def fitting(self, place: Place, request: Request, without: AbstractSet[str] = NOTHING) -> List[Candidate]:
        """Return the candidates for a place that pass all its rules but those of `without`, with no rule asked about
        a candidate that an earlier one has ruled out."""
        found = self.candidates.of(place.component)
        for r in self.rules:
            if r.unary is not None and r.matters(request) and r.id not in without and r.holds_in(place):
                found = [c for c in found if r.unary(self.catalog, request, c) is None]
        return found

    def partners(self, r: Rule, placed: Candidate) -> FrozenSet[Candidate]:
        """Return all candidates that a pair rule lets go with one of its other component."""
        if (r.id, placed) not in self._partners:
            others = self.candidates.of(r.other(placed.component))
            first = placed.component == r.on[0]
            found = (c for c in others if (r.relates(placed, c) if first else r.relates(c, placed)))
            self._partners[r.id, placed] = frozenset(found)
        return self._partners[r.id, placed]

    def beside(self, request: Request, r: Rule, placed: Candidate, others: Sequence[Candidate]) -> List[Candidate]:
        """Return those of `others` that the pair rule `r` allows together with `placed`, of its other component."""
        if placed.component == r.on[1] and not r.concerns(request, placed):
            return list(others)
        partners = self.partners(r, placed)
        narrowed = placed.component == r.on[0] and r.when is not None
        return [c for c in others if c in partners or (narrowed and not r.concerns(request, c))]

    def solve(
        self, request: Request, passing: Optional[Passing] = None, without: AbstractSet[str] = NOTHING
    ) -> Optional[Stack]:
        """Return the preferred stack that keeps every rule but those of `without`, or None when there is none."""
        found = (self._arranged(request, places, passing, without) for places in request.arrangements)
        return next((Stack.of(chosen) for chosen in found if chosen is not None), None)

    def _arranged(
        self, request: Request, places: Mapping[str, Place], passing: Optional[Passing], without: AbstractSet[str]
    ) -> Optional[Chosen]:
        """Return the preferred candidates for some places of a stack, or None when nothing fits."""
        domains = {}
        for name, place in places.items():
            if passing is None:
                domains[name] = self.fitting(place, request, without)
            else:
                domains[name] = self.domain(place.component, passing, without, place)
            if not domains[name]:
                return None
        left = {n: domains[n] for n in PREFERENCE if n in places and places[n].component in request.components}
        rules = [r for r in self.rules if r.binary and r.matters(request) and r.id not in without]
        pairs = [
            Pair(r, first, second)
            for r in rules
            for first, second in itertools.permutations(left, 2)
            if r.holds_in(places[first], places[second])
        ]
        # A rule that no pair keeps is found at once here, where the search would try everything else first.
        if not all(any(self.beside(request, p.rule, c, left[p.second]) for c in left[p.first]) for p in pairs):
            return None
        return self._completed(request, pairs, {}, left, set())

    def _completed(
        self,
        request: Request,
        pairs: Sequence[Pair],
        chosen: Chosen,
        left: Mapping[str, Sequence[Candidate]],
        dead: Set[Left],
    ) -> Optional[Chosen]:
        """Return the candidates chosen with the preferred ones for the places that are left, or None.

        Whether there are any depends on what is left alone; `dead` keeps that of which there are none.
        """
        if not left:
            return chosen
        key = tuple((name, tuple(found)) for name, found in left.items())
        if key in dead:
            return None
        place, *rest = left
        order = PREFERENCE[place](self.catalog, request, Choice(chosen, left))
        for candidate in sorted(left[place], key=order):
            still = {name: left[name] for name in rest}
            for pair in pairs:
                other = pair.other(place)
                if other in still:
                    still[other] = self.beside(request, pair.rule, candidate, still[other])
            if all(still.values()):
                found = self._completed(request, pairs, {**chosen, place: candidate}, still, dead)
                if found is not None:
                    return found
        dead.add(key)
        return None


def signed_kernel(request: Request, driver: Driver, catalog: Catalog) -> Optional[Json]:  # Json: a row of the catalog
    """The platform's kernel that is the request's and that the archive has signed modules of this driver for."""
    if driver.platform is None:
        return None
    signed = driver.row["signed_modules"]
    kernels = (k for k in catalog.platforms["platforms"][driver.platform].get("kernels", ()) if k["flavour"] in signed)
    return next((dict(k) for k in kernels if request.kernel in (k["release"], k["abi"])), None)


def signed_modules(request: Request, driver: Driver, catalog: Catalog) -> bool:
    """Return whether the archive has signed, prebuilt modules of this driver (for the kernel, if one is named)."""
    if request.kernel is None:
        return driver.platform is not None and bool(driver.row["signed_modules"])
    return signed_kernel(request, driver, catalog) is not None


def as_listed(catalog: Catalog, request: Request, at: Choice) -> Order:
    """Return the order that the list of candidates has already."""
    return lambda candidate: 0


def cuda_order(catalog: Catalog, request: Request, at: Choice) -> Order:
    """Return the order of toolkits: of the series that the TensorFlow that uses it is tested with first, then one that
    a driver of the archive serves before one that needs a `.run`.
    """
    archive = {d.version for d in at.left["driver"] if as_driver(d).platform is not None}
    shares = "tensorflow" in at.chosen and "tensorflow.cuda" not in at.chosen
    tested = at.chosen["tensorflow"].row["tested"]["cuda"] if shares else ""

    def key(candidate: Candidate) -> Tuple[bool, bool]:
        served = any(not too_old(driver, candidate.row) for driver in archive)
        return not in_series(candidate.version, tested), not served

    return key


def cudnn_order(catalog: Catalog, request: Request, at: Choice) -> Order:
    """Return the order of cuDNNs: of the minor version that the TensorFlow that uses it is tested with first."""
    if "tensorflow" not in at.chosen or "tensorflow.cudnn" in at.chosen:
        return as_listed(catalog, request, at)
    tested = at.chosen["tensorflow"].row["tested"]["cudnn"]
    return lambda candidate: not in_series(candidate.version, tested)


def opencv_order(catalog: Catalog, request: Request, at: Choice) -> Order:
    """Return the order of OpenCVs: without a GPU the newest first, as what is doubtful of CUDA does not matter then."""
    if request.gpus:
        return as_listed(catalog, request, at)
    return lambda candidate: tuple(-figure for figure in release(candidate.version))


def driver_order(catalog: Catalog, request: Request, at: Choice) -> Order:
    """Return the order of drivers.

    Signed modules where Secure Boot asks for them; the archive before a `.run`; one as new as the toolkit's own before
    one that rests on minor-version compatibility; a new feature branch after the others, because it ends soon; the
    branch nearest to the toolkit (the oldest that is new enough, else the newest that is not); the desktop flavour
    before the server's; what a source confirms before what none does; in a branch its suggested release, then the
    newest.
    """
    own = max(version(c.row["driver_min"]) for c in at.chosen.values() if c.component == "cuda")

    def key(candidate: Candidate) -> Tuple[Any, ...]:
        d = as_driver(candidate)
        full = version(d.version) >= own
        branch = int(d.branch)
        newest = tuple(-f for f in release(d.version))
        return (
            bool(request.secure_boot) and not signed_modules(request, d, catalog),
            d.platform is None,
            not full,
            "NFB" in (d.row.get("support"), d.branch_row.get("support")),
            branch if full else -branch,
            d.row.get("flavour") == "server",
            d.unverified,
            d.platform is None and d.version != d.branch_row["suggested"],
            newest,
            d.row.get("variant") == "no-compat32",
        )

    return key


#: The places of a stack in the order in which they are filled, each with the order of its candidates: a wish for one
#: that is filled earlier outweighs all of those filled later. Equals stay as they are listed.
PREFERENCE: Dict[str, Callable[[Catalog, Request, Choice], Order]] = {
    "tensorflow": as_listed,
    "tensorflow.cuda": cuda_order,
    "tensorflow.cudnn": cudnn_order,
    "cuda": cuda_order,
    "cudnn": cudnn_order,
    "opencv": opencv_order,
    "driver": driver_order,
}


@functools.lru_cache(maxsize=None)
def resolver() -> Resolver:
    """The resolver over the catalog that comes with the package, made once a process."""
    return Resolver(shipped())
