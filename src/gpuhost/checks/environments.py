"""What the checks of the two virtual environments share: what must be in them, and whether it is."""

import fnmatch
import re
import shlex
from typing import TYPE_CHECKING, Dict, List

from ..host.store import MARKER
from ..text import few
from .base import INSTALL, Outcome, held, on_host
from .lock import installed, obeyed

if TYPE_CHECKING:
    from ..shapes.lock import Framework
    from ..shapes.seen import Seen

#: The environment that each component lives in.
ENVIRONMENTS: "Dict[Framework, str]" = {"opencv": "opencv_cuda", "tensorflow": "dl4cv"}
#: What venv itself puts into a fresh environment, and Debian's venv on top: there without being locked.
SEEDED = frozenset({"pip", "setuptools", "wheel", "pkg-resources"})


def again(seen: "Seen", environment: str) -> str:
    """Return the remedy that makes an environment again: without its marker a folder of the store is unfinished."""
    target = installed(seen)["links"][f"venvs/{environment}"]["target"]
    marker = shlex.quote(f"{installed(seen)['root']}/{target}/{MARKER}")
    # It is made under its own name, because a virtual environment has its path in its files.
    return on_host(f"rm {marker} # the environment is made again where it is: nothing can use it until then", INSTALL)


def own_toolkit(seen: "Seen") -> bool:
    """Return whether TensorFlow has CUDA libraries of its own, in its environment."""
    part = obeyed(seen)["plan"]["tensorflow"]
    return part is not None and bool(part.get("cuda"))


def loaded(component: "Framework", seen: "Seen") -> Dict[str, str]:
    """The files of CUDA's libraries that an environment has loaded, or would load by their names, each with the name
    under which the linker found it. The driver's own library is none of them.
    """
    probed = seen["environments"][ENVIRONMENTS[component]]
    names = probed["computed"].get("found_as") or {}
    found = {str(file): str(names.get(file, file)) for file in probed["computed"]["mapped"]}
    rows = [row for name, row in (probed.get("libraries") or {}).items() if not name.startswith("libcuda.so")]
    return {**found, **{str(row["real"]): str(row["path"]) for row in rows if row.get("real")}}


def strangers(component: "Framework", seen: "Seen") -> Dict[str, str]:
    """Those of them that are not meant for the environment."""
    links = installed(seen)["links"]
    if component == "tensorflow" and own_toolkit(seen):
        places = [seen["environments"]["dl4cv"]["prefix"].rstrip("/") + "/"]
    else:
        places = [f"/{links[name]['target']}/" for name in ("cuda", "cudnn") if name in links]
    return {file: name for file, name in loaded(component, seen).items() if not any(place in file for place in places)}


def libraries(component: "Framework", seen: "Seen") -> Outcome:
    """Check that an environment has loaded the CUDA libraries that are meant for it, and no others.

    These are the host's toolkit and cuDNN, or for TensorFlow what its environment holds where the lock says so. The
    latter are loaded with TensorFlow (`host.own_libraries`), whether there is a card or not.
    """
    environment, own = ENVIRONMENTS[component], component == "tensorflow" and own_toolkit(seen)
    required = "the CUDA libraries of " + ("its own environment" if own else "the host's toolkit")
    foreign = list(strangers(component, seen).values())
    if own and not seen["environments"][environment]["computed"]["mapped"]:
        return held(False, required, "it has loaded none of them", again(seen, environment))
    there = len(loaded(component, seen))
    actual = f"it has loaded {few(foreign, 2)}" if foreign else f"{there} files of these are loaded"
    return held(not foreign, required, actual, again(seen, environment))


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


def packages(component: "Framework", seen: "Seen") -> Outcome:
    """Check that every package of the environment is the locked one."""
    environment = ENVIRONMENTS[component]
    probed, wanted = seen["environments"][environment], seen["expected"]["environments"][environment]
    if "error" in wanted:
        return held(False, "the locked packages", wanted["error"], "Use the gpuhost that made the lock, or plan again.")
    required = f"the {len(wanted['packages'])} packages of {wanted['name']}"
    if probed.get("packages") is None:
        return held(False, required, probed["error"], again(seen, environment))
    told = deviations(wanted["packages"], probed["packages"])
    if "left" in wanted and not deviations(wanted["left"], probed["packages"]):
        told = []
    return held(not told, required, few(told) or "exactly these", again(seen, environment))
