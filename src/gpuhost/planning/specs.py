"""What the roles install on a host, in one dictionary: from its lock and what the roles were asked for alone.

Controller side, and pure. A component that cannot be installed says why in its `problem`, and the role that wants it
refuses; the other roles go on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, cast

from ..checks.benchmark import device
from ..errors import GpuhostError, RefusedError
from ..host import venvs
from ..host.toolkit.install import folder_of
from ..shapes.answers import BuiltWheel
from ..shapes.lock import Framework, Lock, LockedEnvironment, Plan, PlannedDriver, ToolkitKind, ToolkitName
from ..types import Json, present
from ..versions import release
from . import opencv as opencv_plan
from . import service as service_plan
from . import toolkits
from .candidates import COMPONENTS
from .contents import ENGINES
from .environments import lock_digest
from .lock import left_out

#: The links of each component that can be left out; detector and detection service live in OpenCV's environment.
LINKS = {"opencv": ("venvs/opencv_cuda", "yolo", "service"), "tensorflow": ("venvs/dl4cv",)}


def of_lock(
    lock: Lock,
    source: str = "",
    extra: Sequence[str] = (),
    remove: Any = None,
    engines: bool = False,
    builder: Optional[Dict[str, Any]] = None,  # Json: as the roles take it
    wheel: Optional[BuiltWheel] = None,
    service: bool = False,
) -> Json:  # Json: as the roles take it
    """Return what each role needs of a lock; `{}` stands for a host that has none.

    `source` (`runfile` or `wheels`) overrides the plan's, `extra` are versions of CUDA to have beside the locked one,
    `remove` is one to take out, or `all`. `engines` adds the detector's to opencv_cuda, `builder` says with what OpenCV
    is built (see `command`), and `wheel` is what came of that. `service` adds the detection service's packages to
    opencv_cuda.
    """
    plan = lock["plan"] if lock else cast(Plan, dict.fromkeys(COMPONENTS))
    found = {
        "driver": {"file": installer(plan["driver"])},
        "cuda": tried(cuda, lock, plan, source, extra),
        "cudnn": tried(cudnn, lock, plan, source),
        "opencv": tried(opencv, lock, engines, builder, wheel, service),
        "tensorflow": tried(tensorflow, lock),
        "virtualbox": beside(lock),
        "without": absent(plan),
        "device": device(lock) if lock else "",
    }
    return found if remove is None else {**found, "removal": removal(plan, remove)}


def beside(lock: Lock) -> Json:  # Json: as the roles take it
    """Return the VirtualBox that a lock holds (`wanted`; None where it has none) and Oracle's files for it."""
    held: Optional[Mapping[str, Any]] = lock["contents"].get("virtualbox") if lock else None
    return {"wanted": held, "file": (held or {}).get("file"), "extension_pack": (held or {}).get("extension_pack")}


def absent(plan: Plan) -> List[str]:
    """Return the links, as patterns of the shell, that a generation of this plan does not have."""
    parts = [link for name in left_out(plan) for link in LINKS[name]]
    return parts + ([] if plan["driver"] else list(toolkits.GPU_ONLY))


def problems(lock: Lock) -> List[str]:
    """Return what a lock lacks of what its plan names, in sentences; empty where it is closed."""
    return [part["problem"] for part in of_lock(lock).values() if isinstance(part, dict) and part.get("problem")]


def tried(make: Callable[..., Json], *arguments: Any) -> Json:  # Json: as the roles take it
    """Return what `make` gives with an empty `problem`, or only why it cannot be had."""
    try:
        return {"problem": "", **make(*arguments)}
    except GpuhostError as error:
        return {"problem": str(error)}


def installer(driver: Optional[PlannedDriver]) -> Optional[Json]:  # Json: as the role artifact takes it
    """Return NVIDIA's installer of a driver, as the role `artifact` takes it; None where the archive brings the driver.

    The size caps what is fetched; the catalog does not know it of every file.
    """
    if driver is None or driver["source"] != "runfile":
        return None
    file = {"name": driver["url"].rsplit("/", 1)[-1], "url": driver["url"], "sha256": driver["sha256"]}
    return {**file, "size": driver["size"]} if driver.get("size") else file


def toolkit(lock: Lock, name: ToolkitName, version: str, kind: ToolkitKind) -> Json:  # Json: as the roles take it
    """Return a toolkit's specification with what has to be on the host before it is installed."""
    spec = toolkits.spec(lock, name, version, kind)
    python = max(lock["contents"]["pythons"], key=release)
    packages = python_packages(lock, python, spec["archive"])
    return {"spec": spec, "folder": str(folder_of(Path(), spec)), "python": interpreter(python), "packages": packages}


def cuda(lock: Lock, plan: Plan, source: str, extra: Sequence[str]) -> Json:  # Json: as the roles take it
    """Return the toolkits to install, the locked one first, and the links of a generation with them."""
    if plan["cuda"] is None:
        return {"toolkits": [], "links": {}}
    found = [toolkit(lock, *one) for one in toolkits.wanted(plan, "cuda", source, extra)]
    folders = {one["spec"]["version"]: one["folder"] for one in found}
    return {"toolkits": found, "links": toolkits.links(plan, folders)}


