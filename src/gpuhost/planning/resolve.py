"""Choosing one stack: every candidate that passes the rules, in a documented order of preference.

Sets of candidates are integers used as bit sets: bit i stands for candidate i of the component's list. The tables of
the rules between two components depend on the catalog only and are made once; a plan then takes well under a
millisecond, and so can be made again without one rule to explain a refusal (`explain.py`).
The order of preference is argued in docs/decisions/0002-preference.md.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import AbstractSet, Any, Callable, Dict, Iterator, List, Optional, Tuple

from ..gpucode import reach
from ..types import Json
from ..versions import in_series, release
from .candidates import COMPONENTS, Candidate, Candidates, Driver, Request, TensorFlow, as_driver, as_tensorflow
from .catalog import Catalog, shipped
from .rules.table import BY_ID, RULES, Rule
from .versions import version

NOTHING: AbstractSet[str] = frozenset()


@dataclass(frozen=True)
class Stack:
    """The chosen candidate of each component; without a GPU only OpenCV and TensorFlow are there."""

    opencv: Candidate
    tensorflow: TensorFlow
    driver: Optional[Driver] = None
    cuda: Optional[Candidate] = None
    cudnn: Optional[Candidate] = None

    def parts(self) -> Dict[str, Candidate]:
        """The components that are there, by name."""
        return {name: getattr(self, name) for name in COMPONENTS if getattr(self, name) is not None}


def members(bits: int) -> Iterator[int]:
    """The positions in a bit set, lowest first."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


class Resolver:
    """All rules over one catalog. Pure: the same request and catalog give the same stack."""

    def __init__(self, catalog: Catalog) -> None:
        """Make the candidates and the tables of the rules between two components."""
        self.catalog = catalog
        self.candidates = Candidates.of_catalog(catalog)
        self.tables: Dict[str, List[int]] = {r.id: self._table(r) for r in RULES if r.binary}

    def _table(self, r: Rule) -> List[int]:
        """For each candidate of the rule's first component, the bit set of those of the second it goes with."""
        if r.binary is None:
            raise AssertionError(f"{r.id} relates no pair")
        first, second = (self.candidates.of(name) for name in r.on)
        return [sum(1 << j for j, b in enumerate(second) if r.binary(a, b) is None) for a in first]

    def column(self, identity: str, row_bits: int, position: int) -> int:
        """The candidates of a pair rule's first component, among `row_bits`, that go with `position` of the second."""
        table = self.tables[identity]
        return sum(1 << i for i in members(row_bits) if table[i] >> position & 1)

    def passing(self, request: Request, r: Rule) -> int:
        """The bit set of the candidates that pass a rule about one component."""
        if r.unary is None:
            raise AssertionError(f"{r.id} is about a pair")
        found = 0
        for i, candidate in enumerate(self.candidates.of(r.on[0])):
            if r.unary(self.catalog, request, candidate) is None:
                found |= 1 << i
        return found

    def masks(self, request: Request) -> Dict[str, int]:
        """What passes each rule about one component that matters for the request, by rule id."""
        return {r.id: self.passing(request, r) for r in RULES if r.unary and r.matters(request)}

    def domain(self, component: str, masks: Dict[str, int], without: AbstractSet[str] = NOTHING) -> int:
        """The candidates of a component that pass all its rules but those of `without`."""
        bits = (1 << len(self.candidates.of(component))) - 1
        for identity, mask in masks.items():
            if BY_ID[identity].on[0] == component and identity not in without:
                bits &= mask
        return bits

    def needs_jit(self, request: Request, t: Candidate) -> bool:
        """Does this TensorFlow reach some card of the host only through PTX?"""
        return any(reach(t.row["code"], cc) == "ptx-jit" for cc in request.capabilities)

    def solve(
        self, request: Request, masks: Optional[Dict[str, int]] = None, without: AbstractSet[str] = NOTHING
    ) -> Optional[Stack]:
        """The preferred stack that keeps every rule but those of `without`, or None when there is none."""
        masks = self.masks(request) if masks is None else masks
        domains = {name: self.domain(name, masks, without) for name in COMPONENTS}
        if not all(domains.values()):
            return None
        if not request.gpus:
            return self._solve_cpu(domains)
        for t in members(domains["tensorflow"]):
            tensorflow = self.candidates.tensorflow[t]
            jit = self.needs_jit(request, tensorflow) and "driver-jit" not in without
            by_jit = self.column("driver-jit", domains["driver"], t) if jit else domains["driver"]
            for c in members(domains["cuda"] & self._row("tensorflow-cuda", t, without)):
                drivers = by_jit if "driver-toolkit" in without else self.column("driver-toolkit", by_jit, c)
                if not drivers:
                    continue
                pair = self._libraries(tensorflow, t, c, domains, without)
                if pair is None:
                    continue
                cuda = self.candidates.cuda[c]
                driver = min(
                    (self.candidates.driver[d] for d in members(drivers)),
                    key=driver_order(self.catalog, request, cuda),
                )
                return Stack(pair[1], as_tensorflow(tensorflow), as_driver(driver), cuda, pair[0])
        return None

    def _row(self, identity: str, position: int, without: AbstractSet[str]) -> int:
        """A pair rule's row as a bit set; everything when the rule is left out."""
        return -1 if identity in without else self.tables[identity][position]

    def _libraries(
        self, tensorflow: Candidate, t: int, c: int, domains: Dict[str, int], without: AbstractSet[str]
    ) -> Optional[Tuple[Candidate, Candidate]]:
        """The preferred cuDNN and OpenCV for a TensorFlow and a CUDA, or None."""
        cudnns = domains["cudnn"] & self._row("tensorflow-cudnn", t, without)
        if "cudnn-cuda" not in without:
            cudnns = self.column("cudnn-cuda", cudnns, c)
        opencvs = domains["opencv"]
        if "opencv-cuda" not in without:
            opencvs = self.column("opencv-cuda", opencvs, c)
        tested = tensorflow.row["tested"]["cudnn"]
        for n in sorted(members(cudnns), key=lambda i: not in_series(self.candidates.cudnn[i].version, tested)):
            fits = opencvs if "opencv-cudnn" in without else self.column("opencv-cudnn", opencvs, n)
            for o in members(fits):
                return self.candidates.cudnn[n], self.candidates.opencv[o]
        return None

    def _solve_cpu(self, domains: Dict[str, int]) -> Optional[Stack]:
        """The newest TensorFlow and the newest ready OpenCV wheel; what is doubtful of CUDA does not matter here."""
        tensorflow = next((self.candidates.tensorflow[i] for i in members(domains["tensorflow"])), None)
        opencv = max(
            (self.candidates.opencv[i] for i in members(domains["opencv"])),
            key=lambda c: version(c.version),
            default=None,
        )
        if tensorflow is None or opencv is None:
            return None
        return Stack(opencv, as_tensorflow(tensorflow))


