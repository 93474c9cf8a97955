"""What a host is to install as CUDA or cuDNN, from its plan and the catalog, in the form that `toolkits` takes.

Controller side and pure but for reading the locks of wheels under `data/wheels/`, which `tools/lock_wheels.py` makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Sequence

from ..errors import CatalogError, UsageError
from ..types import Json
from .catalog import WHEELS, checked, digest, names, shipped
from .versions import version as parsed

#: Links of a generation, as patterns of the shell, that only a lock with a card has.
GPU_ONLY = ("cuda", "cuda-*", "cudnn")
LOCKS = WHEELS
SOURCES = ("runfile", "wheels")


def lock_names(folder: Path = LOCKS) -> List[str]:
    """The names of all locks of wheels, sorted: cuda-12.5.1, cudnn-9.10.2.21-cu12."""
    return names(folder)


def load_wheels(name: str, folder: Path = LOCKS) -> Json:
    """Read one lock of wheels; `CatalogError` when it is missing, damaged or speaks of another thing."""
    path = folder / f"{name}.json"
    lock = checked(path, "wheels")
    suffix = f"-cu{lock['cuda']}" if lock["component"] == "cudnn" else ""
    said = f"{lock['component']}-{lock['version']}{suffix}"
    if said != name:
        restore = "Restore it from git, or make it again with tools/lock_wheels.py."
        raise CatalogError(f"The lock of wheels {path.name} says that it is {said}.", restore)
    return lock


def own_locks(tensorflow: Json) -> List[str]:
    """The names of the locks of wheels for the toolkit that TensorFlow has of its own, by its part of a plan."""
    cuda, cudnn = tensorflow.get("cuda"), tensorflow.get("cudnn")
    if not cuda or not cudnn:
        return []
    return [f"cuda-{cuda['version']}", f"cudnn-{cudnn['version']}-cu{cuda['version'].split('.')[0]}"]


def from_wheels(component: str, name: str) -> Json:
    """The specification of a lock of wheels."""
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
        "packages": packages,
        "archive": [],
        "room": lock["unpacked"] + sum(p["size"] for p in packages),
        "digest": digest([p for p in packages if p["name"] != "pip"]),
    }


def chosen(plan: Json, source: str) -> str:
    """`runfile` or `wheels`: what the user says, else the plan."""
    if source and source not in SOURCES:
        raise UsageError(f"cuda_source is {source!r}.", f"Write one of: {', '.join(SOURCES)}, or leave it out.")
    return source or str(plan["cuda"]["source"])


def cuda(plan: Json, source: str = "", version: str = "") -> Json:
    """The specification of the locked toolkit, or of another `version` of the catalog beside it."""
    wanted = version or str(plan["cuda"]["version"])
    rows = {r["version"]: r for r in shipped().cuda["releases"]}
    if wanted not in rows:
        raise UsageError(f"The catalog knows no CUDA {wanted}.", f"It knows {', '.join(rows)}.")
    if chosen(plan, source) == "wheels":
        return from_wheels("cuda", f"cuda-{wanted}")
    rules = shipped().cuda["installer"]
    options = rules["from_10_1" if parsed(wanted) >= parsed("10.1") else "before_10_1"]
    # The lock is what the roles obey: the catalog only knows the toolkits beside it.
    locked = plan["cuda"]["source"] == "runfile" and wanted == plan["cuda"]["version"]
    file = plan["cuda"] if locked else rows[wanted]["runfile"]
    return {
        "name": "cuda",
        "version": wanted,
        "kind": "runfile",
        "compiler": True,
        "options": options,
        "file": {"name": file["file"], "url": file["url"], "sha256": file["sha256"]},
        "archive": [n["package"] for n in rules["needs"] if applies(n, wanted)],
        "digest": digest([file["sha256"], options]),
    }


def applies(need: Json, wanted: str) -> bool:
    """Return whether a release's installer needs this package of the archive."""
    above = parsed(wanted) >= parsed(need.get("from", "0"))
    return above and ("before" not in need or parsed(wanted) < parsed(need["before"]))


def cudnn(plan: Json, source: str = "") -> Json:
    """The specification of the locked cuDNN; it comes the way the toolkit does."""
    part = plan["cudnn"]
    if chosen(plan, source) == "wheels":
        return from_wheels("cudnn", f"cudnn-{part['version']}-cu{plan['cuda']['version'].split('.')[0]}")
    return {
        "name": "cudnn",
        "version": part["version"],
        "kind": "tarball",
        "file": {"name": part["file"], "url": part["url"], "sha256": part["sha256"]},
        "archive": [],
        "digest": digest([part["sha256"]]),
    }


def extras(plan: Json, source: str, versions: Sequence[str]) -> List[Json]:
    """The specifications of the toolkits to have beside the locked one, which itself is no extra."""
    for text in versions:
        if not isinstance(text, str):
            raise UsageError(f"cuda_extra has {text} without quotes.", 'Write it as in cuda_extra: ["10.0.130"].')
    return [cuda(plan, source, v) for v in dict.fromkeys(versions) if v != plan["cuda"]["version"]]


def series(version: str) -> str:
    """The name that a toolkit has in a generation beside `cuda`: cuda-11.8."""
    return "cuda-" + ".".join(version.split(".")[:2])


def links(plan: Json, folders: Dict[str, str]) -> Dict[str, str]:
    """The links of a generation for the installed toolkits (version -> store folder)."""
    locked = plan["cuda"]["version"]
    found = {series(v): folder for v, folder in folders.items() if v != locked}
    if locked in folders:
        found.update({"cuda": folders[locked], series(locked): folders[locked]})
    return found


def without(plan: Json, removed: Any) -> List[str]:
    """The links that removing a version (or all) takes out of the generation; the locked one goes only with all."""
    if removed == "all":
        return list(GPU_ONLY)
    if not isinstance(removed, str) or not removed:
        raise UsageError("Nothing is named to be removed.", "Give the version as in -e cuda_remove=10.0.130")
    if plan.get("cuda") and series(removed) == series(plan["cuda"]["version"]):
        step = "Remove another, or all of them: -e cuda_remove=all"
        raise UsageError(f"CUDA {removed} is the locked toolkit, or shares its name {series(removed)}.", step)
    if not any(r["version"] == removed for r in shipped().cuda["releases"]):
        raise UsageError(f"The catalog knows no CUDA {removed!r}.", "Give the version as in -e cuda_remove=10.0.130")
    return [series(removed)]
