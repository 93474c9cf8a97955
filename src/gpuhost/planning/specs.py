"""What the roles install on a host, in one dictionary: from its lock, the catalog and what the roles were asked for.

Controller side, and pure but for reading the locks of wheels and environments that this release brings. A component
that cannot be installed says why in its `problem`, and the role that wants it refuses; the other roles go on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from ..errors import GpuhostError, RefusedError
from ..host import venvs
from ..host.toolkit.install import folder_of
from ..types import Json
from . import opencv as opencv_plan
from . import toolkits
from .candidates import COMPONENTS
from .catalog import shipped
from .environments import chosen, load_environment, lock_digest, of_tensorflow
from .lock import left_out

#: The links of each component that can be left out; the detector lives in OpenCV's environment.
LINKS = {"opencv": ("venvs/opencv_cuda", "yolo"), "tensorflow": ("venvs/dl4cv",)}


def of_lock(
    lock: Json,
    source: str = "",
    extra: Sequence[str] = (),
    remove: Any = None,
    engines: bool = False,
    builder: Optional[Dict[str, Any]] = None,
    wheel: Optional[Json] = None,
) -> Json:
    """Return what each role needs of a lock; `{}` stands for a host that has none.

    `source` (`runfile` or `wheels`) overrides the plan's, `extra` are versions of CUDA to have beside the locked one,
    `remove` is one to take out, or `all`. `engines` adds the detector's to opencv_cuda, `builder` says with what OpenCV
    is built (see `command`), and `wheel` is what came of that.
    """
    plan = lock["plan"] if lock else dict.fromkeys(COMPONENTS)
    found = {
        "driver": {"file": installer(plan["driver"])},
        "cuda": tried(cuda, plan, source, extra),
        "cudnn": tried(cudnn, plan, source),
        "opencv": tried(opencv, plan, engines, builder, wheel),
        "tensorflow": tried(tensorflow, plan),
        "without": absent(plan),
    }
    return found if remove is None else {**found, "removal": removal(plan, remove)}


def absent(plan: Json) -> List[str]:
    """Return the links, as patterns of the shell, that a generation of this plan does not have."""
    parts = [link for name in left_out(plan) for link in LINKS[name]]
    return parts + ([] if plan["driver"] else list(toolkits.GPU_ONLY))


def tried(make: Callable[..., Json], *arguments: Any) -> Json:
    """Return what `make` gives with an empty `problem`, or only why it cannot be had."""
    try:
        return {"problem": "", **make(*arguments)}
    except GpuhostError as error:
        return {"problem": str(error)}


def installer(driver: Optional[Json]) -> Optional[Json]:
    """Return NVIDIA's installer of a driver, as the role `artifact` takes it; None where the archive brings the driver.

    The size caps what is fetched; the catalog does not know it of every file.
    """
    if driver is None or driver["source"] != "runfile":
        return None
    file = {"name": driver["url"].rsplit("/", 1)[-1], "url": driver["url"], "sha256": driver["sha256"]}
    return {**file, "size": driver["size"]} if driver.get("size") else file


def toolkit(plan: Json, spec: Json) -> Json:
    """Return a toolkit's specification with what has to be on the host before it is installed."""
    python = shipped().platforms["platforms"][plan["platform"]]["pythons"][-1]["version"]
    packages = python_packages(plan["platform"], python, spec["archive"])
    return {"spec": spec, "folder": str(folder_of(Path(), spec)), "python": interpreter(python), "packages": packages}


def cuda(plan: Json, source: str, extra: Sequence[str]) -> Json:
    """Return the toolkits to install, the locked one first, and the links of a generation with them."""
    if plan["cuda"] is None:
        return {"toolkits": [], "links": {}}
    specs = [toolkits.cuda(plan, source), *toolkits.extras(plan, source, extra)]
    found = [toolkit(plan, spec) for spec in specs]
    folders = {one["spec"]["version"]: one["folder"] for one in found}
    return {"toolkits": found, "links": toolkits.links(plan, folders)}


