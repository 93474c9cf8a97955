"""What a host has: the findings in causal order, what was proved, and what could not be judged. Pure."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from .. import __version__
from ..checks import cuda as checks_cuda
from ..checks.base import FAIL, ON_HOST, PASS, SKIP, Check, Result
from ..checks.found import is_ours
from ..diagnoses import table as diagnoses
from ..diagnoses import verdict
from ..text import printable
from ..types import Json

if TYPE_CHECKING:
    from ..shapes.seen import Seen

SCHEMA = 1
FINE, FOUND, NOT_RECOGNISED, UNREADABLE = "fine", "found", "not recognised", "unreadable"
#: The exit code of each answer.
CODES = {FINE: 0, FOUND: 1, NOT_RECOGNISED: 3, UNREADABLE: 4}
HIDDEN = "The kernel's files are not shown here, as in a chroot or a sandbox"
#: What shows that a part of the machine was not there to be read, and what would bring it.
WAYS = {
    "/proc/sys/kernel/osrelease": f"{HIDDEN}: mount -t proc proc /proc",
    "/sys/bus/pci/devices": f"{HIDDEN}: mount -t sysfs sysfs /sys",
    "modinfo": "modinfo says nothing; it is in the package kmod: apt-get install kmod",
}
#: What programs say that explains a failure though no check passes by it, and the checks that it explains.
EXPLAINING: Dict[str, str] = {"dmesg*": "driver.*", "dkms status*": "driver.*", "mokutil*": "driver.signed"}


def results(seen: "Seen") -> List[Result]:
    """Judge every check that there is, in causal order."""
    judged: Dict[str, Result] = {}
    for check in verdict.EVERY.values():
        judged[check.id] = verdict.judge(check, seen, judged)
    return list(judged.values())


def report(seen: "Seen") -> Json:
    """Return the doctor's report as plain JSON (`data/doctor.schema.json`)."""
    judged = results(seen)
    proved = checks_cuda.is_proved(seen)
    failed = [found for found in judged if found.status == FAIL]
    findings = [finding(found, judged, seen) for found in failed if not is_risk(found)]
    risks = [finding(found, judged, seen) for found in failed if is_risk(found)]
    if not proved and not findings:
        findings, risks = risks, []
    observation = seen["machine"]["observation"]
    return {
        "schema": SCHEMA,
        "doctor": __version__,
        "host": text(seen["host"]),
        "system": {
            "name": text(observation["platform"]["pretty_name"] or observation["platform"]["id"]),
            "id": text(observation["platform"]["id"]),
            "machine": text(observation["machine"]),
            "kernel": text(observation["kernel"]["running"]),
            "place": seen["as_found"]["place"],
            "provisioned": is_ours(seen),
            "cpu_stack": is_cpu_stack(seen),
        },
        "answer": answer(findings, proved),
        "findings": findings,
        "risks": risks,
        "proved": proofs(judged) if proved else [],
        "python": environment(seen),
        "passed": [found.id for found in judged if found.status == PASS],
        "not_judged": not_judged(judged, seen),
        "ways": ways(seen) if answer(findings, proved) == UNREADABLE else [],
    }


def is_cpu_stack(seen: "Seen") -> bool:
    """Return whether the generation in force was planned without a card."""
    stack = seen["machine"]["installed"]["stack"]
    plan = stack.get("plan") if isinstance(stack, dict) else None
    return isinstance(plan, dict) and plan.get("gpus") == []


def environment(seen: "Seen") -> Optional[Json]:
    """Return what a Python environment said that the user named; None without one."""
    found = seen.get("python")
    if found is None:
        return None
    rows = [
        {
            "name": name,
            "module": text(told["module"]),
            "version": text(told["version"] or ""),
            "cuda": text(told["cuda"] or ""),
            "code": [text(code) for code in told["code"][:100]],
            "libraries": [text(path) for path in told["libraries"][:100]],
            "cards": told["cards"] if isinstance(told["cards"], int) else None,
        }
        for name, told in sorted(found["frameworks"].items())
    ]
    return {"path": text(found["path"]), "python": text(found["python"] or ""), "frameworks": rows}


