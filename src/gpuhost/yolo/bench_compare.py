"""Two benchmark reports compared: how many times faster the second is, and how sure that is.

Pure: reports in, an answer out. What would make a ratio meaningless is refused; what may explain it is
named beside it.
"""

import pathlib
from typing import Any, Dict, List, Optional, Tuple

from .. import strict_json
from ..errors import RefusedError, UsageError
from .stats import ratio

SCHEMA = 1
IGNORED = ("load_average_before",)
"""Of the environment: differs from minute to minute, and is recorded by the samples of the measurement itself."""
WAYS = (("single", "one photo after the other"), ("offline", "the pipeline"))


def load(path: pathlib.Path) -> Dict[str, Any]:
    """A benchmark's report; UsageError when the file is not there or is something else."""
    try:
        report: Any = strict_json.load(path)
    except FileNotFoundError as problem:
        raise UsageError(f"There is no {path}.", next_step="Make it with `gpuhost bench --json FILE`.") from problem
    except ValueError as problem:
        raise UsageError(
            f"{path} is not a report in JSON. {problem}", next_step="Make it with `gpuhost bench --json FILE`."
        ) from problem
    known = isinstance(report, dict) and isinstance(report.get("models"), list) and "environment" in report
    if not known or report.get("schema") != SCHEMA:
        raise UsageError(
            f"{path} is not a benchmark's report of schema {SCHEMA}.",
            next_step="Name the file that `gpuhost bench --json FILE` wrote.",
        )
    return dict(report)


