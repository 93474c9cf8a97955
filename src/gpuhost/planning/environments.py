"""The locked Python environments of a target: the exact files that `opencv_cuda` and `dl4cv` consist of.

Controller side. A lock is one JSON file under `data/environments/`, made by `tools/lock_environment.py` after
the schema `data/environment.schema.json`. Everything here is pure but for reading that folder.
"""

from __future__ import annotations

from typing import List, Sequence, cast

from ..errors import CatalogError, RefusedError
from ..host.venvs import BUILD_TOOLS, requirements
from ..shapes.lock import CatalogEnvironment, LockedEnvironment, LockedPackage, PlannedTensorflow
from ..types import present
from . import toolkits
from .catalog import ENVIRONMENTS, checked, digest, names

LOCKS = ENVIRONMENTS


def lock_name(environment: str, component: str, version: str, tag: str) -> str:
    """Name a lock (its file name without `.json`), e.g. `dl4cv-tensorflow-2.13.1-cp38`."""
    return f"{environment}-{component}-{version}-{tag}"


def with_engines(name: str) -> str:
    """Name the lock that adds the detector's optional engines to the environment of the lock `name`, whether it
    is there or not: `opencv_cuda-opencv-…` becomes `opencv_cuda_engines-opencv-…`.
    """
    environment, _, rest = name.partition("-")
    return f"{environment}_engines-{rest}"


def chosen(name: str, engines: bool) -> str:
    """Name the lock to install for the lock `name`, with the engines or without; RefusedError when the catalog
    holds none with them.
    """
    if not engines or with_engines(name) in environment_names():
        return with_engines(name) if engines else name
    there = [one for one in environment_names() if one.startswith("opencv_cuda_engines-")]
    raise RefusedError(
        f"No locked environment joins ONNX Runtime and OpenVINO to {name}.",
        next_step=f"Leave opencv_engines out. There are: {', '.join(there) or 'none'}.",
    )


def environment_names() -> List[str]:
    """List the names of all locks that the catalog holds, sorted."""
    return names(LOCKS)


def load_environment(name: str) -> CatalogEnvironment:
    """Read one lock by its name; CatalogError when it is missing, damaged or says another name."""
    path = LOCKS / f"{name}.json"
    if name not in environment_names():
        raise CatalogError(
            f"The catalog holds no environment lock named {name!r}.",
            next_step=f"Choose one of: {', '.join(environment_names()) or 'none is there'}.",
        )
    restore = f"Restore it from git, or make it again with tools/lock_environment.py: {path}"
    try:
        lock = cast(CatalogEnvironment, checked(path, "environment"))
    except CatalogError as error:
        raise CatalogError(f"The environment lock {name} is damaged. {error.message}", next_step=restore) from None
    said = lock_name(lock["environment"], lock["component"], lock["version"], lock["tag"])
    if said != name:
        raise CatalogError(f"The environment lock {name} says that it is {said}.", next_step=restore)
    return lock


def of_tensorflow(part: PlannedTensorflow) -> CatalogEnvironment:
    """Return the lock of TensorFlow's environment for TensorFlow's part of a plan.

    If that part names a toolkit of TensorFlow's own, the lock includes NVIDIA's wheels of it.
    """
    lock = load_environment(present(part["environment"]))
    own = [toolkits.load_wheels(name) for name in toolkits.own_locks(part)]
    wheels: List[LockedPackage] = [{**p, "kind": "wheel"} for one in own for p in one["packages"] if p["name"] != "pip"]
    return {**lock, "packages": sorted([*lock["packages"], *wheels], key=lambda package: str(package["name"]))}


def _requirement_lines(packages: Sequence[LockedPackage]) -> str:
    """Write packages as pip requirements, one a line, each bound to its file by sha256; sorted by name."""
    return requirements(sorted(packages, key=lambda package: str(package["name"])))


def requirements_text(lock: LockedEnvironment) -> str:
    """Write the whole lock as a pip requirements file with hashes.

    Install it with `--require-hashes --no-deps --no-build-isolation`, after `bootstrap_text`.
    """
    return _requirement_lines(lock["packages"])


def bootstrap_text(lock: LockedEnvironment) -> str:
    """Write the part of the lock that goes in first: pip, and setuptools and wheel where the lock has them.

    An sdist is built with these locked tools, not with whatever pip would fetch for the build.
    """
    return _requirement_lines([row for row in lock["packages"] if row["name"] in BUILD_TOOLS])


def lock_digest(lock: LockedEnvironment) -> str:
    """Name what the lock installs: the first 12 hex digits of the sha256 over its packages and Python.

    The order of packages and keys, and when or with what the lock was made, do not change it.
    """
    content = {
        "packages": sorted(lock["packages"], key=lambda package: str(package["name"])),
        "python": lock["python"],
    }
    return digest(content)