def text(value: Any) -> str:
    """Return a host's word as it may be shown."""
    return printable(value, 200)


def is_risk(found: Result) -> bool:
    """Return whether a failure breaks nothing today."""
    return verdict.EVERY[found.id].risk


def answer(findings: List[Json], proved: bool) -> str:
    """Return the one word over a host."""
    if findings:
        return FOUND if any(found["diagnosis"] for found in findings) else NOT_RECOGNISED
    return FINE if proved else UNREADABLE


def finding(found: Result, judged: List[Result], seen: "Seen") -> Json:
    """Return a failed check with its diagnosis, its evidence, its remedy and what follows from it."""
    known = diagnoses.BY_ID.get(found.diagnosis or "")
    remedy = found.remediation
    return {
        "diagnosis": found.diagnosis,
        "title": known.title if known else f"Not recognised. What does not hold: {found.title}",
        "check": found.id,
        "required": found.required,
        "actual": found.actual,
        "evidence": evidence(verdict.EVERY[found.id], seen),
        "cause": known.cause if known else "",
        "fix": known.fix if known else "",
        "remedy": remedy[len(ON_HOST) :] if remedy.startswith(ON_HOST) else remedy,
        "follows": [other.id for other in judged if other.actual == f"{verdict.NOT_REACHED}{found.id}"],
    }


def evidence(check: Check, seen: "Seen") -> List[Json]:
    """Return the lines that were heard from what the check rests on, each source with its lines."""
    told = []
    for source, lines in sorted(seen["heard"].items()):
        rests = any(fnmatchcase(source, pattern) or fnmatchcase(source, f"{pattern} *") for pattern in check.sources)
        explains = any(
            fnmatchcase(source, pattern) and fnmatchcase(check.id, which) for pattern, which in EXPLAINING.items()
        )
        if lines and (rests or explains):
            told.append({"source": source, "lines": list(lines)})
    return told


def proofs(judged: List[Result]) -> List[str]:
    """Return what was proved of the driver and CUDA, in words."""
    passed = [found for found in judged if found.status == PASS]
    return [f"{found.title}: {found.actual}" for found in passed if verdict.EVERY[found.id].gpu]


def ways(seen: "Seen") -> List[str]:
    """Return what would let the doctor read what it could not, as sentences that end in what to type."""
    problems = verdict.problems(seen)
    denied = {problem["what"] for problem in problems if "Permission denied" in problem["error"]}
    unshown = {problem["what"] for problem in problems} - denied
    told = ["Some of it is kept from this user: type sudo before the same command"] if denied else []
    told += [way for what, way in WAYS.items() if what in unshown]
    return [*told, "Or ask the machine itself, from another one: gpuhost doctor --host ssh://USER@HOST"]


def not_judged(judged: List[Result], seen: "Seen") -> List[Json]:
    """Return what was not judged and why, each reason once; what only follows from a finding is left to that."""
    reasons: Dict[str, List[str]] = {}
    asked = [found for found in judged if verdict.EVERY[found.id].part != "python" or seen.get("python")]
    for found in asked:
        if found.status == SKIP and not found.actual.startswith(verdict.NOT_REACHED) and verdict.EVERY[found.id].found:
            reasons.setdefault(found.actual, []).append(found.id)
    rows = [{"why": why, "checks": names} for why, names in reasons.items()]
    told = " ".join(reasons)
    for problem in verdict.problems(seen):
        line = printable(f"{problem['what']} could not be read: {problem['error']}", 400)
        if printable(problem["what"], 400) not in told and line not in [row["why"] for row in rows]:
            rows.append({"why": line, "checks": []})
    return rows
