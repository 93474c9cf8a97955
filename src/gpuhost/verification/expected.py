"""What the checks expect of a host, computed on the controller from its lock and the catalog.

The checks get it as plain data beside what was collected, so that they need neither a lock's schema nor a catalog.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from ..checks.benchmark import device
from ..checks.environments import ENVIRONMENTS
from ..checks.opencv import CV2
from ..errors import CatalogError, LockError
from ..planning import lock as locks
from ..planning import opencv as opencv_plan
from ..planning.catalog import shipped
from ..planning.environments import environment_names, load_environment, lock_digest, of_tensorflow, with_engines
from ..planning.preflight import platform_row
from ..types import Json
from ..versions import release


def expected(lock: Optional[Json], machine: Json) -> Json:
    """Return what a host has to be; `lock` is the inventory's and `machine` what was read of the host.

    `platforms`      the names of the platforms that the catalog knows
    `platform`       the catalog's row of the host's, as `checks.sources` takes it; None for an unknown one
    `in_force`       the lock of the generation in force; None without one, or when its record is damaged

    and by the lock that the host is held against, which is the one in force, else the inventory's:

    `environments`   what each environment must hold (`environments`)
    `device`         the device of the benchmark
    `cuda`           the catalog's row of the toolkit; None where it has none
    `tensorflow`     the series of CUDA and cuDNN that TensorFlow was built with; empty where they are not known
    `sonames`        the libraries that TensorFlow loads by name

    Of a host that cannot be read nothing is expected, and without a lock only a known platform.
    """
    if "error" in machine:
        return {}
    found: Json = {
        "platforms": list(shipped().platforms["platforms"]),
        "platform": platform_row(shipped(), machine["observation"]),
        "in_force": in_force(machine["installed"]["stack"]),
    }
    if lock is None:
        return found
    obeyed = found["in_force"] or lock
    return {
        **found,
        "environments": environments(obeyed, machine["installed"]["links"]),
        "device": device(obeyed),
        "cuda": toolkit(obeyed),
        "tensorflow": tested(obeyed),
        "sonames": sonames(obeyed),
    }


def in_force(stack: Any) -> Optional[Json]:
    """Return the record of the generation in force as a lock; None when there is none, or it is damaged."""
    try:
        return locks.check(stack, "in force")
    except LockError:
        return None


def toolkit(lock: Json) -> Optional[Json]:
    """Return the catalog's row of the locked toolkit."""
    version = (lock["plan"]["cuda"] or {}).get("version")
    return next((row for row in shipped().cuda["releases"] if row["version"] == version), None)


def built(plan: Json) -> Json:
    """What opencv_cuda must hold where OpenCV is built: the environment's own packages, and a wheel of the locked
    sources for the locked CUDA. Its version ends with the cards and a key, which the lock does not know.
    """
    name = opencv_plan.run_environment(plan)
    packages = {p["name"]: p["version"] for p in load_environment(name)["packages"]}
    series = plan["cuda"]["series"].replace(".", "")
    # The tarballs of an older release are no package and have the release's own version.
    version = plan["opencv"]["artifacts"][0].get("package_version", plan["opencv"]["version"])
    packages[CV2] = f"{version}+cuda{series}.*"
    return {"name": f"{name} with the OpenCV that is built here", "digest": None, "packages": packages}


def environments(lock: Json, links: Mapping[str, Any]) -> Dict[str, Json]:
    """What each environment of a lock must hold: name, digest (None where OpenCV is built on the host) and packages;
    an `error` when the catalog has no such environment.

    The detector's engines are the host's own choice: where the generation's link (of `links`) leads to the
    environment that the lock names with them added, that one is what it is held against."""
    found: Dict[str, Json] = {}
    for component, environment in ENVIRONMENTS.items():
        if lock["plan"][component] is None:
            continue
        name = lock["plan"][component].get("environment")
        try:
            if name is None and lock["plan"][component].get("source", "wheel") == "wheel":
                raise CatalogError(f"The lock names no environment for {component}.", "Plan anew.")
            if name is None:
                found[environment] = built(lock["plan"])
                continue
            part = lock["plan"][component]
            row = of_tensorflow(part) if component == "tensorflow" else load_environment(name)
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


def tested(lock: Json) -> Dict[str, str]:
    """The CUDA and cuDNN series that the locked TensorFlow was built with."""
    version = (lock["plan"]["tensorflow"] or {}).get("version")
    rows = [row["tested"] for row in shipped().tensorflow["releases"] if row["version"] == version]
    return dict(rows[0]) if rows else {}


def sonames(lock: Json) -> List[str]:
    """The libraries that the locked TensorFlow loads by name when it looks for a card; none for a CPU lock.

    The figures are the libraries' own: until CUDA 10.0 the toolkit's series, since then of each its own interface.
    """
    series = tested(lock)
    if not lock["plan"]["gpus"] or not series:
        return []
    major, minor = release(series["cuda"])[:2]
    if (major, minor) < (10, 1):
        figures = dict.fromkeys(("cudart", "cublas", "cufft", "curand", "cusolver", "cusparse"), series["cuda"])
    else:
        figures = {
            "cudart": series["cuda"] if major == 10 else f"{major}.0" if major == 11 else str(major),
            "cublas": str(major),
            "cufft": "11" if major == 12 else "10",
            "curand": "10",
            "cusolver": "10" if (major, minor) <= (11, 0) else "11",
            "cusparse": str(major),
        }
    if major > 10:
        figures["cublasLt"] = str(major)
    figures["cudnn"] = str(release(series["cudnn"])[0])
    return ["libcuda.so.1", *(f"lib{name}.so.{figure}" for name, figure in figures.items())]
