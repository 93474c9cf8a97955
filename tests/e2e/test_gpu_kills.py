"""A run that is killed anywhere is finished by the next one: the controller and the whole host, by SIGKILL."""

from __future__ import annotations

import random
import time
from typing import List, Sequence

import pytest

from .fleet import HWE, Kind, Steps, World, state

KINDS = {
    "h200": Kind("2335", HWE, False, "550.163.01", "runfile"),
    "p2000": Kind("1c30", HWE, False, "525.105.17", "archive"),
}
SITE = ("site.yml", "--skip-tags", "verify,opencv,yolo,tensorflow")
#: Every task that changes a fresh host, and every step of the driver's, in the order of the run.
RUNFILE = ("Fetch by sha256: NVIDIA-Linux",)
PACKAGES = ("= checking that it can be installed", "= installing exactly the locked packages")
REST = (
    "= checking module, signature and initramfs",
    "= writing the record",
    "Hold, pin and blacklist",
    "Simulate the next updates",
    "Fetch by sha256: cuda",
    "Install CUDA",
    "Fetch by sha256: cudnn",
    "Install cuDNN",
    "Put the generation in force",
    "Let the linker and the shells find",
)
POINTS = {"h200": (*RUNFILE, *PACKAGES, "= installing NVIDIA's own driver file", *REST), "p2000": (*PACKAGES, *REST)}
LONGEST_DELAY_S = 1.0  # so that the kill comes at the beginning, in the midst or after the end of the task


#: The .run has all the steps that the archive's driver has, and two of its own; of them, every so many.
HOSTS = [
    pytest.param("h200", 8, id="some"),
    pytest.param("h200", 1, id="h200", marks=pytest.mark.full),
    pytest.param("p2000", 1, id="p2000", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("name", "every"), HOSTS)
def test_killed_in_tasks_in_turn(
    bed_tools: None, tmp_path_factory: pytest.TempPathFactory, name: str, every: int
) -> None:
    """Each kill comes at a random moment of the next task or step that changes the host; then one run ends it all."""
    # A short name: ssh's socket stands below it, and its path has some 100 characters at most.
    with World(tmp_path_factory.mktemp("kills"), {name: KINDS[name]}, nvidia_driver_reboot=True) as world:
        world.plan()
        cut_everywhere(world, name, POINTS[name][::every])


def cut_everywhere(world: World, name: str, points: Sequence[str]) -> None:
    """Kill runs until each point was reached, and see that the next run finishes what they have begun."""
    controller, bed = world.controller, world.beds[name]
    seed = random.randrange(10**6)  # noqa: S311 - nothing secret
    moments = random.Random(seed)  # noqa: S311 - nothing secret
    killed: List[str] = []
    left = list(points)
    while left:
        steps, process = Steps(bed), controller.start(*SITE, "--limit", name)
        reached: List[str] = []
        while process.poll() is None and not reached:
            time.sleep(0.02)
            said = steps.told() + controller.said()
            reached = [point for point in left if point in said]
        if not reached:
            break  # nothing was left to do: the run has ended
        time.sleep(moments.uniform(0, LONGEST_DELAY_S))
        controller.kill(process)
        bed.kill()
        bed.boot()
        killed.append(reached[0])
        # A task that had ended when the kill came does not come again, nor do those before it.
        left = left[left.index(reached[-1]) + 1 :]
    assert len(killed) >= len(points) - 1 - len(points) // 6, (seed, killed, controller.said()[-2000:])
    controller.ok(*SITE, "--limit", name, timeout=1200)
    found = world.installed(name)
    told = f"seed {seed}"
    assert KINDS[name].driver in found["loaded"] and found["audit"] == "" and "release 11.8" in found["nvcc"], told
    record = state(bed, "driver")
    assert record is not None and record["version"] == KINDS[name].driver, told
    assert bed.run(["test", "-e", "/opt/gpuhost/state/driver.pending"], check=False).returncode != 0, told
    assert controller.ok(*SITE, "--limit", name).changed(name) == 0, told