def cudnn(plan: Json, source: str) -> Json:
    """Return the locked cuDNN, and the link of a generation with it."""
    if plan["cudnn"] is None:
        return {"toolkit": None, "links": {}}
    found = toolkit(plan, toolkits.cudnn(plan, source))
    return {"toolkit": found, "links": {"cudnn": found["folder"]}}


def removal(plan: Json, version: Any) -> Json:
    """Return what removing a version of CUDA (or `all` of CUDA and cuDNN) takes out: links, store folders by name, and
    whether the linker keeps its files (`linked`) or loses them (`unlinked`).
    """
    everything = version == "all"
    return {
        "without": toolkits.without(plan, version),
        "names": ["cuda", "cudnn"] if everything else ["cuda"],
        "linker": "unlinked" if everything else "linked",
    }


def opencv(plan: Json, engines: bool, builder: Optional[Json], wheel: Optional[Json]) -> Json:
    """Return the environment opencv_cuda; where OpenCV is built also the `tools` that build it, with a `builder` their
    `command`, and with the `wheel` the `files` that a cache holds of it.
    """
    if "opencv" in left_out(plan):
        return {}
    part = stack(plan, "opencv")
    if part["source"] == "wheel":
        libraries = shipped().platforms["platforms"][plan["platform"]]["opencv_wheel_libraries"]
        lock = load_environment(chosen(part["environment"], engines))
        return {"environment": environment("opencv_cuda", plan, part["python"], lock, libraries)}
    tools = load_environment(opencv_plan.build_environment(plan))
    lock = opencv_plan.with_wheel(plan, wheel) if wheel else load_environment(opencv_plan.run_environment(plan))
    found: Json = {
        "environment": environment("opencv_cuda", plan, part["python"], lock),
        "tools": environment("opencv_build", plan, part["python"], tools, opencv_plan.packages(plan)),
    }
    if builder:
        found["command"] = command(found["tools"], **builder)
    return {**found, "files": opencv_plan.wheel_files(wheel)} if wheel else found


def command(tools: Json, root: str, folder: str, cuda: str, cudnn: str, options: Sequence[Any]) -> List[str]:
    """Return the builder's command line; `folder` is its own, relative to `root`; `cuda` and `cudnn` are full paths."""
    python = f"{root}/{tools['folder']}/bin/python"
    return opencv_plan.command(python, f"{root}/{folder}", root, cuda, cudnn, [str(text) for text in options])


def tensorflow(plan: Json) -> Json:
    """Return the environment dl4cv."""
    if "tensorflow" in left_out(plan):
        return {}
    part = stack(plan, "tensorflow")
    if part["environment"] is None:
        raise RefusedError(
            f"No locked environment for TensorFlow {part['version']} comes with this release.",
            "Make one with tools/lock_environment.py (see --help), or ask for another version in gpu_stack_wanted.",
        )
    return {"environment": environment("dl4cv", plan, part["python"], of_tensorflow(part))}


def stack(plan: Json, name: str) -> Json:
    """Return a component that every lock has that does not leave it out."""
    if plan[name] is None:
        raise RefusedError("The host has no lock.", "Provision it: ./run ansible-playbook site.yml")
    return dict(plan[name])


def environment(name: str, plan: Json, python: str, lock: Json, more: Sequence[str] = ()) -> Json:
    """Return a locked Python environment as the role `environment` takes it, and its folder in the store."""
    lock = {**lock, "digest": lock_digest(lock)}
    return {
        "name": name,
        "lock": lock,
        "folder": str(venvs.folder_of(Path(), name, lock)),
        "python": interpreter(python),
        "packages": python_packages(plan["platform"], python, more),
    }


def interpreter(version: str) -> str:
    """Return the path of the Python that the archive's packages bring."""
    return f"/usr/bin/python{version}"


def python_packages(platform: str, version: str, more: Sequence[str] = ()) -> List[str]:
    """Return the archive packages that bring a Python, with its venv module, on a platform, and `more`."""
    rows = shipped().platforms["platforms"][platform]["pythons"]
    return [name for row in rows if row["version"] == version for name in row["packages"]] + list(more)
