"""CUDA and cuDNN: the rows of a lock, made from the catalog, and from a lock what a host is to install.

A row says how a release is installed: NVIDIA's installer with its options, NVIDIA's tarball, or the wheels by hash. The
file of the planned release itself stands in the plan. Controller side and pure but for reading `data/wheels/`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple, cast

from ..errors import CatalogError, RefusedError, UsageError
from ..shapes.lock import (
    Lock,
    Plan,
    PlannedTensorflow,
    RunfileRow,
    ToolkitKind,
    ToolkitName,
    ToolkitRow,
    WheelsLock,
    WheelsRow,
)
from ..types import Json, present
from .catalog import WHEELS, checked, digest, names, shipped, wheels_name
from .versions import version as parsed

#: Links of a generation, as patterns of the shell, that only a lock with a card has.
GPU_ONLY = ("cuda", "cuda-*", "cudnn")
LOCKS = WHEELS
SOURCES = ("runfile", "wheels")
KINDS: Dict[ToolkitName, ToolkitKind] = {"cuda": "runfile", "cudnn": "tarball"}
#: How a kind is named to a person, and what asks for it.
TITLES = {"runfile": "from NVIDIA's installer", "tarball": "from NVIDIA's tarball", "wheels": "from NVIDIA's wheels"}


# From the catalog, when a lock is made


def lock_names(folder: Path = LOCKS) -> List[str]:
    """The names of all locks of wheels, sorted: cuda-12.5.1, cudnn-9.10.2.21-cu12."""
    return names(folder)


def load_wheels(name: str, folder: Path = LOCKS) -> WheelsLock:
    """Read one lock of wheels; `CatalogError` when it is missing, damaged or speaks of another thing."""
    path = folder / f"{name}.json"
    lock = cast(WheelsLock, checked(path, "wheels"))
    said = wheels_name(lock["component"], lock["version"], lock["cuda"])
    if said != name:
        restore = "Restore it from git, or make it again with tools/lock_wheels.py."
        raise CatalogError(f"The lock of wheels {path.name} says that it is {said}.", restore)
    return lock


def own_locks(tensorflow: PlannedTensorflow) -> List[str]:
    """The names of the locks of wheels for the toolkit that TensorFlow has of its own, by its part of a plan."""
    cuda, cudnn = tensorflow.get("cuda"), tensorflow.get("cudnn")
    if not cuda or not cudnn:
        return []
    return [wheels_name("cuda", cuda["version"], ""), wheels_name("cudnn", cudnn["version"], cuda["version"])]


def from_wheels(component: ToolkitName, name: str) -> WheelsRow:
    """The row of a lock of wheels."""
    if name not in lock_names():
        there = ", ".join(n for n in lock_names() if n.startswith(component + "-"))
        step = f"There are: {there}. tools/lock_wheels.py makes one; or take NVIDIA's own file: -e cuda_source=runfile"
        raise CatalogError(f"No lock of wheels for {name} comes with this release.", step)
    lock = load_wheels(name)
    packages = lock["packages"]
    return {
        "name": component,
        "version": lock["version"],
        "kind": "wheels",
        "compiler": lock["compiler"],
        "room": lock["unpacked"] + sum(p["size"] for p in packages),
        "packages": packages,
    }


def row(plan: Plan, name: ToolkitName, version: str, kind: ToolkitKind) -> ToolkitRow:
    """The row of a release of CUDA or cuDNN, from the catalog."""
    if name == "cudnn":
        if kind == "wheels":
            return from_wheels("cudnn", wheels_name("cudnn", version, present(plan["cuda"])["version"]))
        return {"name": "cudnn", "version": version, "kind": "tarball"}
    rows = {r["version"]: r for r in shipped().cuda["releases"]}
    if version not in rows:
        raise UsageError(f"The catalog knows no CUDA {version}.", f"It knows {', '.join(rows)}.")
    if kind == "wheels":
        return from_wheels("cuda", wheels_name("cuda", version, ""))
    rules = shipped().cuda["installer"]
    made: RunfileRow = {
        "name": "cuda",
        "version": version,
        "kind": "runfile",
        "options": rules["from_10_1" if parsed(version) >= parsed("10.1") else "before_10_1"],
        "archive": [n["package"] for n in rules["needs"] if applies(n, version)],
    }
    if planned(plan, name, version, kind):
        return made
    file = rows[version]["runfile"]
    return {**made, "file": {"name": file["file"], "url": file["url"], "sha256": file["sha256"]}}


def applies(need: Mapping[str, Any], wanted: str) -> bool:  # Json: a row of the catalog
    """Return whether a release's installer needs this package of the archive."""
    above = parsed(wanted) >= parsed(need.get("from", "0"))
    return above and ("before" not in need or parsed(wanted) < parsed(need["before"]))


