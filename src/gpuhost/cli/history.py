"""`gpuhost history`: since when each check of a host says what it says, from the reports that verify/ has kept."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, List, Optional

from rich.console import Console
from rich.text import Text

from ..checks.base import FAIL
from ..errors import UsageError
from ..report import history, terminal
from ..report import swap as report_swap
from ..report.history import Kept, Seen, Since
from ..report.report import STYLES
from ..text import folder_name, printable
from ..types import Json

SCHEMA = 1
VERIFY = "./run pytest verify/ keeps one."


def add_parser(commands: Any) -> None:
    """The grammar of the command."""
    p = commands.add_parser(
        "history",
        help="say since when a host's checks fail, or pass",
        description="Read the reports that verify/ has kept. Without HOST: every host, with the checks that fail.",
    )
    p.add_argument("host", nargs="?", metavar="HOST", help="the host's name in the inventory; every check is shown")
    p.add_argument("--reports", type=Path, default=Path("reports"), metavar="DIR", help="default: reports")
    p.add_argument("--json", action="store_true", help="print JSON")
    p.set_defaults(run=lambda arguments: run(arguments, terminal.console(), terminal.console(stderr=True)))


def folders(reports: Path, host: Optional[str]) -> List[Path]:
    """The folder of a host, or of all; UsageError where nothing was ever kept."""
    if host is not None:
        folder = reports / folder_name(host)
        if not (folder / history.FOLDER).is_dir():
            elsewhere = history.left_behind(reports, host)
            raise UsageError(f"No report of {printable(host)} is kept in {reports}.", elsewhere or VERIFY)
        return [folder]
    found = sorted(path.parent for path in reports.glob(f"*/{history.FOLDER}") if path.is_dir())
    if not found:
        raise UsageError(f"No report is kept in {reports}.", VERIFY)
    return found


def point(entry: Optional[Seen]) -> Optional[Json]:
    """A point in the history as JSON."""
    return None if entry is None else dict(entry._asdict())


def as_json(kept: Kept) -> Json:
    """A host's history as JSON."""
    found: Json = {"host": kept.host, "kept": len(kept.reports), "unreadable": kept.unreadable}
    if not kept.reports:
        return {**found, "first": None, "last": None, "verdict": None, "checks": []}
    verdict, begun, until = history.verdicts(kept.reports)
    return {
        **found,
        "first": kept.reports[0]["when"],
        "last": kept.reports[-1]["when"],
        "verdict": {"now": verdict, "since": begun, "other_until": until},
        "checks": [
            {"id": row.check, "now": point(row.now), "since": point(row.first), "before": point(row.before)}
            for row in history.since(kept.reports)
        ],
    }


def headline(kept: Kept) -> str:
    """A host's verdict over time in one line."""
    if not kept.reports:
        return f"{kept.host}: no report can be read"
    verdict, begun, until = history.verdicts(kept.reports)
    count, first = len(kept.reports), kept.reports[0]["when"]
    row = f"{kept.host}: {verdict} since {begun}{' or earlier' if until is None else f', another until {until}'}"
    return f"{row} ({count} report{'' if count == 1 else 's'} kept, the first of {first})"


def line(row: Since) -> Text:
    """One check in one line."""
    text = Text(f"  {row.now.status}", style=STYLES[row.now.status])
    return text.append(f" {row.check} {history.told(row)}", style="default")


def show(out: Console, kept: Kept, every: bool) -> None:
    """Print a host's history: every check, or those that fail."""
    out.print(Text(headline(kept), style="bold"), soft_wrap=True)
    for row in history.since(kept.reports):
        if every or row.now.status == FAIL:
            out.print(line(row), soft_wrap=True, highlight=False)
    if every:
        for when, told in history.undone(kept.reports):
            out.print(Text(f"  {when}: {told}"), soft_wrap=True)
        for text in report_swap.lines(kept.reports):
            out.print(Text(f"  {text}"), soft_wrap=True)


def run(arguments: argparse.Namespace, out: Console, err: Console) -> int:
    """`gpuhost history`."""
    found = [history.read(folder) for folder in folders(arguments.reports, arguments.host)]
    if arguments.json:
        hosts = [as_json(kept) for kept in found]
        sys.stdout.write(json.dumps({"schema": SCHEMA, "hosts": hosts}, indent=1) + "\n")
    for kept in found:
        if not arguments.json:
            show(out, kept, arguments.host is not None)
        for bad in kept.unreadable:
            err.print(Text(f"{kept.host}: {bad['file']} is passed over: {bad['error']}"), soft_wrap=True)
    return 0
