"""Proving the update guard: what apt and unattended-upgrades would do now, compared with what they would do without it.

Nothing is changed: apt simulates, once as the host is and once with our holds and pins taken out of copies.
unattended-upgrades' dry run downloads what it would install. Runs on the target: Python 3.6, standard library.
"""

import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

from ...errors import EnvironmentProblem
from .. import files
from ..commands import NOT_FOUND
from ..edges import Edges
from . import proof as proof
from . import rules as rules
from .hold import LOST, read, recorded, refuse_unread

_STATUS = "/var/lib/dpkg/status"
_PARTS = "/etc/apt/preferences.d"
# Its cache stays in memory, so that a simulation with copied files leaves nothing behind. No lock is needed to look.
LOOKING = ("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "Debug::NoLocking=true")
_APT_TIMEOUT_S = 300.0
_DRY_RUN_TIMEOUT_S = 1800.0
_NO_DOWNLOAD = "failed to download, aborting"
_AGAIN = "Run ./run ansible-playbook playbooks/guard.yml again; if it stays so, this is a fault of gpuhost: report it."


class Proof(NamedTuple):
    """One line for the user, and what is kept back because of the guard, each with its reason."""

    told: str
    kept_back: List[str]


def prove(edges: Edges, root: str) -> Proof:
    """Hold the guard in force against both simulations and unattended-upgrades; raises where it does not hold."""
    found = recorded(edges, f"{root}/{rules.RECORD}", LOST)
    if found is None:
        raise EnvironmentProblem("There is no guard to prove.", "./run ansible-playbook playbooks/guard.yml")
    packages = read(edges)
    fixed = found["pins"]
    guarded = simulate(edges, [])
    free = simulate_without(edges, found["held"])
    refuse_touched("apt-get dist-upgrade", guarded, fixed)
    names, remark = unattended_run(edges)
    refuse_touched("unattended-upgrade", names, fixed)
    kept = [change for name, change in free.items() if name not in guarded]
    reasons = proof.explain(
        kept,
        fixed,
        {name: package.version for name, package in packages.items()},
        {name: packages[name].depends for name in fixed if name in packages},
        show(edges, [c for c in kept if c.new and c.name not in fixed]),
    )
    # A package that would be new, or would go, only comes along with another one; that other one has to have a reason.
    upgrades = [change for change in kept if change.old and change.new]
    unexplained = [change.name for change in upgrades if change.name not in reasons]
    if unexplained:
        raise EnvironmentProblem(
            f"The guard keeps back {', '.join(unexplained)}, which nothing that is held explains.", _AGAIN
        )
    more = len([n for n, c in guarded.items() if c.old and c.new])
    told = (
        f"Proved with apt-get dist-upgrade and unattended-upgrade{remark}: none of {len(fixed)} held packages is "
        f"touched, {more} others are upgraded, {len(upgrades)} wait because of the guard."
    )
    return Proof(told, waiting(upgrades, reasons, fixed))


def waiting(upgrades: List[proof.Change], reasons: Dict[str, str], fixed: Dict[str, str]) -> List[str]:
    """What waits because of the guard: the held packages on one line, every other one with its reason."""
    held = [f"{change.name} {change.new}" for change in upgrades if change.name in fixed]
    others = [f"{c.name} {c.new} waits: {reasons[c.name]}" for c in upgrades if c.name not in fixed]
    return ([f"Held, though newer is offered: {', '.join(sorted(held))}"] if held else []) + sorted(others)


def refuse_touched(what: str, names: Any, fixed: Dict[str, str]) -> None:
    """Refuse where an update would change a held package."""
    touched = sorted(set(names) & set(fixed))
    if touched:
        raise EnvironmentProblem(
            f"D02: {what} would change {', '.join(touched)}, although the guard holds them.", _AGAIN
        )


def simulate(edges: Edges, options: List[str]) -> Dict[str, proof.Change]:
    """The changes of a simulated dist-upgrade."""
    code, out, err = edges.run(["apt-get", "-s", "-q", *LOOKING, *options, "dist-upgrade"], _APT_TIMEOUT_S)
    # Even one that changes nothing counts what it would change.
    if code != 0 or not out.strip():
        said = " ".join((err or out).split())[-400:] or f"it printed nothing and ended with status {code}"
        raise EnvironmentProblem(f"apt-get cannot simulate an upgrade: {said}", "Fix it: apt-get -f install")
    return proof.parse_simulation(out)


def simulate_without(edges: Edges, held: List[str]) -> Dict[str, proof.Change]:
    """The same as if our holds and our preferences were not there; what the user has set stays in force."""
    known = len(edges.problems)
    # apt reads as another user in places; the folder has to be open to it.
    with files.temporary(files.FOLDER) as folder:
        parts = folder / "preferences.d"
        files.make_folder(parts)
        for name in edges.names(_PARTS) or []:
            text = edges.text(f"{_PARTS}/{name}")
            if name != Path(rules.PREFERENCES).name and text is not None:
                files.write_whole(parts / name, text)
        status = edges.text(_STATUS)
        if not status:
            edges.problem(_STATUS, "It is missing or empty.")
        refuse_unread(edges, known, "Fix it: dpkg --audit")
        files.write_whole(folder / "status", without_holds(status or "", held))
        return simulate(
            edges, ["-o", f"Dir::State::status={folder}/status", "-o", f"Dir::Etc::PreferencesParts={parts}"]
        )


def without_holds(status: str, held: List[str]) -> str:
    """dpkg's status with the holds of these packages ("name" or "name:arch") taken away."""
    ours = set(held)

    def free(record: str) -> str:
        fields = dict(re.findall(r"^(Package|Architecture): (\S+)$", record, re.MULTILINE))
        name = fields.get("Package", "")
        if name not in ours and f"{name}:{fields.get('Architecture')}" not in ours:
            return record
        return re.sub(r"^Status: hold ", "Status: install ", record, flags=re.MULTILINE)

    return "\n\n".join(free(record) for record in status.split("\n\n"))


def show(edges: Edges, changes: List[proof.Change]) -> Dict[str, Dict[str, str]]:
    """The fields of the new versions of packages."""
    if not changes:
        return {}
    asked = [f"{change.name}={change.new}" for change in changes]
    code, out, err = edges.run(["apt-cache", *LOOKING[:4], "show", *asked], _APT_TIMEOUT_S)
    if code != 0:
        raise EnvironmentProblem(f"apt-cache show failed: {' '.join(err.split())[-300:]}", "Fix it: apt-get update")
    return proof.parse_records(out)


def unattended_run(edges: Edges) -> Tuple[List[str], str]:
    """What unattended-upgrades would upgrade, and a remark where it could not go to the end for no fault of the guard.

    It downloads even in a dry run. On a host that cannot reach its archive it ends there, and has named the packages.
    """
    code, out, err = edges.run(["unattended-upgrade", "--dry-run", "-d"], _DRY_RUN_TIMEOUT_S)
    if code == NOT_FOUND:
        return [], " (not installed)"
    if code != 0 and _NO_DOWNLOAD in out + err:
        return proof.parse_unattended_run(out + "\n" + err), " (which could not download what it would upgrade)"
    # Asked to say what it does (-d), it does.
    if code != 0 or not (out + err).strip():
        said = [line.strip() for line in (out + "\n" + err).splitlines() if line.strip()] or ["It printed nothing."]
        raise EnvironmentProblem(
            f"D03: unattended-upgrade --dry-run ended with status {code}: {' '.join(said[-3:])[-400:]}",
            "Read /var/log/unattended-upgrades/unattended-upgrades.log and run the same command again.",
        )
    return proof.parse_unattended_run(out + "\n" + err), ""