def cudnn(lock: Lock, plan: Plan, source: str) -> Json:  # Json: as the roles take it
    """Return the locked cuDNN, and the link of a generation with it; it comes the way the toolkit does."""
    if plan["cudnn"] is None:
        return {"toolkit": None, "links": {}}
    (one,) = toolkits.wanted(plan, "cudnn", source)
    found = toolkit(lock, *one)
    return {"toolkit": found, "links": {"cudnn": found["folder"]}}


def removal(plan: Plan, version: Any) -> Json:  # Json: as the roles take it
    """Return what removing a version of CUDA (or `all` of CUDA and cuDNN) takes out: links, store folders by name, and
    whether the linker keeps its files (`linked`) or loses them (`unlinked`).
    """
    everything = version == "all"
    return {
        "without": toolkits.without(plan, version),
        "names": ["cuda", "cudnn"] if everything else ["cuda"],
        "linker": "unlinked" if everything else "linked",
    }


def opencv(
    lock: Lock,
    engines: bool,
    builder: Optional[Mapping[str, Any]],  # Json: as the roles take it
    wheel: Optional[BuiltWheel],
    service: bool,
) -> Json:  # Json: as the roles take it
    """Return the environment opencv_cuda; where OpenCV is built also the `tools` that build it, with a `builder` their
    `command`, and with the `wheel` the `files` that a cache holds of it.
    """
    if lock and "opencv" in left_out(lock["plan"]):
        return {}
    part, more = stack(lock, "opencv"), lock["contents"]["opencv"]["packages"] if lock else []
    if part["source"] == "wheel":
        held = environment(lock, ENGINES if engines else "opencv_cuda")
        held = service_plan.merged(held, overlay(lock)) if service else held
        return {"environment": made("opencv_cuda", lock, held, more)}
    held = environment(lock, "opencv_cuda")
    held = service_plan.merged(held, overlay(lock)) if service else held
    found: Json = {
        "environment": made("opencv_cuda", lock, opencv_plan.with_wheel(held, wheel) if wheel else held),
        "tools": made("opencv_build", lock, environment(lock, "opencv_build"), more),
    }
    if builder:
        found["command"] = command(found["tools"], **builder)
    return {**found, "files": opencv_plan.wheel_files(wheel)} if wheel else found


def command(
    tools: Mapping[str, Any],  # Json: as `made` gives it
    root: str,
    folder: str,
    cuda: str,
    cudnn: str,
    options: Sequence[Any],
) -> List[str]:
    """Return the builder's command line; `folder` is its own, relative to `root`; `cuda` and `cudnn` are full paths."""
    python = f"{root}/{tools['folder']}/bin/python"
    return opencv_plan.command(python, f"{root}/{folder}", root, cuda, cudnn, [str(text) for text in options])


def tensorflow(lock: Lock) -> Json:  # Json: as the roles take it
    """Return the environment dl4cv."""
    if lock and "tensorflow" in left_out(lock["plan"]):
        return {}
    stack(lock, "tensorflow")
    return {"environment": made("dl4cv", lock, environment(lock, "dl4cv"))}


def stack(lock: Lock, name: Framework) -> Json:  # Json: the component that `name` says
    """Return a component that every lock has that does not leave it out."""
    if not lock:
        raise RefusedError("The host has no lock.", "Provision it: ./run ansible-playbook site.yml")
    return dict(present(lock["plan"][name]))


def environment(lock: Lock, name: str) -> LockedEnvironment:
    """Return a Python environment that the lock holds."""
    if name not in lock["environments"]:
        part = present(lock["plan"]["tensorflow"] if name == "dl4cv" else lock["plan"]["opencv"])
        raise RefusedError(
            f"The lock has no environment {name} for Python {part['python']}.",
            "Where this release of gpuhost has it, playbooks/plan.yml takes it into the lock; else "
            "tools/lock_environment.py makes one (see --help), or ask for another version in gpu_stack_wanted.",
        )
    return lock["environments"][name]


def overlay(lock: Lock) -> LockedEnvironment:
    """Return the packages of the detection service that the lock holds; `RefusedError` says why it holds none."""
    if service_plan.OVERLAY not in lock["environments"]:
        service_plan.overlay(lock["plan"])
    return environment(lock, service_plan.OVERLAY)


def made(
    name: str,
    lock: Lock,
    held: LockedEnvironment,
    more: Sequence[str] = (),
) -> Json:  # Json: as the role environment takes it
    """Return a locked Python environment as the role `environment` takes it, and its folder in the store."""
    whole = {**held, "digest": lock_digest(held)}
    return {
        "name": name,
        "lock": whole,
        "folder": str(venvs.folder_of(Path(), name, whole)),
        "python": interpreter(held["python"]),
        "packages": python_packages(lock, held["python"], more),
    }


def interpreter(version: str) -> str:
    """Return the path of the Python that the archive's packages bring."""
    return f"/usr/bin/python{version}"


def python_packages(lock: Lock, version: str, more: Sequence[str] = ()) -> List[str]:
    """Return the archive packages that bring a Python, with its venv module, and `more`."""
    return [*lock["contents"]["pythons"].get(version, ()), *more]
