"""The rules about CUDA and cuDNN."""

from __future__ import annotations

from typing import List, Optional

from ...gpucode import target_for
from ...types import Json
from ...versions import capability, in_series
from ..candidates import NAMES, Candidate, Request, as_toolkit
from ..catalog import Catalog
from ..gpus import Gpu
from .common import each_card


def cuda_platform(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """NVIDIA makes a toolkit release for certain platforms."""
    row = as_toolkit(c).platforms.get(request.platform)
    if row and row["supported"]:
        return None
    return f"CUDA {c.version} is not made for {request.platform} ({row['evidence'] if row else 'nothing known'})"


def by_wheels(request: Request, c: Candidate) -> bool:
    """Return whether the platform takes this toolkit from NVIDIA's wheels."""
    row = as_toolkit(c).platforms.get(request.platform)
    return row is not None and row["via"][0] == "wheels"


def cuda_files(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """What a toolkit is assembled from must be known by checksum; a runfile always is."""
    if as_toolkit(c).wheels or not by_wheels(request, c):
        return None
    return f"{request.platform} takes CUDA {c.version} from NVIDIA's wheels, and no lock of these is there"


def cudnn_files(n: Candidate, t: Candidate) -> Optional[str]:
    """cuDNN comes the way its toolkit does: from wheels whose checksums are known."""
    if as_toolkit(n).wheels:
        return None
    text = f"CUDA {t.version} comes from NVIDIA's wheels, and no lock of these is there for cuDNN {n.version}"
    return f"{text} (CUDA {n.row['cuda']})"


def own_wheels(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """A toolkit of TensorFlow's own comes from NVIDIA's wheels, whose checksums must be known."""
    if as_toolkit(c).wheels:
        return None
    built = f" (CUDA {c.row['cuda']})" if c.component == "cudnn" else ""
    return f"no lock of NVIDIA's wheels is there for {NAMES[c.component]} {c.version}{built}"


def own_reach(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """The libraries of a toolkit hold real code for the cards that it builds for; no proof is known on later ones."""
    builds = c.row["capabilities"]

    def fails(gpu: Gpu) -> Optional[str]:
        if target_for(gpu.compute_capability, builds, integrated(catalog)):
            return None
        holds = f"the libraries of CUDA {c.version} hold real code for {builds[0]} to {builds[-1]}"
        return f"{holds}, {gpu.label} is {gpu.compute_capability}"

    return each_card(request, fails)


def integrated(catalog: Catalog) -> List[str]:
    """The capabilities that only integrated chips have."""
    return [r["compute_capability"] for r in catalog.gpus["integrated_chips"].values()]


def cuda_builds(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """nvcc must be able to make real code that runs on each card."""
    builds = c.row["capabilities"]

    def fails(gpu: Gpu) -> Optional[str]:
        if target_for(gpu.compute_capability, builds, integrated(catalog)):
            return None
        return f"CUDA {c.version} builds for {builds[0]} to {builds[-1]}, {gpu.label} is {gpu.compute_capability}"

    return each_card(request, fails)


def compilers(row: Json, have: List[str]) -> List[str]:  # Json: a row of the catalog
    """Return those of a platform's host compilers, by major version, that a release of CUDA takes."""
    return [g for g in have if (row["gcc_min"] or 0) <= int(g) <= row["gcc_max"]]


def cuda_gcc(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """nvcc refuses a host compiler that is newer than it knows; the platform's archive must have one that fits."""
    have = catalog.platforms["platforms"][request.platform]["gcc"]["available"]
    if compilers(c.row, have):
        return None
    takes = f"{c.row['gcc_min'] or 'any'} to {c.row['gcc_max']}"
    return f"CUDA {c.version} takes gcc {takes}, {request.platform} has {', '.join(have)}"


def cudnn_cards(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """cuDNN holds code for a range of capabilities; that for the highest runs on later ones of its major too."""
    low, high = c.row["capability_min"], c.row["capability_max"]

    def fails(gpu: Gpu) -> Optional[str]:
        cc = capability(gpu.compute_capability)
        if capability(low) <= cc and (cc <= capability(high) or cc[0] == capability(high)[0]):
            return None
        holds = f"cuDNN {c.version} for CUDA {c.row['cuda']} holds code for {low} to {high}"
        return f"{holds}, {gpu.label} is {gpu.compute_capability}"

    return each_card(request, fails)


def cudnn_cuda(n: Candidate, t: Candidate) -> Optional[str]:
    """A cuDNN build is for one CUDA major version, or before 8.1 for one minor."""
    series = n.row["cuda_supported"]
    return (
        None
        if in_series(t.version, series)
        else f"this cuDNN {n.version} is built for CUDA {series}, not for {t.version}"
    )
