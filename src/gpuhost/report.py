"""The report of one verified host: a JSON object, and from it a table for the terminal, JUnit XML and one
HTML page.
"""

from __future__ import annotations

import io
import json
import os
import re
import time
from pathlib import Path
from typing import Any, Dict, List, Optional
from xml.etree import ElementTree  # only writes here

from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import __version__, checks, history, preflight, report_benchmark, report_html
from .catalog import Json
from .checks_base import FAIL, PASS, SKIP, Result
from .checks_collect import Host, describe
from .errors import EnvironmentProblem
from .model import COMPONENTS, NAMES
from .plan import components
from .text import printable

SCHEMA = 1
STYLES = {PASS: "green", FAIL: "bold red", SKIP: "yellow"}


def make(host: Host, when: Optional[float] = None) -> Json:
    """The report of a host that was verified; `when` is in seconds since 1970 (default: now)."""
    results, seen = host.all_results(), host.seen
    read = "error" not in seen.get("machine", {"error": ""})
    return {
        "schema": SCHEMA,
        "gpuhost": __version__,
        "host": printable(host.name),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when)),
        "verdict": checks.verdict(results, checks.is_provisioned(seen), checks.is_whole(seen)),
        "plan": plan_summary(seen, read),
        "checks": [r.as_json() for r in results],
        "benchmark": report_benchmark.summary(seen["benchmark"].values()),
        "environment": environment_summary(seen) if read else None,
        "notes": notes(seen) if read else [],
    }


def plan_summary(seen: Json, read: bool) -> Optional[Json]:
    """What the lock says in short, and the generation in force; None without a lock."""
    if seen["lock"] is None:
        return None
    plan = seen["lock"]["plan"]
    return {
        "platform": printable(plan["platform"]),
        "gpus": [printable(g["name"] or g["pci_id"] or "a card") for g in plan["gpus"]],
        "components": components(plan),
        "generation": seen["machine"]["installed"]["generation"] if read else None,
    }


def environment_summary(seen: Json) -> Json:
    """The machine that the results are from."""
    observation = seen["machine"]["observation"]
    return {
        "hostname": printable(observation["hostname"]),
        "platform": printable(observation["platform"]["pretty_name"]),
        "kernel": printable(observation["kernel"]["running"]),
        "cpu": printable(observation["cpu"]["model"]),
        "cpus": observation["cpu"]["count"],
        "memory_mib": observation["memory_mib"],
        "gpus": [printable(g["name"] or g["pci_id"]) for g in observation["gpus"]],
    }


def notes(seen: Json) -> List[str]:
    """What is worth a word and is no failure: third-party sources that offer nothing of the stack, a reboot
    that waits, and
    what the probe could not read."""
    observation = seen["machine"]["observation"]
    found = preflight.remarks(observation)
    if observation["reboot_required"]:
        found.append("a package asks for a reboot")
    told = [f"{p['what']} could not be read: {p['error']}" for p in checks.problems(seen)]
    found += dict.fromkeys(told)
    return [printable(text) for text in found]


def original_line(model: Json) -> str:
    """A model's result in the form of the original's log."""
    what = f"{model['model']} at {model['size']} on {model['device']}, {model['weights']['kind']} weights"
    return f"[INFO] {model['photos']} photos in {model['total_s']:.2f} s ({model['mean_s']:.3f} s each): {what}"


def counts(report: Json) -> str:
    """How many checks passed, failed and were skipped, in words."""
    statuses = [c["status"] for c in report["checks"]]
    return f"{statuses.count(PASS)} passed, {statuses.count(FAIL)} failed, {statuses.count(SKIP)} skipped"


def as_text(report: Json, width: int = 100, colour: bool = False) -> str:
    """The report as a short table for a terminal of `width` columns."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
    )
    verdict = Text(f"{report['host']}: {report['verdict']}", style="bold")
    console.print(verdict.append(f" ({checks.MEANING[report['verdict']]}; {counts(report)})", style="not bold"))
    if report["plan"] is not None:
        found = report["plan"]["components"]
        stack = ", ".join(f"{NAMES[c]} {found[c]}" for c in COMPONENTS if found[c]) or "nothing"
        cards = ", ".join(report["plan"]["gpus"]) or "no GPU"
        console.print(Text(f"stack: {stack}; {cards}; {report['plan']['platform']}"))
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in report["checks"]:
        table.add_row(
            Text(row["status"], style=STYLES[row["status"]]),
            Text(row["id"]),
            Text(row["actual"], overflow="fold"),
        )
    console.print(table)
    for model in (report["benchmark"] or {"models": []})["models"]:
        console.print(Text(original_line(model)))
    for note in report["notes"]:
        console.print(Text(f"note: {note}"))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def since_lines(report: Json, folder: Path) -> List[str]:
    """For each check that failed, since when, from the reports that are kept below `folder`."""
    kept = history.read(folder / folder_name(report["host"])).reports
    found = history.in_report(report, kept)
    return [f"{row['id']}: {found[row['id']]}" for row in report["checks"] if row["status"] == FAIL]


def junit(report: Json) -> str:
    """The checks as JUnit XML."""
    found = report["checks"]
    fails, skips = (str(sum(c["status"] == status for c in found)) for status in (FAIL, SKIP))
    attributes = {
        "name": f"gpuhost verify {report['host']}",
        "tests": str(len(found)),
        "failures": fails,
        "skipped": skips,
        "errors": "0",
    }
    suite = ElementTree.Element("testsuite", {**attributes, "timestamp": report["when"].rstrip("Z")})
    for row in found:
        group, _, _ = row["id"].partition(".")
        case = ElementTree.SubElement(suite, "testcase", {"classname": f"{report['host']}.{group}", "name": row["id"]})
        if row["status"] == FAIL:
            failure = ElementTree.SubElement(case, "failure", {"message": f"{row['title']}: {row['actual']}"})
            failure.text = describe(Result(**row))
        elif row["status"] == SKIP:
            ElementTree.SubElement(case, "skipped", {"message": row["actual"]})
    root = ElementTree.Element("testsuites")
    root.append(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def folder_name(host: str) -> str:
    """A host's name as the name of one folder: what a file system or a shell might read otherwise becomes _."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", host).lstrip(".") or "_"


def write(report: Json, folder: Path) -> Dict[str, Path]:
    """Keep the report in the host's history, and write the three files below `folder`/HOST, each whole or not at all;
    their paths by kind.
    """
    target = folder / folder_name(report["host"])
    history.keep(report, target)
    kept = history.read(target).reports
    texts: Dict[str, Any] = {
        "json": json.dumps(report, indent=1, ensure_ascii=False) + "\n",
        "html": report_html.page(report, kept),
        "junit": junit(report),
    }
    names = {"json": "report.json", "html": "report.html", "junit": "junit.xml"}
    paths = {}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for kind, name in names.items():
            paths[kind] = target / name
            temporary = target / f".{name}.new-{os.getpid()}"
            temporary.write_text(texts[kind], encoding="utf-8")
            temporary.replace(paths[kind])
    except OSError as error:
        raise EnvironmentProblem(
            f"The report cannot be written to {target}: {error.strerror}.",
            "Make room, or name another folder: --gpuhost-reports DIR",
        ) from error
    return paths
