"""What the archive of an observed host offers, as the rows that drivers are chosen from.

The catalog knows the rules: which branch serves which generation, which needs the open modules, which CUDA it serves.
Which packages there are, in which version and for which kernel, is the host's own archive's to say. Pure.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..errors import RefusedError, UnreadableError
from ..host.driver.offer import component_lines, component_step, parts, unnamed
from ..host.parse.versions import compare_versions, sort_versions
from ..shapes.observation import Observation, Offered, Offers
from ..types import Json
from .candidates import driven, served, snapshot
from .catalog import Catalog, shipped
from .resolve import Resolver, resolver
from .versions import admits, specifier

AGAIN = "On the host, as root:\napt-get update\nThen plan again."
#: Suites whose packages apt does not take by itself.
_HELD_BACK = ("-backports", "-proposed", "-proposed-updates")
_DRIVERS = {
    "ubuntu": re.compile(r"nvidia-driver-(([0-9]{3})(-server)?(-open)?)\Z"),
    "debian": re.compile(r"nvidia(-tesla-[0-9]{3})?-driver\Z"),
}
_NOTHING = re.compile(r"(?!)")
_UPSTREAM = re.compile(r"(?:[0-9]{1,9}:)?(([0-9]{1,9})(?:\.[0-9]{1,9}){1,3})[-+~]")
_KERNEL = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+-[0-9]+-[a-z0-9.-]+\Z")


def resolver_for(observation: Observation, asked: Dict[str, str], cards: bool) -> Resolver:
    """Return the resolver for an observed host: its driver packages are those that the host's archive offers.

    `cards`: whether a driver is planned at all. For a stack without one, and on a platform that the catalog does not
    know, the catalog's own resolver will do.
    """
    if not cards or observation["platform"]["id"] not in shipped().platforms["platforms"]:
        return resolver()
    return Resolver(of_host(shipped(), observation, asked))


def of_host(catalog: Catalog, observation: Observation, asked: Dict[str, str]) -> Catalog:
    """Return the catalog with the packages of a host's archive in the place of its own snapshot of that archive."""
    platform = observation["platform"]["id"]
    offers = readable(observation)
    refuse_missing_component(catalog, observation, offers)
    rows, branches = drivers(catalog, observation["platform"]["distribution"], offers, asked)
    kernels = kernel_rows(rows)
    rows = [{**row, "signed_modules": fitting(row["signed_modules"], kernels)} for row in rows]
    as_of = {name: date for name, date in catalog.drivers["archives_as_of"].items() if name != platform}
    own = {
        "archives": {**catalog.drivers["archives"], platform: rows},
        "archives_as_of": as_of,
        "branches": {**catalog.drivers["branches"], **branches},
        "claimed_before": snapshot(catalog),
        "offers": offers,
    }
    known = catalog.platforms["platforms"]
    platforms = {**known, platform: {**known[platform], "kernels": kernels}}
    return replace(catalog, drivers={**catalog.drivers, **own}, platforms={**catalog.platforms, "platforms": platforms})


def readable(observation: Observation) -> Offers:
    """Return what the archive offers; refuse a host of which that is not known."""
    offers = observation.get("offers")
    if offers is None:
        why = [p for p in observation["problems"] if p["what"].startswith("apt")]
        told = f" ({why[0]['what']}: {why[0]['error']})" if why else ""
        raise UnreadableError(f"What the archive offers was not read{told}, and the driver is chosen from it.", AGAIN)
    if not offers["archives"]:
        raise UnreadableError(
            "apt has read no archive of the distribution yet, and the driver is chosen from it.", AGAIN
        )
    if any(row["archive"] >= len(offers["archives"]) for row in offers["packages"]):
        raise UnreadableError("What the archive offers names an archive that is not listed.", AGAIN)
    return offers


def refuse_missing_component(catalog: Catalog, observation: Observation, offers: Offers) -> None:
    """Refuse a host whose sources leave out the part of the archive that drivers are in.

    A plan without it would take NVIDIA's own file where the distribution has a package.
    """
    packages = catalog.drivers["archives"][observation["platform"]["id"]]
    # Ubuntu's long-term branches are in restricted; without multiverse a host has fewer of the others to choose from.
    needed = {row["component"] for row in packages if row.get("support") in (None, "LTSB")}
    named = {name for archive in offers["archives"] for name in archive["components"]}
    missing = sorted({part for component in needed for part in parts(component)} - named)
    if missing:
        sites = sorted({archive["site"] for archive in offers["archives"]})
        words = " ".join(part for component in sorted(needed) for part in parts(component))
        lines = component_lines(observation["apt"]["sources"], words, sites)
        raise RefusedError(
            unnamed("The driver", missing),
            f"{component_step(missing[0], lines)}\nThen plan again.",
        )


def newest(offers: Offers) -> Dict[str, Offered]:
    """Return of each package the version that apt takes by itself: the newest that is not held back."""
    found: Dict[str, Offered] = {}
    for row in offers["packages"]:
        if offers["archives"][row["archive"]]["release"].rstrip("/").endswith(_HELD_BACK):
            continue
        known = found.get(row["package"])
        if known is None or compare_versions(row["version"], known["version"]) > 0:
            found[row["package"]] = row
    return found


