"""NVIDIA's manifests of redistributable archives: what they say of the catalog's archives of cuDNN."""

from __future__ import annotations

import re
from typing import Iterator, Mapping

from packaging.version import Version

from gpuhost import strict_json
from gpuhost.errors import ArtifactError
from gpuhost.text import printable

from .fetch import Fetch
from .rows import Finding, Json, Missing, Person, Says, row

CUDNN = "https://developer.download.nvidia.com/compute/cudnn/redist/"
MANIFEST = re.compile(r"redistrib_([0-9]+(?:\.[0-9]+){2,3})\.json")


def read(fetch: Fetch, tables: Mapping[str, Json]) -> Iterator[Finding]:
    """Yield what the manifests say of cuDNN's archives for x86_64."""
    source = "NVIDIA's redistributable manifests of cuDNN"
    rows = {one["url"]: one for one in tables["cudnn"]["packages"]}
    newest = max(Version(one["version"]) for one in tables["cudnn"]["packages"])
    seen = set()
    releases = sorted(set(MANIFEST.findall(fetch.get(CUDNN).decode("utf-8", "replace"))), key=Version)
    for release in releases:
        for variant, one in archives(fetch.get(f"{CUDNN}redistrib_{release}.json"), release).items():
            url = CUDNN + one["relative_path"]
            if url not in rows:
                if Version(release) > Version(newest.base_version):
                    yield Person("cudnn", f"cuDNN {one['version']} for {variant} is there: its cards need a person")
                continue
            seen.add(url)
            place = ("packages", row(version=rows[url]["version"], cuda=rows[url]["cuda"]))
            yield Says("cudnn", place, {"url": url, "sha256": one["sha256"]}, source)
    for url, was in rows.items():
        if url.startswith(CUDNN) and url not in seen:
            yield Missing("cudnn", ("packages", row(version=was["version"], cuda=was["cuda"])), source)


def archives(data: bytes, release: str) -> Mapping[str, Json]:
    """Return the archives of cuDNN for x86_64 in a manifest, by their CUDA; older manifests name one CUDA nowhere."""
    try:
        part = strict_json.loads(data)["cudnn"]
        found = part.get("linux-x86_64", {})
        found = {"": found} if "relative_path" in found else found
        for one in found.values():
            if not re.fullmatch(r"[0-9a-f]{64}", one["sha256"]) or not re.fullmatch(r"[\w./-]+", one["relative_path"]):
                raise ValueError("a checksum or a path is none")
        return {variant: {**one, "version": part["version"]} for variant, one in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"The manifest of cuDNN {release} is not one of NVIDIA's: {printable(error, 120)}."
        raise ArtifactError(text, "Look what became of it.") from None
