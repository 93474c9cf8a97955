"""The benchmark as a picture: where each bar of the SVG lies. Pure geometry; the template only writes it
down.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, cast

from ..shapes.report import Benchmark, KeptReport, Reference
from ..text import printable
from ..types import Json
from . import benchmark as report_benchmark

STAGES = ("read", "decode", "blob", "forward", "post")
WIDTH = 380
LEFT, RIGHT = 2, 6
TOP = 4
LABEL, BAR, GAP = 17, 18, 15
AXIS = 34
#: Round lengths of the axis' steps, in milliseconds per photo.
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
MOST_STEPS = 5
#: So many of the last runs are drawn.
RUNS = 5
LABEL_LONGEST = 200
#: So many characters of a host's name fit a label.
HOST = 18


def milliseconds(seconds: float) -> str:
    """A time per photo with as many digits as are worth reading."""
    value = 1e3 * seconds
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def step_for(longest_ms: float) -> int:
    """The length of one step of an axis that reaches `longest_ms`, so that it has at most MOST_STEPS of them."""
    return next((s for s in STEPS if longest_ms <= s * MOST_STEPS), int(longest_ms))


def rows(benchmark: Benchmark) -> List[Json]:  # Json: bars, for the template
    """The bars in order: what was measured here, then the reference figures. Times in seconds."""
    found: List[Json] = []
    for model in benchmark["models"]:
        stages = cast(Dict[str, float], model["stages_s"])
        found.append(
            {
                "label": f"{model['model']} at {model['size']} on {model['device']}, this host",
                "mean_s": model["mean_s"],
                "stages": [(name, stages[name]) for name in STAGES],
                "interval": model["mean_ci95_s"],
            }
        )
    return found + reference_bars(benchmark["reference"])


def trend(kept: Sequence[KeptReport]) -> Optional[Json]:  # Json: for the template
    """The picture of a host's last runs, model by model, the newest last; None where fewer than two were measured."""
    measured = [(report, own) for report in kept if (own := report_benchmark.measured_in(report))]
    if len(measured) < 2:
        return None
    found: List[Json] = []
    for report, own in measured[-RUNS:]:
        for row in rows(own)[: len(own["models"])]:
            number = report["plan"] and report["plan"]["generation"]
            when = report["when"][:10] + " " + report["when"][11:16]
            found.append({**row, "label": f"{row['label'].rpartition(',')[0]}, {when}, generation {number}"})
    found.sort(key=lambda row: str(row["label"].partition(",")[0]))
    return placed_bars(found + reference_bars(measured[-1][1]["reference"]), WIDTH)


def fleet(reports: Sequence[KeptReport]) -> Optional[Json]:  # Json: for the template
    """The picture of several hosts' last benchmarks; None where nothing was measured."""
    measured = [(report, own) for report in reports if (own := report_benchmark.of_report(report))]
    if not measured:
        return None
    found: List[Json] = []
    for report, own in measured:
        for row in rows(own)[: len(own["models"])]:
            label = f"{row['label'].rpartition(',')[0]}, {printable(report['host'], HOST)}"
            found.append({**row, "label": label})
    return placed_bars(found + reference_bars(measured[-1][1]["reference"]), WIDTH)


def reference_bars(reference: Reference) -> List[Json]:  # Json: bars, for the template
    """The reference figures as bars."""
    return [
        {"label": f"reference: {row['device']}", "mean_s": row["mean_s"], "stages": [], "interval": None}
        for row in reference["rows"]
    ]


def picture(benchmark: Optional[Benchmark]) -> Optional[Json]:  # Json: for the template
    """Everything that has a place in the picture of a host's report; None without a benchmark."""
    return None if benchmark is None else placed_bars(rows(benchmark), WIDTH)


def placed_bars(bars: List[Json], width: int) -> Json:  # Json: bars, and what the template takes
    """Everything that has a place in a picture of these bars, in units of its viewBox.

    A bar has a label, mean_s, stages (name, seconds) that it is made of, or none when it is a reference figure, and
    perhaps an interval.
    """
    longest = 1e3 * max(max(r["mean_s"], r["interval"][1] if r["interval"] else 0.0) for r in bars)
    step = step_for(longest)
    ticks = int(-(-longest // step)) or 1
    scale = (width - LEFT - RIGHT) / (ticks * step)

    def across(seconds: float) -> float:
        """The length of a time on the axis."""
        return round(1e3 * seconds * scale, 2)

    placed: List[Dict[str, Any]] = []
    y = TOP
    for row in bars:
        entry: Dict[str, Any] = {
            "label": printable(row["label"], LABEL_LONGEST),
            "value": milliseconds(row["mean_s"]),
            "label_y": y + LABEL - 5,
            "y": y + LABEL,
        }
        entry["reference"], entry["segments"], x = not row["stages"], [], float(LEFT)
        for name, seconds in row["stages"]:
            entry["segments"].append(
                {
                    "stage": name,
                    "x": round(x, 2),
                    "width": across(seconds),
                    "title": f"{name} {milliseconds(seconds)}",
                }
            )
            x += across(seconds)
        entry["width"] = across(row["mean_s"])
        entry["interval"] = [round(LEFT + across(v), 2) for v in row["interval"]] if row["interval"] else None
        placed.append(entry)
        y += LABEL + BAR + GAP
    axis = [
        {"x": round(LEFT + n * step * scale, 2), "text": f"{n * step}" + (" ms" if n == ticks else "")}
        for n in range(ticks + 1)
    ]
    return {
        "width": width,
        "height": y + AXIS - GAP,
        "left": LEFT,
        "bar": BAR,
        "bottom": y - GAP // 2,
        "bars": placed,
        "axis": axis,
        "stages": STAGES,
    }
