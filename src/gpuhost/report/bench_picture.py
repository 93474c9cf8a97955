"""`gpuhost bench picture`: reports of the benchmark as one self-contained SVG, devices, hosts or generations one
below the other, with the reference figures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import UsageError
from ..text import printable
from ..types import Json
from .benchmark import reference
from .html import templates
from .picture import STAGES, placed_bars, reference_bars

WIDTH = 620
#: Height of a row of the key.
KEY_ROW = 20
#: A name is cut to so many characters, so that a bar's label fits.
NAME = 24
#: Room for one entry of the key, in units of the viewBox, per character and besides.
KEY_CHARACTER, KEY_REST = 7, 30
NAMES = {"rest": "outside forward", "loop": "the reference loop", "old": "the reference figure"}


def bars(name: str, found: Mapping[str, Any]) -> List[Json]:  # Json: a benchmark's own report, of any mode; bars
    """The bars of one report: each model photo by photo, as a pipeline, and as the reference loop, where measured."""
    made: List[Dict[str, Any]] = []
    for entry in found["models"]:
        what = f"{entry['model']} at {entry['size']} on {entry['device']}"
        end = f", {entry['weights']['kind']} weights" if "weights" in entry else ""
        if "headline" in entry:
            each = entry["per_photo_s"]
            stages = [(stage, entry["stages_s"][stage]["mean"]) for stage in STAGES]
            made.append(bar(f"{name}: {what}{end}", each["mean"], stages, each["mean_ci95"]))
        if "offline" in entry:
            offline = entry["offline"]
            mean, outside = offline["mean_s"], offline["mean_s"] * offline["outside_forward"]
            rates = offline["photos_per_s_ci95"]
            ends = None if rates is None else [1.0 / rate for rate in reversed(rates)]
            label = f"{name}: {what}, pipeline, batch {offline['batch']}{end}"
            made.append(bar(label, mean, [("forward", mean - outside), ("rest", outside)], ends))
        if "baseline" in entry:
            loop = entry["baseline"]
            what = f"{entry['model']} at {entry['size']} on {loop['device']}"
            each = loop["per_photo_s"]
            made.append(
                bar(
                    f"{name}: {what}, the reference loop{end}",
                    each["mean"],
                    [("loop", each["mean"])],
                    each["mean_ci95"],
                )
            )
    return made


def bar(
    label: str, mean_s: float, stages: List[Tuple[str, float]], interval: Optional[Sequence[float]]
) -> Json:  # Json: a bar, for the template
    """One bar as report_picture takes it."""
    return {"label": printable(label), "mean_s": mean_s, "stages": stages, "interval": interval}


def key_of(made: Sequence[Json]) -> List[Json]:  # Json: bars, and what the template takes
    """The entries of the key, for what the bars really show, with their places."""
    used = {name for row in made for name, _ in row["stages"]}
    entries: List[Dict[str, Any]] = []
    x, y = 2, 6
    for name in [*(s for s in (*STAGES, "rest", "loop") if s in used), "old"]:
        text = NAMES.get(name, name)
        width = KEY_REST + KEY_CHARACTER * len(text)
        if x + width > WIDTH:
            x, y = 2, y + KEY_ROW
        entries.append({"name": name, "x": x, "y": y, "text": text})
        x += width
    return entries


def svg(reports: Sequence[Tuple[str, Mapping[str, Any]]]) -> str:  # Json: benchmarks' own reports, of any mode
    """The picture of named reports, as text; UsageError when none of them holds a measurement."""
    made = [row for name, found in reports for row in bars(name, found)]
    if not made:
        raise UsageError("No report holds a measurement.", "Make one with `gpuhost bench --json FILE`.")
    key = key_of(made)
    return (
        templates()
        .get_template("bench.svg.j2")
        .render(
            picture=placed_bars(made + reference_bars(reference()), WIDTH),
            key=key,
            key_height=key[-1]["y"] + KEY_ROW,
            title="Mean time per photo in milliseconds, with 95 % intervals, and the reference figures",
        )
    )


def titled(paths: Sequence[Path]) -> List[str]:
    """A short name for each report: its file's name, or its folder's too where two files have the same."""
    stems = [path.stem for path in paths]
    return [
        (stem if stems.count(stem) == 1 else f"{path.absolute().parent.name}/{stem}")[-NAME:]
        for path, stem in zip(paths, stems)
    ]
