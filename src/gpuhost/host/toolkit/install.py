"""Making a CUDA toolkit or a cuDNN in the store of a host from a specification, and taking one down again.

Runs on the target: Python 3.6, standard library. A specification comes from the controller (`toolkit_specs`): `name`
(cuda or cudnn), `version`, `kind` (runfile, tarball or wheels), `digest`, and what the kind needs.
"""

from pathlib import Path
from typing import Callable, List, Optional

from ...errors import EnvironmentProblem, UsageError
from ...types import Json
from .. import making, store
from ..commands import run_command
from ..edges import Edges
from ..probe.installed import cudnn_version, nvcc_version, toolkit_version
from . import archive as toolkits_archive
from . import runfile as toolkits_runfile
from . import wheels as toolkits_wheels

Say = Callable[[str], None]
TITLES = {"cuda": "CUDA", "cudnn": "cuDNN"}


def folder_of(root: Path, spec: Json) -> Path:
    """Where the thing of a specification stands in the store."""
    return root / "store" / "{name}-{version}-{digest}".format(**spec)


def agrees(wanted: str, said: str) -> bool:
    """Return whether what a toolkit's own record says means this release.

    Some releases name themselves by series and day (11.8.0 is "11.8.20220929"): the series is all that this tells.
    """
    part = said.split(".")
    if len(part) == 3 and len(part[2]) == 8:
        return wanted.split(".")[:2] == part[:2]
    return said == wanted or wanted.startswith(said + ".")


def check_made(folder: Path, spec: Json) -> None:
    """Hold what was installed against the specification, by its own record and by its compiler."""
    said, edges = [], Edges("/", run_command)
    if spec["name"] == "cudnn":
        said.append(("its header says", cudnn_version(edges, f"{folder}/include")))
    else:
        said.append(("its record says", toolkit_version(edges, str(folder))))
        if spec.get("compiler", True):
            said.append(("nvcc says", nvcc_version(edges, f"{folder}/bin/nvcc")))
    for who, found in said:
        if found is None or not agrees(spec["version"], found):
            title = "{} {}".format(TITLES[spec["name"]], spec["version"])
            step = f"Nothing of it was kept. See the log on the host: {log_of(folder)}"
            raise EnvironmentProblem(f"What was installed is not {title}: {who} {found or 'nothing'}.", step)


def log_of(folder: Path) -> Path:
    """The log of what is made in a store folder."""
    return folder.parent.parent / "log" / (folder.name + ".log")


def install(root: Path, spec: Json, artifact: Optional[Path], python: str, say: Say) -> Path:
    """Make the folder of a specification, if it is not complete; the folder.

    `artifact` is the vendor's file in the cache (runfile, tarball), `python` the interpreter whose pip fetches wheels,
    `say` is called with each step. Raises `ArtifactError` or `EnvironmentProblem`.
    """
    folder = folder_of(root, spec)
    title, log = "{} {}".format(TITLES[spec["name"]], spec["version"]), log_of(folder)

    def check() -> None:
        # An installer unpacks itself beside what it installs: measured by its own size, as no record tells.
        room = spec["room"] if spec["kind"] == "wheels" else 3 * given(artifact, spec).stat().st_size
        making.check_space(root, title, room)

    def make() -> Json:
        if spec["kind"] == "wheels":
            toolkits_wheels.assemble(root, folder, spec, python, log, say)
        elif spec["kind"] == "runfile":
            toolkits_runfile.install(root, folder, spec, given(artifact, spec), log, say)
        else:
            say("unpacking")
            toolkits_archive.unpack(given(artifact, spec), folder)
        check_made(folder, spec)
        content = {key: spec[key] for key in ("name", "version", "kind")}
        return dict(content, compiler=(folder / "bin" / "nvcc").exists())

    return making.made(folder, spec["digest"], f"installing {title}", log, check, make, say)


def given(artifact: Optional[Path], spec: Json) -> Path:
    """The vendor's file, which this kind needs."""
    if artifact is None or not artifact.is_file():
        step = "Run the whole role: it fetches it first."
        raise EnvironmentProblem("{} is not in the cache.".format(spec["file"]["name"]), step)
    return artifact


def users(root: Path, folder: Path) -> List[int]:
    """The generations that link to a store folder."""
    relative = str(folder.relative_to(root))
    return [n for n in store.generations(root) if relative in store.describe(root, n)["links"].values()]


def remove(root: Path, name: str, version: str, check: bool = False) -> Json:
    """Delete a version's store folders that no generation needs: {"removed": [...], "kept": {folder: [n, ...]}}."""
    if name not in TITLES or not version or "/" in version:
        raise UsageError(f"{name} {version} names nothing that could be removed.", "Give a version as the plan has it.")
    found = unneeded(root, name, version)
    if check or not found["removed"]:
        return found
    with store.changing(root, f"removing {TITLES[name]} {version}"):
        found = unneeded(root, name, version)
        for folder in found["removed"]:
            making.take_down(root / "store" / folder)
    return found


def unneeded(root: Path, name: str, version: str) -> Json:
    """Which store folders of a version no generation needs, and which are needed by which."""
    found: Json = {"removed": [], "kept": {}}
    for folder in sorted((root / "store").glob(f"{name}-{'*' if version == 'all' else version}-*")):
        needing = users(root, folder)
        if needing:
            found["kept"][folder.name] = needing
        else:
            found["removed"].append(folder.name)
    return found


def told(name: str, found: Json) -> str:
    """What `remove` did, in words."""
    said = [f"{folder} is deleted." for folder in found["removed"]]
    for folder, numbers in sorted(found["kept"].items()):
        listed = ", ".join(str(n) for n in numbers)
        said.append(f"{folder} is kept: generation {listed} links to it, and going back there needs it.")
    return " ".join(said) or f"There was no such {TITLES[name]} in the store."
