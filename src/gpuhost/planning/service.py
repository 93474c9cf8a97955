"""What the detection service is given: its packages, merged into the environment of OpenCV, and its settings. Pure.

The packages are one list for each Python (`data/environments/service-...`), whatever OpenCV they stand beside. They are
merged when an environment is installed, into one list with one digest, so that the service's packages come into force
and go back with everything else of the environment.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any, Dict, List, Mapping, Sequence

from ..checks.benchmark import device as device_of
from ..errors import RefusedError, UsageError
from ..host.service.places import KEYS, MODELS, STATE
from ..host.venvs import BUILD_TOOLS
from ..service.settings import NUMBERS
from ..shapes.lock import CatalogEnvironment, Lock, LockedEnvironment, Plan
from ..types import Json
from .catalog import shipped
from .environments import environment_names, load_environment
from .versions import version

#: The packages' environment in a lock, and the start of their file's name in the catalog.
OVERLAY, PREFIX = "service", "service-fastapi-"
#: The limits that may be set for the service, and the defaults.
LIMITS: Dict[str, Any] = {name: row.default for name, row in NUMBERS.items() if name != "probe_s"}
#: Those of the proxy and of systemd.
OUTER: Dict[str, Any] = {"rate": 20, "connections": 8, "memory": "4G", "wait_s": 180}
#: What a network of the user's consists of, by its kind.
PARTS = {"cfg": ("cfg", "weights", "names"), "onnx": ("onnx", "names")}
#: May be left out.
OPTIONAL = ("names",)
#: The newest Python for which the packages that speak HTTP get no repairs any more.
UNSERVED = "3.7"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEMORY = re.compile(r"[0-9]+[KMGT]?")


def overlay(plan: Plan) -> CatalogEnvironment:
    """Return the service's packages for a plan's OpenCV; `RefusedError` where it cannot be served."""
    part = plan["opencv"]
    if part is None:
        raise RefusedError("The detection service needs OpenCV, which this host's plan leaves out.", "Leave it in.")
    python = str(part["python"])
    if version(python) <= version(UNSERVED):
        raise RefusedError(
            f"The detection service is not offered on Python {python}: the last h11 for it lets requests be smuggled "
            "(CVE-2025-43859), and no repair is made for that Python any more.",
            "Plan a stack with Python 3.8 or newer, or leave service_enabled out.",
        )
    tag = "cp" + python.replace(".", "")
    names = [name for name in environment_names() if name.startswith(PREFIX) and name.endswith(f"-{tag}")]
    if not names:
        raise RefusedError(
            f"This release of gpuhost has no packages of the detection service for Python {python}.",
            "Leave service_enabled out.",
        )
    return load_environment(max(names, key=lambda name: version(name[len(PREFIX) : -len(tag) - 1])))


def merged(held: LockedEnvironment, more: LockedEnvironment) -> LockedEnvironment:
    """Return an environment with the service's packages in it; `RefusedError` where the two do not agree.

    What installs the packages is the environment's own.
    """
    if held["python"] != more["python"]:
        raise RefusedError(
            f"The packages of the detection service are for Python {more['python']}, not {held['python']}."
        )
    own = {row["name"]: row for row in held["packages"]}
    rows = [row for row in more["packages"] if row["name"] not in BUILD_TOOLS]
    apart = [row for row in rows if row["name"] in own and own[row["name"]]["sha256"] != row["sha256"]]
    if apart:
        told = ", ".join(f"{row['name']} {row['version']} and {own[row['name']]['version']}" for row in apart)
        raise RefusedError(
            f"The detection service and the environment need different packages: {told}.",
            "Plan again: ./run ansible-playbook playbooks/plan.yml -e gpu_stack_relock=true",
        )
    packages = [*held["packages"], *(row for row in rows if row["name"] not in own)]
    return {**held, "packages": sorted(packages, key=lambda row: str(row["name"]))}


def asked(
    lock: Lock,
    root: str,
    models: Any,
    default: str = "",
    published: bool = False,
    device: str = "",
    limits: Any = None,
    hooks: Any = None,
) -> Json:  # Json: as the role service takes it
    """Return what the role carries out: the service's `settings`, the limits of what is around it (`outer`), and the
    files to copy from the controller (`copies`) into a `folder`.
    """
    given = limited(limits or {})
    if not isinstance(models, list) or not models:
        raise UsageError("service_models is empty.", "Name at least one network: [{name: yolov4-tiny}]")
    rows = [model(row, root, published) for row in models]
    names = [row["name"] for row in rows]
    if len(set(names)) < len(names):
        raise UsageError("service_models names a network twice.", "Give each a name of its own.")
    if default and default not in names:
        raise UsageError(
            f"service_default_model {default} is not in service_models.", f"Use one of: {', '.join(names)}."
        )
    settings = {
        "schema": 1,
        "device": on(lock, device),
        "models": rows,
        "default_model": default or names[0],
        "work": f"{STATE}/work",
        "keys": KEYS,
        "records": f"{root}/state",
        "hooks": hooks or {},
        **{name: given[name] for name in LIMITS},
    }
    return {
        "settings": settings,
        "outer": {name: given[name] for name in OUTER},
        "folder": MODELS,
        "copies": copies(models, rows),
    }


def on(lock: Lock, device: str) -> str:
    """Return the device that the service computes on: never the CPU where a card is locked."""
    locked = device_of(lock)
    if device and device.startswith("cuda") != (locked == "cuda"):
        raise UsageError(
            f"service_device {device} is not what the lock is for, which is {locked}.",
            "Leave it out, or name another device of the same kind.",
        )
    return device or locked


def limited(given: Any) -> Json:  # Json: the settings of the service
    """Return the limits, with what is not given as it is by default."""
    known = {**LIMITS, **OUTER}
    if not isinstance(given, Mapping) or not set(given) <= set(known):
        raise UsageError("service_limits is not understood.", f"It may have {', '.join(known)}.")
    for name, value in given.items():
        if name == "memory":
            good = bool(_MEMORY.fullmatch(str(value)))
        elif name == "confidence":
            good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
        else:
            good = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31
        if not good:
            raise UsageError(f"service_limits.{name} cannot be {value!r}.", f"It is {known[name]!r} by default.")
    return {**known, **given}


def model(row: Any, root: str, published: bool) -> Json:  # Json: a row of the settings of the service
    """Return a row of `service_models` as the service's settings have it."""
    if not isinstance(row, Mapping) or not _NAME.fullmatch(str(row.get("name", ""))):
        raise UsageError(
            f"A row of service_models has no name that can be used: {row!r}.",
            "Give it one of small letters, digits and . _ -",
        )
    name, kind = str(row["name"]), kind_of(row)
    known = {"name", "size", *PARTS.get(kind, ()), *(["sha256"] if kind in PARTS else [])}
    if not set(row) <= known:
        raise UsageError(
            f"The network {name} of service_models is not understood.", f"It may have {', '.join(sorted(known))}."
        )
    size = {"size": int(row["size"])} if row.get("size") else {}
    if kind == "published":
        catalog = [one["name"] for one in shipped().yolo["models"]]
        if name not in catalog:
            raise UsageError(
                f"{name} is not one of the published networks.",
                f"Use one of {', '.join(catalog)}, or give the files of your own (cfg and weights, or onnx).",
            )
        weights = f"{root}/cache/yolo/published/{name}.weights" if published else "synthetic"
        return {"name": name, "kind": kind, "weights": weights, **size}
    there = parts(row, kind)
    sums = row.get("sha256")
    if (
        not isinstance(sums, Mapping)
        or set(sums) != set(there)
        or not all(_SHA256.fullmatch(str(s)) for s in sums.values())
    ):
        raise UsageError(
            f"The network {name} of service_models lacks checksums.", f"Give sha256 for each of {', '.join(there)}."
        )
    return {
        "name": name,
        "kind": kind,
        **{part: placed(row, part) for part in there},
        "sha256": {placed(row, part): str(sums[part]) for part in there},
        **size,
    }


