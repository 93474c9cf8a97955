"""Which VirtualBox a host gets beside its stack: chosen by the resolver's own rules, once, and kept in the lock. Pure.

It is off unless it is asked for. The release's own archive is taken where it has a version that was asked for; else
Oracle's own file by sha256. No stack depends on it, so nothing else of a plan changes with it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final, List, Optional, cast

from ..errors import RefusedError, UnreadableError, UsageError
from ..host.driver.offer import component_lines, component_step, unnamed
from ..host.virtualbox.packages import GUI, PACKAGES
from ..shapes.lock import Artifact, LockedVirtualbox
from ..shapes.observation import Observation
from ..types import Json
from . import debs
from .candidates import Candidate, Place, Request
from .catalog import Catalog, shipped
from .offers import AGAIN, newest
from .resolve import Resolver
from .rules.table import BESIDE
from .rules.virtualbox import Known, known, that_would_do
from .versions import admits, specifier, version

NAME: Final = "virtualbox"
#: Where it stands: beside every stack, with no other component.
PLACE = Place(NAME, True, False)
#: What the variable that asks for a version may say.
EXAMPLE = 'Write virtualbox_version as in "6.0.24" or ">=7.0,<8", or leave it empty for the release\'s own.'
_UPSTREAM = re.compile(r"(?:[0-9]+:)?([0-9]+\.[0-9]+\.[0-9]+)(?:[-+~.]|$)")


def part(
    platform: str, text: str, observation: Optional[Observation] = None, kernel: Optional[str] = None
) -> LockedVirtualbox:
    """Return what a lock holds of the VirtualBox that `text` asks for; `RefusedError` where there is none that fits.

    With the observation of a host its own archive says what there is, and the kernel that boots is the one it is for.
    """
    catalog = of_host(shipped(), platform, observation, text) if observation else shipped()
    kernel = observation["kernel"]["boots"] if observation else kernel
    chosen = choose(catalog, platform, kernel, text)
    row, found = chosen.row, known(catalog, chosen)
    doubts = [str(row["unverified"])] if row.get("unverified") else []
    if kernel is not None and found.compiles(kernel) is None:
        doubts.append(
            f"no source says whether VirtualBox {chosen.version} compiles against kernel {kernel}: DKMS tells"
        )
    common = {"asked": text, "version": chosen.version, "extension_pack": pack(catalog, chosen.version)}
    if "platform" not in row:
        found_at_oracle = {"source": "runfile", "build": row["build"], "file": row["installer"], "unverified": doubts}
        return cast(LockedVirtualbox, {**common, **found_at_oracle})
    offers = observation["offers"] if observation and observation.get("offers") else None
    words = [f"{name}={row['package_version']}" for name in (*PACKAGES, GUI)]
    found_there = {
        "source": "archive",
        "package_version": row["package_version"],
        "component": row["component"],
        "packages": debs.whole_set(offers, words, NAME) if offers else [],
        "unverified": doubts,
    }
    return cast(LockedVirtualbox, {**common, **found_there})


def choose(catalog: Catalog, platform: str, kernel: Optional[str], text: str) -> Candidate:
    """Return the preferred VirtualBox: the archive's before Oracle's, one that a source vouches for before others."""
    wanted = demanded(text)
    resolver, request = Resolver(catalog, BESIDE), Request(platform, kernel=kernel)
    there = [c for c in resolver.candidates.virtualbox if c.row.get("platform") in (None, platform)]
    asked = [c for c in there if admits(wanted, c.version)]
    if wanted is None and any("platform" in c.row for c in asked):
        asked = [c for c in asked if "platform" in c.row]  # the release's own
    if not asked:
        versions = sorted({c.version for c in there}, key=version)
        step = f"Known are {', '.join(versions)}." if versions else "Its files come with tools/catalog/refresh."
        raise RefusedError(f"VirtualBox {text or 'for ' + platform} is not known to this release of gpuhost.", step)
    fitting = set(resolver.fitting(PLACE, request))
    fits = [c for c in asked if c in fitting]
    here = [c for c in there if c in fitting]
    if not fits:
        told = [rule.unary(catalog, request, c) for c in asked[:1] for rule in BESIDE if rule.unary]
        raise RefusedError(f"{told[0]}. (D52)", would_do(catalog, str(kernel), here))
    if (
        wanted is None
        and kernel is not None
        and not any("platform" in c.row or vouched(catalog, c, kernel) for c in fits)
    ):
        text = (
            f"The archive of {platform} has no VirtualBox, and no source says which of Oracle's compiles against kernel"
        )
        raise RefusedError(f"{text} {kernel}.", would_do(catalog, kernel, here))

    def order(c: Candidate) -> Any:
        return "platform" not in c.row, kernel is not None and not vouched(catalog, c, kernel)

    return min(fits, key=order)


def vouched(catalog: Catalog, candidate: Candidate, kernel: str) -> bool:
    """Return whether a source says that a release compiles against a kernel."""
    return known(catalog, candidate).compiles(kernel) is True


def would_do(catalog: Catalog, kernel: str, here: List[Candidate]) -> str:
    """Return what to do about a VirtualBox that does not compile against a kernel."""
    sure = [c.version for c in here if vouched(catalog, c, kernel)]
    first = that_would_do(catalog, kernel)
    told = f"Releases that compile against it: {', '.join(first)} and newer of their series" if first else ""
    named = f"this host can have {', '.join(dict.fromkeys(sure))}: set virtualbox_version" if sure else ""
    rest = "none of them is here: tools/catalog/refresh virtualbox adds Oracle's newest" if first and not sure else ""
    return (
        "; ".join(words for words in (told, named, rest) if words) + "."
        if told or named
        else ("No release is known to compile against it: boot an older kernel, or leave virtualbox_enabled out.")
    )


def refuse_kernel(held: LockedVirtualbox, platform: str, kernel: str) -> None:
    """Refuse a kernel that the locked VirtualBox does not compile against, before anything is changed."""
    catalog = shipped()
    request = Request(platform, kernel=kernel)
    for rule in BESIDE:
        told = rule.unary(catalog, request, as_candidate(catalog, held, platform)) if rule.unary else None
        if told:
            here = [
                c for c in Resolver(catalog, BESIDE).candidates.virtualbox if c.row.get("platform") in (None, platform)
            ]
            raise RefusedError(f"{told}. (D52) Nothing was changed.", would_do(catalog, kernel, here))


def doubt(held: LockedVirtualbox, platform: str, kernel: str) -> str:
    """Return what to say of a kernel that no source names for the locked VirtualBox; "" where one does."""
    catalog = shipped()
    if known(catalog, as_candidate(catalog, held, platform)).compiles(kernel) is not None:
        return ""
    return f"No source says whether VirtualBox {held['version']} compiles against kernel {kernel}: DKMS tells."


def as_candidate(catalog: Catalog, held: LockedVirtualbox, platform: str) -> Candidate:
    """Return the VirtualBox of a lock with what the catalog knows of its package's patches."""
    if held["source"] == "runfile":
        return Candidate(NAME, held["version"], held["version"], {"source": "Oracle"})
    return Candidate(
        NAME, held["version"], held["package_version"], archive_row(catalog, platform, held["package_version"])
    )


