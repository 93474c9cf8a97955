"""The results of a host over time: every report that verify/ makes is kept, and from them comes "since when".

    reports/<host>/history/<when>-<n>.json      whole reports, the newest KEEP of them

What is read back may be older than this version of gpuhost, cut off, or changed by hand: a file that is not a report is
named, and the others still answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import time
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, cast

from .. import strict_json
from ..checks.base import LONGEST, SKIP
from ..diagnoses import verdict as checks
from ..errors import EnvironmentProblem
from ..shapes.report import AnyReport, KeptReport, Report
from ..shipping import answers
from ..text import folder_name, printable

FOLDER = "history"
#: About 6 MB a host. With a run a day it reaches back more than half a year.
KEEP = 200
#: No report is as large; whatever is, was not written by verify/.
LARGEST = 8 << 20
_NAME = re.compile(r"([0-9]{8}T[0-9]{6}Z)-([0-9]{1,9})\.json")
#: What a run that left a check out says of it: nothing is known from that run.
_LEFT_OUT = (checks.not_asked(checks.CHECKS[0]).actual, "left out, as --no-benchmark asked")
#: What the check kernel.boots says of an update that the host has undone (`host.pairs.judge.told`).
_UNDONE = re.compile(r"The update to .+ was undone, and .+ is kept: .+", re.DOTALL)
_DAY_S = 86400.0
#: Several machines that verify into one folder do not agree on the second.
AHEAD_S = 600.0


class Seen(NamedTuple):
    """One check in one kept report."""

    when: str
    generation: Optional[int]
    status: str
    actual: str


class Since(NamedTuple):
    """A check's present result, the first report of the unbroken row that has its status, and the report before that.

    `before` is None when the status has been the same in everything that is kept.
    """

    check: str
    now: Seen
    first: Seen
    before: Optional[Seen]


class Kept(NamedTuple):
    """What a host's folder holds: its reports in order of time, and what could not be read."""

    host: str
    reports: List[KeptReport]
    unreadable: List[Dict[str, str]]


