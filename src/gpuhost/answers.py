"""What a host says is held against a schema before anything reads it: a host may be broken, or in enemy hands.

An answer of another form becomes an error like any other, so that the checks need not doubt every field.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

import fastjsonschema

from .catalog import DATA, Json, validator
from .text import printable

STRANGE = "The host's answer is not of the form that was asked for"


def misfit(value: Any, schema: str) -> Optional[str]:
    """Where a value breaks a schema of this package, in one line; None when it fits."""
    try:
        validator(DATA / f"{schema}.schema.json")(value)
    except fastjsonschema.JsonSchemaException as error:
        return printable(error)[:200]
    except RecursionError:
        return "it is nested too deeply"
    return None


def machine(answer: Json) -> Json:
    """An answer of the probe, or an `error` when it is none. An error that the probe itself tells is passed on."""
    if "error" in answer:
        told: Dict[str, str] = {name: str(answer.get(name) or "") for name in ("error", "next_step")}
        return told
    wrong = misfit(answer.get("observation"), "observation") or misfit(answer.get("installed"), "installed")
    if wrong is None:
        return answer
    return {
        "error": f"{STRANGE}: {wrong}.",
        "next_step": "See what /usr/bin/python3 is there, and what /opt/gpuhost/state holds.",
    }


def environment(answer: Json, kind: str) -> Json:
    """What an environment said of itself, or an `error`; `kind` is "opencv" or "tensorflow"."""
    wrong = misfit(answer, "environment_answer")
    if wrong is None and "computed" in answer:
        wrong = misfit(answer["computed"], f"{kind}_answer")
    return answer if wrong is None else {"error": f"{STRANGE}: {wrong}."}


def benchmark(report: Json) -> Json:
    """A benchmark's report, or an `error`."""
    wrong = misfit(report, "benchmark_answer")
    return report if wrong is None else {"error": f"{STRANGE}: {wrong}."}
