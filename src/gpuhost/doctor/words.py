"""The doctor's report in words, for a terminal. What a host says was made safe to show before."""

import re
from typing import Iterator, List

from ..types import Json
from .judge import FINE, FOUND, NOT_RECOGNISED

BOLD, RED, GREEN, YELLOW, OFF = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
HEADLINES = {
    FINE: "Driver and CUDA work.",
    FOUND: "The first finding is the cause; what stands below it may follow from it.",
    NOT_RECOGNISED: "Something is wrong, and it is not recognised. --bundle FILE writes what an issue needs.",
}
UNREADABLE = "Nothing was found, and nothing was proved either: what decides could not be read."
PLACES = {"container": ", in a container", "wsl2": ", in WSL2", "machine": ""}


def told(report: Json, colours: bool) -> str:
    """Return the report as text, with colours or without."""
    text = "\n".join(lines(report)) + "\n"
    return text if colours else re.sub(r"\x1b\[[0-9]*m", "", text)


def lines(report: Json) -> Iterator[str]:
    """Give the lines of a report."""
    system = report["system"]
    where = f"{system['name'] or 'an unknown distribution'}, kernel {system['kernel'] or 'unknown'}"
    yield f"gpuhost doctor {report['doctor']}: {report['host']}, {where}{PLACES[system['place']]}"
    yield ""
    for found in report["findings"]:
        yield from finding(found, RED)
    yield f"{GREEN if report['answer'] == FINE else BOLD}{HEADLINES.get(report['answer'], UNREADABLE)}{OFF}"
    for proof in report["proved"]:
        yield f"  {proof}"
    if report["risks"]:
        yield ""
        yield f"{YELLOW}Nothing of this breaks CUDA today, and an update may:{OFF}"
        for found in report["risks"]:
            yield from finding(found, YELLOW)
    if report["not_judged"]:
        yield ""
        yield "Not judged:"
        for row in report["not_judged"]:
            yield f"  {row['why']}" + (f" ({', '.join(row['checks'])})" if row["checks"] else "")


def finding(found: Json, colour: str) -> Iterator[str]:
    """Give the lines of one finding."""
    yield f"{colour}{BOLD}{found['diagnosis'] or '?'}  {found['title']}{OFF}"
    rows: List[List[str]] = [["seen", found["actual"]], ["wanted", found["required"]]]
    for source in found["evidence"]:
        rows += [[source["source"] if number == 0 else "", f"| {line}"] for number, line in enumerate(source["lines"])]
    rows += [["why", found["cause"]], ["fix", found["fix"]], ["type", found["remedy"]]]
    rows += [["follows", f"not reached: {', '.join(found['follows'])}"]] if found["follows"] else []
    for name, text in rows:
        if text and len(name) > 7:
            yield f"  {name}"
            name = ""
        if text:
            yield f"  {name:<8}{text}"
    yield ""
