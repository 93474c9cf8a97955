"""The report of one verified host: a JSON object, and from it a table for the terminal, JUnit XML and one
HTML page.
"""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, cast
from xml.etree import ElementTree  # only writes here

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import __version__
from ..checks.base import FAIL, LONGEST, PASS, SKIP, Result, told_lines
from ..checks.benchmark import times
from ..diagnoses import verdict as checks
from ..errors import EnvironmentProblem
from ..host import files
from ..planning import preflight
from ..planning.candidates import COMPONENTS, NAMES
from ..planning.lock import left_out
from ..planning.plan import components
from ..shapes.report import Benchmark, CheckRow, ModelRow, PlanSummary, Report, Surroundings
from ..shapes.seen import Seen
from ..text import printable
from ..types import present
from ..verification.collect import Host, describe
from . import benchmark as report_benchmark
from . import history
from . import html as report_html

SCHEMA = 1
LONGEST_WORD, MOST_NOTES = 300, 200
#: So many files that cannot be read are named below a host's table.
MOST_NAMED = 3
STYLES = {PASS: "green", FAIL: "bold red", SKIP: "yellow"}


def make(host: Host, when: Optional[float] = None) -> Report:
    """Return the report of a verified host (data/report.schema.json): verdict, plan, checks, benchmark, machine, notes.

    `when` is in seconds since 1970 (default: now).
    """
    results, seen, at = host.all_results(), host.seen, history.stamp(when)
    read = "error" not in seen.get("machine", {"error": ""})
    verdict = checks.verdict(results, checks.is_provisioned(seen), checks.is_whole(seen))
    report = {
        "schema": SCHEMA,
        "gpuhost": __version__,
        "host": word(host.name),
        "when": at,
        "verdict": checks.UNREACHABLE if checks.is_unreachable(seen) else verdict,
        "plan": plan_summary(seen, read),
        "checks": [r.as_json() for r in results],
        "benchmark": report_benchmark.summary(seen["benchmark"].values(), at, seen["earlier"]),
        "environment": environment_summary(seen) if read else None,
        "notes": notes(seen) if read else [],
    }
    return cast(Report, report)


def earlier(folder: Path, seen: Seen) -> Optional[Benchmark]:
    """Return the benchmark that the newest kept report of the same plan and generation measured, of the models whose
    check passed there; None for none.

    `folder` is the host's, `seen` what is known of the host.
    """
    if "error" in seen["machine"]:
        return None
    plan = plan_summary(seen, True)
    if plan is None or plan["generation"] is None:
        return None
    for report in reversed(history.read(folder).reports):
        found = report_benchmark.measured_in(report) if report["plan"] == plan else None
        if found is not None:
            passed = {row["id"] for row in report["checks"] if row["status"] == PASS}
            rows = [row for row in found["models"] if f"benchmark.{row['model']}" in passed]
            return {**found, "models": rows} if rows else None
    return None


def plan_summary(seen: Seen, read: bool) -> Optional[PlanSummary]:
    """What the lock says in short, and the generation in force; None without a lock."""
    if seen["lock"] is None:
        return None
    plan = seen["lock"]["plan"]
    return {
        "platform": word(plan["platform"]),
        "gpus": [word(g["name"] or g["pci_id"] or "a card") for g in plan["gpus"]],
        "components": {name: found and word(found) for name, found in components(plan).items()},
        "without": [word(name) for name in left_out(plan)],
        "generation": seen["machine"]["installed"]["generation"] if read else None,
    }


def environment_summary(seen: Seen) -> Surroundings:
    """The machine that the results are from."""
    observation = seen["machine"]["observation"]
    return {
        "hostname": word(observation["hostname"]),
        "platform": word(observation["platform"]["pretty_name"]),
        "kernel": word(observation["kernel"]["running"]),
        "cpu": word(observation["cpu"]["model"]),
        "cpus": observation["cpu"]["count"],
        "memory_mib": observation["memory_mib"],
        "gpus": [word(g["name"] or g["pci_id"]) for g in observation["gpus"]],
    }


def notes(seen: Seen) -> List[str]:
    """What is worth a word and is not a failure: third-party sources that offer nothing of the stack, a reboot
    that waits, and
    what the probe could not read."""
    observation = seen["machine"]["observation"]
    found = preflight.remarks(observation)
    if observation["reboot_required"]:
        found.append("a package asks for a reboot")
    told = [f"{p['what']} could not be read: {p['error']}" for p in checks.problems(seen)]
    found += dict.fromkeys(told)
    more = [f"and {len(found) - MOST_NOTES} more"] if len(found) > MOST_NOTES else []
    return [printable(text, LONGEST) for text in [*found[:MOST_NOTES], *more]]


def word(value: object) -> str:
    """Return a name or a version from a host or a lock as the report has it."""
    return printable(value, LONGEST_WORD)


def info_line(model: ModelRow, when: str) -> str:
    """A model's result as one line of a log, in a report of `when`."""
    what = f"{model['model']} at {model['size']} on {model['device']}, {model['weights']['kind']} weights"
    earlier = "" if model.get("when", when) == when else f", measured {model['when']}"
    busy = f"; {model['busy']}" if model.get("busy") else ""
    return f"[INFO] {times(model)}: {what}{earlier}{busy}"


