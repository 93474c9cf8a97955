"""Choosing one stack: every candidate that passes the rules, in a documented order of preference.

A plain backtracking search over the table of rules: it places one component after another and drops at once what a
rule forbids beside it, so that it turns back as soon as a component has nothing left. It knows no rule by name.
The order of preference is argued in docs/decisions/0002-preference.md.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import (
    AbstractSet,
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from ..checks.toolkit import too_old
from ..types import Json
from ..versions import in_series, release
from .candidates import (
    COMPONENTS,
    Candidate,
    Candidates,
    Driver,
    Request,
    TensorFlow,
    as_driver,
    as_tensorflow,
)
from .catalog import Catalog, shipped
from .rules.table import RULES, Rule, Unary
from .versions import version

NOTHING: AbstractSet[str] = frozenset()
#: The candidates that pass each rule about one component, by the rule's id.
Passing = Mapping[str, FrozenSet[Candidate]]
#: The candidates chosen so far, by component.
Chosen = Mapping[str, Candidate]
#: What the candidates of a component are sorted by, smallest first.
Order = Callable[[Candidate], Any]


class Choice(NamedTuple):
    """How far the search has come: the candidates `chosen`, and what is `left` of each other component."""

    chosen: Chosen
    left: Mapping[str, Sequence[Candidate]]


@dataclass(frozen=True)
class Stack:
    """The chosen candidate of each component that the request is for."""

    driver: Optional[Driver] = None
    cuda: Optional[Candidate] = None
    cudnn: Optional[Candidate] = None
    opencv: Optional[Candidate] = None
    tensorflow: Optional[TensorFlow] = None

    @classmethod
    def of(cls, chosen: Chosen) -> Stack:
        """Make a stack of the candidates chosen."""
        driver = as_driver(chosen["driver"]) if "driver" in chosen else None
        tensorflow = as_tensorflow(chosen["tensorflow"]) if "tensorflow" in chosen else None
        return cls(driver, chosen.get("cuda"), chosen.get("cudnn"), chosen.get("opencv"), tensorflow)

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

    def about(self, component: str, request: Request) -> Iterator[Tuple[str, Unary]]:
        """Yield the rules about one component alone that matter for the request, by id."""
        for r in self.rules:
            if r.unary is not None and r.on == (component,) and r.matters(request):
                yield r.id, r.unary

    def passing(self, request: Request) -> Passing:
        """Return what passes each rule about one component that matters for the request, by rule id."""
        return {
            identity: frozenset(c for c in self.candidates.of(name) if rule(self.catalog, request, c) is None)
            for name in COMPONENTS
            for identity, rule in self.about(name, request)
        }

    def domain(self, component: str, passing: Passing, without: AbstractSet[str] = NOTHING) -> List[Candidate]:
        """Return the candidates of a component that pass all its rules in `passing` but those of `without`."""
        found = self.candidates.of(component)
        for r in self.rules:
            if r.on == (component,) and r.id in passing and r.id not in without:
                found = [c for c in found if c in passing[r.id]]
        return found

    def fitting(self, component: str, request: Request, without: AbstractSet[str] = NOTHING) -> List[Candidate]:
        """Return the candidates of a component that pass all its rules but those of `without`, with no rule asked about
        a candidate that an earlier one has ruled out."""
        found = self.candidates.of(component)
        for identity, rule in self.about(component, request):
            if identity not in without:
                found = [c for c in found if rule(self.catalog, request, c) is None]
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
        """Return those of `others` that a pair rule allows beside a candidate of its other component."""
        if placed.component == r.on[1] and not r.concerns(request, placed):
            return list(others)
        partners = self.partners(r, placed)
        narrowed = placed.component == r.on[0] and r.when is not None
        return [c for c in others if c in partners or (narrowed and not r.concerns(request, c))]

    def solve(
        self, request: Request, passing: Optional[Passing] = None, without: AbstractSet[str] = NOTHING
    ) -> Optional[Stack]:
        """Return the preferred stack that keeps every rule but those of `without`, or None when there is none."""
        domains = {}
        for name in request.concerned:
            fits = self.fitting(name, request, without) if passing is None else self.domain(name, passing, without)
            if not fits:
                return None
            domains[name] = fits
        left = {name: domains[name] for name in PREFERENCE if name in request.components}
        pairs = [r for r in self.rules if r.binary and r.matters(request) and r.id not in without]
        pairs = [r for r in pairs if left.keys() >= set(r.on)]
        # A rule that no pair keeps is found at once here, where the search would try everything else first.
        if not all(any(self.beside(request, r, c, left[r.on[1]]) for c in left[r.on[0]]) for r in pairs):
            return None
        chosen = self._completed(request, pairs, {}, left)
        return None if chosen is None else Stack.of(chosen)

    def _completed(
        self, request: Request, pairs: Sequence[Rule], chosen: Chosen, left: Mapping[str, Sequence[Candidate]]
    ) -> Optional[Chosen]:
        """Return the candidates chosen with the preferred ones of the components that are left, or None."""
        if not left:
            return chosen
        component, *rest = left
        order = PREFERENCE[component](self.catalog, request, Choice(chosen, left))
        for candidate in sorted(left[component], key=order):
            still = {name: left[name] for name in rest}
            for r in (r for r in pairs if component in r.on):
                other = r.other(component)
                if other in still:
                    still[other] = self.beside(request, r, candidate, still[other])
            if all(still.values()):
                found = self._completed(request, pairs, {**chosen, component: candidate}, still)
                if found is not None:
                    return found
        return None


def signed_kernel(request: Request, driver: Driver, catalog: Catalog) -> Optional[Json]:
    """The platform's kernel that is the request's and that the archive has signed modules of this driver for."""
    if driver.platform is None:
        return None
    signed = driver.row["signed_modules"]
    kernels = (k for k in catalog.platforms["platforms"][driver.platform]["kernels"] if k["flavour"] in signed)
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
    """Return the order of toolkits: one that a driver of the archive serves before one that needs a `.run`."""
    archive = {d.version for d in at.left["driver"] if as_driver(d).platform is not None}
    return lambda candidate: all(too_old(driver, candidate.row) for driver in archive)


def cudnn_order(catalog: Catalog, request: Request, at: Choice) -> Order:
    """Return the order of cuDNNs: of the minor version that the chosen TensorFlow is tested with before others."""
    if "tensorflow" not in at.chosen:
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
    one that rests on minor-version compatibility; what the archive calls a new feature branch after the others; the
    branch nearest to the toolkit (the oldest that is new enough, else the newest that is not); the desktop flavour
    before the server's; what a source confirms before what none does; in a branch its suggested release, then the
    newest.
    """
    own = version(at.chosen["cuda"].row["driver_min"])

    def key(candidate: Candidate) -> Tuple[Any, ...]:
        d = as_driver(candidate)
        full = version(d.version) >= own
        branch = int(d.branch)
        newest = tuple(-f for f in release(d.version))
        return (
            bool(request.secure_boot) and not signed_modules(request, d, catalog),
            d.platform is None,
            not full,
            d.row.get("support") == "NFB",
            branch if full else -branch,
            d.row.get("flavour") == "server",
            d.unverified,
            d.platform is None and d.version != d.branch_row["suggested"],
            newest,
            d.row.get("variant") == "no-compat32",
        )

    return key


#: The components in the order in which they are chosen, each with the order of its candidates: a wish for one that is
#: chosen earlier outweighs all of those chosen later. Equals stay as they are listed.
PREFERENCE: Dict[str, Callable[[Catalog, Request, Choice], Order]] = {
    "tensorflow": as_listed,
    "cuda": cuda_order,
    "cudnn": cudnn_order,
    "opencv": opencv_order,
    "driver": driver_order,
}


@functools.lru_cache(maxsize=None)
def resolver() -> Resolver:
    """The resolver over the catalog that comes with the package, made once a process."""
    return Resolver(shipped())
