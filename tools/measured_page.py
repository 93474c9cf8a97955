"""What the measuring tools share: a section of a page, between two marks, that is written from reports alone."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "docs" / "reference" / "benchmarks.md"


def renew(page: Path, start: str, end: str, lines: Sequence[str], check: bool) -> int:
    """Put `lines` between the marks, or with `check` only say whether they are there: then 1 where they are not.

    ValueError for a page without the marks: what would be lost is a person's.
    """
    text = page.read_text(encoding="utf-8")
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no {start} with an {end} after it")
    renewed = before + "\n".join([start, "", *lines, "", end]) + after
    if renewed == text:
        return 0
    print(f"{'out of date' if check else 'written'}: {page.relative_to(ROOT) if ROOT in page.parents else page}")
    if not check:
        page.write_text(renewed, encoding="utf-8")
    return 1 if check else 0
