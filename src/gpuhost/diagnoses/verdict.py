"""All checks in causal order, how one cause gives one failure, and the verdict over a host.

What is judged is one dict of what was collected about a host (`collect` fills it):

    host, lock, lock_error {message, next_step, missing} or None, options {require_gpu, benchmark},
    machine {observation, installed} or {error, next_step}, expected (`expected.expected`), environments, benchmark
"""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Dict, Iterable, List, Optional

from ..checks import benchmark as checks_benchmark
from ..checks import card as checks_card
from ..checks import cuda as checks_cuda
from ..checks import driver as checks_driver
from ..checks import guard as checks_guard
from ..checks import host as checks_host
from ..checks import lock as checks_lock
from ..checks import opencv as checks_opencv
from ..checks import python as checks_python
from ..checks import service as checks_service
from ..checks import tensorflow as checks_tensorflow
from ..checks import toolkit as checks_gpu
from ..checks import virtualbox as checks_virtualbox
from ..checks.base import (
    BY_MORE,
    FAIL,
    LEFT_OUT,
    NO_GPU,
    NOT_BESIDE,
    NOT_SERVED,
    PASS,
    SKIP,
    UNASKED,
    Check,
    Outcome,
    Result,
    result,
    skipped,
)
from ..checks.found import NOT_SEEN, beyond, is_as_found, is_ours, missing_traces

if TYPE_CHECKING:
    from ..shapes.observation import Problem
    from ..shapes.report import Report
    from ..shapes.seen import Seen
from . import table as diagnoses

OK, BROKEN, INCOMPLETE, NOT_PROVISIONED = "ok", "broken", "incomplete", "not provisioned"
UNREACHABLE = "unreachable"
MEANING = {
    OK: "every check passed",
    BROKEN: "at least one check failed",
    INCOMPLETE: "nothing failed, but not everything was read and proven",
    NOT_PROVISIONED: "there is no lock, or nothing is in force on the host",
    UNREACHABLE: "the host did not answer, so nothing is known of it",
}

CHECKS = (
    *checks_host.CHECKS,
    *checks_lock.CHECKS,
    *checks_lock.PARTS,
    *checks_gpu.CARD,
    *checks_driver.INSTALLED,
    *checks_guard.CHECKS,
    *checks_driver.CHECKS,
    *checks_card.CHECKS,
    *checks_gpu.CHECKS,
    *checks_cuda.CHECKS,
    *checks_opencv.CHECKS,
    *checks_tensorflow.CHECKS,
    *checks_service.CHECKS,
    *checks_virtualbox.CHECKS,
    *checks_benchmark.CHECKS,
)
BY_ID: Dict[str, Check] = {c.id: c for c in CHECKS}
#: What is asked beside them of a host without a lock (`doctor`).
ASKED = (*checks_cuda.ASKED, *checks_python.ASKED)
EVERY: Dict[str, Check] = {**BY_ID, **{c.id: c for c in ASKED}}
#: Whether there is a lock. verify/ asks for one also where it judges a host as it was found; the doctor asks for none.
LOCK = "lock.present"
#: What the checks of a driver begin with; where it fails they are not reached.
DRIVER = "driver.installed"
#: What a skipped check says before the name of the one that keeps it from being made.
NOT_REACHED = "not reached because of "
#: Sources that only explain a failure: no check passes by what they say, so a verdict does not need them.
EXPLAINING = ("dmesg", "dkms status", "nvidia-smi memory.free")


def about(*subjects: str) -> List[str]:
    """Return the ids of the checks of these subjects (the word before the dot), in causal order."""
    return [name for name in BY_ID if name.partition(".")[0] in subjects]


def obstacle(check: Check, earlier: Dict[str, Result], seen: "Seen") -> Optional[str]:
    """The check at the root of why this one cannot be made; None when all that it needs has passed.

    Without a lock much cannot be judged, and that alone keeps nothing else from being judged.
    """
    for name in check.needs:
        if is_as_found(seen) and name == LOCK:
            continue
        if earlier[name].status == FAIL:
            return name
        if earlier[name].status == SKIP:
            root = obstacle(EVERY[name], earlier, seen)
            if root is not None or not is_as_found(seen):
                return root or name
    return None


def without_gpu(check: Check, seen: "Seen", earlier: Dict[str, Result]) -> bool:
    """Return whether the check speaks of a card on a host whose lock has none."""
    return check.gpu and earlier[LOCK].status == PASS and not checks_lock.obeyed(seen)["plan"]["gpus"]


