"""What an update does: the newest kernel and driver that a host's own archive offers, of the lock's branch.

Pure: the lock and an observation with `offers.kernels` go in. A kernel is taken only with the module of its driver, and
what the lock names besides the driver stays as it is. A host follows the metapackages (linux-image-generic and the
like) that lead to the kernel which boots; where none does, its kernel stays.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Set, Tuple, TypedDict, Union

from ..errors import RefusedError
from ..host.driver.packages import digest
from ..host.guard.rules import is_of_kernel, names_in
from ..host.parse.kernels import image_of
from ..host.parse.versions import compare_versions, sort_versions
from ..shapes.lock import ArchiveDriver, Deb, Lock, PlannedDriver
from ..shapes.observation import LeadingKernel, Observation, Offered
from ..types import present
from . import contents, debs, virtualbox
from . import lock as locks
from .candidates import SHARED, Driver, as_driver
from .offers import newest, readable
from .plan import driver_json
from .request import request_of
from .resolve import Resolver


class Kernel(NamedTuple):
    """A kernel: its release, and the packages by name with their version that bring it and what leads to it."""

    release: str
    packages: Dict[str, str]


class KernelRow(TypedDict):
    """A `Kernel`, for Ansible."""

    release: str
    packages: Dict[str, str]


class Update(TypedDict):
    """What `prepare` returns."""

    lock: Lock
    kernel: KernelRow
    differs: bool
    lines: List[str]


class Chosen(NamedTuple):
    """The driver's part of the new lock, the kernel that it is for, and sentences on what was not taken."""

    driver: PlannedDriver
    kernel: Kernel
    told: List[str]


def prepare(
    found: Resolver,
    observation: Observation,
    old: Lock,
    pending: Optional[Lock],
    asked: Dict[str, str],
    ignore_gpus: bool = False,
    without: FrozenSet[str] = frozenset(),
    options: contents.Options = contents.Options(),  # noqa: B008 - it is frozen
) -> Update:
    """Everything that an update has to know before it begins.

    `lock` is the new lock, `kernel` the kernel that it is for with its packages, `differs` whether there is anything to
    do, and `lines` tell it.
    """
    refuse_unfit(observation, old, pending, asked, ignore_gpus, without)
    boots = Kernel(str(observation["kernel"]["boots"]), {})
    if old["plan"]["driver"] is None:
        told = ["There is no driver in the lock of this host, so its kernel is updated with everything else."]
        return {"lock": old, "kernel": row_of(boots), "differs": False, "lines": told}
    chosen = choose(found, observation, old["plan"]["driver"], asked, without)
    new = with_driver(old, chosen.driver)
    # Where only the addresses have changed since, an update that was stopped goes on with the lock it made.
    if pending is not None and same(present(pending["plan"]["driver"]), chosen.driver):
        new = pending
    differs = new != old or chosen.kernel.release != boots.release or pending is not None
    told = lines(boots.release, old["plan"]["driver"], chosen)
    tried = observation["kernel"].get("tried")
    told += [tried["told"]] if tried and tried["told"] else []
    held = new["contents"].get(virtualbox.NAME) if options.virtualbox else None
    if held is not None:
        virtualbox.refuse_kernel(held, new["plan"]["platform"], chosen.kernel.release)
        doubt = virtualbox.doubt(held, new["plan"]["platform"], chosen.kernel.release)
        told.append(doubt or f"VirtualBox {held['version']} compiles against that kernel.")
    if pending is not None:
        told.append("An earlier update was not finished: this one goes on with it.")
    return {"lock": new, "kernel": row_of(chosen.kernel), "differs": differs, "lines": told}


def row_of(one: Kernel) -> KernelRow:
    """Return a kernel as Ansible takes it."""
    return {"release": one.release, "packages": one.packages}


def refuse_unfit(
    observation: Observation,
    old: Lock,
    pending: Optional[Lock],
    asked: Dict[str, str],
    ignore_gpus: bool,
    without: FrozenSet[str],
) -> None:
    """Refuse a host that is no longer the one its lock was made for, and one that a rebuild is under way on."""
    told = locks.differences(old, observation, asked, ignore_gpus, without)
    if told:
        text = f"This host no longer matches its lock: {'; '.join(told)}. Nothing was changed."
        raise RefusedError(text, "See what that means: ./run ansible-playbook playbooks/rebuild.yml")
    if pending is not None and with_driver(pending, old["plan"]["driver"]) != old:
        text = "A rebuild of this host is not finished, and an update would be lost in it. Nothing was changed."
        raise RefusedError(text, "Finish it, or go back, first: docs/runbooks/rebuild.md")


def with_driver(lock: Lock, driver: Optional[PlannedDriver]) -> Lock:
    """Return a lock with another driver."""
    return {**lock, "plan": {**lock["plan"], "driver": driver}}


def choose(
    found: Resolver,
    observation: Observation,
    old: PlannedDriver,
    asked: Dict[str, str],
    without: FrozenSet[str] = frozenset(),
) -> Chosen:
    """Return what the update comes to: the newest kernel with a driver for it, else the kernel of now with one."""
    boots = Kernel(str(observation["kernel"]["boots"]), {})
    target = kernel(observation)
    told = [] if target else [f"No package such as linux-image-generic leads from kernel {boots.release} to another."]
    candidates = [target] if target else []
    if boots.release not in [one.release for one in candidates]:
        candidates.append(boots)
    for one in candidates:
        part = driver(found, observation, old, one.release, asked, without)
        if part is not None:
            return Chosen(old if same(old, part) else part, one, told)
        lacking = f"the archive has no signed modules of driver {old['branch']} for it"
        what = "is what will boot" if one.release == boots.release else "is offered and not taken"
        told.append(f"Kernel {one.release} {what}: {lacking}.")
    return Chosen(old, boots, told)


