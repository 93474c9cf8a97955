"""One self-contained page of a fleet: hosts by checks, from the last report of each host below a folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple, cast

from ..checks.base import FAIL, LONGEST, PASS, SKIP
from ..diagnoses import verdict as checks
from ..errors import EnvironmentProblem
from ..host import files
from ..shapes.report import KeptReport
from ..text import printable
from ..types import Json
from . import history
from . import picture as report_picture
from .html import templates

PAGE, TURN = "index.html", ".index.lock"
MARKS = {PASS: "\N{CHECK MARK}", FAIL: "\N{MULTIPLICATION SIGN}", SKIP: "\N{EN DASH}"}
#: What a check of a kept report may say besides its id, status and finding.
TEXTS = ("title", "purpose", "required", "remediation")


class Found(KeptReport):
    """A kept report, and the folder that it is in."""

    folder: Path


def last_reports(folder: Path) -> Tuple[List[Found], List[Dict[str, str]]]:
    """The last report of each host below a folder, by name, and the files that cannot be read."""
    found: List[Found] = []
    unreadable = []
    for path in sorted(folder.glob("*/report.json")):
        try:
            found.append({**history.load(path), "folder": path.parent})
        except (OSError, ValueError) as error:
            unreadable.append({"file": printable(path.relative_to(folder)), "error": history.why(error)})
    return sorted(found, key=lambda report: str(report["host"])), unreadable


def without_folder(report: Found) -> KeptReport:
    """Return the report itself."""
    return cast(KeptReport, {key: value for key, value in report.items() if key != "folder"})


def row(check: Mapping[str, Any], number: int) -> Json:  # Json: a check of any release, as the page shows it
    """A check as the page shows it, every text printable and there; `number` tells it from its host's others."""
    texts = {name: printable(check.get(name) or "", LONGEST) for name in TEXTS}
    known = {"id": printable(check["id"]), "actual": printable(check["actual"], LONGEST), "status": check["status"]}
    diagnosis = check.get("diagnosis")
    named = printable(diagnosis, LONGEST) if isinstance(diagnosis, str) else None
    return {**texts, **known, "title": texts["title"] or known["id"], "number": number, "diagnosis": named}


def host(report: Found, columns: List[str]) -> Json:  # Json: as the page shows it
    """A host as the page shows it: its checks, those that failed first, and a cell for each column."""
    rows = [row(check, number) for number, check in enumerate(report["checks"])]
    by_id = {r["id"]: r for r in rows}
    return {
        "name": printable(report["host"]),
        "verdict": report["verdict"],
        "when": report["when"],
        "generation": history.generation(report),
        "checks": sorted(rows, key=lambda r: r["status"] != FAIL),
        "count": {status: sum(r["status"] == status for r in rows) for status in MARKS},
        "cells": [by_id.get(name) for name in columns],
        "since": history.in_report(report, history.read(report["folder"]).reports),
    }


def column_names(reports: Sequence[Found]) -> List[str]:
    """The checks of this version in their order, as far as a report has them, then those of other versions."""
    there = {printable(check["id"]) for report in reports for check in report["checks"]}
    return [name for name in checks.BY_ID if name in there] + sorted(there - set(checks.BY_ID))


def page(reports: Sequence[Found], unreadable: List[Dict[str, str]]) -> str:
    """The whole page as text."""
    columns = column_names(reports)
    number: Dict[Any, int] = Counter(report["verdict"] for report in reports)
    return (
        templates()
        .get_template("fleet.html.j2")
        .render(
            hosts=[host(report, columns) for report in reports],
            columns=columns,
            marks=MARKS,
            verdicts=[(verdict, number[verdict]) for verdict in checks.MEANING if number[verdict]],
            picture=report_picture.fleet(list(map(without_folder, reports))),
            unreadable=unreadable,
        )
    )


def write(folder: Path) -> Path:
    """Write the page of all hosts below a folder, whole or not at all; its path.

    Several runs at once, one a host, take turns: the last one has seen every report.
    """
    target = folder / PAGE
    try:
        with files.held(folder / TURN, "writing the page", lambda _: None):
            files.write_whole(target, page(*last_reports(folder)), None)
    except OSError as error:
        raise EnvironmentProblem(
            f"The fleet's page cannot be written to {target}: {error.strerror}.",
            "Make room, or name another folder: --gpuhost-reports DIR",
        ) from error
    return target
