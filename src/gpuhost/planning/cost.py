"""What changing a stack costs: what has to be downloaded, what is in the caches, and what has to be built.

Pure. `there` is what the module gpuhost_generation_info reads on the host. What is not known is said to be unknown.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, TypedDict, cast

from ..errors import GpuhostError
from ..shapes.answers import Generations
from ..shapes.lock import Component, Lock, LockedEnvironment, Plan, PlannedDriver, ToolkitName
from . import toolkits
from .candidates import COMPONENTS, NAMES


class CostItem(TypedDict):
    """An `Item`, for Ansible."""

    name: str
    size: Optional[int]
    cached: bool


class Cost(TypedDict):
    """What `of` returns."""

    items: List[CostItem]
    bytes: int
    unknown: List[str]
    build_s: Optional[float]
    lines: List[str]


class Item(NamedTuple):
    """What one component needs: the bytes to fetch (None: not known), or where it is already."""

    name: str
    size: Optional[int]
    cached: bool


def of(old_lock: Lock, new_lock: Lock, there: Generations) -> Cost:
    """`items` by component, `bytes` (of what is known), `unknown` (components), `build_s`, and `lines`."""
    old, new = old_lock["plan"], new_lock["plan"]
    items = [item for name in COMPONENTS if brings(name, old, new) for item in parts(name, new_lock, there)]
    unknown = [item.name for item in items if item.size is None and not item.cached]
    known = sum(item.size or 0 for item in items if not item.cached)
    build = build_seconds(new, there) if needs_build(old, new) else 0.0
    return {
        "items": [{"name": item.name, "size": item.size, "cached": item.cached} for item in items],
        "bytes": known,
        "unknown": unknown,
        "build_s": build,
        "lines": lines(items, known, unknown, build),
    }


def brings(name: Component, old: Plan, new: Plan) -> bool:
    """Return whether files of a component have to be brought. Of the same TensorFlow, the plan may only note that it
    reaches another card.
    """
    part, former = new[name], old[name]
    if part is None or part == former:
        return False
    if name != "tensorflow" or former is None:
        return True
    return any(part.get(what) != former.get(what) for what in ("environment", "cuda", "cudnn"))


def parts(name: Component, lock: Lock, there: Generations) -> List[Item]:
    """What a component of the new lock brings."""
    if name == "driver":
        part = cast(PlannedDriver, lock["plan"]["driver"])
        cached = part["sha256"] in [*there["artifacts"], *there["debs"]]
        return [Item(name, part.get("size") if part["source"] == "runfile" else None, cached)]
    if name == "cuda":
        return [toolkit("cuda", lock, there)]
    if name == "cudnn":
        return [toolkit("cudnn", lock, there)]
    return [packages(name, lock["environments"].get("opencv_cuda" if name == "opencv" else "dl4cv"), there)]


def toolkit(name: ToolkitName, lock: Lock, there: Generations) -> Item:
    """CUDA or cuDNN: it may be in the store, or its file in the cache."""
    try:
        (one,) = toolkits.wanted(lock["plan"], name)
        spec = toolkits.spec(lock, *one)
    except GpuhostError:
        return Item(name, None, False)  # the role says, with the remedy, what is missing
    if "{name}-{version}-{digest}".format(**spec) in there["store"]:
        return Item(name, 0, True)
    if spec["kind"] == "wheels":
        absent = [p for p in spec["packages"] if p["file"] not in there["wheels"]]
        return Item(name, sum(p["size"] for p in absent), not absent)
    return Item(name, None, spec["file"]["sha256"] in there["artifacts"])


def packages(name: str, environment: Optional[LockedEnvironment], there: Generations) -> Item:
    """A Python environment: the packages that are not in the cache of wheels."""
    if environment is None:
        return Item(name, None, False)  # as above
    absent = [p for p in environment["packages"] if p["file"] not in there["wheels"]]
    return Item(name, sum(p["size"] or 0 for p in absent), not absent)


def needs_build(old: Plan, new: Plan) -> bool:
    """Return whether another OpenCV has to be built. (Whether a wheel of its key is there, only the host can say, once
    it has the toolkit.)
    """
    if new["opencv"] is None or new["opencv"]["source"] == "wheel":
        return False
    return (old["opencv"], old["cuda"], old["cudnn"]) != (new["opencv"], new["cuda"], new["cudnn"])


def build_seconds(new: Plan, there: Generations) -> Optional[float]:
    """How long the build may take, by the longest that was made here; None when none was."""
    taken = there["build_seconds"]
    return max(taken.values()) if taken else None


def lines(items: List[Item], known: int, unknown: List[str], build: Optional[float]) -> List[str]:
    """The cost in words."""
    told = [f"cost: {known / 1e6:.0f} MB to download"]
    if unknown:
        told[0] += f", and what is not known beforehand: {', '.join(NAMES[name] for name in dict.fromkeys(unknown))}"
    cached = [NAMES[item.name] for item in items if item.cached]
    if cached:
        told.append(f"      in the caches of this host: {', '.join(cached)}")
    if build is None:
        told.append(
            "      OpenCV is built, unless its wheel is there; how long is not known: none was built here before"
        )
    elif build:
        told.append(
            f"      OpenCV is built, unless its wheel is there: about {build / 60:.0f} min (the longest build here)"
        )
    return told
