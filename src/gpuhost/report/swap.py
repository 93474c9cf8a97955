"""The old card against the new one: the last benchmark of a host's generation against that of the generation before it.

Pure, from the reports that verify/ keeps (history). Times in seconds per photo.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple, cast

from ..shapes.report import Benchmark, KeptReport, ModelRow, Report
from ..text import printable
from . import benchmark as report_benchmark
from . import history

#: Rows that differ in one of these are not of the same work, so a ratio would say nothing.
SAME = (("size", "input sizes"), ("weights", "weights"), ("photo_kind", "kinds of photos"))
#: A report that was kept may hold anything.
LONGEST = 1000
MEASURE = "./run pytest verify/ measures at its end; so before the next swap there is something to compare with."


def measured(reports: Sequence[KeptReport]) -> List[Tuple[int, Report, Benchmark]]:
    """The reports with a benchmark, oldest first: generation, report, benchmark."""
    found = []
    for report in reports:
        generation, benchmark = history.generation(report), report_benchmark.measured_in(report)
        if generation is not None and benchmark is not None:  # which only a report of the present form has
            found.append((generation, cast(Report, report), benchmark))
    return found


def by_model(benchmark: Benchmark) -> Dict[str, ModelRow]:
    """The rows by model; the first where a model is there twice."""
    found: Dict[str, ModelRow] = {}
    for row in benchmark["models"]:
        found.setdefault(row["model"], row)
    return found


def ratio(old: ModelRow, new: ModelRow) -> Tuple[float, List[float]]:
    """How many times as fast the new is, and the widest interval that both means' 95 % intervals allow."""
    before, now = old["mean_ci95_s"], new["mean_ci95_s"]
    return old["mean_s"] / new["mean_s"], [before[0] / now[1], before[1] / now[0]]


def on(report: Report, row: ModelRow) -> str:
    """What computed: the card by its name where the network ran on one."""
    if not row["device"].startswith("cuda"):
        return str(row["device"])
    return f"{', '.join(report['plan']['gpus'] if report['plan'] else ()) or 'a card'} ({row['device']})"


def told(old: Tuple[Report, ModelRow], new: Tuple[Report, ModelRow]) -> str:
    """One model's line: both as (report, row)."""
    rows = old[1], new[1]
    both = " -> ".join(f"{on(report, row)} {row['mean_s']:.4f} s each" for report, row in (old, new))
    line = f"{rows[0]['model']}: {both}"
    both_rows: Tuple[Mapping[str, Any], Mapping[str, Any]] = rows
    other = [name for key, name in SAME if both_rows[0][key] != both_rows[1][key]]
    if other:
        return f"{line}; the {' and '.join(other)} differ, so a ratio would say nothing"
    if not min(rows[1]["mean_s"], *rows[1]["mean_ci95_s"]):
        return f"{line}; a time of 0 s is not a measurement, so a ratio would say nothing"
    value, ends = ratio(*rows)
    return f"{line}: {value:.2f} times as fast ({ends[0]:.2f} to {ends[1]:.2f})"


def lines(reports: Sequence[KeptReport]) -> List[str]:
    """What the change of generation has brought, from a host's kept reports, oldest first."""
    found = measured(reports)
    if not found:
        return [f"No benchmark of this host is kept. {MEASURE}"]
    now = found[-1]
    before = next((row for row in reversed(found) if row[0] != now[0]), None)
    if before is None:
        return [f"No benchmark of a generation before {now[0]} is kept. {MEASURE}"]
    old, new = by_model(before[2]), by_model(now[2])
    rows = [told((before[1], old[name]), (now[1], new[name])) for name in new if name in old]
    head = f"generation {before[0]} ({before[1]['when']}) -> generation {now[0]} ({now[1]['when']})"
    answer = [head, *rows] if rows else [f"{head}: no model was measured in both"]
    return [printable(text, LONGEST) for text in answer]
