"""A host that an earlier release has provisioned is served by this one: converged, rebuilt, gone back from, removed.

The earlier release is taken from the history (`git archive`), so this needs a clone that has it. What is real on the
imitation Ubuntu 18.04 host and what is not, README.md says.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Iterator

import pytest

from .beds.bed import PROJECT
from .fleet import WATCHED, World, state
from .test_rebuild import (
    CONFIRMED,
    LEFT_OUT,
    NAME,
    REMOVE,
    ROLLBACK,
    SITE,
    administrators_own,
    changes,
    failed,
    generation,
    loaded,
    new_world,
)

#: The last commit whose locks stood in host_vars.
EARLIER = "4bbb555"

pytestmark = pytest.mark.full


def earlier(folder: Path) -> Path:
    """The project as it was."""
    folder.mkdir()
    made = subprocess.run(["git", "archive", "-o", str(folder / "project.tar"), EARLIER], cwd=PROJECT, check=False)
    assert made.returncode == 0, f"this clone has no commit {EARLIER}: git fetch --unshallow"
    with tarfile.open(folder / "project.tar") as packed:
        packed.extractall(folder / "project", filter="data")
    return folder / "project"


def linked(world: World) -> str:
    """What the generation in force links to."""
    script = "cd /opt/gpuhost/current && find . -type l -printf '%P %l\\n' | sort"
    return world.beds[NAME].run(["sh", "-c", script]).stdout


@pytest.fixture(scope="module")
def world(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host that the earlier release has provisioned, with the watch."""
    folder = tmp_path_factory.mktemp("earlier")
    with new_world(folder / "world") as made:
        made.controller.variables["watch_enabled"] = True
        administrators_own(made.beds[NAME])
        made.bare = made.beds[NAME].snapshot(WATCHED)  # type: ignore[attr-defined]
        made.controller.project = earlier(folder / "old")
        made.plan()
        made.controller.ok(*SITE)
        made.controller.project = PROJECT
        yield made


def test_its_lock_is_refused_with_the_command_that_moves_it(world: World) -> None:
    """By every playbook, before anything on the host; the command is run as it is printed."""
    before = world.beds[NAME].snapshot(WATCHED)
    for playbook in (SITE, CONFIRMED, ROLLBACK, REMOVE):
        done = world.controller.run(*playbook)
        told = done.failure(NAME)
        assert done.rc != 0 and "is in a folder that Ansible loads by itself" in told, done.out[-3000:]
    assert changes(before, world.beds[NAME].snapshot(WATCHED)) == []
    command = told.partition("Move it: ")[2].partition("'")[0].strip()  # YAML's quote ends it
    assert command.startswith("mkdir -p ")
    subprocess.run(["sh", "-c", command], check=True)
    done = world.controller.run(*SITE)
    told = done.failure(NAME)
    assert done.rc != 0 and f"lock upgrade {world.controller.lock_file(NAME)}" in told, done.out[-3000:]
    assert changes(before, world.beds[NAME].snapshot(WATCHED)) == []
    upgrade = ["-m", "gpuhost.cli", "lock", "upgrade", str(world.controller.lock_file(NAME))]
    subprocess.run([sys.executable, *upgrade], check=True)
    assert world.controller.lock(NAME)["host"] == NAME


def test_it_converges_and_verifies(world: World) -> None:
    """The driver and what is in force are those that were there, with a record that holds their contents; the second
    run changes nothing."""
    before = loaded(world), linked(world)
    world.controller.ok(*SITE)
    assert world.controller.ok(*SITE).changed(NAME) == 0
    assert (loaded(world), linked(world)) == before and generation(world) == "generations/2"
    assert failed(world) == []
    assert LEFT_OUT


def test_its_generation_can_be_gone_back_to(world: World) -> None:
    """After a rebuild for another card by this release; the one whose record is the earlier release's is refused."""
    bed = world.beds[NAME]
    bed.swap("2204")
    world.controller.ok(*CONFIRMED, "--skip-tags", "rebuild_carry_out")
    world.controller.edit_lock(NAME, world.stand_ins, ".new")
    world.controller.ok(*CONFIRMED)
    assert generation(world) == "generations/3"
    bed.swap("1c30")
    refused = world.controller.run(*ROLLBACK, "-e", "rollback_to=1")
    assert "Generation 1 has no complete stack.json" in refused.failure(NAME)
    world.controller.ok(*ROLLBACK)
    assert generation(world) == "generations/2"
    assert world.controller.lock(NAME)["plan"]["gpus"][0]["compute_capability"] == "6.1"
    record = state(bed, "driver")
    assert record is not None and record["version"] in loaded(world)


def test_it_can_be_removed(world: World) -> None:
    """Nothing is left of either release."""
    world.controller.ok(*REMOVE)
    left = changes(world.bare, world.beds[NAME].snapshot(WATCHED))  # type: ignore[attr-defined]
    assert [line for line in left if "gpuhost" in line] == []