def keep(report: Report, folder: Path) -> Path:
    """Keep a report below a host's folder, whole or not at all, and drop what is more than KEEP; its path.

    No report takes another's name: the last step is a link, which fails where there is one.
    """
    target = folder / FOLDER
    stem = re.sub(r"[-:]", "", report["when"])
    temporary = target / f".{stem}.new-{os.getpid()}"
    try:
        target.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as handle:
            handle.write(json.dumps(report, ensure_ascii=False) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        path = linked(temporary, target, stem)
        drop(target)
    except OSError as error:
        raise EnvironmentProblem(
            f"The report cannot be written to {target}: {error.strerror}.",
            "Make room, or name another folder: --gpuhost-reports DIR",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return path


def linked(temporary: Path, target: Path, stem: str) -> Path:
    """Give a written file the first free name of its second."""
    number = 1
    while True:
        path = target / f"{stem}-{number}.json"
        try:
            os.link(str(temporary), str(path))
        except FileExistsError:
            number += 1
        else:
            return path


def order(name: str) -> Optional[Tuple[str, int]]:
    """Where a file stands in time by its name; None for a file that is not ours."""
    match = _NAME.fullmatch(name)
    return (match.group(1), int(match.group(2))) if match else None


def files(folder: Path) -> List[Path]:
    """The kept files of a host's history folder, oldest first."""
    found = [path for path in folder.iterdir() if order(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: order(path.name) or ("", 0))


def drop(folder: Path) -> None:
    """Drop the oldest files beyond KEEP, and what a run that was killed has left half written.

    Files of the future are not counted: made while a clock was wrong, they would push out every later report.
    """
    until = re.sub(r"[-:]", "", stamp(time.time() + AHEAD_S))
    stale = [path for path in files(folder) if (order(path.name) or ("", 0))[0] <= until][:-KEEP]
    stale += [p for p in folder.glob(".*.new-*") if time.time() - p.stat().st_mtime > _DAY_S]
    for path in stale:
        path.unlink()


def read(folder: Path, now: Optional[float] = None) -> Kept:
    """Return what is kept below a host's folder; `now` is in seconds since 1970 (default: the clock's).

    A report that is dated in the future was made while a clock was wrong: it stays where it is, and is passed over
    with its name until its time has come, because nothing can have happened since then.
    """
    reports, unreadable, host = [], [], folder.name
    try:
        found = files(folder / FOLDER)
    except OSError as error:
        return Kept(printable(host), [], [{"file": FOLDER, "error": str(error.strerror)}])
    for path in found:
        try:
            reports.append(load(path, now))
        except (OSError, ValueError) as error:
            unreadable.append({"file": printable(path.name), "error": why(error)})
    reports.sort(key=lambda report: str(report["when"]))  # a name may have been changed by hand
    return Kept(printable(reports[-1]["host"] if reports else host), reports, unreadable)


def why(error: Exception) -> str:
    """Why a file could not be read, in one short line."""
    return printable(getattr(error, "strerror", None) or error, 200)


def load(path: Path, now: Optional[float] = None) -> KeptReport:
    """Return one kept report; ValueError says what is wrong with it.

    Its schema is looser than that of a report, because one by another version of gpuhost has other checks and may have
    more fields.
    """
    value = strict_json.load(path, LARGEST)
    wrong = answers.misfit(value, "kept_report")
    if wrong is not None:
        raise ValueError(f"It is not a report: {wrong}.")
    if value["when"] > stamp((time.time() if now is None else now) + AHEAD_S):
        raise ValueError(f"It is dated in the future ({value['when']}), or this machine's clock is wrong.")
    return cast(KeptReport, dict(value))


def stamp(seconds: Optional[float] = None) -> str:
    """Return a time as reports have it; `seconds` since 1970 (default: now)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def left_behind(reports: Path, host: str) -> Optional[str]:
    """Say how to move a host's reports that lie where an earlier version put them, a folder that hosts could share;
    None where there are none.
    """
    old = reports / (re.sub(r"[^A-Za-z0-9._-]", "_", host).lstrip(".") or "_")
    new = reports / folder_name(host)
    if old == new or new.joinpath(FOLDER).exists() or not any(r["host"] == host for r in read(old).reports):
        return None
    move = f"mv {shlex.quote(str(old))} {shlex.quote(str(new))}"
    return f"Earlier reports of {printable(host)} are in {old}. Move them: {move}"


def generation(report: AnyReport) -> Optional[int]:
    """The generation that was in force."""
    return None if report["plan"] is None else report["plan"]["generation"]


def seen(reports: Iterable[AnyReport]) -> Dict[str, List[Seen]]:
    """What the reports say of each check, in their order; a run that left a check out says nothing of it."""
    found: Dict[str, List[Seen]] = {}
    for report in reports:
        for row in report["checks"]:
            if not (row["status"] == SKIP and row["actual"] in _LEFT_OUT):
                entry = Seen(report["when"], generation(report), row["status"], printable(row["actual"], LONGEST))
                found.setdefault(printable(row["id"]), []).append(entry)
    return found


def since(reports: Iterable[AnyReport]) -> List[Since]:
    """For each check: its last result, since when it has that status, and what it was before."""
    return [last_change(check, rows) for check, rows in seen(reports).items()]


def undone(reports: Iterable[AnyReport]) -> List[Tuple[str, str]]:
    """The updates that the host has undone by itself, each with the first report that says so."""
    found: Dict[str, str] = {}
    for report in reports:
        for row in report["checks"]:
            told = _UNDONE.search(row["actual"]) if row["id"] == "kernel.boots" else None
            if told is not None:
                found.setdefault(printable(told.group(), LONGEST), report["when"])
    return [(when, sentence) for sentence, when in found.items()]


def last_change(check: str, rows: List[Seen]) -> Since:
    """The last change of status in a check's results."""
    now = rows[-1]
    start = len(rows) - 1
    while start > 0 and rows[start - 1].status == now.status:
        start -= 1
    return Since(check, now, rows[start], rows[start - 1] if start else None)


def in_report(report: AnyReport, reports: Iterable[KeptReport]) -> Dict[str, str]:
    """Since when each check says what it says in this report, from those kept before it, in words by its id.

    The report itself need not be among those given: it may have been passed over, or dropped by another run.
    """
    before = [row for row in reports if row["when"] <= report["when"] and row != report]
    return {
        row.check: f"{row.now.status} {told(row)}" for row in since([*before, report]) if row.now.when == report["when"]
    }


def verdicts(reports: Sequence[KeptReport]) -> Tuple[str, str, Optional[str]]:
    """A host's verdict, since when it has been that, and the time of the last report with another."""
    rows = [Seen(r["when"], generation(r), r["verdict"], "") for r in reports]
    found = last_change("verdict", rows)
    return found.now.status, found.first.when, found.before.when if found.before else None


def at(entry: Seen) -> str:
    """A point in the history in words."""
    return f"{entry.when} ({'no generation' if entry.generation is None else f'generation {entry.generation}'})"


def told(found: Since) -> str:
    """Since when, in one sentence without its end."""
    if found.before is None:
        return f"since {at(found.first)} or earlier"
    return f"since {at(found.first)}; {found.before.status} on {at(found.before)}"
