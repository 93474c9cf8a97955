"""Roles of the installed collection, from a foreign folder, on an imitation Ubuntu 18.04: what tests/roles shows with a
stand-in for the driver's module is installed here. Not a part of CI:

    ./run pytest -s -n 0 -m full tests/e2e/test_collection.py
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Dict, Iterator, Tuple

import pytest

from .beds.bed import PROJECT
from .controller import Run
from .fleet import GA, Kind, World

if TYPE_CHECKING:
    from tests.foreign import Foreign

pytestmark = pytest.mark.full
NAME = "box"
#: With CUDA 11.8 the driver is 525; without a wish or TensorFlow, it is the newest CUDA and the archive's 530.
ASKED: Dict[str, Any] = {"gpu_stack_without": ["opencv", "tensorflow"], "gpu_stack_wanted": {"cuda": "11.8"}}


@pytest.fixture(scope="module")
def user(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tuple[World, Foreign]]:
    """A host with a Quadro P2000, and a user who has the collection and no checkout."""
    sys.path.insert(0, str(PROJECT))  # this folder is a package of its own, and `foreign` stands beside it
    try:
        made = importlib.import_module("tests.foreign").Foreign
    finally:
        sys.path.remove(str(PROJECT))
    kinds = {NAME: Kind("1c30", GA, False, "525.105.17", "archive")}
    with World(tmp_path_factory.mktemp("world"), kinds, **ASKED) as world:
        foreign = made(tmp_path_factory.mktemp("user"), {"SSL_CERT_FILE": str(world.mirror.authority)})
        foreign.host(NAME, ansible_connection="ssh", **world.controller.variables, **world.controller.hosts[NAME])
        yield world, foreign


def run(foreign: Foreign, role: str) -> Run:
    """Run a role's example; it must succeed."""
    done = foreign.examples({role: NAME})
    assert done.returncode == 0, done.stdout[-4000:]
    return Run(done.returncode, done.stdout, 0)


def test_the_lock_is_planned_there(user: Tuple[World, Foreign]) -> None:
    """gpu_facts and gpu_stack; the checksum is then that of the archive's stand-in."""
    world, foreign = user
    run(foreign, "gpu_stack")
    world.controller.lock_file = foreign.lock_file  # type: ignore[method-assign]
    world.controller.edit_lock(NAME, world.stand_ins)
    assert world.controller.lock(NAME)["plan"]["driver"]["version"] == "525.105.17"


def test_the_driver_alone_is_installed_guarded_and_removed(user: Tuple[World, Foreign]) -> None:
    """Each by its role's example; a second run changes nothing."""
    world, foreign = user
    run(foreign, "nvidia_driver")
    assert world.installed(NAME)["module"] == "525.105.17"
    assert run(foreign, "nvidia_driver").changed(NAME) == 0
    run(foreign, "apt_guard")
    held = world.beds[NAME].run(["apt-mark", "showhold"]).stdout
    assert "nvidia-driver-525" in held
    foreign.host(NAME, **foreign.hosts[NAME], removal_confirm="not typed")
    refused = foreign.examples({"removal": NAME})
    assert "Nothing was changed." in refused.stdout and world.installed(NAME)["module"] == "525.105.17"
    done = foreign.examples({"removal": NAME}, "-e", f"removal_confirm={NAME}")
    assert done.returncode == 0, done.stdout[-4000:]
    assert world.installed(NAME)["module"] == "" and world.installed(NAME)["audit"] == ""
