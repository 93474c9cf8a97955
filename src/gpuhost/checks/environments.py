"""What the checks of the two virtual environments share: what must be in them, and whether it is."""

from __future__ import annotations

import fnmatch
import re
import shlex
from typing import Any, Dict, List, Mapping

from ..errors import CatalogError
from ..host.store import MARKER
from ..planning import opencv as opencv_plan
from ..planning.catalog import Json
from ..planning.environments import environment_names, load_environment, lock_digest, with_engines
from .base import INSTALL, Outcome, held, on_host
from .lock import installed

#: The environment that each component lives in.
ENVIRONMENTS = {"opencv": "opencv_cuda", "tensorflow": "dl4cv"}
#: What venv itself puts into a fresh environment, and Debian's venv on top: there without being locked.
SEEDED = frozenset({"pip", "setuptools", "wheel", "pkg-resources"})


def built(plan: Json) -> Json:
    """What opencv_cuda must hold where OpenCV is built: the environment's own packages, and a wheel of the locked
    sources for the locked CUDA. Its version ends with the cards and a key, which the lock does not know.
    """
    name = opencv_plan.run_environment(plan)
    packages = {p["name"]: p["version"] for p in load_environment(name)["packages"]}
    series = plan["cuda"]["series"].replace(".", "")
    # The tarballs of an older release are no package and have the release's own version.
    version = plan["opencv"]["artifacts"][0].get("package_version", plan["opencv"]["version"])
    packages[opencv_plan.CV2] = f"{version}+cuda{series}.*"
    return {"name": f"{name} with the OpenCV that is built here", "digest": None, "packages": packages}


def locked(lock: Json, links: Mapping[str, Any]) -> Dict[str, Json]:
    """What each environment must hold by a lock: name, digest (None where OpenCV is built on the host) and packages;
    an `error` when the catalog has no such environment.

    The detector's engines are the host's own choice: where the generation's link (of `links`) leads to the
    environment that the lock names with them added, that one is what it is held against."""
    found: Dict[str, Json] = {}
    for component, environment in ENVIRONMENTS.items():
        name = lock["plan"][component].get("environment")
        try:
            if name is None and lock["plan"][component].get("source", "wheel") == "wheel":
                raise CatalogError(f"The lock names no environment for {component}.", "Plan anew.")
            if name is None:
                found[environment] = built(lock["plan"])
                continue
            row = load_environment(name)
            more = with_engines(name)
            if more in environment_names():
                other = load_environment(more)
                if lock_digest(other) == (links.get(f"venvs/{environment}") or {}).get("digest"):
                    name, row = more, other
        except CatalogError as error:
            found[environment] = {"name": name or "", "error": str(error)}
        else:
            packages = {p["name"]: p["version"] for p in row["packages"]}
            found[environment] = {"name": name, "digest": lock_digest(row), "packages": packages}
    return found


def again(seen: Json, environment: str) -> str:
    """What makes an environment anew: without its marker a folder of the store counts as unfinished."""
    target = installed(seen)["links"][f"venvs/{environment}"]["target"]
    marker = shlex.quote(f"{installed(seen)['root']}/{target}/{MARKER}")
    return on_host(f"rm {marker}", INSTALL)


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def deviations(wanted: Dict[str, str], found: Dict[str, List[str]]) -> List[str]:
    """Where the installed packages are not exactly the locked ones, each named with both versions.

    A locked version that ends with `.*` is a wheel built on the host.
    """
    there: Dict[str, List[str]] = {}
    for name, versions in found.items():
        there.setdefault(normal(name), []).extend(versions)
    told = []
    for name, version in sorted(wanted.items()):
        versions = there.pop(normal(name), [])
        if not versions:
            told.append(f"{name} {version} is missing")
        elif len(versions) > 1 or not fnmatch.fnmatchcase(versions[0], version):
            told.append(f"{name} is {' and '.join(versions)}, locked is {version}")
    told += [
        f"{name} {' and '.join(versions)} is not locked"
        for name, versions in sorted(there.items())
        if name not in SEEDED
    ]
    return told


def packages(component: str, seen: Json) -> Outcome:
    """Is every package of the environment the locked one?"""
    environment = ENVIRONMENTS[component]
    probed, wanted = seen["environments"][environment], seen["locked"][environment]
    if "error" in wanted:
        return held(False, "the locked packages", wanted["error"], "Use the gpuhost that made the lock, or plan anew.")
    required = f"the {len(wanted['packages'])} packages of {wanted['name']}"
    if probed.get("packages") is None:
        return held(False, required, probed["error"], again(seen, environment))
    told = deviations(wanted["packages"], probed["packages"])
    more = f"; {len(told) - 4} more" if len(told) > 4 else ""
    return held(not told, required, "; ".join(told[:4]) + more if told else "exactly these", again(seen, environment))
