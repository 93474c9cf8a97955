"""The .debs of a driver: everything that its package needs, and where the distribution keeps each file permanently.

Ordinary libraries that a driver needs are not among them: any version of these will do, and the archive has one. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Dict, List, Optional, Sequence

from ..host.parse.offers import is_of_driver
from ..host.parse.relations import Relation, relations
from ..host.parse.versions import order
from ..shapes.lock import Deb
from ..shapes.observation import Archive, Offered, Offers

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


def provided(package: Offered) -> List[Relation]:
    """Return what a package stands for beside itself."""
    return [one for group in relations(package["provides"]) for one in group]


def satisfies(package: Offered, part: Relation) -> bool:
    """Return whether a package is, or stands for, what an alternative names; an unversioned stand-in has no version."""
    if package["package"] == part.name:
        return part.allows(package["version"])
    return any(
        one.name == part.name and (not part.operator or (bool(one.operator) and part.allows(one.bound)))
        for one in provided(package)
    )


def chosen_for(clause: Sequence[Relation], offered: Sequence[Offered], source: str) -> Optional[Offered]:
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


def latest(packages: Sequence[Offered]) -> Offered:
    """Return the newest of some versions of a package."""
    return max(packages, key=lambda package: order(package["version"]))


def whole_set(offers: Offers, words: Sequence[str], source: str) -> List[Deb]:
    """Return what is installed for these words ("name" or "name=version"): the packages of the driver among them, and
    all that they need of the driver, sorted by name.

    `source` is the source package that the driver is built from, whose packages are preferred to others'.
    """
    offered = offers["packages"]
    found: Dict[str, Offered] = {}
    for word in words:
        name, _, version = word.partition("=")
        fits = [p for p in offered if p["package"] == name and version in ("", p["version"])]
        if fits:
            found[name] = latest(fits)
    waiting = list(found.values())
    while waiting:
        for clause in relations(waiting.pop()["depends"]):
            if any(satisfies(package, part) for package in found.values() for part in clause):
                continue
            package = chosen_for(clause, offered, source)
            if package is not None and package["package"] not in found:
                found[package["package"]] = package
                waiting.append(package)
    return [as_locked(package, offers["archives"][package["archive"]]) for _, package in sorted(found.items())]


def as_locked(package: Offered, archive: Archive) -> Deb:
    """Return a package as a lock names it."""
    return {
        "name": package["package"],
        "version": package["version"],
        "sha256": package["sha256"],
        "size": package["size"],
        "file": file_name(package),
        "snapshot": snapshot(archive, package["file"]),
    }


def file_name(package: Offered) -> str:
    """Return the name under which a .deb is kept: the archive's, which has no epoch."""
    return str(package["file"].rpartition("/")[2])


def snapshot(archive: Archive, file: str) -> Optional[str]:
    """Return the permanent address of a file of the distribution's archive; None where the distribution has none."""
    place = _SNAPSHOTS.get(archive["label"])
    if place is None or not archive["date"] or archive["codename"].partition("-")[0] in _WITHOUT_SNAPSHOT:
        return None
    try:
        later = datetime.strptime(archive["date"], _STAMP) + _LATER
    except (ValueError, OverflowError):
        return None
    return f"{place}{later.strftime(_STAMP)}/{file}"
