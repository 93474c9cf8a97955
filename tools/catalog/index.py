"""The Python package index at the address that pip is set to: wheels of TensorFlow and OpenCV, NVIDIA's wheels."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Set

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from gpuhost import strict_json
from gpuhost.errors import EnvironmentProblem
from gpuhost.planning import catalog
from gpuhost.planning.environments import lock_name
from gpuhost.text import printable

from .fetch import Fetch
from .rows import Finding, Json, Missing, Person, Place, Says, row

PUBLIC = "https://pypi.org/simple"
#: PEP 691.
ACCEPT = "application/vnd.pypi.simple.v1+json"
SECONDS = 60
SDIST = ".tar.gz"
File = Json
Listing = Callable[[str], Dict[str, List[File]]]


def address() -> str:
    """Return the address of the index that pip is set to, by its environment or its files; the public one otherwise."""
    found = os.environ.get("PIP_INDEX_URL", "")
    for key in ("global.index-url", "install.index-url"):
        command = [sys.executable, "-m", "pip", "config", "get", key]
        done = subprocess.run(  # noqa: S603 - a list
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=SECONDS, check=False
        )
        found = found or done.stdout.strip()
    return (found or PUBLIC).rstrip("/")


def listing(fetch: Fetch, index: str) -> Listing:
    """Return the function that lists the files of a project by version; each project is asked once."""

    @functools.lru_cache(maxsize=None)
    def files(project: str) -> Dict[str, List[File]]:
        try:
            page = strict_json.loads(fetch.get(f"{index}/{project}/", ACCEPT), 32 << 20)
            rows = [checked(one) for one in page["files"]]
        except (ValueError, KeyError, TypeError) as error:
            text = f"What the index says of {project} is not a list of files (PEP 691): {printable(error, 120)}."
            raise EnvironmentProblem(text, "Point pip at an index that answers in JSON.") from None
        found: Dict[str, List[File]] = {}
        for one in rows:
            found.setdefault(version_of(one["filename"], project), []).append(one)
        return found

    return files


def checked(one: Json) -> File:
    """Return a file of a listing that has the fields that are read here."""
    known = {"filename": str(one["filename"]), "sha256": one["hashes"]["sha256"], "size": one.get("size")}
    if not re.fullmatch(r"[0-9a-f]{64}", known["sha256"]) or not isinstance(known["size"], (int, type(None))):
        raise ValueError("a checksum or a size is none")
    return {**known, "yanked": bool(one.get("yanked"))}


def version_of(file: str, project: str) -> str:
    """Return the version in the name of a wheel or an sdist; "" of anything else."""
    if file.endswith(".whl"):
        try:
            return str(parse_wheel_filename(file)[1])
        except InvalidWheelFilename:
            return ""
    stem = file[len(project) + 1 : -len(SDIST)] if file.endswith(SDIST) else ""
    try:
        return str(Version(stem))
    except InvalidVersion:
        return ""


def glibc(file: str) -> Optional[str]:
    """Return the lowest glibc that a wheel for x86_64 runs with; None for a wheel of another machine."""
    old = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}
    found = []
    for tag in parse_wheel_filename(file)[3]:
        family, _, rest = tag.platform.partition("_")
        if tag.platform.endswith("_x86_64") and family == "manylinux":
            found.append(".".join(rest.split("_")[:2]))
        elif tag.platform.endswith("_x86_64") and family in old:
            found.append(old[family])
    return min(found, key=Version) if found else None


def python(file: str) -> List[str]:
    """Return the interpreter and ABI of a wheel's name: ["cp310", "cp310"]."""
    return file[: -len(".whl")].split("-")[-3:-1]


def read(fetch: Fetch, tables: Mapping[str, Json], index: str) -> Iterator[Finding]:
    """Yield what the index has of each project of the catalog."""
    files = listing(fetch, index)
    yield from tensorflow(files, tables, set(catalog.names(catalog.ENVIRONMENTS)))
    yield from opencv(files, tables)
    for name in sorted(tables):
        if name.startswith("wheels/"):
            yield from nvidia(files, name, tables[name])


