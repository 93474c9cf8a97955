"""The doctor's report in words, for a terminal. What a host says was made safe to show before."""

import re
from typing import Iterator, List, Optional

from ..types import Json
from .judge import FINE, FOUND, NOT_RECOGNISED

BOLD, RED, GREEN, YELLOW, OFF = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
HEADLINES = {
    FINE: "Driver and CUDA work.",
    FOUND: "The first finding is the cause; what stands below it may follow from it.",
    NOT_RECOGNISED: "Something is wrong, and it is not recognised. --bundle FILE writes what an issue needs.",
}
#: Beside a cause that was found.
UNEXPLAINED = "What has no id is not recognised, and may have another cause. --bundle FILE writes what an issue needs."
UNREADABLE = "It is not known whether CUDA works here: what decides it could not be read. What would let it be read:"
#: So many checks that were not reached are named.
FEW = 4
PLACES = {"container": ", in a container", "wsl2": ", in WSL2", "machine": ""}


def told(report: Json, colours: bool) -> str:
    """Return the report as text, with colours or without."""
    text = "\n".join(lines(report)) + "\n"
    return text if colours else re.sub(r"\x1b\[[0-9]*m", "", text)


def pointed(found: Json) -> str:
    """Return in words what an error message points to."""
    if not found["messages"]:
        return "No known message stands in this text. gpuhost doctor without --message looks at the machine itself.\n"
    told = []
    for row in found["messages"]:
        only = f" (only {row['only']})" if row["only"] else ""
        told.append(f"{row['diagnosis']}  {row['title']}{only}")
        told += [f"  look    {row['look']}"] if row["look"] else []
        told += [f"  why     {row['cause']}", f"  fix     {row['fix']}", ""]
    several = "One of these, the likeliest first. " if len(found["messages"]) > 1 else ""
    told.append(f"{several}gpuhost doctor without --message says whether this machine has it, and what to type.")
    return "\n".join(told) + "\n"


def lines(report: Json) -> Iterator[str]:
    """Give the lines of a report."""
    system = report["system"]
    where = f"{system['name'] or 'an unknown distribution'}, kernel {system['kernel'] or 'unknown'}"
    yield f"gpuhost doctor {report['doctor']}: {report['host']}, {where}{PLACES[system['place']]}"
    yield ""
    for found in report["findings"]:
        yield from finding(found, RED)
    yield f"{GREEN if report['answer'] == FINE else BOLD}{HEADLINES.get(report['answer'], UNREADABLE)}{OFF}"
    yield from (f"  {way}" for way in report["ways"])
    if report["answer"] == FOUND and not all(found["diagnosis"] for found in report["findings"]):
        yield UNEXPLAINED
    if report["proved"] and report["answer"] != FINE:
        yield "What was proved all the same:"
    for proof in report["proved"]:
        yield f"  {proof}"
    yield from environment(report["python"])
    if report["risks"]:
        yield ""
        beside = "Nothing of this breaks CUDA today, and an update may:" if report["proved"] else "Beside it:"
        yield f"{YELLOW}{beside}{OFF}"
        for found in report["risks"]:
            yield from finding(found, YELLOW)
    if report["not_judged"]:
        yield ""
        yield "Not judged:"
        for row in report["not_judged"]:
            yield f"  {row['why']}" + (f" ({', '.join(row['checks'])})" if row["checks"] else "")


def environment(found: Optional[Json]) -> Iterator[str]:
    """Give the lines about a Python environment."""
    for row in (found or {}).get("frameworks", []):
        yield ""
        yield f"{row['name']} {row['version']} of {row['module']}"
        yield f"  CUDA    {row['cuda'] or 'built without'}"
        if row["code"]:
            yield f"  code    {' '.join(row['code'])}"
        for number, path in enumerate(row["libraries"]):
            yield f"  {'' if number else 'loads':<8}{path}"


def finding(found: Json, colour: str) -> Iterator[str]:
    """Give the lines of one finding."""
    yield f"{colour}{BOLD}{found['diagnosis'] or '?'}  {found['title']}{OFF}"
    rows: List[List[str]] = [["seen", found["actual"]], ["wanted", found["required"]]]
    for source in found["evidence"]:
        rows += [[source["source"] if number == 0 else "", f"| {line}"] for number, line in enumerate(source["lines"])]
    rows += [["why", found["cause"]], ["fix", found["fix"]]]
    rows += [["" if number else "type", line] for number, line in enumerate(found["remedy"].split("\n"))]
    more = len(found["follows"]) - FEW
    follows = ", ".join(found["follows"][:FEW]) + (f" and {more} more" if more > 0 else "")
    rows += [["follows", f"not reached: {follows}"]] if follows else []
    for name, text in rows:
        if text and len(name) > 7:
            yield f"  {name}"
            name = ""
        if text:
            yield f"  {name:<8}{text}"
    yield ""
