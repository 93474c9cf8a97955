"""The recipe of a wheel: everything that was decided before the build, as plain JSON.

The controller makes it from the catalog and the lock (recipes.py), because a host never sees the catalog.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

from .. import strict_json
from ..types import Json
from .failures import failure

if TYPE_CHECKING:
    from ..shapes.lock import Compilers, SourceArtifact, Span

SCHEMA = 1


@dataclass(frozen=True)
class Recipe:
    """What to build, and the bounds that the build holds its machine against."""

    opencv: str  # '4.14.0'
    package_version: str  # '4.14.0.94', the version of the wheel before its local part
    sources: List[SourceArtifact]  # kind, file, sha256 and package or url, as in the catalog
    capability_min: str  # the lowest capability of the DNN CUDA backend
    cudnn: Span  # min, max
    cuda: Span  # min, max
    cmake_min: str
    gcc: Compilers  # min, max of the toolkit's release (None: not bounded)
    gcc_packages: List[str]  # what the platform's archive has, best first: 'g++-8'
    clash_from_glibc: Optional[str] = None  # the first glibc that the toolkit's headers clash with
    integrated: List[str] = field(default_factory=list)  # capabilities of chips that are not cards
    cards: List[str] = field(default_factory=list)  # capabilities to build for
    platform: str = ""

    def as_json(self) -> Json:
        """The recipe as it is written to a file."""
        return {"schema": SCHEMA, **{f.name: getattr(self, f.name) for f in fields(self)}}


def load(path: Path) -> Recipe:
    """Read a recipe that the controller wrote."""
    step = "Make it again: it is written by the role opencv, or by build/opencv_cmake.py --print-recipe."
    try:
        value = strict_json.load(path)
        if value.pop("schema") != SCHEMA:
            raise ValueError("it is of another version")
        return Recipe(**value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise failure("B-usage", f"The recipe {path} cannot be read: {error}.", step) from None


def one_sdist(recipe: Recipe) -> Optional[SourceArtifact]:
    """The source row of an sdist, which holds opencv and opencv_contrib together; None when there are two tarballs."""
    rows = [row for row in recipe.sources if row["kind"] == "sdist"]
    return rows[-1] if rows else None
