"""What a report and its picture need of a benchmark's own report. Times in seconds."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional

import fastjsonschema

from ..planning.catalog import DATA, shipped, validator
from ..text import printable
from ..types import Json

LONGEST_WORD = 300


def rows(found: Json) -> List[Dict[str, Any]]:
    """One row for each model of a benchmark's report that was measured photo by photo."""
    return [
        {
            "model": printable(entry["model"], LONGEST_WORD),
            "device": printable(entry["device"], LONGEST_WORD),
            "size": entry["size"],
            "complete": entry["complete"],
            "weights": {"kind": entry["weights"]["kind"], "sha256": entry["weights"]["sha256"]},
            "photos": entry["headline"]["photos"],
            "total_s": entry["headline"]["total_s"],
            "mean_s": entry["headline"]["mean_s"],
            "mean_ci95_s": entry["per_photo_s"]["mean_ci95"],
            "p50_s": entry["per_photo_s"]["p50"],
            "p90_s": entry["per_photo_s"]["p90"],
            "photos_per_s": entry["photos_per_s"],
            "load_s": entry["load_s"],
            "first_forward_s": entry["first_forward_s"],
            "stages_s": {name: stage["mean"] for name, stage in entry["stages_s"].items()},
            "gate_rel2": max(entry["gate"]["rel2"]),
            "opencv": printable(found["environment"]["opencv"], LONGEST_WORD),
            "photo_kind": printable(found["photos"]["kind"], LONGEST_WORD),
        }
        for entry in found["models"]
        if "headline" in entry
    ]


def reference() -> Json:
    """The original's figures."""
    return dict(shipped().yolo["reference"])


def summary(reports: Iterable[Json]) -> Optional[Json]:
    """The rows of all reports and the original's figures; None when nothing was measured. A report that is an error
    has no rows.
    """
    models = [row for found in reports if "error" not in found for row in rows(found)]
    return {"models": models, "reference": reference()} if models else None


def of_report(report: Json) -> Optional[Json]:
    """The benchmark in a report that was read back; None when it has none, or not of the form of this version."""
    try:
        validator(DATA / "report.schema.json")(report)
    except fastjsonschema.JsonSchemaException:
        return None
    found: Optional[Json] = report["benchmark"]
    return found
