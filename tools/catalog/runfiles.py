"""Checksums of NVIDIA's driver installers: flathub's and gVisor's, taken where both agree."""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, Mapping, NamedTuple, Tuple

from gpuhost.errors import ArtifactError, EnvironmentProblem

from .fetch import Fetch
from .rows import Finding, Json, Person, Place, Says, row

FLATHUB = "https://raw.githubusercontent.com/flathub/org.freedesktop.Platform.GL.nvidia/master"
GVISOR = "https://raw.githubusercontent.com/google/gvisor/master/pkg/sentry/devices/nvproxy/version.go"
ADDRESS = re.compile(
    r"https?://(?:[a-z.]*download\.nvidia\.com|developer\.download\.nvidia\.com)/\S+/NVIDIA-Linux-x86_64-[0-9.]+\.run"
)


class Installer(NamedTuple):
    """An installer as flathub records it."""

    sha256: str
    size: int
    url: str


def versions(text: str) -> List[str]:
    """Return the releases that flathub's list names as in use."""
    found = re.findall(r'^(?:NEW_FEATURE|PRODUCTION|TESLA)_VERSIONS="([0-9. ]*)"$', text, re.MULTILINE)
    if not found:
        raise ArtifactError("flathub's list of versions is not what it was.", "Look what became of it.")
    return sorted({version for line in found for version in line.split()})


def installer(text: str) -> Installer:
    """Return the installer in one of flathub's files: `:SHA256:SIZE::URL`."""
    found = re.fullmatch(r":([0-9a-f]{64}):([0-9]{1,12})::(\S+)\n?", text)
    if found is None or not ADDRESS.fullmatch(found.group(3)):
        raise ArtifactError("A file of flathub is not a checksum, a size and an address of NVIDIA.")
    host = r"https?://(http\.)?download\.nvidia\.com/"
    url = re.sub(host, "https://download.nvidia.com/", found.group(3))
    return Installer(found.group(1), int(found.group(2)), url)


def of_gvisor(text: str) -> Dict[Tuple[int, ...], str]:
    """Return the checksums for x86_64 that gVisor's table has, by the figures of a release."""
    rows = re.findall(r'addDriverABI\(([0-9]+), ([0-9]+), ([0-9]+), "([0-9a-f]{64})"', text)
    if not rows:
        raise ArtifactError("gVisor's table of drivers is not what it was.", "Look what became of it.")
    return {tuple(int(part) for part in found[:3]): found[3] for found in rows}


def read(fetch: Fetch, tables: Mapping[str, Json]) -> Iterator[Finding]:
    """Yield the installers on which both sources agree; what only one of them has needs a person."""
    other = of_gvisor(fetch.get(GVISOR).decode("utf-8", "replace"))
    known = {one["version"]: one for one in tables["drivers"]["runfiles"] if one["variant"] == "full"}
    for version in versions(fetch.get(f"{FLATHUB}/versions.sh").decode("utf-8", "replace")):
        second = other.get(tuple(int(part) for part in version.split(".")))
        branch = version.partition(".")[0]
        if version in known and second is None:
            continue
        try:
            one = installer(fetch.get(f"{FLATHUB}/data/nvidia-{version}-x86_64.data").decode("utf-8", "replace"))
        except EnvironmentProblem as error:
            yield Person("drivers", f"the .run of {version} is in flathub's list, but: {error.message}")
            continue
        if second is None:
            yield Person("drivers", f"the .run of {version} has one source only (flathub): its checksum needs a second")
        elif second != one.sha256:
            text = f"flathub has {one.sha256}, gVisor {second}"
            yield Person("drivers", f"the checksums of the .run of {version} do not agree: {text}")
        elif branch not in tables["drivers"]["branches"]:
            yield Person("drivers", f"the .run of {version} is of branch {branch}, of which the catalog knows nothing")
        else:
            place: Place = ("runfiles", row(version=version, variant="full"))
            facts: Json = {"version": version, "branch": branch, "variant": "full"}
            facts.update(url=known.get(version, {}).get("url", one.url), sha256=one.sha256, size=one.size)
            yield Says("drivers", place, facts, "flathub org.freedesktop.Platform.GL.nvidia and gVisor, equal")
