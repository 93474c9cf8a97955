"""What the role `opencv` needs to build OpenCV on a host, decided on the controller."""

from __future__ import annotations

from pathlib import Path
from typing import List

from ..errors import CatalogError, RefusedError
from ..shapes.answers import BuiltWheel
from ..shapes.lock import LockedEnvironment, LockedPackage, Plan
from ..types import present
from . import recipes
from .catalog import shipped
from .environments import environment_names
from .parts import built
from .rules.cuda import compilers
from .rules.frameworks import BUILD_TOOLS, RUN_PACKAGES
from .versions import version


def tag_of(plan: Plan) -> str:
    """The lock's Python as a wheel's tag: 'cp38'."""
    return "cp" + str(present(plan["opencv"])["python"]).replace(".", "")


def newest(prefix: str, tag: str) -> str:
    """The newest environment lock of a kind for a Python."""
    names = [n for n in environment_names() if n.startswith(prefix) and n.endswith(f"-{tag}")]
    if not names:
        raise CatalogError(
            f"No lock {prefix}...-{tag} comes with this release.", "tools/lock_environment.py makes one."
        )
    return max(names, key=lambda n: version(n[len(prefix) : -len(tag) - 1]))


def build_environment(plan: Plan) -> str:
    """The lock of the build tools for the plan's Python."""
    return newest(BUILD_TOOLS, tag_of(plan))


def run_environment(plan: Plan) -> str:
    """The lock that gives opencv_cuda its other packages: that of the same release where there is one, else the newest
    for the same Python. The wheel built here takes its OpenCV's place.
    """
    tag = tag_of(plan)
    artifact = built(plan)["artifacts"][0]
    same = f"{RUN_PACKAGES}{artifact.get('package_version', '')}-{tag}"
    return same if same in environment_names() else newest(RUN_PACKAGES, tag)


def packages(plan: Plan) -> List[str]:
    """What the build needs of the archive: a compiler that the toolkit takes, Python's headers, ccache."""
    platform = shipped().platforms["platforms"][plan["platform"]]
    cuda, opencv = present(plan["cuda"]), present(plan["opencv"])
    row = recipes.toolkit_row(shipped(), cuda["series"])
    have = platform["gcc"]["available"]
    fit = have if row is None else compilers(row, have)
    if not fit:
        raise RefusedError(
            f"The archive of {plan['platform']} has no compiler that CUDA {cuda['version']} accepts.",
            "Choose another CUDA: -e '{gpu_stack_wanted: {cuda: \"...\"}}'",
        )
    # The release's own compiler where it will do: it is the one its libraries were built with.
    chosen = platform["gcc"]["default"] if platform["gcc"]["default"] in fit else max(fit, key=int)
    return [f"g++-{chosen}", f"libpython{opencv['python']}-dev", "ccache"]


def with_wheel(environment: LockedEnvironment, wheel: BuiltWheel) -> LockedEnvironment:
    """The environment opencv_cuda of a lock with the wheel that was built."""
    own: LockedPackage = {
        "name": wheel["name"],
        "version": wheel["version"],
        "file": wheel["file"],
        "kind": wheel["kind"],
        "sha256": wheel["sha256"],
        "size": wheel["size"],
    }
    rows = sorted([*environment["packages"], own], key=lambda row: str(row["name"]))
    return {**environment, "version": wheel["version"], "packages": rows}


def wheel_files(wheel: BuiltWheel) -> List[str]:
    """What a host's cache holds of a wheel, the note that makes it count last."""
    return [str(wheel["path"]), str(Path(wheel["path"]).parent / "wheel.json")]


def command(python: str, folder: str, root: str, cuda: str, cudnn: str, options: List[str]) -> List[str]:
    """The builder's command line on the host."""
    return [
        python,
        "-I",
        "-c",
        # -I keeps the host's own modules out; the builder's folder is the one exception.
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from gpuhost.cvbuild.cli import main; sys.exit(main())",
        folder,
        "--recipe",
        f"{folder}/recipe.json",
        "--root",
        root,
        "--cuda",
        cuda,
        "--cudnn",
        cudnn,
        *options,
    ]
