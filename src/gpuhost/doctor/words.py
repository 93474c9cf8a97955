"""The doctor's report in words, for a terminal. What a host says was made safe to show before."""

import re
import textwrap
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
#: On a machine that gpuhost has set up, whose lock is not available here.
OURS = (
    "gpuhost has set this machine up{stack}. Only its driver and CUDA were judged here; for the rest, where its "
    "playbooks were typed: ./run pytest verify/"
)
CPU_STACK = " as a CPU stack: no GPU was asked for, and site.yml makes it a GPU stack once a card is seen"
#: The rows of a finding that are sentences.
SENTENCES = ("seen", "wanted", "why", "fix", "follows")
PLACES = {"container": ", in a container", "wsl2": ", in WSL2", "machine": ""}


def told(report: Json, colours: bool, width: int = 0) -> str:
    """Return the report as text, with colours or without; sentences, but nothing to type, are broken at `width`
    columns, where one is given.
    """
    text = "\n".join(lines(report, width)) + "\n"
    return text if colours else re.sub(r"\x1b\[[0-9]*m", "", text)


def broken(text: str, width: int, begin: str = "") -> List[str]:
    """Return a sentence as lines of at most `width` columns; the first starts with `begin`, and the others below it."""
    if not width:
        return [begin + text]
    shape = textwrap.TextWrapper(width, begin, " " * len(begin), break_long_words=False, break_on_hyphens=False)
    return shape.wrap(text)


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


def lines(report: Json, width: int) -> Iterator[str]:
    """Give the lines of a report."""
    system = report["system"]
    where = f"{system['name'] or 'an unknown distribution'}, kernel {system['kernel'] or 'unknown'}"
    yield from broken(f"gpuhost doctor {report['doctor']}: {report['host']}, {where}{PLACES[system['place']]}", width)
    yield ""
    for found in report["findings"]:
        yield from finding(found, RED, width)
    headline = "\n".join(broken(HEADLINES.get(report["answer"], UNREADABLE), width))
    yield f"{GREEN if report['answer'] == FINE else BOLD}{headline}{OFF}"
    yield from (f"  {way}" for way in report["ways"])
    if report["answer"] == FOUND and not all(found["diagnosis"] for found in report["findings"]):
        yield from broken(UNEXPLAINED, width)
    if report["proved"] and report["answer"] != FINE:
        yield "What was proved all the same:"
    for proof in report["proved"]:
        yield from broken(proof, width, "  ")
    yield from environment(report["python"])
    if report["risks"]:
        yield ""
        beside = "Nothing of this breaks CUDA today, and an update may:" if report["proved"] else "Beside it:"
        yield f"{YELLOW}{beside}{OFF}"
        for found in report["risks"]:
            yield from finding(found, YELLOW, width)
    if report["not_judged"]:
        yield ""
        yield "Not judged:"
        for row in report["not_judged"]:
            yield from broken(row["why"] + (f" ({', '.join(row['checks'])})" if row["checks"] else ""), width, "  ")
    if system["provisioned"]:
        yield ""
        yield from broken(OURS.format(stack=CPU_STACK if system["cpu_stack"] else ""), width)


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


def finding(found: Json, colour: str, width: int) -> Iterator[str]:
    """Give the lines of one finding. What is typed, and what a program said, is never broken."""
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
            yield from broken(text, width if name in SENTENCES else 0, f"  {name:<8}")
    yield ""
