"""Diagnoses of apt sources, packages, and the guard over them."""

from typing import TYPE_CHECKING, List

from ..checks.base import on_host
from ..checks.driver import driver, wanted
from ..checks.host import observation, row
from ..checks.lock import installed
from ..checks.sources import VENDORS, one_update, removal, site_of, unknown_sources, unread
from ..host.driver.judge import Packages, other_branches, replaced
from . import by_hand
from .base import Diagnosis, Sign

if TYPE_CHECKING:
    from ..shapes.observation import Source
    from ..shapes.seen import Seen


def stack(seen: "Seen") -> Packages:
    """The installed packages of the driver and its kernel, as the guard's probe computes them."""
    return Packages(installed(seen)["guard"]["stack"])


def has_replaced(seen: "Seen") -> bool:
    """Return whether a recorded package of the driver was replaced or removed."""
    record = driver(seen)["record"]
    return record is not None and bool(replaced(record, stack(seen)))


def has_jumped(seen: "Seen") -> bool:
    """Return whether the recorded branch is not the lock's, or packages of another branch are there."""
    record = driver(seen)["record"]
    if record is None:
        return False
    return record["branch"] != wanted(seen)["branch"] or bool(other_branches(record, stack(seen)))


def unread_vendor(seen: "Seen") -> "List[Source]":
    """NVIDIA's own repositories that are in force and that apt could not read.

    Their key was replaced in April 2022, and the old one opens nothing any more.
    """
    return [s for s in unread(observation(seen)) if any(site_of(uri) in VENDORS for uri in s["uris"])]


def without_vendor(seen: "Seen") -> str:
    """The command that takes them out."""
    apt = observation(seen)["apt"]
    return on_host(one_update([removal(source, apt) for source in unread_vendor(seen)]))


def only_vendor_is_unknown(seen: "Seen") -> bool:
    """Return whether unreadable repositories of NVIDIA are all that is wrong with the sources."""
    unknown = unknown_sources(observation(seen), row(seen))
    return len(unread_vendor(seen)) == len(unknown) > 0


TABLE = (
    Diagnosis(
        "D04",
        "Another branch of the driver came in",
        "A transitional package, or a package of a newer branch, brought its own dependencies past the pin.",
        "Remove the other branch, install the locked one, pin and hold it: playbooks/driver.yml does all three.",
        signs=(Sign("driver.installed", has_jumped), Sign("guard.pins")),
        elsewhere=("playbooks/driver.yml",),
        messages=("nvidia-driver-* : Depends: nvidia-driver-",),
    ),
    Diagnosis(
        "D02",
        "The driver's packages were replaced, or are free to be",
        "A package of the driver or its kernel was not on hold, and an update needs only one.",
        "Install the locked driver again from the kept files, and hold everything that is installed of it.",
        signs=(Sign("driver.installed", has_replaced), Sign("guard.holds")),
        elsewhere=("playbooks/guard.yml",),
    ),
    Diagnosis(
        "D03",
        "Unattended upgrades stop at the hold",
        "unattended-upgrades plans to upgrade a held package, and gives up when it finds that it may not.",
        "Add each held package to its blacklist: playbooks/guard.yml does, and proves it with a dry run.",
        signs=(Sign("guard.blacklist"),),
        elsewhere=("playbooks/guard.yml",),
        messages=(
            "package on hold",
            "held broken packages",
        ),
    ),
    Diagnosis(
        "D07",
        "NVIDIA's repository cannot be read",
        "The key that it is signed with was replaced in April 2022, so apt refuses its lists (NO_PUBKEY).",
        "Remove the repository: nothing in this stack comes from it.",
        signs=(Sign("host.sources-foreign", only_vendor_is_unknown, without_vendor),),
        by_hand=by_hand.new_keyring,
        messages=(
            "NO_PUBKEY A4B469963BF863CC",
            "https://developer.download.nvidia.com/* is not signed",
        ),
    ),
    Diagnosis(
        "D06",
        "Packages of several releases or sources are mixed",
        "A source of another release, or of a third party, offers packages of the stack under the same names.",
        "Remove the source, and reinstall what came from it.",
        signs=(Sign("host.sources-release"), Sign("host.sources-foreign")),
        elsewhere=(
            "site.yml",
            "playbooks/driver.yml",
        ),
        messages=(
            "unmet dependencies",
            "held broken packages",
        ),
    ),
    Diagnosis(
        "D05",
        "The archive no longer has the locked version",
        "The release's archive keeps only the newest version of a package.",
        "Install from the files that the host or the distribution has kept; each is checked against its checksum.",
        elsewhere=("playbooks/driver.yml",),
        messages=(
            "was not found",
            "is not available, but is referred to by another package",
        ),
    ),
    Diagnosis(
        "D35",
        "Another process has locked the package database",
        "The daily update, or the first start of a cloud image, is installing packages.",
        "Wait for it: the roles do, and say how long.",
        elsewhere=("playbooks/guard.yml",),
        messages=(
            "Could not get lock /var/lib/dpkg/lock",
            "Waiting for cache lock",
        ),
    ),
    Diagnosis(
        "D36",
        "Ansible was to reboot the machine that it runs on",
        "Ansible cannot reboot its own machine and then carry on.",
        "Reboot, then type the same command again: it carries on where it stopped.",
        elsewhere=("site.yml",),
        messages=("Running reboot with local connection would reboot the control node",),
    ),
)
