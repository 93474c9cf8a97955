"""Assembling a CUDA toolkit, or cuDNN, from NVIDIA's wheels: one prefix, as the runfile makes it.

Runs on the target: Python 3.6, standard library. The wheels hold `nvidia/<component>/{bin,include,lib,nvvm,...}`, from
CUDA 13 on `nvidia/cu13/...`. pip fetches them by hash into the store's cache; they are unpacked, not installed.
"""

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any, Callable, List, Mapping, Sequence

from ...errors import ArtifactError
from ...types import Json
from .. import files, making, venvs

BATCH = 200 * 10**6  # bytes
VERSIONED = re.compile(r"^(lib.+\.so)\.[0-9.]+$")


def fetch(root: Path, spec: Json, scratch: Path, python: str, log: Path, say: Callable[[str], None]) -> None:
    """Bring what is missing of the wheels into the cache, with the locked pip in an environment for the purpose."""
    wheels, packages = root / "cache" / "wheels", spec["packages"]
    absent = venvs.missing([p for p in packages if p["name"] != "pip"], wheels)
    if not absent:
        return
    venvs.check_python(python)
    say("preparing pip")
    environment = scratch / "pip"
    files.remove(scratch)
    files.make_folder(scratch)
    venvs.run([python, "-I", "-m", "venv", str(environment)], log)
    pip = [str(environment / "bin" / "python"), "-I", "-m", "pip"]
    locked = [p for p in packages if p["name"] == "pip"]
    lacking = venvs.missing(locked, wheels)
    if lacking:
        venvs.fetch(pip, lacking, wheels, scratch / "files", log)
    wanted = scratch / "requirements.txt"
    files.write_whole(wanted, venvs.requirements(locked))
    options = ["--no-cache-dir", "--no-index", "--find-links", str(wheels), "--require-hashes"]
    venvs.run([*pip, "install", *options, "-r", str(wanted)], log)
    done, whole = 0, sum(p["size"] for p in absent)
    for part in batches(absent):
        say(f"fetching {venvs.amount(absent)}: {100 * done // whole} % of it is there")
        venvs.fetch(pip, part, wheels, scratch / "files", log)
        done += sum(p["size"] for p in part)


def batches(packages: Sequence[Mapping[str, Any]], size: int = BATCH) -> List[List[Mapping[str, Any]]]:
    """The packages in parts of about a size: what one call of pip has fetched survives a kill, and can be reported."""
    found: List[List[Mapping[str, Any]]] = []
    for package in packages:
        if not found or sum(p["size"] for p in found[-1]) >= size:
            found.append([])
        found[-1].append(package)
    return found


def assemble(root: Path, folder: Path, spec: Json, python: str, log: Path, say: Callable[[str], None]) -> None:
    """Fetch the wheels and make the prefix of them."""
    scratch = making.scratch_of(folder)
    try:
        fetch(root, spec, scratch, python, log, say)
    finally:
        files.remove(scratch)
    packages = [p for p in spec["packages"] if p["name"] != "pip"]
    libraries = "lib" if spec["name"] == "cudnn" else "lib64"
    files.make_folder(folder)
    for number, package in enumerate(packages, 1):
        say("unpacking {} of {}: {name} {version}".format(number, len(packages), **package))
        unpack(root / "cache" / "wheels" / package["file"], folder, libraries, package)
    files.make_folder(folder / libraries)
    files.link(libraries, folder / ("lib64" if libraries == "lib" else "lib"))
    for path in sorted((folder / libraries).iterdir()):
        link_plain(path)
    if spec["name"] == "cuda":
        files.write_whole(folder / "version.json", record(spec, packages))


def destination(name: str, libraries: str, package: Json) -> str:
    """Where a wheel's member goes in the prefix; '' for what has no place there."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name:
        text = "{} of {} leads out of its folder.".format(name, package["file"])
        raise ArtifactError(text, "Do not use this file; nothing of it was kept.")
    if parts[0].endswith(".dist-info"):
        kept = re.match(r"(?i)licen[cs]e|notice|eula", parts[-1])
        return "licenses/{}/{}".format(package["name"], parts[-1]) if kept else ""
    if parts[0] != "nvidia" or len(parts) < 4 or parts[-1] in ("__init__.py", ""):
        return ""
    top = libraries if parts[2] in ("lib", "lib64") else parts[2]
    return "/".join([top, *parts[3:]])


def unpack(wheel: Path, folder: Path, libraries: str, package: Json) -> None:
    """Unpack one wheel; what two wheels both hold must be the same."""
    with zipfile.ZipFile(str(wheel)) as packed:
        for member in packed.infolist():
            where = destination(member.filename, libraries, package)
            if not where or member.filename.endswith("/"):
                continue
            path = folder / where
            if path.exists():
                if path.stat().st_size != member.file_size or path.read_bytes() != packed.read(member):
                    text = "{} of {} is another file than a wheel before it holds.".format(where, package["file"])
                    raise ArtifactError(text, "The lock joins wheels that do not fit: restore it from git.")
                continue
            runs = "/bin/" in "/" + where or ((member.external_attr >> 16) & 0o100)
            with packed.open(member) as source, files.new(path, 0o755 if runs else 0o644) as handle:
                shutil.copyfileobj(source, handle, 1 << 20)


def link_plain(path: Path) -> None:
    """Beside libx.so.12, what the compiler's linker looks for: libx.so."""
    match = VERSIONED.match(path.name)
    plain = path.with_name(match.group(1)) if match else path
    if not plain.exists() and not plain.is_symlink():
        files.link(path.name, plain)


def record(spec: Json, packages: List[Json]) -> str:
    """version.json, as the runfile leaves one: the release, and each component's version."""
    rows: Json = {"cuda": {"name": "CUDA SDK", "version": spec["version"]}}
    for package in packages:
        rows[package["name"]] = {"name": package["name"], "version": package["version"]}
    return json.dumps(rows, indent=3, sort_keys=True) + "\n"
