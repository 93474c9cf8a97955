"""The rules about the driver alone, and about a driver beside a toolkit or a TensorFlow."""

from __future__ import annotations

from typing import List, Optional

from ...checks.toolkit import too_old
from ...versions import release
from ..candidates import NAMES, Candidate, Driver, Request, as_driver
from ..catalog import Catalog
from ..gpus import Gpu
from .common import each_card


def title_of(candidate: Candidate) -> str:
    """How messages call a release: 'driver 525.105.17 of the ubuntu-18.04 archive', 'CUDA 11.8.0'."""
    text = f"{NAMES[candidate.component]} {candidate.version}"
    if isinstance(candidate, Driver):
        return f"{text} of the {candidate.platform} archive" if candidate.platform else f"{text} (.run)"
    return text


def archive(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """A package of an archive is for that archive's platform only."""
    c = as_driver(c)
    if c.platform in (None, request.platform):
        return None
    return f"{title_of(c)} is not a package of {request.platform}"


def generation(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """Each branch drives certain generations of cards and drops the oldest ones over time."""
    c = as_driver(c)
    served = c.branch_row["generations"]

    def fails(gpu: Gpu) -> Optional[str]:
        if gpu.generation in served:
            return None
        return f"branch {c.branch} serves {served[0]} to {served[-1]}, {gpu.label} is {gpu.generation}"

    return each_card(request, fails)


def claims(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """A driver must know the card.

    A package must claim its PCI id; a `.run` must be of a branch that some package claims it with, or, for a card no
    package claims, be no older than the first release whose own list names the card, and newer than the last that is
    known not to.
    """
    c = as_driver(c)

    def fails(gpu: Gpu) -> Optional[str]:
        if gpu.device is None:
            return None
        if c.platform is not None:
            return (
                None
                if gpu.device in c.claims
                else f"{c.row['package']} {c.row['package_version']} does not claim {gpu.label} (10de:{gpu.device})"
            )
        lowest = c.claimed_from.get(gpu.device)
        if lowest is not None:
            return (
                None
                if int(c.branch) >= lowest
                else f"no package older than branch {lowest} claims {gpu.label}; this is branch {c.branch}"
            )
        return gpu.listed_too_late(c.version)

    return each_card(request, fails)


def needs_open(d: Driver, request: Request) -> List[Gpu]:
    """Return the cards of the request that the branch of this driver drives with its open kernel modules only."""
    return [g for g in request.gpus if g.generation in d.branch_row["open_modules_only"]]


def flavour(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """One kernel module serves all cards: one that needs the open modules cannot stand beside one they do not drive."""
    c = as_driver(c)
    needs = needs_open(c, request)
    lacks = [g for g in request.gpus if g.generation not in catalog.drivers["open_modules_generations"]]
    if not needs or not lacks:
        return None
    other = f"{lacks[0].label} ({lacks[0].generation})"
    return f"{needs[0].label} needs the open kernel modules of branch {c.branch}, which do not drive {other}"


def kernel(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """A driver's module needs a kernel of a certain age to compile."""
    c = as_driver(c)
    floor = str(c.branch_row["min_kernel"])
    if request.kernel is None or release(request.kernel)[:2] >= release(floor):
        return None
    return f"branch {c.branch} needs kernel {floor} or newer, this host has {request.kernel}"


def toolkit(d: Candidate, t: Candidate) -> Optional[str]:
    """A driver must be as new as the toolkit's own, or new enough for minor-version compatibility where that exists."""
    return too_old(d.version, t.row)


def jit(d: Candidate, t: Candidate) -> Optional[str]:
    """Code that is only PTX is compiled by the driver, whose CUDA must be as new as the one that made the PTX."""
    d = as_driver(d)
    made_with = str(t.row["tested"]["cuda"])
    if d.max_cuda is not None and release(d.max_cuda) >= release(made_with):
        return None
    has = f"serves CUDA {d.max_cuda}" if d.max_cuda else "bundles no toolkit, so its CUDA version is not known"
    return f"TensorFlow {t.version} reaches the card only as PTX made with CUDA {made_with}; branch {d.branch} {has}"