def kind_of(row: Mapping[str, Any]) -> str:  # Json: a row of the user's
    """Return what kind of network a row of `service_models` is."""
    return "onnx" if "onnx" in row else "cfg" if "cfg" in row or "weights" in row else "published"


def parts(row: Mapping[str, Any], kind: str) -> List[str]:  # Json: a row of the user's
    """Return the files that a row names; `UsageError` where one is missing."""
    missing = [part for part in PARTS[kind] if part not in OPTIONAL and not row.get(part)]
    if missing:
        raise UsageError(f"The network {row['name']} of service_models has no {missing[0]}.", "Name the file.")
    return [part for part in PARTS[kind] if row.get(part)]


def placed(row: Mapping[str, Any], part: str) -> str:  # Json: a row of the user's
    """Return where a file of a network lies on the host."""
    return f"{MODELS}/{row['name']}/{part}{PurePosixPath(str(row[part])).suffix}"


def copies(
    models: Sequence[Mapping[str, Any]],  # Json: rows of the user's, and of the settings
    rows: Sequence[Json],  # Json: rows of the user's, and of the settings
) -> List[Json]:  # Json: rows of the user's, and of the settings
    """Return which files go from the controller to where."""
    return [
        {"src": str(given[part]), "dest": row[part]}
        for given, row in zip(models, rows)
        for part in given.get("sha256", ())
    ]
