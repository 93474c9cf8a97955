"""The GPU code in a library that was built, checked against what was planned."""

from __future__ import annotations

from pathlib import Path
from typing import Set

from ..host import fatbin
from .failures import failure


def read(path: Path) -> fatbin.Library:
    """What a library holds."""
    try:
        return fatbin.read(path)
    except ValueError as problem:
        raise failure("B-wrong-architectures", f"{problem}.", "Build again: --fresh") from problem


def must_be(library: fatbin.Library, planned: Set[str], path: Path) -> None:
    """Refuse a library whose code is not exactly the planned one."""
    if set(library.code) != planned:
        raise failure(
            "B-wrong-architectures",
            f"{path.name} holds code for {', '.join(library.code) or 'no card'}; "
            f"planned was {', '.join(sorted(planned))}.",
            "Build again: --fresh",
        )
