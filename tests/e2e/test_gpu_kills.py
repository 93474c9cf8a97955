"""A run that is killed anywhere is finished by the next one: the controller and the whole host, by SIGKILL."""

from __future__ import annotations

import time
from typing import Iterator

import pytest

from .controller import Controller
from .fleet import HWE, Kind, World, state

KINDS = {
    "h200": Kind("2335", HWE, False, "550.163.01", "runfile"),
    "p2000": Kind("1c30", HWE, False, "525.105.17", "archive"),
}
SITE = ("site.yml", "--skip-tags", "verify,tensorflow")
POINTS = 10  # for each of the two hosts


@pytest.fixture(scope="module")
def world(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One host for the archive's driver and one for the .run, with their locks."""
    with World(tmp_path_factory.mktemp("kills"), KINDS, nvidia_driver_reboot=True) as made:
        made.plan()
        yield made


def begun(controller: Controller) -> int:
    """How many tasks the present run has begun."""
    return controller.said().count("\nTASK [")


@pytest.mark.parametrize("name", list(KINDS))
def test_killed_at_many_points(world: World, name: str) -> None:
    """Each kill comes while one task later than the last is at work, spread over the run; then one run ends it all."""
    controller, bed = world.controller, world.beds[name]
    listed = controller.run(*SITE, "--limit", name, "--list-tasks").out.count("TAGS:")
    killed = 0
    for number in range(POINTS):
        point = 20 + round(number * (listed - 20) / POINTS)
        process = controller.start(*SITE, "--limit", name)
        while process.poll() is None and begun(controller) < point:
            time.sleep(0.02)
        if process.poll() is None:
            killed += 1
            controller.kill(process)
            bed.kill()
            bed.boot()
    assert killed >= POINTS // 2, controller.said()[-2000:]
    controller.ok(*SITE, "--limit", name, timeout=1200)
    found = world.installed(name)
    assert KINDS[name].driver in found["loaded"] and found["audit"] == "" and "release 11.8" in found["nvcc"]
    record = state(bed, "driver")
    assert record is not None and record["version"] == KINDS[name].driver
    assert bed.run(["test", "-e", "/opt/gpuhost/state/driver.pending"], check=False).returncode != 0
    assert controller.ok(*SITE, "--limit", name).changed(name) == 0