def left_out(check: Check, seen: "Seen", earlier: Dict[str, Result]) -> bool:
    """Return whether the check speaks of a component that the lock leaves out, or needs one that does."""
    lock = earlier.get(LOCK)
    if is_as_found(seen) or lock is None or lock.status != PASS:
        return False
    without = checks_lock.obeyed(seen)["plan"].get("without", ())
    return bool(without) and any(one.id.partition(".")[0] in without for one in lineage(check))


def not_served(check: Check, seen: "Seen", earlier: Dict[str, Result]) -> bool:
    """Return whether the check speaks of the detection service on a host whose generation has none."""
    if check.part != checks_service.SUBJECT or earlier["lock.provisioned"].status != PASS:
        return False
    return not checks_service.is_there(seen)


def not_beside(check: Check, seen: "Seen", earlier: Dict[str, Result]) -> bool:
    """Return whether the check speaks of VirtualBox on a host that gpuhost has not installed it on."""
    if check not in checks_virtualbox.CHECKS or "observation" not in seen["machine"]:
        return False
    return earlier["lock.present"].status == PASS and not checks_virtualbox.is_there(seen)


def by_more(check: Check, seen: "Seen", earlier: Dict[str, Result]) -> bool:
    """Return whether CUDA alone is asked although OpenCV or TensorFlow is to compute with it."""
    if check not in checks_cuda.CHECKS or earlier[LOCK].status != PASS:
        return False
    plan = checks_lock.obeyed(seen)["plan"]
    return plan["opencv"] is not None or plan["tensorflow"] is not None


def unasked(check: Check, seen: "Seen", earlier: Dict[str, Result]) -> str:
    """Return why a check is not asked of a host with a lock, as one of `UNASKED`; "" where it is."""
    reasons = (
        (left_out, LEFT_OUT),
        (not_served, NOT_SERVED),
        (not_beside, NOT_BESIDE),
        (without_gpu, NO_GPU),
        (by_more, BY_MORE),
    )
    return next((reason for applies, reason in reasons if applies(check, seen, earlier)), "")


def can_judge(check: Check, seen: "Seen", earlier: Dict[str, Result]) -> bool:
    """Return whether this check is to be judged by what is collected for it; else its result is settled already."""
    settled = check.found is None if is_as_found(seen) else bool(unasked(check, seen, earlier))
    return not settled and obstacle(check, earlier, seen) is None


def problems(seen: "Seen") -> "List[Problem]":
    """Everything that the probe could not read on a host, each with `what` and `error`."""
    machine = seen.get("machine")
    if not machine or "observation" not in machine:
        return []
    return [*machine["observation"]["problems"], *machine["installed"]["problems"]]


def is_whole(seen: "Seen") -> bool:
    """Return whether the probe could read all of a host, but for what only explains failures."""
    return all(problem["what"] in EXPLAINING for problem in problems(seen))


def unread(check: Check, seen: "Seen") -> "List[Problem]":
    """What the probe could not read, of what this check rests on."""
    return [problem for problem in problems(seen) if rests_on(check, problem["what"], seen)]


def rests_on(check: Check, what: str, seen: "Seen") -> bool:
    """Return whether this is one of the check's sources."""
    root = seen["machine"]["installed"]["root"]
    return any(fnmatchcase(what, source.replace("{root}", root)) for source in check.sources)


def not_read(check: Check, missing: "List[Problem]", seen: "Seen", earlier: Dict[str, Result]) -> Result:
    """The result of a check that rests on what could not be read.

    The first one that rests on it fails; the others are skipped with that one's name, so one cause is one failure.
    """
    first = missing[0]
    told = "; ".join(f"{problem['what']} could not be read: {problem['error']}" for problem in missing[:2])
    for name, found in earlier.items():
        if found.status == FAIL and rests_on(BY_ID[name], first["what"], seen):
            return result(check, skipped(check.title, f"{NOT_REACHED}{name}: {told}", f"First fix {name}."))
    remedy = "Fix what the line says on the host, then verify again:\n./run pytest verify/"
    return result(check, Outcome(FAIL, f"{check.title}, seen in what the host says", told, remedy))


def judge(check: Check, seen: "Seen", earlier: Dict[str, Result]) -> Result:
    """The result of one check, given what was collected and the results of the checks that it needs."""
    if is_as_found(seen) and check.id == LOCK and seen["lock_error"] is not None:
        return result(check, check.judge(seen))
    if is_as_found(seen):
        return judge_found(check, seen, earlier)
    reason = unasked(check, seen, earlier)
    if reason:
        return result(check, skipped("a GPU, planned and locked" if reason == NO_GPU else check.title, reason))
    cause = obstacle(check, earlier, seen)
    if cause is not None:
        return result(check, skipped(check.title, f"{NOT_REACHED}{cause}", f"First fix {cause}."))
    missing = unread(check, seen)
    if missing:
        return not_read(check, missing, seen, earlier)
    return diagnosed(check, check.judge(seen), seen)


