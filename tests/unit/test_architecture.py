"""The picture of the imports in docs/architecture.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import reference_docs

PACKAGE = Path(reference_docs.ROOT) / "src" / "gpuhost"


def test_every_arrow_leads_down_and_every_room_has_one() -> None:
    """A room without an arrow would stand in the picture's list only."""
    layers = reference_docs.layers_of((PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    rooms, found = layers[:-1], reference_docs.arrows(PACKAGE, layers[:-1])
    assert {room for pair in found for room in pair} == set(rooms)
    assert all(rooms.index(upper) < rooms.index(lower) for upper, lower in found)
    assert ("cli", "report") in found and ("yolo", "host") in found


def test_an_arrow_that_leads_up_is_an_error() -> None:
    """It is not drawn as if all were well."""
    with pytest.raises(SystemExit, match="host, which stands above it"):
        reference_docs.arrows(PACKAGE, ["host", "yolo"])
