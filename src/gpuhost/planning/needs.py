"""What is still to come onto a host before it has what its lock names: the room that takes, and whom it is asked of.

Pure. `there` is what the module gpuhost_generation_info reads on the host; what its store and caches hold needs
neither. A size that nobody knows beforehand counts as nothing: the step that brings the file looks again.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence, TypedDict

from ..cvbuild.resources import DISK_MB
from ..host import venvs
from ..host.room import BUILD_BYTES, UNPACKED
from ..host.service import site
from ..shapes.answers import Generations
from ..shapes.lock import Lock, PlannedDriver
from ..shapes.observation import Observation
from . import specs
from .candidates import COMPONENTS
from .catalog import shipped
from .contents import Options
from .preflight import is_distributions, platform_row

#: A toolkit's installer, or archive, and what it unpacks beside what it installs, by its own size.
INSTALLER = 3
PACKAGES = "Python packages"
USR = "/usr"


class Room(TypedDict):
    """What has to be free at a place."""

    path: str
    bytes: int


class Needs(TypedDict):
    """What `of` returns."""

    room: List[Room]
    boot: bool
    packages: List[str]
    debs: List[str]
    archive: List[str]
    index: str
    files: List[Mapping[str, Any]]


def nothing() -> Needs:
    """Return the needs of a host that has everything."""
    return {"room": [], "boot": False, "packages": [], "debs": [], "archive": [], "index": "", "files": []}


def of(
    lock: Lock,
    observation: Observation,
    there: Generations,
    root: str,
    asked: Options,
    parts: Collection[str] = COMPONENTS,
    kernel: Collection[str] = (),
) -> Needs:
    """Return what the `parts` of a lock still need on a host, as `host.preflight` takes it.

    `kernel` are the packages of a kernel that comes with the driver. `files` are to be fetched by their checksums, by
    whoever fetches for the host.
    """
    found = nothing()
    newer = [name for name in kernel if version_of(name, observation) is None]
    if not lock or (in_force(lock, there) and not newer):
        return found
    made = specs.of_lock(lock, asked.cuda_source, asked.cuda_extra, engines=asked.opencv_engines, service=asked.service)
    room: Dict[str, int] = {root: 0, USR: 0}
    found["packages"] += newer
    if "driver" in parts and lock["plan"]["driver"]:
        of_driver(lock["plan"]["driver"], observation, there, found, room, root, bool(newer))
    toolkits = [*made["cuda"].get("toolkits", []), *filter(None, [made["cudnn"].get("toolkit")])]
    for one in toolkits:
        if one["spec"]["name"] in parts and name_of(one["folder"]) not in there["store"]:
            of_toolkit(one, there, found, room, root)
    for name in ("opencv", "tensorflow"):
        if name in parts:
            for one in filter(None, [made[name].get("environment"), made[name].get("tools")]):
                of_environment(one, there, found, room, root)
    if "opencv" in parts:
        if asked.service:
            found["packages"].append(site.PACKAGE)
        if made["opencv"].get("tools") and not there["build_seconds"]:
            room[root] += DISK_MB["dnn"] * 10**6
        if asked.published_weights:
            found["files"] += missing(lock["contents"]["weights"], there, room, root)
    found["room"] = [{"path": path, "bytes": amount} for path, amount in room.items() if amount]
    found["packages"] = sorted(set(found["packages"]))
    found["archive"] = archive(observation) if found["packages"] else []
    return found


def in_force(lock: Lock, there: Generations) -> bool:
    """Return whether the generation in force carries this very lock out."""
    return any(row["number"] == there["current"] and row["stack"] == lock for row in there["generations"])


def name_of(folder: str) -> str:
    """Return how the store calls a folder."""
    return PurePath(folder).name


def version_of(package: str, observation: Observation) -> Optional[str]:
    """Return the version of a package that is installed whole; None without one."""
    row = observation["packages"].get(package)
    return row["version"] if row is not None and row["state"] == "installed" else None


def of_driver(
    driver: PlannedDriver,
    observation: Observation,
    there: Generations,
    found: Needs,
    room: Dict[str, int],
    root: str,
    newer: bool,
) -> None:
    """Add the driver: from the archive where its package is not there at its version, or NVIDIA's installer.

    Of one that is there, a newer kernel needs the module.
    """
    if driver["source"] == "archive":
        present = version_of(driver["package"], observation) == driver["package_version"]
    else:
        present = observation["nvidia"]["module_version"] == driver["version"]
    if present and not newer:
        return
    if driver["source"] == "archive":
        debs = [row for row in driver.get("packages", []) if version_of(row["name"], observation) != row["version"]]
        lacking = [row for row in debs if row["sha256"] not in there["debs"]]
        if lacking or (not present and driver["sha256"] not in there["debs"]):
            kept = sorted({row["snapshot"] for row in lacking if row["snapshot"]})
            found["debs"] = [*archive(observation), *kept[:1]]
        room[root] += sum(row["size"] for row in lacking)
        room[USR] += UNPACKED * sum(row["size"] for row in debs)
    elif not present:
        file = specs.installer(driver)
        found["files"] += missing([file] if file else [], there, room, root)
        # It unpacks into our folder for temporary files.
        room[root] += 2 * (driver.get("size") or 0)
        room[USR] += 2 * (driver.get("size") or 0)
    found["boot"] = True
    if driver["modules_from"] == "dkms":
        room["/var"] = room.get("/var", 0) + BUILD_BYTES


def of_toolkit(
    one: Mapping[str, Any],  # Json: as specs.toolkit makes it
    there: Generations,
    found: Needs,
    room: Dict[str, int],
    root: str,
) -> None:
    """Add a CUDA or a cuDNN."""
    spec = one["spec"]
    found["packages"] += one["packages"]
    if spec["kind"] == "wheels":
        room[root] += spec["room"]
        ask_index(spec["packages"], there, found)
    else:
        room[root] += INSTALLER * (spec["file"].get("size") or 0)
        found["files"] += missing([spec["file"]], there, room, root)


def of_environment(
    one: Mapping[str, Any],  # Json: as specs.made makes it
    there: Generations,
    found: Needs,
    room: Dict[str, int],
    root: str,
) -> None:
    """Add a Python environment. One whose OpenCV is built here has another folder, which only the build knows."""
    found["packages"] += one["packages"]
    if name_of(one["folder"]) not in there["store"]:
        room[root] += venvs.room(one["lock"])
        ask_index(one["lock"]["packages"], there, found)


def ask_index(
    packages: Sequence[Mapping[str, Any]],  # Json: wheels of NVIDIA's or packages of an environment
    there: Generations,
    found: Needs,
) -> None:
    """Note that pip has to fetch, where a file is not in the cache."""
    if any(row["file"] not in there["wheels"] for row in packages):
        found["index"] = PACKAGES


def missing(
    files: Sequence[Mapping[str, Any]],  # Json: files of any component
    there: Generations,
    room: Dict[str, int],
    root: str,
) -> List[Mapping[str, Any]]:  # Json: files of any component
    """Return the files that are not in the cache, and count the room for them."""
    absent = [file for file in files if file["sha256"] not in there["artifacts"]]
    room[root] += sum(file.get("size") or 0 for file in absent)
    return absent


def archive(observation: Observation) -> List[str]:
    """Return the addresses of the distribution's own archive, as the host's sources name them."""
    row: Any = platform_row(shipped(), observation)
    sources = [s for s in observation["apt"]["sources"] if s["enabled"] and "deb" in s["types"]]
    return sorted({uri for s in sources if row and is_distributions(s, row) for uri in s["uris"]})