def judge_found(check: Check, seen: "Seen", earlier: Dict[str, Result]) -> Result:
    """The result of one check on a host without a lock. What cannot be judged there is skipped, and says why."""
    judge_it = check.found
    if judge_it is None:
        return result(check, skipped(check.title, "only a lock says what it should be"))
    no_card = check.gpu and earlier["gpu.present"].status == FAIL
    cause = "gpu.present" if no_card else obstacle(check, earlier, seen)
    if cause is not None:
        return result(check, skipped(check.title, f"{NOT_REACHED}{cause}"))
    check = check if check.found_sources is None else check._replace(sources=check.found_sources)
    missing = [f"{problem['what']} could not be read: {problem['error']}" for problem in unread(check, seen)]
    reason = beyond(check.sources, seen) or "; ".join(list(dict.fromkeys(missing))[:2]) or no_driver(check, seen)
    if reason:
        return result(check, skipped(check.title, reason))
    return diagnosed(check, judge_it(seen), seen)


def no_driver(check: Check, seen: "Seen") -> str:
    """Return why a check of the driver says nothing where none was seen, and not all was read that would show one."""
    if check.part != "machine" or check.id == DRIVER or not missing_traces(seen):
        return ""
    return NOT_SEEN if BY_ID[DRIVER] in lineage(BY_ID[check.id]) else ""


def diagnosed(check: Check, outcome: Outcome, seen: "Seen") -> Result:
    """A check's result; a failure carries the diagnosis whose sign is seen, and that sign's remedy if it has one."""
    sign = diagnoses.named(check.id, seen) if outcome.status == FAIL else None
    if sign is None:
        by_hand = is_ours(seen) or "./run " not in outcome.remediation
        return result(check, outcome if by_hand else outcome._replace(remediation=""))
    if is_ours(seen):
        remedy = sign.remedy(seen) if sign.remedy is not None else outcome.remediation
    else:
        remedy = diagnoses.by_hand(sign, outcome.remediation, seen)
    return result(check, outcome._replace(remediation=remedy), sign.diagnosis)


def lineage(check: Check) -> List[Check]:
    """Every check that has to be judged before this one, in order, and the check itself."""
    names = {check.id, LOCK, "gpu.present"} if check.gpu else {check.id}
    grown = True
    while grown:
        more = {need for name in names for need in BY_ID[name].needs} - names
        names |= more
        grown = bool(more)
    return [c for c in CHECKS[: CHECKS.index(check) + 1] if c.id in names]


def is_unasked(status: str, actual: str) -> bool:
    """Return whether a check was not asked for, by its result (`UNASKED`)."""
    return status == SKIP and actual in UNASKED


def verdict(results: Iterable[Result], provisioned: bool, whole: bool) -> str:
    """One word over a host; `whole` says that all of it could be read. What was skipped or could not be read, also
    where no check rests on it, is not proven, so it never gives ok. What nobody asked for does not count.
    """
    statuses = [r.status for r in results if not is_unasked(r.status, r.actual)]
    if not provisioned:
        return NOT_PROVISIONED
    if FAIL in statuses:
        return BROKEN
    return OK if whole and statuses and SKIP not in statuses else INCOMPLETE


def meaning(report: "Report") -> str:
    """Return what the verdict of a report says, in words."""
    if report["verdict"] == OK and report["plan"] is not None and not report["plan"]["gpus"]:
        return "CPU stack; no GPU was asked for"
    return MEANING[report["verdict"]]


def is_unreachable(seen: "Seen") -> bool:
    """Return whether a host could not be connected to."""
    return bool(seen.get("machine", {}).get("unreachable"))


def is_provisioned(seen: "Seen") -> bool:
    """Return whether a host has a lock and a generation in force. One that cannot be read is taken as if it had."""
    if seen["lock_error"] is not None:
        return not seen["lock_error"]["missing"]
    if "error" in seen["machine"] or unread(BY_ID["lock.provisioned"], seen):
        return True
    return seen["machine"]["installed"]["generation"] is not None


def not_asked(check: Check) -> Result:
    """The result of a check that a run left out."""
    return result(check, skipped(check.title, "not part of this run", "./run pytest verify/ makes every check."))
