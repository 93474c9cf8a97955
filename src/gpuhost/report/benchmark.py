"""What a report and its picture need of a benchmark's own report. Times in seconds."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional

import fastjsonschema

from ..planning.catalog import DATA, shipped, validator
from ..text import printable
from ..types import Json
from ..yolo import busy

LONGEST_WORD = 300


def rows(found: Json, when: str) -> List[Dict[str, Any]]:
    """Return one row for each model of a benchmark's report that was measured photo by photo, in the run of `when`."""
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
            "when": when,
            "busy": busy.words(entry, found["environment"].get("cpus")),
        }
        for entry in found["models"]
        if "headline" in entry
    ]


def reference() -> Json:
    """The reference figures."""
    return dict(shipped().yolo["reference"])


def summary(reports: Iterable[Json], when: str, earlier: Optional[Json] = None) -> Optional[Json]:
    """Return the rows of all reports, those of an `earlier` summary for what they did not measure, and the reference
    figures; None when there are no rows. A report that is an error has none.
    """
    models = [row for found in reports if "error" not in found for row in rows(found, when)]
    measured = {row["model"] for row in models}
    models += [row for row in (earlier or {"models": []})["models"] if row["model"] not in measured]
    return {"models": models, "reference": reference()} if models else None


def of_report(report: Json) -> Optional[Json]:
    """The benchmark in a report that was read back; None when it has none, or not of the form of this version."""
    try:
        validator(DATA / "report.schema.json")(report)
    except fastjsonschema.JsonSchemaException:
        return None
    found: Optional[Json] = report["benchmark"]
    return found


def measured_in(report: Json) -> Optional[Json]:
    """The benchmark that the run of a report itself measured, without what it took over from an earlier one; None where
    it measured nothing. Every row has its `when`, which reports of earlier versions do not write.
    """
    found, when = of_report(report), report["when"]
    rows_of_it = [] if found is None else found["models"]
    own = [{**row, "when": when} for row in rows_of_it if row.get("when", when) == when]
    return {**found, "models": own} if found is not None and own else None
