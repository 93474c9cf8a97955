"""`gpuhost verify`, which is `pytest verify/`, and `gpuhost report`, which shows what it has written."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path
from typing import Any, cast

import fastjsonschema

from ..errors import EnvironmentProblem, UsageError
from ..planning.catalog import DATA, validator
from ..report import history, report
from ..shapes.report import Report
from ..text import folder_name, printable, printable_lines
from .child import waited
from .output import emit

#: The folder of the checkout, in which this file is src/gpuhost/cli/verify.py.
CHECKS = Path(__file__).resolve().parents[3] / "verify"


def add_parsers(commands: Any) -> None:
    """The grammar of both commands. All words after `verify` are pytest's, so none of them is an option here."""
    verify = commands.add_parser(
        "verify", help="hold hosts against their locks: ./run pytest verify/", add_help=False, prefix_chars="\0"
    )
    verify.add_argument("words", nargs="*")
    verify.set_defaults(run=run_verify)
    p = commands.add_parser(
        "report",
        help="show the last report that verify/ has written of a host",
        description="Show the last report of a host: verdict, stack, and what to do next.",
        epilog="Exit codes: 0 done, 2 there is no report.",
    )
    p.add_argument("host", nargs="?", default="localhost", metavar="HOST", help="default: localhost")
    p.add_argument("--reports", type=Path, default=Path("reports"), metavar="DIR", help="default: reports")
    form = p.add_mutually_exclusive_group()
    form.add_argument("--open", action="store_true", help="open its page in the browser")
    form.add_argument("--json", action="store_true", help="print the report as JSON")
    p.set_defaults(run=run_report)


def run_verify(arguments: argparse.Namespace) -> int:
    """`gpuhost verify`."""
    if not CHECKS.is_dir():
        raise EnvironmentProblem("verify/ is not part of an installed package.", "Use ./run pytest verify/")
    return waited([sys.executable, "-I", "-m", "pytest", str(CHECKS), *arguments.words])


def run_report(arguments: argparse.Namespace) -> int:
    """`gpuhost report`."""
    file = arguments.reports / folder_name(arguments.host) / "report.json"
    page, again = file.with_name("report.html").absolute(), "Make one: ./run pytest verify/"
    try:
        found = history.load(file)
        validator(DATA / "report.schema.json")(found)
    except FileNotFoundError:
        raise UsageError(f"There is no report of {printable(arguments.host)} in {arguments.reports}.", again) from None
    except (OSError, ValueError, fastjsonschema.JsonSchemaException) as error:
        raise UsageError(f"{file} cannot be read as a report: {printable(error, 200)}.", again) from None
    if arguments.json:
        emit(found)
        return 0
    print(printable_lines("\n".join(report.ending(cast(Report, found), page))))
    if arguments.open and not webbrowser.open(page.as_uri()):
        raise EnvironmentProblem("No browser could be started here.", f"Open the page yourself: {page}")
    return 0
