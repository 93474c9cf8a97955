"""The recipe of an OpenCV wheel, from the catalog and a lock or a wish: controller side, pure."""

from __future__ import annotations

from typing import Any, Optional, Sequence

from ..cvbuild.archs import checked
from ..cvbuild.failures import failure
from ..cvbuild.recipe import Recipe
from ..shapes.lock import Bounds, Lock, Plan, SourceArtifact, Span
from ..types import Json, present
from ..versions import at_most, capability, in_series, release, within
from .candidates import headers_clash
from .catalog import Catalog
from .parts import built
from .rules.cuda import integrated
from .rules.frameworks import sources_of
from .versions import version


def row_of(catalog: Catalog, wanted: str) -> Json:  # Json: a row of the catalog
    """The catalog's row of an OpenCV release; '4.14' means the newest of that series."""
    rows = [r for r in catalog.opencv["releases"] if release(r["version"])[: len(release(wanted))] == release(wanted)]
    if not rows:
        known = ", ".join(r["version"] for r in catalog.opencv["releases"])
        raise failure("B-usage", f"The catalog has no OpenCV {wanted}.", f"It has {known}.")
    return dict(max(rows, key=lambda r: version(r["version"])))


def toolkit_row(catalog: Catalog, series: str) -> Optional[Json]:  # Json: a row of the catalog
    """A release of a toolkit's series in the catalog, for the bounds on its host compiler; None for an unknown one."""
    return next((r for r in catalog.cuda["releases"] if r["series"] == series), None)


def make(catalog: Catalog, opencv: str, cuda_series: str, platform: str, cards: Sequence[str]) -> Recipe:
    """The recipe for an OpenCV release with a toolkit's series, for cards of these capabilities."""
    row = row_of(catalog, opencv)
    dnn = row["dnn_cuda"]
    if dnn is None:
        raise failure(
            "B-opencv-without-cuda",
            f"OpenCV {row['version']} has no CUDA backend for its DNN module.",
            "Take 4.2.0 or newer; cards below 5.3 take 4.3.0 or newer.",
        )
    if not row["darknet_importer"]:
        raise failure(
            "B-opencv-without-darknet",
            f"OpenCV {row['version']} has no Darknet importer, which the detector and the proof of the build need.",
            f"Take {max((r['version'] for r in catalog.opencv['releases'] if r['darknet_importer']), key=version)}.",
        )
    sources = sources_of(row)
    if not sources:
        raise failure(
            "B-opencv-without-cuda",
            f"No checksummed sources of OpenCV {row['version']} together with opencv_contrib are known.",
            "Take a neighbouring release.",
        )
    known: Json = dict(limits(catalog, row, cuda_series, platform))
    return Recipe(
        opencv=row["version"],
        package_version=package_version(row["version"], sources),
        sources=sources,
        cards=sorted({checked(c) for c in cards}, key=capability),
        platform=platform,
        **{**known, "cudnn": cudnn_for(catalog, known["cudnn"], cuda_series)},
    )


def cudnn_for(catalog: Catalog, bounds: Span, cuda_series: str) -> Span:
    """An OpenCV's bounds for cuDNN, narrowed to the versions that exist for a CUDA: a header does not say for which one
    its library was built. A newer cuDNN than the catalog knows stays possible where the newest that it knows is.
    """
    every = [row["version"] for row in catalog.cudnn["packages"]]
    fit = [row["version"] for row in catalog.cudnn["packages"] if in_series(cuda_series, row["cuda_supported"])]
    if not fit:
        return bounds
    low, high = (".".join(map(str, release(pick(fit, key=version))[:2])) for pick in (min, max))
    ends = release(max(fit, key=version))[:2] < release(max(every, key=version))[:2] and at_most(high, bounds["max"])
    return {
        "min": max(low, bounds["min"], key=release),
        "max": high if ends else bounds["max"],
    }


def package_version(opencv: str, sources: Sequence[SourceArtifact]) -> str:
    """The version of the wheel before its local part. The tarballs of an older release have the release's own."""
    return str(sources[0].get("package_version") or opencv)


def limits(catalog: Catalog, row: Json, cuda_series: str, platform: str) -> Bounds:  # Json: a row of the catalog
    """The part of a recipe that only the catalog knows: what a build holds its machine against."""
    toolkit = toolkit_row(catalog, cuda_series) or {}
    place: Json = catalog.platforms["platforms"].get(platform, {})
    gcc = place.get("gcc", {"available": []})["available"]
    dnn = row["dnn_cuda"]
    return {
        "capability_min": dnn["capability_min"],
        "cudnn": dnn["cudnn"],
        "cuda": dnn["cuda"],
        "cmake_min": row["cmake_min"],
        "gcc": {"min": toolkit.get("gcc_min"), "max": toolkit.get("gcc_max")},
        "gcc_packages": [f"g++-{n}" for n in sorted(gcc, key=int, reverse=True)],
        "clash_from_glibc": headers_clash(catalog, cuda_series),
        "integrated": sorted(set(integrated(catalog)), key=capability),
    }


def newest_for(catalog: Catalog, cuda_series: str, cudnn: str, cards: Sequence[str]) -> str:
    """The newest OpenCV release that reads Darknet networks and takes this toolkit, this cuDNN and these cards."""
    fit = [
        r["version"]
        for r in catalog.opencv["releases"]
        if r["darknet_importer"] and takes(r, cuda_series, cudnn, cards)
    ]
    if not fit:
        raise failure(
            "B-opencv-without-cuda",
            f"No OpenCV of the catalog takes CUDA {cuda_series} with cuDNN {cudnn} and cards of {', '.join(cards)}.",
            "gpuhost plan --gpu ... names a set that fits together.",
        )
    return str(max(fit, key=version))


def takes(row: Json, cuda_series: str, cudnn: str, cards: Sequence[str]) -> bool:  # Json: a row of the catalog
    """Return whether a release takes this toolkit, this cuDNN and these cards, by the catalog."""
    dnn: Any = row["dnn_cuda"]
    if dnn is None or not sources_of(row):
        return False
    return (
        within(cuda_series, dnn["cuda"])
        and within(cudnn, dnn["cudnn"])
        and all(capability(c) >= capability(dnn["capability_min"]) for c in cards)
    )


def bounds(catalog: Catalog, plan: Plan) -> Bounds:
    """What a lock keeps of the recipe beside its plan."""
    row = row_of(catalog, present(plan["opencv"])["version"])
    return limits(catalog, row, present(plan["cuda"])["series"], plan["platform"])


def of_lock(lock: Lock) -> Recipe:
    """The recipe of a host's lock, from the lock alone."""
    part = built(lock["plan"])
    return Recipe(
        opencv=part["version"],
        package_version=package_version(part["version"], part["artifacts"]),
        sources=part["artifacts"],
        cards=part["cuda_arch_bin"],
        platform=lock["plan"]["platform"],
        **present(lock["contents"]["opencv"]["build"]),
    )