def counts(report: Report) -> str:
    """How many checks passed, failed, were skipped and were not asked for, in words."""
    statuses = ["unasked" if is_unasked(row) else row["status"] for row in report["checks"]]
    words = ((PASS, "passed"), (FAIL, "failed"), (SKIP, "skipped"), ("unasked", "not asked for"))
    return ", ".join(f"{statuses.count(s)} {word}" for s, word in words if s in statuses or s in (PASS, FAIL))


def is_unasked(row: CheckRow) -> bool:
    """Return whether a check of a report speaks of what its lock leaves out."""
    return checks.is_unasked(row["status"], row["actual"])


def unasked_names(rows: Sequence[CheckRow]) -> List[str]:
    """Return what the lock leaves out: a group of checks by its name, one of a group that was judged by its id."""
    judged = {row["id"].partition(".")[0] for row in rows if not is_unasked(row)}
    unasked = [row["id"] for row in rows if is_unasked(row)]
    groups = [name.partition(".")[0] for name in unasked]
    return list(dict.fromkeys(name if group in judged else group for name, group in zip(unasked, groups)))


def stack(report: Report) -> str:
    """Return the stack of a report on one line: the components, the cards, the platform."""
    plan = present(report["plan"])
    parts = [f"{NAMES[c]} {plan['components'][c]}" for c in COMPONENTS if plan["components"][c]]
    parts += [f"{NAMES[c]} not asked for" for c in plan["without"]]
    return f"{', '.join(parts) or 'nothing'}; {', '.join(plan['gpus']) or 'no GPU'}; {plan['platform']}"


def ending(report: Report, page: Path) -> List[str]:
    """Return what stays to be seen of a run: the verdict, the stack, the report, and what to do next."""
    broken = [row for row in report["checks"] if row["status"] == FAIL]
    # Without its name verify/ would read the machine on which this is typed.
    name = "" if report["host"] == "localhost" else f" --hosts={shlex.quote(report['host'])}"
    again = f"after any update: ./run pytest verify/{name}"
    remedies = (row["remediation"] for row in broken if row["remediation"])
    step = next(remedies, "see the report") if broken else again
    lines = [f"{report['host']}: {report['verdict']} ({checks.meaning(report)}; {counts(report)})"]
    lines += [f"  stack   {stack(report)}"] if report["plan"] is not None else []
    lines += [f"  first   {broken[0]['id']}: {broken[0]['actual']}"] if broken else []
    return [
        *lines,
        f"  report  {page}",
        *(f"  {'next' if not n else '':8}{text}" for n, text in enumerate(told_lines(step))),
    ]


def as_text(report: Report, width: int = 100, colour: bool = False) -> str:
    """The report as a short table for a terminal of `width` columns."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
    )
    verdict = Text(f"{report['host']}: {report['verdict']}", style="bold")
    console.print(verdict.append(f" ({checks.meaning(report)}; {counts(report)})", style="not bold"))
    if report["plan"] is not None:
        console.print(Text(f"stack: {stack(report)}"))
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in report["checks"]:
        if is_unasked(row):
            continue
        table.add_row(
            Text(row["status"], style=STYLES[row["status"]]),
            Text(row["id"]),
            Text(row["actual"], overflow="fold"),
        )
    console.print(table)
    unasked = unasked_names(report["checks"])
    if unasked:
        console.print(Text(f"not asked for: {', '.join(unasked)}"))
    for model in report["benchmark"]["models"] if report["benchmark"] else ():
        console.print(Text(info_line(model, report["when"])))
    for note in report["notes"]:
        console.print(Text(f"note: {note}"))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def since_lines(report: Report, target: Path) -> List[str]:
    """For each check that failed, since when, from the reports that are kept in the host's folder; then what of that
    folder could not be read.
    """
    kept = history.read(target)
    found = history.in_report(report, kept.reports)
    lines = [f"{row['id']}: {found[row['id']]}" for row in report["checks"] if row["status"] == FAIL]
    lines += [f"{bad['file']} is passed over: {bad['error']}" for bad in kept.unreadable[:MOST_NAMED]]
    more = len(kept.unreadable) - MOST_NAMED
    return lines + ([f"{more} more files are passed over: ./run gpuhost history names them"] if more > 0 else [])


def junit(report: Report) -> str:
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


def write(report: Report, target: Path) -> Dict[str, Path]:
    """Keep the report in the history of the host's folder, and write the three files there, each whole or not at all;
    their paths by kind. Of a host that was not reached nothing is known that would belong into its history.

    The files are those of the last report: one that a later run has written stays.
    """
    if report["verdict"] != checks.UNREACHABLE:
        history.keep(report, target)
    kept = history.read(target).reports
    texts: Dict[str, Any] = {
        "json": json.dumps(report, indent=1, ensure_ascii=False) + "\n",
        "html": report_html.page(report, kept),
        "junit": junit(report),
    }
    names = {"json": "report.json", "html": "report.html", "junit": "junit.xml"}
    paths = {kind: target / name for kind, name in names.items()}
    if is_superseded(report, paths["json"]):
        return paths
    try:
        for kind, path in paths.items():
            files.write_whole(path, texts[kind], None)
    except OSError as error:
        raise EnvironmentProblem(
            f"The report cannot be written to {target}: {error.strerror}.",
            "Make room, or name another folder: --gpuhost-reports DIR",
        ) from error
    return paths


def is_superseded(report: Report, path: Path) -> bool:
    """Return whether a file holds a report that was made later than this one. One of the future does not count."""
    try:
        return bool(history.load(path)["when"] > report["when"])
    except (OSError, ValueError):
        return False
