"""Fixtures of the whole-host tests; every test in this folder carries the marker `e2e`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Iterator, List

import pytest

from .beds import Bed, BedError
from .beds.base import require_tools
from .beds.ubuntu import TOOLS

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Mark the tests below this folder, so that `-m "not e2e"` leaves them out."""
    for item in items:
        if HERE in Path(str(item.path)).parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def bed_tools() -> None:
    """Skip with the reason when this machine cannot make beds; under CI that is a failure."""
    try:
        require_tools()
    except BedError as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has to run the whole-host tests, and {reason}")
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def ubuntu_tools(bed_tools: None) -> None:
    """The same for the imitation Ubuntu hosts, which need a few more programs."""
    missing = sorted(package for command, package in TOOLS.items() if shutil.which(command) is None)
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"CI has to run the whole-host tests: apt-get install {' '.join(missing)}")
    if missing:
        pytest.skip(f"apt-get install {' '.join(missing)}")


@pytest.fixture(scope="session")
def bare_debian(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """One booted bare Debian 12 for the whole session, for tests that leave it as they found it."""
    with Bed.fresh(logs=tmp_path_factory.mktemp("bare-debian")) as bed:
        yield bed


@pytest.fixture
def fresh_debian(bed_tools: None, tmp_path: Path) -> Iterator[Bed]:
    """A booted bare Debian 12 for one test alone, which may do with it what it likes."""
    with Bed.fresh(logs=tmp_path / "bed") as bed:
        yield bed
