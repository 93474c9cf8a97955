"""Making a CUDA toolkit or a cuDNN in the store of a host from a specification, and taking one down again.

Runs on the target: Python 3.6, standard library. A specification comes from the controller (`toolkit_specs`): `name`
(cuda or cudnn), `version`, `kind` (runfile, tarball or wheels), `digest`, and what the kind needs. The folder is made
under its final name, because installers write absolute paths, and sealed last.
"""

import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from ...errors import EnvironmentProblem, GpuhostError, UsageError
from .. import files, store
from ..commands import CommandFailed, run_command
from ..edges import Edges
from ..probe.installed import cudnn_version, nvcc_version, toolkit_version
from . import archive as toolkits_archive
from . import runfile as toolkits_runfile
from . import wheels as toolkits_wheels

Json = Dict[str, Any]
Say = Callable[[str], None]
TITLES = {"cuda": "CUDA", "cudnn": "cuDNN"}


def folder_of(root: Path, spec: Json) -> Path:
    """Where the thing of a specification stands in the store."""
    return root / "store" / "{name}-{version}-{digest}".format(**spec)


def agrees(wanted: str, said: str) -> bool:
    """Does what a toolkit's own record says mean this release?

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


def check_space(root: Path, spec: Json, artifact: Optional[Path]) -> None:
    """Refuse, before anything is begun, a file system without room."""
    # An installer unpacks itself beside what it installs: measured by its own size, as no record tells.
    room = spec["room"] if artifact is None else 3 * artifact.stat().st_size
    needed, free = room // 10**6, shutil.disk_usage(str(root)).free // 10**6
    if free < needed:
        text = "{} {} needs about {} MB below {}, {} MB are free.".format(
            TITLES[spec["name"]], spec["version"], needed, root, free
        )
        raise EnvironmentProblem(text, "Make room, or mount a larger disk there, and run the same command again.")


def install(root: Path, spec: Json, artifact: Optional[Path], python: str, say: Say) -> Path:
    """Make the folder of a specification, if it is not whole; the folder.

    `artifact` is the vendor's file in the cache (runfile, tarball), `python` the interpreter whose pip fetches wheels,
    `say` is told each step. Two runs at once take turns. Raises `ArtifactError` or `EnvironmentProblem`.
    """
    folder = folder_of(root, spec)
    try:
        with store.changing(root, "installing {} {}".format(TITLES[spec["name"]], spec["version"]), say):
            for needed in (folder.parent, root / "log", root / "state", root / "cache" / "wheels"):
                files.make_folder(needed)
            if not store.is_whole(folder, spec["digest"]):
                make(root, spec, artifact, python, say)
    except OSError as error:
        raise store.unwritable(error, folder) from error
    except CommandFailed as error:
        text = "{} {} could not be installed:\n{}\n".format(TITLES[spec["name"]], spec["version"], error)
        raise EnvironmentProblem(text, f"The whole log is {log_of(folder)} on the host.") from error
    return folder


def make(root: Path, spec: Json, artifact: Optional[Path], python: str, say: Say) -> None:
    """Make the folder from nothing and seal it; whatever a killed run left of it goes first."""
    folder = folder_of(root, spec)
    take_down(folder)
    source = None if spec["kind"] == "wheels" else given(artifact, spec)
    check_space(root, spec, source)
    try:
        if source is not None and spec["kind"] == "runfile":
            toolkits_runfile.install(root, folder, spec, source, log_of(folder), say)
        elif source is not None:
            say("unpacking")
            toolkits_archive.unpack(source, folder)
        else:
            toolkits_wheels.assemble(root, folder, spec, python, log_of(folder), say)
        check_made(folder, spec)
        content = {key: spec[key] for key in ("name", "version", "kind", "digest")}
        store.seal(folder, dict(content, compiler=(folder / "bin" / "nvcc").exists()))
    except (OSError, CommandFailed, GpuhostError):
        # Half a toolkit would only hold the space that may be what was missing.
        take_down(folder)
        raise


def given(artifact: Optional[Path], spec: Json) -> Path:
    """The vendor's file, which this kind needs."""
    if artifact is None or not artifact.is_file():
        step = "Run the whole playbook: its role artifact fetches it."
        raise EnvironmentProblem("{} is not in the cache.".format(spec["file"]["name"]), step)
    return artifact


def take_down(folder: Path) -> None:
    """Remove a store folder, its marker first, so that it is never taken for whole."""
    for stale in (folder / store.MARKER, folder):
        files.remove(stale)


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
            take_down(root / "store" / folder)
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
