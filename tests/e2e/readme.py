"""Reading the commands of a section of README.md, and those of a runbook."""

from __future__ import annotations

import re
from typing import List

HEADING = "## Start"


def start_commands(markdown: str, heading: str = HEADING) -> List[str]:
    """The lines of the first fenced block under a heading as written, without comments and blank lines.

    A line that ends in a backslash is joined with the next. ValueError when there is no such heading or
    block, or nothing in it: a README that lost its commands is a failure, not nothing to test.
    """
    lines = markdown.splitlines()
    try:
        start = next(number for number, line in enumerate(lines) if line.rstrip() == heading)
    except StopIteration:
        raise ValueError(f"there is no heading {heading!r}") from None
    fence = ""
    block: List[str] = []
    for line in lines[start + 1 :]:
        mark = re.match(r"(`{3,}|~{3,})", line)
        if fence and mark and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            break
        if fence:
            block.append(line)
        elif mark:
            fence = mark.group(1)
        elif re.match(r"#{1,2}\s", line):
            break
    else:
        if fence:
            raise ValueError(f"the fenced block under {heading!r} does not end")
    text = re.sub(r"\\\n\s*", "", "\n".join(block))
    commands = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not commands:
        raise ValueError(f"there is no fenced block with commands under {heading!r}")
    return commands


def section_commands(markdown: str, heading: str, program: str = "./run") -> List[str]:
    """The commands of one section of a runbook that begin with this program, as written, in their order.

    They stand in blocks indented as code or between backquotes. ValueError when there is no such section, or no command
    in it.
    """
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", markdown, re.MULTILINE | re.DOTALL)
    if not found:
        raise ValueError(f"there is no section {heading!r}")
    begin = re.escape(program)
    rows = re.findall(rf"^ {{4,}}({begin} .+)$|`({begin} [^`]+)`", found.group(1), re.MULTILINE)
    commands = [block.strip() or inline for block, inline in rows]
    if not commands:
        raise ValueError(f"there is no {program} command in the section {heading!r}")
    return commands
