"""What a report and its picture need of a benchmark's own report. Times in seconds."""

from __future__ import annotations

from typing import Iterable, List, Optional, cast

import fastjsonschema

from ..planning.catalog import DATA, shipped, validator
from ..shapes.answers import BenchmarkAnswer
from ..shapes.report import AnyReport, Benchmark, ModelRow, Reference, Report
from ..text import printable
from ..yolo import busy

LONGEST_WORD = 300


def rows(found: BenchmarkAnswer, when: str) -> List[ModelRow]:
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
            "stages_s": {
                "read": entry["stages_s"]["read"]["mean"],
                "decode": entry["stages_s"]["decode"]["mean"],
                "blob": entry["stages_s"]["blob"]["mean"],
                "forward": entry["stages_s"]["forward"]["mean"],
                "post": entry["stages_s"]["post"]["mean"],
            },
            "gate_rel2": max(entry["gate"]["rel2"]),
            "opencv": printable(found["environment"]["opencv"], LONGEST_WORD),
            "photo_kind": printable(found["photos"]["kind"], LONGEST_WORD),
            "when": when,
            "busy": busy.words(entry, found["environment"].get("cpus")),
        }
        for entry in found["models"]
        if "headline" in entry
    ]


def reference() -> Reference:
    """The reference figures."""
    return cast(Reference, dict(shipped().yolo["reference"]))


def summary(reports: Iterable[BenchmarkAnswer], when: str, earlier: Optional[Benchmark] = None) -> Optional[Benchmark]:
    """Return the rows of all reports, those of an `earlier` summary for what they did not measure, and the reference
    figures; None when there are no rows. A report that is an error has none.
    """
    models = [row for found in reports if "error" not in found for row in rows(found, when)]
    measured = {row["model"] for row in models}
    models += [row for row in (earlier["models"] if earlier else ()) if row["model"] not in measured]
    return {"models": models, "reference": reference()} if models else None


def of_report(report: AnyReport) -> Optional[Benchmark]:
    """The benchmark in a report that was read back; None when it has none, or not of the form of this version."""
    try:
        validator(DATA / "report.schema.json")(report)
    except fastjsonschema.JsonSchemaException:
        return None
    return cast(Report, report)["benchmark"]


def measured_in(report: AnyReport) -> Optional[Benchmark]:
    """The benchmark that the run of a report itself measured, without what it took over from an earlier one; None where
    it measured nothing. Every row has its `when`, which reports of earlier versions do not write.
    """
    found, when = of_report(report), report["when"]
    rows_of_it = [] if found is None else found["models"]
    own: List[ModelRow] = [{**row, "when": when} for row in rows_of_it if row.get("when", when) == when]
    return {**found, "models": own} if found is not None and own else None