def drivers(
    catalog: Catalog, distribution: str, offers: Offers, asked: Dict[str, str]
) -> Tuple[List[Json], Dict[str, Json]]:  # Json: rows of the catalog
    """Return the drivers that are offered, as rows of the catalog, and the branches that it does not know of them.

    A branch that is newer than the catalog is left out unless somebody asks for it: it may have dropped the card.
    """
    packages, known = newest(offers), catalog.drivers["branches"]
    last = max(known, key=int)
    found, unknown = [], {}
    for name in sorted(packages):
        row = driver(distribution, packages[name])
        if row is None:
            continue
        if row["branch"] not in known:
            if int(row["branch"]) < int(last) or not is_named(asked, row["version"]):
                continue
            unknown[row["branch"]] = {**known[last], "suggested": row["version"]}
            row["unverified"] = (
                f"branch {row['branch']} is newer than this release of gpuhost and was asked for: that it serves what "
                f"branch {last} serves is an assumption"
            )
        branch = unknown.get(row["branch"]) or known[row["branch"]]
        row["claims"] = claims(catalog, row, branch, packages[name].get("devices"))
        row["signed_modules"] = signed(row, packages) if row["modules_package"] else {}
        found.append(row)
    return found, unknown


def is_named(asked: Dict[str, str], release: str) -> bool:
    """Return whether somebody has asked for this driver."""
    return "driver" in asked and admits(specifier("driver", asked["driver"]), release)


def driver(distribution: str, offered: Offered) -> Optional[Json]:  # Json: a row of the catalog
    """Return a package as a row of drivers; None for one that is not a driver, or only leads to another one."""
    name = _DRIVERS.get(distribution, _NOTHING).match(offered["package"])
    upstream = _UPSTREAM.match(offered["version"])
    of_nvidia = offered["source"].startswith("nvidia-graphics-drivers") and bool(offered["component"])
    if name is None or upstream is None or not of_nvidia:
        return None
    branch, tail = upstream.group(2), ""
    if distribution == "ubuntu":
        # A transitional package has the name of its old branch, and claims no device.
        if name.group(2) != branch or not offered.get("devices"):
            return None
        tail = name.group(1)
    row = {
        "package": offered["package"],
        "version": upstream.group(1),
        "package_version": offered["version"],
        "branch": branch,
        "flavour": "server" if "-server" in tail or "-tesla-" in offered["package"] else "desktop",
        "component": offered["component"],
        "sha256": offered["sha256"],
        "file": offered["file"],
        "modules_package": f"linux-modules-nvidia-{tail}" if tail else None,
        "source": "the archive of the host",
        "built_from": offered["source"],
        "support": offered.get("support"),
    }
    return {**row, "kernel_modules": "open"} if tail.endswith("-open") else row


def claims(
    catalog: Catalog,
    row: Json,  # Json: rows of the catalog
    branch: Json,  # Json: rows of the catalog
    listed: Optional[List[str]],
) -> List[str]:
    """Return the devices that a driver's package drives.

    Debian's index lists none: those are the catalog's for a branch that it knows this package with, else those of the
    generations that the branch serves. What is listed is less what the package's kind of module does not drive.
    """
    if listed is None:
        same = [one for one in snapshot(catalog) if (one["package"], one["branch"]) == (row["package"], row["branch"])]
        if same:
            return list(same[0]["claims"])
        row.setdefault("unverified", f"the index does not list the cards of {row['package']}: taken are its branch's")
        return served(catalog, row, branch)
    return driven(catalog, row, branch, listed)


class Modules(NamedTuple):
    """A package of prebuilt modules: its version, and the kernel that it brings them to."""

    version: str
    kernel: str


def signed(row: Json, packages: Mapping[str, Offered]) -> Dict[str, Modules]:  # Json: a row of the catalog
    """Return the packages of prebuilt modules of a driver, by the end of their names.

    That end is a flavour, for the package that leads to its newest kernel, or a kernel's release. Modules that were
    built for another version of the driver are left out: the archive publishes them apart from it.
    """
    prefix = row["modules_package"] + "-"
    # Both kinds of module, open and proprietary, need the one package of their branch.
    line = re.sub("-open$", "", row["modules_package"])
    common = line.replace("linux-modules-nvidia-", "nvidia-kernel-common-", 1)
    made_for = re.compile(rf"(^|[ ,]){re.escape(common)} \(>= {re.escape(row['version'])}\)")
    leads_to = re.compile(rf"(?:^|[ ,]){re.escape(prefix)}([a-z0-9.-]+)")
    found = {}
    for name, package in packages.items():
        if name.startswith(prefix) and made_for.search(package["depends"]):
            ends = [name[len(prefix) :], *leads_to.findall(package["depends"])]
            kernel = next((end for end in ends if _KERNEL.match(end)), None)
            if kernel is not None:
                found[name[len(prefix) :]] = Modules(package["version"], kernel)
    return found


def kernel_rows(rows: List[Json]) -> List[Json]:  # Json: rows of the catalog
    """Return the kernels that there are modules for, as rows of the catalog: the newest of each flavour first."""
    ends: Dict[str, List[str]] = {}
    for row in rows:
        for end, modules in row["signed_modules"].items():
            ends.setdefault(end, []).append(modules.kernel)
    newest_of = {end: sort_versions(kernels)[-1] for end, kernels in ends.items()}
    ordered = sorted(newest_of.items(), key=lambda item: (item[0] == item[1], item))
    return [{"flavour": end, "release": kernel, "abi": abi(kernel)} for end, kernel in ordered]


def abi(kernel: str) -> str:
    """Return a kernel's release without its flavour."""
    return "-".join(kernel.split("-")[:2])


def fitting(modules: Dict[str, Modules], kernels: List[Json]) -> Dict[str, str]:  # Json: rows of the catalog
    """Return the versions of those packages of modules that lead to the newest kernel of their flavour."""
    newest_of = {row["flavour"]: row["release"] for row in kernels}
    return {end: found.version for end, found in modules.items() if found.kernel == newest_of[end]}
