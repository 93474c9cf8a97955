"""The .debs of a driver: everything of it that its package needs, and where the distribution keeps each file for good.

Ordinary libraries that a driver needs are not among them: any version of these will do, and the archive has one. Pure.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence

from ..host.parse.offers import is_of_driver
from ..host.parse.versions import compare_versions
from ..types import Json

_PART = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?::[a-z0-9]+)?\s*(?:\((<<|<=|=|>=|>>)\s*([^)\s]+)\s*\))?\s*\Z")
#: Where the archives keep every file that they ever had, by the label of the archive. Ubuntu's service begins in March
#: 2023 and has no release that is older than 20.04.
_SNAPSHOTS = {
    "Debian": "https://snapshot.debian.org/archive/debian/",
    "Debian-Security": "https://snapshot.debian.org/archive/debian-security/",
    "Debian Backports": "https://snapshot.debian.org/archive/debian/",
    "Ubuntu": "https://snapshot.ubuntu.com/ubuntu/",
}
_WITHOUT_SNAPSHOT = ("trusty", "xenial", "bionic")
#: A snapshot is taken some hours after an index is made, and a file stays for longer than that after its package is
#: replaced. So the state of a day later has every file that the index names.
_LATER = timedelta(days=1)
_STAMP = "%Y%m%dT%H%M%SZ"


class Part(NamedTuple):
    """One alternative of a dependency: a name, and the relation to a version ("" and "" where any will do)."""

    name: str
    relation: str
    version: str

    def allows(self, version: str) -> bool:
        """Return whether the relation holds for a version."""
        order = compare_versions(version, self.version) if self.relation else 0
        return {"": True, "<<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">>": order > 0}[
            self.relation
        ]


def parts(text: str) -> Iterator[List[Part]]:
    """Give the clauses of a list of dependencies, each as its alternatives; one that cannot be read has none."""
    for clause in text.split(","):
        found = [_PART.match(one.strip()) for one in clause.split("|")]
        yield [Part(one.group(1), one.group(2) or "", one.group(3) or "") for one in found if one is not None]


def provided(package: Json) -> List[Part]:
    """Return what a package stands for beside itself."""
    return [part for clause in parts(package["provides"]) for part in clause]


def satisfies(package: Json, part: Part) -> bool:
    """Return whether a package is, or stands for, what an alternative names; an unversioned stand-in has no version."""
    if package["package"] == part.name:
        return part.allows(package["version"])
    return any(
        one.name == part.name and (not part.relation or (bool(one.relation) and part.allows(one.version)))
        for one in provided(package)
    )


def chosen_for(clause: Sequence[Part], offered: Sequence[Json], source: str) -> Optional[Json]:
    """Return the package of the driver that a clause brings; None where an ordinary one satisfies it."""
    for part in clause:
        fits = [package for package in offered if satisfies(package, part)]
        fits.sort(key=lambda package: (package["package"] != part.name, package["source"] != source))
        if fits:
            best = [p for p in fits if p["package"] == fits[0]["package"]]
            return latest(best)
        if not is_of_driver(part.name, ()):
            return None
    return None


def latest(packages: Sequence[Json]) -> Json:
    """Return the newest of some versions of a package."""
    found = packages[0]
    for package in packages[1:]:
        if compare_versions(package["version"], found["version"]) > 0:
            found = package
    return found


def whole_set(offers: Json, words: Sequence[str], source: str) -> List[Json]:
    """Return what is installed for these words ("name" or "name=version"): the packages of the driver among them, and
    all that they need of the driver, sorted by name.

    `source` is the source package that the driver is built from, whose packages are preferred to others'.
    """
    offered = offers["packages"]
    found: Dict[str, Json] = {}
    for word in words:
        name, _, version = word.partition("=")
        fits = [p for p in offered if p["package"] == name and version in ("", p["version"])]
        if fits:
            found[name] = latest(fits)
    waiting = list(found.values())
    while waiting:
        for clause in parts(waiting.pop()["depends"]):
            if any(satisfies(package, part) for package in found.values() for part in clause):
                continue
            package = chosen_for(clause, offered, source)
            if package is not None and package["package"] not in found:
                found[package["package"]] = package
                waiting.append(package)
    return [as_locked(package, offers["archives"][package["archive"]]) for _, package in sorted(found.items())]


def as_locked(package: Json, archive: Json) -> Json:
    """Return a package as a lock names it."""
    return {
        "name": package["package"],
        "version": package["version"],
        "sha256": package["sha256"],
        "size": package["size"],
        "file": file_name(package),
        "snapshot": snapshot(archive, package["file"]),
    }


def file_name(package: Json) -> str:
    """Return the name under which a .deb is kept: the archive's, which has no epoch."""
    return str(package["file"].rpartition("/")[2])


def snapshot(archive: Json, file: str) -> Optional[str]:
    """Return the address at which the distribution keeps a file of its archive for good; None where it keeps none."""
    place = _SNAPSHOTS.get(archive["label"])
    if place is None or not archive["date"] or archive["codename"].partition("-")[0] in _WITHOUT_SNAPSHOT:
        return None
    try:
        later = datetime.strptime(archive["date"], _STAMP) + _LATER
    except (ValueError, OverflowError):
        return None
    return f"{place}{later.strftime(_STAMP)}/{file}"
