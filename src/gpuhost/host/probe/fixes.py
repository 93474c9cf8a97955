"""Reading which newer kernel the distribution's own archives offer, since when that is known, and why it waits.

apt is asked, by the lists that it has read. Nothing on a host notes since when an archive offers something, so the
watch writes down when it first saw it (`RECORD`). Runs on the target: Python 3.6, standard library. Reads only.
"""

import time
from typing import Dict, List, Mapping, Optional, Tuple

from ...types import Json
from ..edges import Edges
from ..guard.rules import RECORD as GUARD_RECORD
from ..guard.rules import Package, names_in
from ..parse.apt import parse_madison
from ..parse.kernels import flavour, image_of, is_kernel_package, names_a_kernel
from ..parse.versions import compare_versions, order
from .apt import read_indexes
from .guard import installed_packages
from .offers import Lists, Place, own_of

#: Since when a kernel newer than the running one is offered, and what says that updates are automatic here.
RECORD, AUTOMATIC = "state/kernel_offer.json", "state/automatic.json"
SCHEMA = 1
_DAY_S = 24 * 60 * 60
#: Why nothing is known of what is offered.
NO_LISTS = "apt has read no list of the distribution's own archive"
NO_ANSWER = "apt does not answer"
NOTHING_LEADS = "no package is installed that leads to newer kernels of this kind"
NOT_LISTED = "the archive does not list the packages that lead to newer kernels"


def fixes(edges: Edges, root: str, kernel: Json, distribution: str) -> Json:
    """Return what waits to replace the running kernel; `kernel` is that of the observation.

    `unknown` says why nothing is known, or is "". `offered` is None where nothing newer is offered, else its `release`,
    the `package` and the `version` that lead there, the `archive`, whether that is one for `security`, `why` it does
    not run yet, and the `days` since it was first seen (None: the watch has not noted that). `automatic` says that
    updates that a boot has to prove are made by a timer.
    """
    since = first_seen(edges, root, kernel["running"])
    unknown, offered = newest(edges, kernel["running"], distribution)
    found: Json = {"unknown": unknown, "offered": None, "automatic": edges.exists(f"{root}/{AUTOMATIC}")}
    if offered is not None:
        days = None if since is None else max(0, int(time.time()) - since) // _DAY_S
        found["offered"] = {**offered, "why": why(edges, root, kernel, offered["release"]), "days": days}
    return found


def newest(edges: Edges, running: str, distribution: str) -> Tuple[str, Optional[Json]]:
    """Return why it is not known what is offered, or "", and the newest kernel that is and does not run yet."""
    indexes = read_indexes(edges)
    own = own_of(indexes or [], distribution)
    if not own:
        return NO_ANSWER if indexes is None else NO_LISTS, None
    packages = installed_packages(edges)
    leading = [name for name, package in sorted(packages.items()) if leads(package, running)]
    if not leading:
        return NOTHING_LEADS, None
    lists = Lists(edges, ())
    archives, places = lists.archives(own, "")
    images = [name for name in sorted(packages) if image_of(name) == running]
    said = lists.said("madison", [*leading, *images], silent=True)
    if said is None:
        return NO_ANSWER, None
    versions: Dict[str, Dict[str, List[Place]]] = {}
    for row in parse_madison(said):
        if row["index"] in places:
            versions.setdefault(row["package"], {}).setdefault(row["version"], []).append(places[row["index"]])
    if not any(name in versions for name in leading):
        return NOT_LISTED, None
    best = {name: sorted(versions[name], key=order)[-1] for name in versions}
    newer = [name for name in best if compare_versions(best[name], packages[name].version) > 0]
    shown = lists.packages({(name, best[name]): versions[name][best[name]][0] for name in newer}, set(newer))
    if len(shown) < len(newer):
        return NO_ANSWER, None
    depends = {
        **{name: packages[name].depends for name in leading},
        **{row["package"]: row["depends"] for row in shown},
    }
    ways = [(release, name) for name in leading for release in targets(depends[name], running)]
    ways = [way for way in ways if compare_versions(way[0], running) > 0]
    ways += [(running, name) for name in images if name in newer]
    if not ways:
        return "", None
    release, name = max(ways, key=lambda way: order(way[0]))
    version = best.get(name, packages[name].version)
    rows = [archives[number] for number, _ in versions.get(name, {}).get(version, [])]
    fit = [row for row in rows if is_security(row)] or rows
    archive = " ".join((fit[0]["label"] or fit[0]["origin"], fit[0]["release"])) if fit else ""
    found = {"release": release, "package": name, "version": version, "archive": archive}
    return "", {**found, "security": bool(fit) and is_security(fit[0])}


def leads(package: Package, running: str) -> bool:
    """Return whether a package leads to the newest kernel of the running one's kind, as linux-image-generic does."""
    name = package.name
    is_leading = is_kernel_package(name) and not names_a_kernel(name) and ":" not in name
    return is_leading and bool(targets(package.depends, running))


def targets(depends: str, running: str) -> List[str]:
    """Return the kernels of the running one's kind that a Depends field names."""
    releases = [image_of(name) for name in names_in(depends)]
    return [one for one in releases if one and flavour(one) and flavour(one) == flavour(running)]


def is_security(archive: Json) -> bool:
    """Return whether an archive is one for security fixes."""
    return bool(archive["release"].endswith("-security") or archive["label"] == "Debian-Security")


def first_seen(edges: Edges, root: str, running: str) -> Optional[int]:
    """Return when the watch first saw that something newer than the running kernel is offered; None: it did not."""
    record = edges.record(f"{root}/{RECORD}") or {}
    since = record.get("since")
    return since if record.get("running") == running and type(since) is int else None


def why(edges: Edges, root: str, kernel: Json, release: str) -> str:
    """Return why a kernel that is offered does not run yet."""
    tried = kernel.get("tried")
    if tried and tried["kernel"] == release:
        return tried["told"] or "an update to it is on trial"
    if release in kernel["installed"] and release != kernel["running"]:
        boots = kernel["boots"]
        return "it is installed and waits for a reboot" if boots == release else f"it is installed, {boots} boots next"
    return "the guard holds it" if edges.exists(f"{root}/{GUARD_RECORD}") else "nobody has installed it"


def told(offered: Mapping[str, object]) -> str:
    """Return what waits, since when and why, as a sentence without an end."""
    where = f" from {offered['archive']}" if offered["archive"] else ""
    kind = ", a security fix," if offered["security"] else ""
    days = offered["days"]
    count = "less than a day" if days == 0 else "1 day" if days == 1 else f"{days} days"
    since = "since when is not known" if days is None else f"for {count}"
    head = f"kernel {offered['release']} ({offered['package']} {offered['version']}{where}){kind} waits {since}"
    return f"{head}: {offered['why']}"


def noted(before: Optional[Json], running: str, found: Json, now: int) -> Optional[Json]:
    """Return the record after a look; None: there is nothing to note. What waits since before keeps its time. Pure."""
    if found["unknown"]:
        return before
    if found["offered"] is None:
        return None
    offer = {name: found["offered"][name] for name in ("release", "package", "version")}
    same = before is not None and before.get("running") == running and type(before.get("since")) is int
    since = before["since"] if before is not None and same else now
    return {"schema": SCHEMA, "running": running, "since": since, **offer}