# What is wanted of a plan


def chosen(plan: Plan, source: str) -> str:
    """`runfile` or `wheels`: what the user says, else the plan."""
    if source and source not in SOURCES:
        raise UsageError(f"cuda_source is {source!r}.", f"Write one of: {', '.join(SOURCES)}, or leave it out.")
    return source or present(plan["cuda"])["source"]


def kind_of(plan: Plan, name: ToolkitName, source: str) -> ToolkitKind:
    """How CUDA or cuDNN comes: `wheels`, or NVIDIA's own file, which is of another kind for each."""
    return "wheels" if chosen(plan, source) == "wheels" else KINDS[name]


def wanted(
    plan: Plan, name: ToolkitName, source: str = "", extra: Sequence[str] = ()
) -> List[Tuple[ToolkitName, str, ToolkitKind]]:
    """Name what is to be installed as CUDA or cuDNN (name, version, kind): the planned one first, then the others."""
    part = plan[name]
    if part is None:
        return []
    for text in extra:
        if not isinstance(text, str):
            raise UsageError(f"cuda_extra has {text} without quotes.", 'Write it as in cuda_extra: ["10.0.130"].')
    kind = kind_of(plan, name, source)
    return [(name, str(version), kind) for version in dict.fromkeys([part["version"], *extra])]


def planned(plan: Plan, name: ToolkitName, version: str, kind: ToolkitKind) -> bool:
    """Return whether a release is the planned one by the planned way, so that the plan has its file."""
    part = plan[name]
    return part is not None and part["version"] == version and kind == kind_of(plan, name, "") != "wheels"


# From a lock


def spec(
    lock: Lock,
    name: ToolkitName,
    version: str,
    kind: ToolkitKind,
) -> Json:  # Json: as host.toolkit.install takes it
    """Return what `host.toolkit.install` makes of a release, from the lock alone; `RefusedError` where it has none."""
    found = [r for r in lock["contents"]["toolkits"] if (r["name"], r["version"], r["kind"]) == (name, version, kind)]
    if not found:
        title = {"cuda": "CUDA", "cudnn": "cuDNN"}[name]
        raise RefusedError(
            f"The lock has no {title} {version} {TITLES[kind]}.",
            "playbooks/plan.yml takes it into the lock where this release of gpuhost has it (cuda_source, cuda_extra).",
        )
    return specified(lock["plan"], found[0])


def specified(plan: Plan, row: ToolkitRow) -> Json:  # Json: as host.toolkit.install takes it
    """Return a row as `host.toolkit.install` takes it: with its file, and the digest that names its folder."""
    made = {"archive": [], **row}
    if row["kind"] == "wheels":
        return {**made, "digest": digest([p for p in row["packages"] if p["name"] != "pip"])}
    part: Mapping[str, Any] = plan[row["name"]] or {}
    file = row.get("file") or {"name": part["file"], "url": part["url"], "sha256": part["sha256"]}
    if row["kind"] == "tarball":
        return {**made, "file": file, "digest": digest([file["sha256"]])}
    return {**made, "compiler": True, "file": file, "digest": digest([file["sha256"], row["options"]])}


def series(version: str) -> str:
    """The name that a toolkit has in a generation beside `cuda`: cuda-11.8."""
    return "cuda-" + ".".join(version.split(".")[:2])


def links(plan: Plan, folders: Dict[str, str]) -> Dict[str, str]:
    """The links of a generation for the installed toolkits (version -> store folder)."""
    locked = present(plan["cuda"])["version"]
    found = {series(v): folder for v, folder in folders.items() if v != locked}
    if locked in folders:
        found.update({"cuda": folders[locked], series(locked): folders[locked]})
    return found


def without(plan: Plan, removed: Any) -> List[str]:
    """The links that removing a version (or all) takes out of the generation; the locked one goes only with all."""
    if removed == "all":
        return list(GPU_ONLY)
    if not isinstance(removed, str) or not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6}){1,3}", removed):
        raise UsageError(
            f"cuda_remove is {removed!r}, which is not a version." if removed else "Nothing is named to be removed.",
            "Give the version as in -e cuda_remove=10.0.130",
        )
    if plan["cuda"] and series(removed) == series(plan["cuda"]["version"]):
        step = "Remove another, or all of them: -e cuda_remove=all"
        raise UsageError(f"CUDA {removed} is the locked toolkit, or shares its name {series(removed)}.", step)
    return [series(removed)]
