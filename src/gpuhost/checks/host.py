"""Checks of the machine itself: that it can be read, its platform, its apt sources, dpkg."""

import shlex
from typing import TYPE_CHECKING, Callable, Dict, List, Sequence, Union, cast

from ..host.driver.offer import UPDATE
from ..host.probe import machine as probe
from ..types import Json, present
from .base import Check, Outcome, held, on_host, skipped
from .sources import foreign_sources, one_update, unknown_sources

if TYPE_CHECKING:
    from ..shapes.answers import Machine, Unread
    from ..shapes.observation import Observation
    from ..shapes.seen import Seen

NEEDED = ("host.observed",)
#: What the probe reads, by the names in its `problems`.
OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
SOURCE_LISTS = ("/etc/apt/sources.list*",)
APT = (*SOURCE_LISTS, "/var/lib/apt/lists*", "apt-get indextargets", "apt-cache *")
PACKAGES = ("dpkg --print-architecture", "dpkg-query")
CARDS = ("/sys/bus/pci/devices*",)
LOADED = ("/proc/modules", "/sys/module", "/proc/driver/nvidia/version")
RUNNING = ("/proc/sys/kernel/osrelease",)
KERNELS = ("/lib/modules*", "/boot*", "/etc/default/grub*")
DRIVER_RECORD = "{root}/state/driver.json"


def observation(seen: "Seen") -> "Observation":
    """Return the probe's observation of the host: gpus, kernel, packages, apt, nvidia, platform and so on
    (data/observation.schema.json).
    """
    return seen["machine"]["observation"]


def row(seen: "Seen") -> Json:  # Json: a row of the catalog
    """The catalog's row of the host's platform."""
    return present(seen["expected"]["platform"])


def observed(seen: "Seen") -> Outcome:
    """Check that the host could be read at all."""
    machine = cast("Union[Machine, Unread]", seen["machine"])
    required = "the host can be reached and read"
    if "error" in machine:
        return held(False, required, machine["error"] or "read", machine["next_step"] or "")
    return held(True, required, "read", "")


def platform(seen: "Seen") -> Outcome:
    """Check that the platform is known, and the machine one that the artifacts are for."""
    known = seen["expected"]["platforms"]
    machine, identity = observation(seen)["machine"], observation(seen)["platform"]["id"]
    return held(
        identity in known and machine == "x86_64",
        f"{' or '.join(known)} on x86_64",
        f"{identity} on {machine}",
        "Use a supported platform; there is no way to fix this on the host.",
    )


def platform_found(seen: "Seen") -> Outcome:
    """Judge the platform of a host without a lock: one that the catalog lacks is not a fault there."""
    known, identity = seen["expected"]["platforms"], observation(seen)["platform"]["id"] or "unknown"
    if identity in known:
        return held(True, "a distribution that gpuhost knows", identity, "")
    return skipped(
        "a distribution that gpuhost knows",
        f"{identity} is none that gpuhost provisions: it is judged by what all have in common",
    )


def of_known_releases(judge: "Callable[[Seen], Outcome]") -> "Callable[[Seen], Outcome]":
    """Return the judgement of apt's sources for a host without a lock, whose releases may not be known."""

    def judged(seen: "Seen") -> Outcome:
        if seen["expected"]["platform"] is None:
            return skipped("apt sources of this release only", "the releases of this distribution are not known here")
        return judge(seen)

    return judged


def sources_readable(seen: "Seen") -> Outcome:
    """Check that every line of the source lists can be read."""
    bad = observation(seen)["apt"]["problems"]
    where = "; ".join(f"{p['file']} line {p['line']}: {p['error']}" for p in bad[:3])
    first = on_host(f"${{EDITOR:-nano}} {shlex.quote(bad[0]['file'])}") if bad else ""
    return held(not bad, "every apt source can be read", where or "all can be read", first)


def findings(bad: List[Dict[str, str]], required: str, unknown: Sequence[Dict[str, str]] = ()) -> Outcome:
    """An outcome from a list of bad sources, each with what it is and the command that removes it.

    What is not known of `unknown` ones is learnt when apt reads them; the command that removes them stands beside it.
    """
    actual = " ".join(f["what"] for f in [*bad, *unknown]) or "none"
    remedy = one_update([f["remedy"] for f in bad] or [UPDATE])
    if unknown:
        remedy += f"  # or remove what is not known: {one_update([f['remedy'] for f in unknown])}"
    return held(not bad and not unknown, required, actual, on_host(remedy))