def demanded(text: str) -> Any:
    """Return what a user asks of the version; None for nothing."""
    if not text.strip():
        return None
    try:
        return specifier(NAME, text)
    except UsageError as error:
        raise UsageError(error.message, EXAMPLE) from None


def pack(catalog: Catalog, wanted: str) -> Optional[Artifact]:
    """Return Oracle's extension pack of a release; None where its checksum is not known."""
    rows = [row for row in catalog.virtualbox["releases"] if row["version"] == wanted]
    return rows[0]["extension_pack"] if rows else None


def upstream(package_version: str) -> Optional[str]:
    """Return Oracle's release in a package's version: 7.2.22 of 7.2.22-dfsg-2."""
    found = _UPSTREAM.match(package_version)
    return found.group(1) if found else None


def archive_row(catalog: Catalog, platform: str, package_version: str) -> Json:  # Json: a row of the catalog
    """Return the catalog's row of a package, or what it knows of another package of the same release.

    A later package keeps what an earlier one compiles against, and may fix what that one failed with.
    """
    held = catalog.virtualbox["archives"].get(platform, {"packages": [], "component": ""})
    plain: Json = {"version": upstream(package_version), "package_version": package_version, "platform": platform}
    plain.update(component=held["component"], source="the host's own archive")
    for row in held["packages"]:
        if row["package_version"] == package_version:
            return {**plain, **row}
        if row["version"] == plain["version"]:
            plain.update(builds=row["builds"], source=row["source"])
    return plain


def of_host(catalog: Catalog, platform: str, observation: Observation, text: str) -> Catalog:
    """Return the catalog with what a host's own archive offers of VirtualBox in the place of the snapshot.

    Refused where that was not read, or where no source names the part of the archive that it is in: Oracle's file would
    be taken where the distribution has a package.
    """
    offers = observation.get("offers")
    if not offers or not offers["archives"]:
        raise UnreadableError("What the archive offers was not read, and VirtualBox is chosen from it.", AGAIN)
    there = newest(offers)
    versions = {there[name]["version"] for name in PACKAGES if name in there}
    rows = []
    if len(versions) == 1 and all(name in there for name in PACKAGES):
        (one,) = versions
        if upstream(one):
            rows = [{**archive_row(catalog, platform, one), "component": there[PACKAGES[0]]["component"]}]
    known_there = catalog.virtualbox["archives"].get(platform, {"component": "", "packages": []})
    named = {name for archive in offers["archives"] for name in archive["components"]}
    missing = known_there["component"] not in named and any(
        admits(demanded(text), row["version"]) for row in known_there["packages"]
    )
    if not rows and missing:
        sites = sorted({archive["site"] for archive in offers["archives"]})
        words = component_lines(observation["apt"]["sources"], known_there["component"], sites)
        step = component_step(known_there["component"], words)
        raise RefusedError(unnamed("VirtualBox", [known_there["component"]]), f"{step}\nThen plan again.")
    archives = {**catalog.virtualbox["archives"], platform: {**known_there, "packages": rows}}
    return replace(catalog, virtualbox={**catalog.virtualbox, "archives": archives})


def lines(held: LockedVirtualbox, kernel: Optional[str], platform: str) -> List[str]:
    """Return a locked VirtualBox in lines for a person."""
    catalog = shipped()
    origin = (
        f"the archive's {held['package_version']}"
        if held["source"] == "archive"
        else f"Oracle's {held['file']['name']}"
    )
    told = [f"VirtualBox {held['version']}: {origin}"]
    found: Known = known(catalog, as_candidate(catalog, held, platform))
    if kernel is not None and found.compiles(kernel):
        told.append(f"  its modules compile against kernel {kernel}: {found.source}")
    return told + [f"  not verified: {text}" for text in held["unverified"]]