def driver(
    found: Resolver,
    observation: Observation,
    old: PlannedDriver,
    release: str,
    asked: Dict[str, str],
    without: FrozenSet[str],
) -> Optional[PlannedDriver]:
    """Return the newest driver of the locked branch for a kernel; the locked one where none is newer.

    None where that kernel would have no module: the lock has signed modules, and there are none for it.
    """
    if old["source"] != "archive":
        return old
    request = request_of(found, observation, asked, without=without, kernel=release)
    best = newest_of(found, [as_driver(one) for one in found.fitting(SHARED["driver"], request)], old)
    if best is None:
        modules = old["modules"]
        return old if old["modules_from"] == "dkms" or (modules and modules["kernel"] == release) else None
    part = driver_json(found, request, best)
    if part["modules_from"] != old["modules_from"]:
        return None
    if part["modules"] is not None and part["source"] == "archive":  # whose packages are known
        part["packages"] = with_older_kernels(found, part, old, best)
    return part


def newest_of(found: Resolver, drivers: List[Driver], old: ArchiveDriver) -> Optional[Driver]:
    """Return the offered driver of the locked package and branch, unless it is older than the locked one."""
    for one in drivers:
        if one.platform is not None and (one.row["package"], one.branch) == (old["package"], old["branch"]):
            return one if compare_versions(one.row["package_version"], old["package_version"]) >= 0 else None
    return None


def with_older_kernels(found: Resolver, part: ArchiveDriver, old: ArchiveDriver, best: Driver) -> List[Deb]:
    """Return the .debs of a driver with its modules for the kernels that the lock has some for.

    Modules of the older driver do not go with the newer one, and a kernel without modules is not a way back.
    """
    offers = found.catalog.drivers["offers"]
    words = [f"{deb['name']}={deb['version']}" for deb in part["packages"]]
    modules = {f"{part['modules_package']}-{end}" for end in best.row["signed_modules"]}
    words += [deb["name"] for deb in old.get("packages", ()) if deb["name"] in modules]
    return debs.whole_set(offers, list(dict.fromkeys(words)), best.row["built_from"])


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:  # Json: drivers, wherever they come from
    """Return whether two drivers consist of the same files, even if the addresses of their permanent copies differ."""
    if "packages" not in one:
        other = {key: value for key, value in other.items() if key != "packages"}
    return digest(one, "") == digest(other, "")


def kernel(observation: Observation) -> Optional[Kernel]:
    """Return the kernel that the host's metapackages lead to in the archive; None where none of them leads on from the
    kernel that boots, or from one that the host has yet to try or has undone, or only to an older one.
    """
    offers, boots = readable(observation), str(observation["kernel"]["boots"])
    known = [boots, *([observation["kernel"]["tried"]["kernel"]] if "tried" in observation["kernel"] else [])]
    kernels = offers.get("kernels") or {"leading": [], "packages": []}
    offered = newest({**offers, "packages": kernels["packages"]})
    there = {row["package"]: row for row in kernels["leading"]}
    leading = {
        name
        for name in there
        if any(is_of_kernel(other, one) for rows in (there, offered) for other in reached(name, rows) for one in known)
    } & set(offered)
    names = {other for name in leading for other in reached(name, offered)}
    images = {str(image_of(name)) for name in names & set(offered) if image_of(name)}
    if not images:
        return None
    release = sort_versions(images)[-1]
    if compare_versions(release, boots) < 0:
        return None
    parts = {name for name in names & set(offered) if is_of_kernel(name, release)}
    return Kernel(release, {name: offered[name]["version"] for name in sorted(leading | parts)})


def reached(name: str, rows: Mapping[str, Union[Offered, LeadingKernel]]) -> Set[str]:
    """Return the packages that one depends on, also by way of the others of `rows`."""
    found: Set[str] = set()
    waiting = [name]
    while waiting:
        row = rows.get(waiting.pop())
        for other in names_in(row["depends"]) if row else ():
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def lines(boots: str, old: PlannedDriver, chosen: Chosen) -> List[str]:
    """Return the lines that tell a person what an update changes: kernel, driver, and how many packages.

    `boots` is the kernel that will boot, `old` the driver's part of the lock (source, version, packages).
    """
    new = chosen.driver
    both: Tuple[Mapping[str, Any], Mapping[str, Any]] = old, new
    was, now = ({deb["name"]: deb["version"] for deb in part.get("packages", ())} for part in both)
    version = "package_version" if old["source"] == "archive" else "version"
    changed = sum(was.get(name) != now.get(name) for name in {*was, *now})
    told = [
        f"kernel: {step(boots, chosen.kernel.release)}",
        f"driver: {step(both[0][version], both[1][version])}",
        f"packages of the driver: {changed} of {len(now)} change",
    ]
    return told + chosen.told


def step(before: str, after: str) -> str:
    """A version before and after."""
    return f"{before} stays" if before == after else f"{before} -> {after}"
