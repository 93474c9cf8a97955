"""What a lock holds beside its plan: everything that is fetched or built for it, taken from the catalog.

This is the one moment at which the catalog decides what is installed. From then on the lock alone is read (`specs`), so
that a newer catalog changes nothing under a lock. What a user's options ask for besides (another toolkit, the
detector's engines, the published weights, the detection service) is added when it is first asked for, and nothing else
of the lock changes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar

from ..checks.opencv import CV2
from ..errors import GpuhostError, RefusedError, UsageError
from ..shapes.lock import (
    Closed,
    DriverBounds,
    Lock,
    LockedEnvironment,
    Plan,
    PlannedTensorflow,
    Tested,
    ToolkitKind,
    ToolkitName,
)
from ..shapes.observation import Observation
from ..types import Json, present
from . import detector, opencv, recipes, service, toolkits, virtualbox
from .catalog import shipped
from .environments import chosen, load_environment, of_tensorflow

#: The environment that is installed in the place of opencv_cuda where the detector's engines are asked for.
ENGINES = "opencv_cuda_engines"
T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What the roles are asked for that a plan does not decide; the role gpu_stack has them in `gpu_stack_options`."""

    cuda_source: str = ""
    cudnn_source: str = ""
    cuda_extra: Sequence[str] = ()
    opencv_engines: bool = False
    published_weights: bool = False
    service: bool = False
    virtualbox: bool = False
    virtualbox_version: str = ""


def options(given: Any) -> Options:
    """Return `gpu_stack_options` as what it means; an unknown name is a `UsageError`."""
    names = [field.name for field in fields(Options)]
    if not isinstance(given, dict) or not set(given) <= set(names):
        raise UsageError("gpu_stack_options is not understood.", f"It may have {', '.join(names)}.")
    return Options(**given)


def of(plan: Plan) -> Closed:
    """Return the `contents` and the `environments` of a plan.

    What this release does not have is left out: the role that needs it says so, and the other roles go on.
    """
    rows = [had(toolkits.row, plan, *one) for name in toolkits.KINDS for one in toolkits.wanted(plan, name)]
    part = plan["opencv"]
    ready = part if part is not None and part["source"] == "wheel" else None
    built = part is not None and ready is None
    environments = {
        "dl4cv": had(dl4cv, plan["tensorflow"]),
        "opencv_build": had(lambda: environment(opencv.build_environment(plan))) if built else None,
        "opencv_cuda": had(run_environment, plan) if built else had(environment, ready and ready["environment"]),
    }
    return {
        "contents": {
            "pythons": pythons(plan),
            "toolkits": [row for row in rows if row],
            "opencv": {
                "packages": opencv.packages(plan) if built else libraries(plan) if ready else [],
                "build": recipes.bounds(shipped(), plan) if built else None,
            },
            "weights": [],
            "expects": {"cuda": driver_bounds(plan), "tensorflow": tested(plan)},
        },
        "environments": {name: found for name, found in environments.items() if found},
    }


def added(lock: Lock, asked: Options, observation: Optional[Observation] = None) -> Lock:
    """Return the lock with what the options ask for besides; the same lock where it has all of it.

    An option that this release cannot serve is refused. VirtualBox is chosen for the kernel of the `observation`, and
    again where another version is asked for.
    """
    plan, contents, environments = lock["plan"], lock["contents"], lock["environments"]
    wanted = toolkits.wanted(plan, "cuda", asked.cuda_source, asked.cuda_extra)
    wanted += toolkits.wanted(plan, "cudnn", asked.cudnn_source)
    there = [(row["name"], row["version"], row["kind"]) for row in contents["toolkits"]]
    rows = [toolkits.row(plan, *one) for one in wanted if one not in there and missed(plan, one, asked)]
    if rows:
        contents = {**contents, "toolkits": [*contents["toolkits"], *rows]}
    if asked.published_weights and not contents["weights"]:
        contents = {**contents, "weights": detector.published()}
    there_is = contents.get(virtualbox.NAME)
    if asked.virtualbox and (there_is is None or there_is["asked"] != asked.virtualbox_version):
        picked = virtualbox.part(plan["platform"], asked.virtualbox_version, observation)
        contents = {**contents, virtualbox.NAME: picked}
    if asked.virtualbox and observation is not None and observation["kernel"]["boots"]:
        virtualbox.refuse_kernel(contents[virtualbox.NAME], plan["platform"], observation["kernel"]["boots"])
    part = plan["opencv"]
    if asked.opencv_engines and ENGINES not in environments and part is not None and part["source"] == "wheel":
        engines = environment(chosen(part["environment"], True))
        environments = dict(sorted({**environments, ENGINES: engines}.items()))
    if asked.service and service.OVERLAY not in environments:
        environments = dict(sorted({**environments, service.OVERLAY: held(service.overlay(plan))}.items()))
    if contents is lock["contents"] and environments is lock["environments"]:
        return lock
    return {**lock, "contents": contents, "environments": environments}


