"""What the checks expect of a host, computed on the controller from its lock; the catalog only knows platforms.

The checks get it as plain data beside what was collected, so that they need neither a lock's schema nor a catalog.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Union, cast

from ..checks.benchmark import device
from ..checks.environments import ENVIRONMENTS
from ..checks.opencv import CV2
from ..errors import LockError, RefusedError
from ..planning import lock as locks
from ..planning import parts, recipes, service, specs
from ..planning.catalog import shipped
from ..planning.contents import ENGINES
from ..planning.environments import lock_digest
from ..planning.preflight import platform_row
from ..shapes.answers import Link, Machine, Unread
from ..shapes.lock import Lock, LockedEnvironment
from ..shapes.seen import Expected, ExpectedEnvironment, ExpectedPackages
from ..types import present
from ..versions import release


def expected(lock: Optional[Lock], machine: Union[Machine, Unread]) -> Expected:
    """Return what a host has to be; `lock` is the inventory's and `machine` what was read of the host.

    `platforms`      the names of the platforms that the catalog knows
    `platform`       the catalog's row of the host's, as `checks.sources` takes it; None for an unknown one
    `in_force`       the lock of the generation in force; None without one, or when its record is damaged

    and by the lock that the host is checked against, which is the one in force, else the inventory's:

    `environments`   what each environment must hold (`environments`)
    `device`         the device of the benchmark
    `cuda`           from which driver on the toolkit runs; None without one
    `tensorflow`     the series of CUDA and cuDNN that TensorFlow was built with; empty where they are not known
    `sonames`        the libraries that TensorFlow loads by name

    Of a host that cannot be read nothing is expected, and without a lock only a known platform.
    """
    if "error" in machine:
        return cast(Expected, {})
    found: Expected = {
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
        "cuda": obeyed["contents"]["expects"]["cuda"],
        "tensorflow": tested(obeyed),
        "sonames": sonames(obeyed),
    }


def in_force(stack: Any) -> Optional[Lock]:
    """Return the record of the generation in force as a lock; None when there is none, or it is damaged."""
    try:
        return locks.check(stack, "in force")
    except LockError:
        return None


def built(lock: Lock, served: bool) -> ExpectedPackages:
    """What opencv_cuda must hold where OpenCV is built: the environment's own packages, and a wheel of the locked
    sources for the locked CUDA. Its version ends with the cards and a key, which the lock does not know.
    """
    plan = lock["plan"]
    packages = versions(with_service(lock, specs.environment(lock, "opencv_cuda"), served))
    series, part = present(plan["cuda"])["series"].replace(".", ""), parts.built(plan)
    version = recipes.package_version(part["version"], part["artifacts"])
    packages[CV2] = f"{version}+cuda{series}.*"
    return {"name": "opencv_cuda with the OpenCV that is built here", "digest": None, "packages": packages}


def with_service(lock: Lock, held: LockedEnvironment, served: bool) -> LockedEnvironment:
    """Return an environment of OpenCV with the detection service's packages where the generation has the service."""
    return service.merged(held, specs.overlay(lock)) if served else held


def is_served(lock: Lock, links: Mapping[str, Link]) -> bool:
    """Return whether OpenCV's environment has the detection service's packages: where the generation has the service,
    and where the service alone was taken out of it, which leaves the environment as it is.
    """
    if service.OVERLAY in links or service.OVERLAY not in lock["environments"]:
        return service.OVERLAY in links
    there = links["venvs/opencv_cuda"]["digest"] if "venvs/opencv_cuda" in links else None
    own = [lock["environments"][name] for name in ("opencv_cuda", ENGINES) if name in lock["environments"]]
    return any(lock_digest(with_service(lock, held, True)) == there for held in own)


def versions(environment: LockedEnvironment) -> Dict[str, str]:
    """The packages of an environment with their versions."""
    return {p["name"]: p["version"] for p in environment["packages"]}


def environments(lock: Lock, links: Mapping[str, Link]) -> Dict[str, ExpectedEnvironment]:
    """What each environment of a lock must hold: name, digest (None where OpenCV is built on the host) and packages;
    an `error` when the lock has no such environment. `left`, where there is one, is what it may hold as well: a service
    that was taken out alone leaves its packages, and where OpenCV is built no digest tells whether there was one.

    The detector's engines are the host's own choice: where the generation's link (of `links`) leads to the
    environment that has them, that one is what it is checked against. So is the detection service (`is_served`).
    """
    found: Dict[str, ExpectedEnvironment] = {}
    served = is_served(lock, links)
    for component, environment in ENVIRONMENTS.items():
        part, link = lock["plan"][component], links.get(f"venvs/{environment}")
        if part is None:
            continue
        try:
            if part.get("source", "wheel") != "wheel":
                wanted = built(lock, served)
                if not served and service.OVERLAY in lock["environments"]:
                    wanted["left"] = built(lock, True)["packages"]
                found[environment] = wanted
                continue
            name, held = environment, specs.environment(lock, environment)
            engines = lock["environments"].get(ENGINES) if component == "opencv" else None
            if component == "opencv":
                held = with_service(lock, held, served)
                engines = engines and with_service(lock, engines, served)
            if engines and link and lock_digest(engines) == link["digest"]:
                name, held = ENGINES, engines
        except RefusedError as error:
            found[environment] = {"name": environment, "error": str(error)}
        else:
            told = f"{name} for Python {held['python']}"
            found[environment] = {"name": told, "digest": lock_digest(held), "packages": versions(held)}
    return found


def tested(lock: Lock) -> Dict[str, str]:
    """The CUDA and cuDNN series that the locked TensorFlow was built with."""
    found = lock["contents"]["expects"]["tensorflow"]
    return {"cuda": found["cuda"], "cudnn": found["cudnn"]} if found else {}


def sonames(lock: Lock) -> List[str]:
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
