"""Oracle's VirtualBox: the checksums that it publishes with each release, and its newest release."""

from __future__ import annotations

import hashlib
import re
from typing import Dict, Iterator, Mapping, Optional

from gpuhost.errors import ArtifactError
from gpuhost.text import printable

from .fetch import Fetch
from .rows import Finding, Json, Person, Says, row

FILES = "https://download.virtualbox.org/virtualbox"
SUMS = "https://www.virtualbox.org/download/hashes"
SOURCE = "Oracle's SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9][A-Za-z0-9._+~-]{0,199})")
_INSTALLER = re.compile(r"VirtualBox-([0-9.]+)-([0-9]+)-Linux_amd64\.run")
_PACK = re.compile(r"Oracle_(?:VM_)?VirtualBox_Extension_Pack-([0-9.]+)([a-z])?(-[0-9]+)?\.vbox-extpack")


def sums(text: str) -> Dict[str, str]:
    """Return the checksums of a SHA256SUMS file by file name; one that is not such a file is an `ArtifactError`."""
    found: Dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            raise ArtifactError(
                f"A line of SHA256SUMS is not a checksum: {printable(line, 80)}", "Look what became of it."
            )
        if found.setdefault(match.group(2), match.group(1)) != match.group(1):
            raise ArtifactError(f"SHA256SUMS has two checksums of {match.group(2)}.", "Look what became of it.")
    return found


def facts(version: str, data: bytes) -> Json:
    """Return a release as the catalog has it, from its SHA256SUMS."""
    listed = sums(data.decode("utf-8", "replace"))
    installers = [found for found in map(_INSTALLER.fullmatch, listed) if found and found.group(1) == version]
    if len(installers) != 1:
        raise ArtifactError(f"SHA256SUMS of {version} names {len(installers)} installers for Linux.", "Look into it.")
    packs = [found for found in map(_PACK.fullmatch, listed) if found and found.group(1) == version]
    # Of several the one with the build in its name is the later one.
    packs.sort(key=lambda found: (found.group(2) or "", found.group(3) or ""))
    return {
        "version": version,
        "build": installers[0].group(2),
        "sums_sha256": hashlib.sha256(data).hexdigest(),
        "installer": file(version, installers[0].group(0), listed),
        "extension_pack": file(version, packs[-1].group(0), listed) if packs else None,
    }


def file(version: str, name: str, listed: Mapping[str, str]) -> Json:
    """Return a file of a release."""
    return {"name": name, "url": f"{FILES}/{version}/{name}", "sha256": listed[name]}


def newest(fetch: Fetch) -> str:
    """Return the version that Oracle calls its latest stable one."""
    text = fetch.get(f"{FILES}/LATEST-STABLE.TXT", limit=100).decode("ascii", "replace").strip()
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){2}", text):
        raise ArtifactError(f"LATEST-STABLE.TXT is not a version: {printable(text, 40)}", "Look what became of it.")
    return text


def read(fetch: Fetch, tables: Mapping[str, Json]) -> Iterator[Finding]:
    """Yield the releases of the catalog checked against Oracle's checksums, and its newest release."""
    known = {one["version"]: one for one in tables["virtualbox"]["releases"]}
    latest = newest(fetch)
    for version in [*known, *([] if latest in known else [latest])]:
        found = facts(version, fetch.get(f"{SUMS}/{version}/SHA256SUMS"))
        told = differing(known.get(version), found)
        if told is not None:
            yield Person("virtualbox", f"{version}: {told}: look which is right")
            continue
        yield Says("virtualbox", ("releases", row(version=version)), found, SOURCE, "version", ("unverified",))
    if latest not in known:
        yield Person("virtualbox", f"{latest} is new: which kernels it compiles against stands in its changelog")


def differing(before: Optional[Json], found: Json) -> Optional[str]:
    """Return in words where a release has another checksum than before; None where it has the same, or is new."""
    for key in ("installer", "extension_pack"):
        was, now = (before or {}).get(key), found[key]
        if was and now and was["name"] == now["name"] and was["sha256"] != now["sha256"]:
            return f"{was['name']} had the sha256 {was['sha256']}, Oracle's list has {now['sha256']}"
    return None