def missed(plan: Plan, one: Tuple[ToolkitName, str, ToolkitKind], asked: Options) -> bool:
    """Return whether an option asks for a toolkit. What the plan names and this release lacks is its role's to tell."""
    name, version, kind = one
    return bool(version != present(plan[name])["version"] or kind != toolkits.kind_of(plan, name, ""))


def had(make: Callable[..., T], *arguments: Any) -> Optional[T]:
    """Return what `make` gives; None where this release does not have it."""
    try:
        return make(*arguments)
    except GpuhostError:
        return None


def environment(name: Optional[str]) -> LockedEnvironment:
    """Return an environment of the catalog as a lock has it."""
    if name is None:
        raise RefusedError("The plan names no environment.")
    return held(load_environment(name))


def dl4cv(part: Optional[PlannedTensorflow]) -> LockedEnvironment:
    """Return TensorFlow's environment, with NVIDIA's wheels of a toolkit of its own."""
    if part is None or part["environment"] is None:
        raise RefusedError("The plan names no environment.")
    return held(of_tensorflow(part))


def held(found: LockedEnvironment) -> LockedEnvironment:
    """Return of an environment what a lock keeps."""
    return {
        "environment": found["environment"],
        "version": found["version"],
        "python": found["python"],
        "packages": found["packages"],
    }


def run_environment(plan: Plan) -> LockedEnvironment:
    """Return the other packages of an opencv_cuda whose OpenCV is built on the host."""
    found = environment(opencv.run_environment(plan))
    return {**found, "packages": [row for row in found["packages"] if row["name"] != CV2]}


def pythons(plan: Plan) -> Dict[str, List[str]]:
    """Return the archive packages that bring the Pythons of the environments, by version, and of the newest, whose
    pip fetches the wheels of a toolkit.
    """
    there = platform(plan)["pythons"]
    wanted = {there[-1], *(part["python"] for part in (plan["opencv"], plan["tensorflow"]) if part)}
    # The first is the archive's python3; its other Pythons stand beside it, with their versions in their names.
    names = {python: "python3" if python == there[0] else f"python{python}" for python in there}
    return {python: [names[python], f"{names[python]}-venv"] for python in there if python in wanted}


def platform(plan: Plan) -> Json:  # Json: a row of the catalog
    """Return the catalog's row of a plan's platform; `RefusedError` where it has none."""
    known: Json = shipped().platforms["platforms"]
    if plan["platform"] not in known:
        raise RefusedError(
            f"This release of gpuhost does not know {plan['platform']}.", f"It knows {', '.join(known)}."
        )
    return dict(known[plan["platform"]])


def libraries(plan: Plan) -> List[str]:
    """Return the archive packages that the index's OpenCV needs."""
    return list(platform(plan)["opencv_wheel_libraries"])


def driver_bounds(plan: Plan) -> Optional[DriverBounds]:
    """Return from which driver on the toolkit runs; None without one."""
    for row in shipped().cuda["releases"]:
        if plan["cuda"] is not None and row["version"] == plan["cuda"]["version"]:
            return {
                "version": row["version"],
                "driver_min": row["driver_min"],
                "driver_min_minor_compat": row["driver_min_minor_compat"],
            }
    return None


def tested(plan: Plan) -> Optional[Tested]:
    """Return the series of CUDA and cuDNN that TensorFlow was built with; None where they are not known."""
    for row in shipped().tensorflow["releases"]:
        if plan["tensorflow"] is not None and row["version"] == plan["tensorflow"]["version"]:
            return {"cuda": row["tested"]["cuda"], "cudnn": row["tested"]["cudnn"]}
    return None