def of_another_release(seen: "Seen") -> List[Dict[str, str]]:
    """The sources of another release of the distribution, whatever they offer."""
    seen_apt = observation(seen)["apt"]
    return foreign_sources({**observation(seen), "apt": {**seen_apt, "foreign_packages": []}}, row(seen))


def sources_release(seen: "Seen") -> Outcome:
    """Check that no source is of another release of the distribution."""
    codename = row(seen)["codename"]
    return findings(of_another_release(seen), f"no apt source of another release than {codename}")


def sources_foreign(seen: "Seen") -> Outcome:
    """Check that only the distribution's own archive offers packages of the stack."""
    others = of_another_release(seen)
    offering = [s for s in foreign_sources(observation(seen), row(seen)) if s not in others]
    unknown = unknown_sources(observation(seen), row(seen))
    return findings(offering, "no source beside the distribution's own offers a package of the stack", unknown)


LOCKED = "has locked the database"


def dpkg_busy(observation: "Observation") -> bool:
    """Return whether another process is changing packages; the first line of dpkg's audit says so."""
    return any(LOCKED in line for line in observation["dpkg_audit"])


def dpkg_problems(observation: "Observation") -> List[str]:
    """What dpkg has left half done, or that it is busy.

    What our own interrupted installation left is not a reason to stop: the role nvidia_driver, which left its marker
    there, fixes it before it goes on.
    """
    if dpkg_busy(observation):
        return [
            "Another process is changing packages. Wait for it (ps -C apt-get,dpkg,unattended-upgr), then run again."
        ]
    if observation["interrupted"]:
        return []
    whole = ("installed", "config-files", "not-installed")
    half = [name for name, package in observation["packages"].items() if package["state"] not in whole]
    said = ", ".join(half) or "; ".join(observation["dpkg_audit"][:1])
    return [f"dpkg is not in order ({said}). Fix it:\n  dpkg --configure -a && apt-get -f install"] if said else []


def dpkg(seen: "Seen") -> Outcome:
    """Check that the package database is in order and no process is changing it."""
    required, found = "every package is complete", observation(seen)
    if dpkg_busy(found):
        return held(
            False, required, "another process is changing packages", "Wait, then verify again:\n./run pytest verify/"
        )
    wrong = " ".join(dpkg_problems(found))
    return held(not wrong, required, wrong or "in order", on_host("dpkg --configure -a && apt-get -f install"))


CHECKS = (
    Check(
        "host.observed",
        "The host can be read",
        "Everything else rests on one observation of the host.",
        observed,
        (),
        found=observed,
    ),
    Check(
        "host.platform",
        "Supported platform",
        "Drivers and wheels are chosen for a release; on another they break.",
        platform,
        ("uname -m", *OS_RELEASE),
        NEEDED,
        found=platform_found,
    ),
    Check(
        "host.sources-readable",
        "apt sources can be read",
        "A line that cannot be read may hide a source.",
        sources_readable,
        SOURCE_LISTS,
        NEEDED,
        found=sources_readable,
        risk=True,
    ),
    Check(
        "host.sources-release",
        "No apt source of another release",
        "Mixed releases replace libraries under the driver at the next upgrade.",
        sources_release,
        (*APT, *OS_RELEASE),
        ("host.platform",),
        found=of_known_releases(sources_release),
        risk=True,
    ),
    Check(
        "host.sources-foreign",
        "The stack comes from the distribution only",
        "A second source of driver or CUDA packages takes over at the next upgrade.",
        sources_foreign,
        (*APT, *OS_RELEASE),
        ("host.platform",),
        found=of_known_releases(sources_foreign),
        risk=True,
    ),
    Check(
        "host.dpkg",
        "dpkg is in order",
        "A half-installed package stops every later installation.",
        dpkg,
        (*PACKAGES, "dpkg --audit", probe.INTERRUPTED),
        NEEDED,
        found=dpkg,
        risk=True,
    ),
)