def tensorflow(files: Listing, tables: Mapping[str, Json], locked: Set[str]) -> Iterator[Finding]:
    """Yield the wheels of TensorFlow's releases for the Pythons that some platform has.

    A new one for which no environment is `locked` is only named: its row would let a plan name what nothing installs.
    """
    pythons = {p for one in tables["platforms"]["platforms"].values() for p in one["pythons"]}
    tags = {f"cp{one.replace('.', '')}" for one in pythons}
    rows = tables["tensorflow"]["releases"]
    for one in rows:
        place: Place = ("releases", row(version=one["version"]), "wheels")
        there = files(one["package"]).get(one["version"], [])
        source = f"Python package index, {one['package']}"
        known = {wheel["file"] for wheel in one["wheels"]}
        for file in there:
            name = file["filename"]
            if not name.endswith(".whl") or glibc(name) is None:
                continue
            interpreter, abi = python(name)
            fit = interpreter in tags and abi.startswith(interpreter) and not abi.endswith("t")
            if name not in known and (not fit or file["yanked"]):
                continue
            if name not in known and lock_name("dl4cv", "tensorflow", one["version"], interpreter) not in locked:
                yield Person("tensorflow", f"{name} is on the index: no environment is locked for it")
                continue
            facts = {"tag": interpreter, "file": name, "sha256": file["sha256"]}
            yield Says("tensorflow", (*place, row(file=name)), facts, source, where="tag")
            yield from yanked("tensorflow", file)
        yield from gone("tensorflow", place, known - {file["filename"] for file in there}, source)
    yield from unknown("tensorflow", "tensorflow", files("tensorflow"), [one["version"] for one in rows])


def opencv(files: Listing, tables: Mapping[str, Json]) -> Iterator[Finding]:
    """Yield the sdists and the wheels of OpenCV's releases."""
    rows = tables["opencv"]["releases"]
    for project in ("opencv-contrib-python", "opencv-python"):
        there = files(project)
        source = f"Python package index, {project}"
        for one in rows:
            release: Place = ("releases", row(version=one["version"]))
            artifacts: Place = (*release, "artifacts")
            builds = [v for v in there if v.rpartition(".")[0] == one["version"]]
            sdists = [a for a in one["artifacts"] if a.get("package") == project]
            listed = {file["filename"]: (v, file) for v in builds for file in there[v]}
            for name, (v, file) in sorted(listed.items(), key=lambda item: Version(item[1][0])):
                was = next((a for a in [*sdists, *one["wheels"]] if a["file"] == name), None)
                if was is None and (file["yanked"] or not name.endswith(SDIST)):
                    continue
                yield from yanked("opencv", file)
                if name.endswith(SDIST):
                    facts = {"kind": "sdist", "package": project, "package_version": v, "file": name}
                    facts.update(sha256=file["sha256"], checked=was is not None and was["checked"])
                    yield Says("opencv", (*artifacts, row(file=name)), facts, source, where="kind,package")
                else:
                    facts = {"file": name, "sha256": file["sha256"], "size": file["size"]}
                    yield Says("opencv", (*release, "wheels", row(file=name)), facts, source)
            yield from gone("opencv", artifacts, {a["file"] for a in sdists} - set(listed), source)
            if project == "opencv-contrib-python":
                wheels = {w["file"] for w in one["wheels"]}
                yield from gone("opencv", (*release, "wheels"), wheels - set(listed), source)
    known = [one["version"] for one in rows]
    yield from unknown("opencv", project, there, known, lambda v: v.rpartition(".")[0])


def nvidia(files: Listing, table: str, lock: Json) -> Iterator[Finding]:
    """Yield what the index has of the wheels of a locked toolkit; such a lock is made again, not changed."""
    for one in lock["packages"]:
        there = {file["filename"]: file for file in files(one["name"]).get(one["version"], [])}
        place: Place = ("packages", row(file=one["file"]))
        if one["file"] not in there:
            yield Missing(table, place, f"Python package index, {one['name']}")
            continue
        file = there[one["file"]]
        facts = {"file": one["file"], "sha256": file["sha256"], "size": file["size"]}
        yield Says(table, place, facts, f"Python package index, {one['name']}")
        yield from yanked(table, file)


def yanked(table: str, file: File) -> Iterator[Finding]:
    """Tell that a file was withdrawn by its maker."""
    if file["yanked"]:
        yield Person(table, f"{file['filename']} was yanked from the index: look why, and whether to keep it")


def gone(table: str, place: Place, names: Set[str], source: str) -> Iterator[Finding]:
    """Yield the files of the catalog that the index no longer has."""
    for name in sorted(names):
        yield Missing(table, (*place, row(file=name)), source)


def unknown(
    table: str,
    project: str,
    there: Mapping[str, List[File]],
    known: List[str],
    release: Callable[[str], str] = str,
) -> Iterator[Finding]:
    """Tell the releases that have no row: what they work with stands in no index."""
    newest = max(map(Version, known))
    for version in sorted({release(v) for v in there if v}, key=Version):
        if Version(version) > newest and not Version(version).is_prerelease:
            yield Person(table, f"{project} {version} is on the index: its row needs a person (what it works with)")
