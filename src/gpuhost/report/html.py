"""One self-contained page of a report: no scripts, nothing from elsewhere, everything from a host escaped."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Dict, List, Sequence

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..checks.base import told_lines
from ..diagnoses.verdict import meaning
from ..planning.candidates import COMPONENTS, NAMES
from ..shapes.report import CheckRow, KeptReport, Report
from . import history, stack
from .picture import milliseconds, picture, trend

TEMPLATES = Path(__file__).parents[1] / "templates"
TITLES = {
    "host": "The host",
    "lock": "The lock",
    "gpu": "The card",
    "guard": "The guard against updates",
    "kernel": "The kernel",
    "driver": "The driver",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "opencv": "OpenCV",
    "tensorflow": "TensorFlow",
    "detector": "The detector",
    "service": "The detection service",
    "virtualbox": "VirtualBox",
    "benchmark": "The benchmark",
}


@functools.lru_cache(maxsize=None)
def templates() -> Environment:
    """The one way templates are read: everything from a host is escaped, and a name that is missing is an error."""
    environment = Environment(
        loader=FileSystemLoader(str(TEMPLATES)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ms"] = milliseconds
    environment.filters["told_lines"] = told_lines
    return environment


def component(report: Report, name: str) -> str:
    """A component of a report's plan, in words."""
    plan = report["plan"]
    if plan is None:
        return "none"
    return plan["components"].get(name) or ("not asked for" if name in plan["without"] else "none")


def page(report: Report, kept: Sequence[KeptReport] = ()) -> str:
    """The whole page as text; `kept` are the host's reports in order of time, this one the last of them."""
    groups: Dict[str, List[CheckRow]] = {}
    for check in report["checks"]:
        groups.setdefault(check["id"].partition(".")[0], []).append(check)
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            report=report,
            meaning=meaning(report),
            groups=[(TITLES[name], found) for name, found in groups.items()],
            since=history.in_report(report, kept),
            failed=[c for c in report["checks"] if c["status"] == "fail"],
            count={status: sum(c["status"] == status for c in report["checks"]) for status in ("pass", "fail", "skip")},
            components=[(NAMES[c], component(report, c)) for c in COMPONENTS],
            stack=stack.layers(report),
            picture=picture(report["benchmark"]),
            trend=trend(kept),
        )
    )
