"""The cards: pci.ids as Debian packages it, and the table in the README of NVIDIA's open kernel modules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Iterator, Mapping, Optional, Tuple

from gpuhost.errors import ArtifactError
from gpuhost.planning.versions import version

from .debian import ARCHIVE, KEYRING, members, packages, release
from .fetch import Fetch
from .rows import Finding, Json, Missing, Person, Says

SUITE = "testing"
README = "https://raw.githubusercontent.com/NVIDIA/open-gpu-kernel-modules/main/README.md"
#: "GP106 [GeForce GTX 1060 6GB]", the chip alone where the card has no name yet.
CARD = re.compile(r"(G[A-Z]{1,2}[0-9]{2,3}[A-Z]*|[A-Z]{2}[0-9]{3}[A-Z]*)(?: \[(.*)\])?")
#: Devices of a card, and chips, that compute nothing.
NO_CARD = re.compile(r"Audio|USB|UCSI|Bridge|NVSwitch|Root Port|\bRP\b|NPU|Tegra|Reserved", re.IGNORECASE)


def read(fetch: Fetch, tables: Mapping[str, Json], keyring: Path = KEYRING) -> Iterator[Finding]:
    """Yield the cards of pci.ids that the catalog does not have, and those that it has and pci.ids does not."""
    suite = release(fetch, ARCHIVE, SUITE, keyring)
    package = packages(fetch, suite, "main", re.compile(r"pci\.ids"))["pci.ids"]
    text = members(fetch, package, "usr/share/misc").get("pci.ids", "")
    listed = devices(text)
    source = f"pci.ids {package['version']} (Debian's signed package)"
    table = tables["gpus"]
    for device in sorted(set(table["devices"]) - set(listed)):
        yield Missing("gpus", ("devices", device), source)
    for device, said in sorted(listed.items()):
        if device in table["devices"]:
            continue
        found = CARD.fullmatch(said)
        if found is None or NO_CARD.search(said):
            continue
        chip, name = found.group(1), found.group(2) or ""
        if chip in table["chips"]:
            yield Says("gpus", ("devices", device), {"chip": chip, "name": name}, source, where="sorted")
        elif chip not in table["integrated_chips"]:
            yield Person("gpus", f"{device} is {said}: the compute capability of {chip} is not in the catalog")


def devices(text: str) -> Dict[str, str]:
    """Return NVIDIA's devices of pci.ids with what it calls them."""
    block = re.search(r"^10de .*\n((?:(?:\t|#).*\n|\n)*)", text, re.MULTILINE)
    if block is None:
        raise ArtifactError("pci.ids has no devices of NVIDIA.", "Look what became of it.")
    return dict(re.findall(r"^\t([0-9a-f]{4})  (.*)$", block.group(1), re.MULTILINE))


def listed_by_driver(text: str) -> Tuple[Optional[str], Dict[str, str]]:
    """Return the release of a README of the open kernel modules, and the devices of its table with their names."""
    said = re.search(r"^version ([0-9.]+[0-9])\.?$", text, re.MULTILINE)
    rows = re.findall(r"^\| (.*?) +\| ([0-9A-F]{4})(?: [0-9A-F]{4} [0-9A-F]{4})? +\|$", text, re.MULTILINE)
    return (said.group(1) if said else None), {device.lower(): name for name, device in rows}


def read_table(fetch: Fetch, tables: Mapping[str, Json]) -> Iterator[Finding]:
    """Yield what the newest table of the open kernel modules says of cards that no earlier one had."""
    release_, listed = listed_by_driver(fetch.get(README).decode("utf-8", "replace"))
    if release_ is None or not listed:
        raise ArtifactError(
            "The README of the open kernel modules has no release or no table.", "Look what became of it."
        )
    source = f"README of NVIDIA/open-gpu-kernel-modules {release_}"
    known = tables["gpus"]["devices"]
    for device, row in known.items():
        without = row.get("unlisted_up_to")
        if without is None or version(release_) <= version(without):
            continue
        field = "first_listed_driver" if device in listed else "unlisted_up_to"
        remove = () if device not in listed else ("unlisted_up_to",)
        yield Says("gpus", ("devices", device), {field: release_}, source, without=remove)
    for device in sorted(set(listed) - set(known)):
        yield Person("gpus", f"{device} is {listed[device]} in the table of {release_}, and not in the catalog")