def signed_kernel(request: Request, driver: Driver, catalog: Catalog) -> Optional[Json]:
    """The platform's kernel that is the request's and that the archive has signed modules of this driver for."""
    if driver.platform is None:
        return None
    for kernel in catalog.platforms["platforms"][driver.platform]["kernels"]:
        if request.kernel in (kernel["release"], kernel["abi"]) and kernel["flavour"] in driver.row["signed_modules"]:
            return dict(kernel)
    return None


def signed_modules(request: Request, driver: Driver, catalog: Catalog) -> bool:
    """Has the archive signed, prebuilt modules of this driver for the request's kernel (if it names one)?"""
    if request.kernel is None:
        return driver.platform is not None and bool(driver.row["signed_modules"])
    return signed_kernel(request, driver, catalog) is not None


def driver_order(catalog: Catalog, request: Request, cuda: Candidate) -> Callable[[Candidate], Tuple[Any, ...]]:
    """The key by which drivers are preferred, smallest first.

    Signed modules where Secure Boot asks for them; the archive before a `.run`; one as new as the toolkit's own before
    one that rests on minor-version compatibility; the branch nearest to the toolkit (the oldest that is new enough,
    else the newest that is not); the desktop flavour before the server's; what a source confirms before what none
    does; in a branch its suggested release, then the newest.
    """
    own = version(cuda.row["driver_min"])

    def key(candidate: Candidate) -> Tuple[Any, ...]:
        d = as_driver(candidate)
        full = version(d.version) >= own
        branch = int(d.branch)
        newest = tuple(-f for f in release(d.version))
        return (
            bool(request.secure_boot) and not signed_modules(request, d, catalog),
            d.platform is None,
            not full,
            branch if full else -branch,
            d.row.get("flavour") == "server",
            d.unverified,
            d.platform is None and d.version != d.branch_row["suggested"],
            newest,
            d.row.get("variant") == "no-compat32",
        )

    return key


@functools.lru_cache(maxsize=None)
def resolver() -> Resolver:
    """The resolver over the catalog that comes with the package, made once a process."""
    return Resolver(shipped())