def by_model(report: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """The results that hold a measurement, by model; the first where a model is there twice."""
    found: Dict[str, Dict[str, Any]] = {}
    for entry in report["models"]:
        if "headline" in entry or "offline" in entry:
            found.setdefault(entry["model"], entry)
    return found


def _in_words(value: Any) -> str:
    """A value of the environment, short."""
    text = "unknown" if value is None else str(value)
    return text[:16] + "..." if len(text) == 64 else text


def environment_differences(first: Dict[str, Any], second: Dict[str, Any]) -> List[Dict[str, str]]:
    """What is not the same in the two environments: what, a, b."""
    keys = [key for key in {**first, **second} if key not in IGNORED]
    return [
        {"what": key.replace("_", " "), "a": _in_words(first.get(key)), "b": _in_words(second.get(key))}
        for key in keys
        if first.get(key) != second.get(key)
    ]


def obstacles(first: Dict[str, Any], second: Dict[str, Any]) -> List[str]:
    """Why the times of two results of one model are not of the same work."""
    found = []
    for what, a, b in (
        ("input sizes", first["size"], second["size"]),
        ("kinds of weights", first["weights"]["kind"], second["weights"]["kind"]),
        ("weights", first["weights"]["sha256"][:12], second["weights"]["sha256"][:12]),
        ("network descriptions", first["cfg"]["sha256"][:12], second["cfg"]["sha256"][:12]),
    ):
        if a != b:
            found.append(f"{first['model']}: the {what} differ, {a} and {b}")
    return found


def photo_obstacles(first: Dict[str, Any], second: Dict[str, Any]) -> Tuple[List[str], List[str]]:
    """Why the photos are not the same work, and what is only worth a word.

    Made photos have the same pixels everywhere; their JPEG bytes may differ with the encoder.
    """
    a, b = first["photos"] or {}, second["photos"] or {}
    if a.get("kind") != b.get("kind"):
        return [f"the photos are {a.get('kind')} in A and {b.get('kind')} in B"], []
    notes = []
    if a.get("count") != b.get("count"):
        notes.append("A has {} photos and B {}".format(a.get("count"), b.get("count")))
    if a.get("kind") == "given":
        notes.append("the photos are the user's own; whether they are the same is not known")
    elif a.get("count") == b.get("count") and a.get("sha256") != b.get("sha256"):
        notes.append("the generated photos were written by different JPEG encoders")
    return [], notes


def caveats(entry: Dict[str, Any], name: str) -> List[str]:
    """What makes one result less sure than it looks."""
    found = []
    if not entry["complete"]:
        found.append(f"{name}: the measurement was cut short")
    if not entry["warm_up"]["settled"]:
        found.append(f"{name}: the times were not steady after the warm-up")
    flags = entry.get("sampled", {}).get("flags", {})
    words = {"throttled": "the card was throttled", "power_capped": "the card was at its power limit"}
    words["stolen"] = "the hypervisor took processor time"
    found += [f"{name}: {words[flag]}" for flag, up in sorted(flags.items()) if up and flag in words]
    return found


def verdict(found: Dict[str, Any]) -> str:
    """The ratio in words, for B against A."""
    value, ends = found["ratio"], found["ci95"]
    if ends is None:
        sure = "too few times for an interval"
    else:
        sure = "{:.2f} to {:.2f}".format(*ends)
        if ends[0] <= 1.0 <= ends[1]:
            return f"no difference is certain: B is {value:.2f} times as fast as A ({sure})"
    if value >= 1.0:
        return f"B is {_figure(value)} times faster ({_ends(ends) or sure})"
    inverse = None if ends is None else [1.0 / ends[1], 1.0 / ends[0]]
    return f"B is {_figure(1.0 / value)} times slower ({_ends(inverse) or sure})"


def _figure(value: float) -> str:
    """A factor with as many digits as are worth reading."""
    return f"{value:.2f}" if value < 2 else f"{value:.1f}"


def _ends(ends: Optional[List[float]]) -> str:
    """An interval of factors; empty when there is none."""
    return "" if ends is None else f"{_figure(ends[0])} to {_figure(ends[1])}"


def _times(entry: Dict[str, Any], way: str) -> List[float]:
    """The seconds per photo that a ratio of this way is drawn from; empty when it was not measured."""
    if way == "single":
        return list(entry.get("samples_s", {}).get("total", []))
    return list(entry.get("offline", {}).get("samples_s", {}).get("mean", []))


def compare(first: Dict[str, Any], second: Dict[str, Any], anyway: bool = False) -> Dict[str, Any]:
    """How B (`second`) does against A (`first`): per model and way the ratio with its interval and the verdict, what
    differs in the environment, and what makes it less sure. RefusedError when the work was not the same, unless
    `anyway`.
    """
    ours, theirs = by_model(first), by_model(second)
    common = [model for model in ours if model in theirs]
    refused, notes = photo_obstacles(first, second)
    for model in common:
        refused += obstacles(ours[model], theirs[model])
    if not common:
        raise RefusedError(
            "The reports have no measured model in common: {} in A, {} in B.".format(
                ", ".join(ours) or "none", ", ".join(theirs) or "none"
            ),
            next_step="Measure the same model on both.",
        )
    if refused and not anyway:
        raise RefusedError(
            "The two reports are not about the same work: {}.".format("; ".join(refused)),
            next_step="Measure again with the same options, or use --anyway if you know what the ratio then says.",
        )
    models = []
    for model in common:
        a, b = ours[model], theirs[model]
        if a["precision"] != b["precision"]:
            notes.append("{}: A computed in {}, B in {}".format(model, a["precision"], b["precision"]))
        notes += caveats(a, f"{model} in A") + caveats(b, f"{model} in B")
        row: Dict[str, Any] = {"model": model, "size": [a["size"], b["size"]], "devices": [a["device"], b["device"]]}
        for way, _ in WAYS:
            found = ratio(_times(a, way), _times(b, way), paired=False)
            row[way] = None if found is None else dict(found, verdict=verdict(found))
        models.append(row)
    return {
        "schema": SCHEMA,
        "comparable": not refused,
        "refused": refused,
        "models": models,
        "differences": environment_differences(first["environment"], second["environment"]),
        "notes": notes,
    }


def as_text(found: Dict[str, Any]) -> str:
    """The answer for people. Intervals are of 95 %."""
    lines = []
    if not found["comparable"]:
        lines.append("NOT THE SAME WORK: {}".format("; ".join(found["refused"])))
    for row in found["models"]:
        lines.append("{} (A on {}, B on {})".format(row["model"], *row["devices"]))
        told = [f"  {title}: {row[way]['verdict']}" for way, title in WAYS if row[way] is not None]
        lines += told or ["  not measured in the same way in both"]
    lines += ["note: " + note for note in found["notes"]]
    if found["differences"]:
        lines.append("what differs:")
        width = max(len(row["what"]) for row in found["differences"])
        lines += ["  {}  {} -> {}".format(row["what"].ljust(width), row["a"], row["b"]) for row in found["differences"]]
    else:
        lines.append("The environments are the same.")
    return "\n".join(lines)
