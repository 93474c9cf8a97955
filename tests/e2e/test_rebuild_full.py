"""The rest of the swaps, and power cuts in the midst of rebuilds and of going back. Not a part of CI:

./run pytest -m full tests/e2e/test_rebuild_full.py
"""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import pytest

from .beds.ubuntu import UbuntuBed
from .controller import Controller
from .fleet import GA, HWE, Kind, Steps, World, state
from .test_rebuild import (
    CONFIRMED,
    DRIVER_525,
    NAME,
    ROLLBACK,
    SITE,
    administrators_own,
    failed,
    generation,
    loaded,
    rebuild,
)

pytestmark = pytest.mark.full

#: The cards before and after, the kernel, and the driver that the rebuild comes to.
SWAPS: Dict[str, Tuple[List[str], List[str], str, str]] = {
    "gtx750ti-p2000": (["1380"], ["1c30"], GA, DRIVER_525),
    "p2000-k80": (["1c30"], ["102d"], HWE, "470.182.03"),
    "one-to-two": (["1c30"], ["1c30", "2204"], HWE, DRIVER_525),
    "two-of-two-generations": (["1c30"], ["1c30", "102d"], HWE, "470.182.03"),
    "cpu-to-card": ([], ["1c30"], HWE, DRIVER_525),
}
CUTS_IN_REBUILDS, CUTS_GOING_BACK = 20, 10
#: The tasks of a rebuild from an archive's driver to a .run, and back, that change the host or its lock, and the steps
#: of the driver's, in order.
POINTS_REBUILD = (
    "Write the new lock beside the old one",
    "Fetch by sha256: NVIDIA-Linux",
    "= checking that it can be installed",
    "= installing exactly the locked packages",
    "= installing NVIDIA's own driver file",
    "= checking module, signature and initramfs",
    "= writing the record",
    "Hold, pin and blacklist",
    "Simulate the next updates",
    "Put the generation in force",
    "Let the linker and the shells find the toolkit",
    "See whether the locked driver is loaded",
    "Reboot]",
    "Write the lock",
)
POINTS_BACK = (
    "Choose the generation",
    "= installing exactly the locked packages",
    "= checking module, signature and initramfs",
    "= writing the record",
    "Put the generation in force",
    "Let the linker and the shells find the toolkit",
    "Hold, pin and blacklist",
    "Reboot]",
    "Write the lock",
)
LONGEST_DELAY_S = 2.0


def one_host(folder: Path, cards: Sequence[str], kernel: str) -> World:
    """A world with one host; its kind names the first card alone, so the others are put in before planning."""
    first = cards[0] if cards else "1c30"
    return World(folder, {NAME: Kind(first, kernel, False, DRIVER_525, "archive")}, nvidia_driver_reboot=True)


@pytest.mark.parametrize("name", list(SWAPS))
def test_swap(bed_tools: None, tmp_path: Path, name: str) -> None:
    """From one set of cards to another, and back without the new ones."""
    before, after, kernel, version = SWAPS[name]
    with one_host(tmp_path, before, kernel) as world:
        bed = world.beds[NAME]
        administrators_own(bed)
        bed.swap(*before)
        world.plan()
        world.controller.ok(*SITE)
        bed.swap(*after)
        rebuild(world)
        assert version in loaded(world)
        assert failed(world) == []
        assert world.controller.ok(*CONFIRMED).changed(NAME) == 0
        bed.swap(*before)
        world.controller.ok(*ROLLBACK)
        assert failed(world) == []


def some(points: Sequence[str], count: int, moments: random.Random) -> List[str]:
    """Some of the tasks, in their order: one that had ended when the power was cut does not come again."""
    return [points[at] for at in sorted(moments.sample(range(len(points)), count))]


def cut(world: World, arguments: Sequence[str], point: str, moments: random.Random) -> str:
    """Run a playbook, cut the power at some moment of a task or step, boot; that, "" where the run had ended before."""
    controller, bed = world.controller, world.beds[NAME]
    steps, process = Steps(bed), controller.start(*arguments)
    mark = point if point.startswith("= ") else f"TASK [{point}"
    while process.poll() is None and mark not in steps.told() + plain(controller.said()):
        time.sleep(0.02)
    if process.poll() is not None:
        assert process.returncode == 0, controller.said()[-4000:]
        return ""
    time.sleep(moments.uniform(0, LONGEST_DELAY_S))
    Controller.kill(process)
    bed.kill()
    bed.boot()
    return point


def plain(text: str) -> str:
    """The output with the roles' names taken out of the tasks' titles."""
    return re.sub(r"TASK \[\w+ : ", "TASK [", text)


def is_whole(world: World, bed: UbuntuBed) -> None:
    """A host in a whole generation: every link of `current` leads to a sealed folder, and systemd has come up."""
    assert generation(world).startswith("generations/")
    script = (
        "for l in /opt/gpuhost/current/cuda /opt/gpuhost/current/cudnn; do test -e $l/.gpuhost.json || exit 1; done"
    )
    bed.run(["sh", "-c", script])
    bed.run(["python3", "-m", "json.tool", "/opt/gpuhost/current/stack.json"])


def count(cuts: List[str]) -> int:
    """How many there were: a run that had ended before its moment is none."""
    return len([point for point in cuts if point])


def seeded() -> Tuple[int, random.Random]:
    """A seed to be told, and its generator."""
    seed = random.randrange(10**6)  # noqa: S311 - nothing secret
    return seed, random.Random(seed)  # noqa: S311 - nothing secret


def test_power_cuts(bed_tools: None, tmp_path: Path) -> None:
    """P2000 -> H200 and back, cut at 20 moments of the rebuild and 10 of going back: each is finished or undone by
    one command."""
    seed, moments = seeded()
    cuts: Dict[str, List[str]] = {"rebuild": [], "back": []}
    with one_host(tmp_path, ["1c30"], HWE) as world:
        bed = world.beds[NAME]
        administrators_own(bed)
        world.plan()
        world.controller.ok(*SITE)
        while count(cuts["rebuild"]) < CUTS_IN_REBUILDS or count(cuts["back"]) < CUTS_GOING_BACK:
            told: Any = (seed, cuts)
            bed.swap("2335")
            world.controller.ok(*CONFIRMED, "--skip-tags", "rebuild_carry_out")
            world.controller.edit_lock(NAME, world.stand_ins, ".new")
            for point in some(POINTS_REBUILD, 3, moments):
                cuts["rebuild"] += [cut(world, CONFIRMED, point, moments)]
                is_whole(world, bed)
            if moments.random() < 0.5 and (world.controller.lock_file(NAME).with_name("stack.json.new")).exists():
                bed.swap("1c30")  # undo it
            else:
                world.controller.ok(*CONFIRMED)
                assert "550.163.01" in loaded(world), told
                assert failed(world) == [], told
                assert world.controller.ok(*CONFIRMED).changed(NAME) == 0, told
                bed.swap("1c30")
                for point in some(POINTS_BACK, 2, moments):
                    cuts["back"] += [cut(world, ROLLBACK, point, moments)]
                    is_whole(world, bed)
            world.controller.ok(*ROLLBACK)
            assert DRIVER_525 in loaded(world), told
            assert failed(world) == [], told
            record = state(bed, "driver")
            assert record is not None and record["source"] == "archive", told
            assert world.controller.ok(*SITE).changed(NAME) == 0, told
            print(f"seed {seed}: {cuts}")
