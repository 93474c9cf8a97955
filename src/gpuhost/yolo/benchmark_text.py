"""A benchmark's result for people."""

from typing import Any, Dict, List, Optional, Sequence

from . import auto

STAGE_LINE = "{} {:.2f} ms"


def info_line(photos: int, total_s: float, mean_s: float, entry: Dict[str, Any], more: str = "") -> str:
    """One line as the reference setup logged it, with what was measured behind it."""
    what = "{} at {} on {}, {} weights{}".format(
        entry["model"], entry["size"], entry["device"], entry["weights"]["kind"], more
    )
    return f"[INFO] {photos} photos in {total_s:.2f} s ({mean_s:.3f} s each): {what}"


def between(ends: Optional[Sequence[float]], scale: float = 1.0, digits: int = 1) -> str:
    """An interval in brackets, or why there is none."""
    if ends is None:
        return "(too few for an interval)"
    return "({:.{d}f} to {:.{d}f})".format(scale * ends[0], scale * ends[1], d=digits)


def _each(found: Dict[str, Any]) -> str:
    """Percentiles and mean of one photo's time in milliseconds."""
    known = [f"{name} {1e3 * found[name]:.1f} ms" for name in ("p50", "p90", "p95", "p99") if found[name]]
    return "{}, mean {:.1f} ms {}".format(", ".join(known), 1e3 * found["mean"], between(found["mean_ci95"], 1e3))


def as_text(entry: Dict[str, Any]) -> str:
    """One model's result: the line of the log first, then what stands behind it. Intervals are of 95 %."""
    lines: List[str] = []
    if "trials" in entry:
        lines += ["  auto tried every device:", auto.as_text(entry["trials"])]
    if "headline" in entry:
        headline, stages = entry["headline"], entry["stages_s"]
        lines += [
            info_line(headline["photos"], headline["total_s"], headline["mean_s"], entry),
            "  each    {}, {:.1f} photos/s".format(_each(entry["per_photo_s"]), entry["photos_per_s"]),
            "  mean    " + ", ".join(STAGE_LINE.format(name, 1e3 * stages[name]["mean"]) for name in stages),
            "  outside {:.1f} % of the time is outside the forward pass".format(1e2 * entry["outside_forward"]),
        ]
    if "offline" in entry:
        offline = entry["offline"]
        more = ", pipeline, batch {}".format(offline["batch"])
        lines += [
            info_line(offline["photos"], offline["total_s"], offline["mean_s"], entry, more),
            "  each    {:.1f} photos/s {}, {} decoders, {:.1f} % outside the forward pass".format(
                offline["photos_per_s"],
                between(offline["photos_per_s_ci95"]),
                offline["decoders"],
                1e2 * offline["outside_forward"],
            ),
        ]
    if "baseline" in entry:
        loop = entry["baseline"]
        lines.append(
            "  loop    on {}: {}, {:.1f} photos/s".format(
                loop["device"], _each(loop["per_photo_s"]), loop["photos_per_s"]
            )
        )
    for name, found in entry["faster"].items():
        if found is not None:
            fast, slow = name.split("/")
            lines.append(
                "  faster  {} is {:.2f} times as fast as {} {}".format(
                    fast, found["ratio"], slow, between(found["ci95"], digits=2)
                )
            )
    lines += [
        "  once    load {:.2f} s, first forward {:.2f} s, warm-up {} photos in {:.1f} s{}".format(
            entry["load_s"],
            entry["first_forward_s"],
            entry["warm_up"]["runs"],
            entry["warm_up"]["seconds"],
            "" if entry["warm_up"]["settled"] else ", not steady yet",
        ),
        "  right   {:.1e} from the reference at most (limit {:.0e}); weights {}".format(
            max(entry["gate"]["rel2"]), entry["gate"]["limit"], entry["weights"]["sha256"][:12]
        ),
        "  machine " + machine(entry["sampled"], entry["usage"]),
    ]
    return "\n".join(lines)


def machine(sampled: Dict[str, Any], usage: Dict[str, Any]) -> str:
    """What the machine did meanwhile, on one line, with the flags that are up."""
    parts = []
    for name, figures in sampled["machine"].items():
        if name == "load_1min":
            parts.append("load {:.1f}".format(figures["median"]))
    if sampled["stolen_share"] is not None:
        parts.append("{:.1f} % stolen".format(1e2 * sampled["stolen_share"]))
    parts.append("{:.2f} processors used".format(usage["cpu_s_per_wall_s"] or 0.0))
    if usage["peak_memory_mib"] is not None:
        parts.append("{} MiB at most".format(usage["peak_memory_mib"]))
    for card in sampled["cards"]:
        figures = card["figures"]
        told = [
            "{:.0f} {}".format(figures[key]["median"], unit)
            for key, unit in (("sm_mhz", "MHz"), ("celsius", "C"), ("watt", "W"))
            if key in figures
        ]
        parts.append("card {}: {}".format(card["index"], " ".join(told)))
    up = [name.replace("_", " ").upper() for name, flag in sorted(sampled["flags"].items()) if flag]
    if up:
        parts.append("attention: " + ", ".join(up))
    if sampled["absent"]:
        parts.append("not seen: " + ", ".join(sorted(sampled["absent"])))
    return ", ".join(parts)


def rows(entries: Sequence[Dict[str, Any]]) -> List[List[str]]:
    """The table of all results: a head line, then one line per model and way. Times in milliseconds."""
    table = [["model", "device", "way", "mean", "p50", "p90", "p95", "photos/s", "outside forward"]]
    for entry in entries:
        start = [entry["model"], entry["device"]]
        for way, found, rate in (
            ("single", entry.get("per_photo_s"), entry.get("photos_per_s")),
            ("loop", entry.get("baseline", {}).get("per_photo_s"), entry.get("baseline", {}).get("photos_per_s")),
        ):
            if found is None:
                continue
            times = [f"{1e3 * found[name]:.1f}" for name in ("mean", "p50", "p90", "p95")]
            outside = "{:.1f} %".format(1e2 * entry["outside_forward"]) if way == "single" else "-"
            on = start if way == "single" else [entry["model"], entry["baseline"]["device"]]
            table.append([*on, way, *times, f"{rate:.1f}", outside])
        if "offline" in entry:
            offline = entry["offline"]
            table.append(
                [
                    *start,
                    "pipeline x{}".format(offline["batch"]),
                    "{:.1f}".format(1e3 * offline["mean_s"]),
                    *["-"] * 3,
                    "{:.1f}".format(offline["photos_per_s"]),
                    "{:.1f} %".format(1e2 * offline["outside_forward"]),
                ]
            )
    return table


def table_text(entries: Sequence[Dict[str, Any]]) -> str:
    """The table in columns."""
    lines = rows(entries)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column < 3 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )
