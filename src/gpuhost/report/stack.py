"""The picture of the stack at the top of a page: cards, driver, toolkit and environments as boxes, the card below.

What stands in a box is what checks found, and whatever failed of its component: a box is as good as the worst of it.
"""

from __future__ import annotations

from typing import List, Mapping, NamedTuple, Sequence, Tuple

from ..checks.base import FAIL, PASS
from ..planning.candidates import NAMES
from ..shapes.report import CheckRow, Report

#: The boxes of each layer: the component, what it is called after, and the checks whose findings stand in it.
LAYERS: Tuple[Tuple[Tuple[str, str, Tuple[str, ...]], ...], ...] = (
    (
        ("opencv", "opencv_cuda", ("opencv.computes", "opencv.built", "opencv.libraries")),
        ("tensorflow", "dl4cv", ("tensorflow.computes", "tensorflow.gpu", "tensorflow.own")),
    ),
    (("cuda", "", ("cuda.toolkit",)), ("cudnn", "", ("cudnn.version",))),
    (("driver", "", ("driver.loaded", "driver.match")),),
)
#: Checks that hold which files are loaded: what they require says from where.
LOADED = {"opencv.libraries", "tensorflow.own"}


class Box(NamedTuple):
    """One part of the stack: its name and version, what was found of it, and the worst status of that."""

    title: str
    status: str
    found: List[str]


def layers(report: Report) -> List[List[Box]]:
    """Return the boxes of a report, the uppermost layer first; [] without a plan."""
    plan = report["plan"]
    if plan is None:
        return []
    rows = {check["id"]: check for check in report["checks"]}
    made = []
    for layer in LAYERS:
        boxes = [
            box(f"{name}: {NAMES[part]}" if name else NAMES[part], version, names, rows, part)
            for part, name, names in layer
            for version in [plan["components"].get(part)]
            if version
        ]
        if boxes:
            made.append(boxes)
    if not plan["gpus"]:
        return [*made, [Box("processor", "", [])]]
    present = [rows["gpu.present"]] if "gpu.present" in rows and rows["gpu.present"]["status"] == PASS else []
    failed = failed_of("gpu", (), rows)
    return [*made, [Box(", ".join(plan["gpus"]), status_of([*present, *failed]), [row["actual"] for row in failed])]]


def failed_of(part: str, names: Tuple[str, ...], rows: Mapping[str, CheckRow]) -> List[CheckRow]:
    """Return the failed checks of a component beside the named ones."""
    return [r for r in rows.values() if r["status"] == FAIL and r["id"].startswith(f"{part}.") and r["id"] not in names]


def box(title: str, version: str, names: Tuple[str, ...], rows: Mapping[str, CheckRow], part: str) -> Box:
    """Return the box of a component."""
    asked = [rows[name] for name in names if name in rows and rows[name]["status"] in (PASS, FAIL)]
    asked += failed_of(part, names, rows)
    found = [loaded(row) if row["id"] in LOADED and row["status"] == PASS else row["actual"] for row in asked]
    return Box(f"{title} {version}", status_of(asked), found)


def loaded(row: CheckRow) -> str:
    """Return from where libraries are loaded, by what a passed check required."""
    return f"loads {row['required']}"


def status_of(rows: Sequence[CheckRow]) -> str:
    """Return the worst status of some checks; '' without any, where nothing was proven."""
    statuses = [row["status"] for row in rows]
    return FAIL if FAIL in statuses else PASS if PASS in statuses else ""
