"""Five imitation Ubuntu 18.04 hosts with different cards become provisioned GPU hosts, and updates do not break them.

The hosts are made by `beds/ubuntu.py`: apt, dpkg, systemd, ssh, kmod and DKMS are real; the archive's payloads,
NVIDIA's installers, the card and the kernel's loading of modules are imitated (README.md says what that proves and what not).
Ansible runs outside and reaches them over ssh, as with a fleet. The tests build on one another, in order.
"""

from __future__ import annotations

from typing import Iterator

import pytest

from .controller import with_status
from .fleet import GA, HWE, WATCHED, Kind, World, state

KINDS = {
    "gtx750ti": Kind("1380", GA, False, "525.105.17", "archive"),
    "p2000": Kind("1c30", HWE, False, "525.105.17", "archive"),
    "rtx3090": Kind("2204", HWE, True, "525.105.17", "archive"),
    "k80": Kind("102d", GA, False, "470.182.03", "archive"),
    "h200": Kind("2335", HWE, True, "550.163.01", "runfile"),
}
SITE = ("site.yml", "--skip-tags", "verify,tensorflow")


@pytest.fixture(scope="module")
def world(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The five hosts, fresh from their installation."""
    with World(tmp_path_factory.mktemp("fleet"), KINDS, nvidia_driver_reboot=True) as made:
        yield made


class TestFleet:
    """From five fresh hosts to five provisioned ones."""

    def test_each_card_gets_its_driver(self, world: World) -> None:
        """The locks, as the resolver makes them from what the probe reads there."""
        world.plan()
        for name, kind in KINDS.items():
            driver = world.controller.lock(name)["plan"]["driver"]
            assert (driver["version"], driver["source"]) == (kind.driver, kind.source), name
            assert (driver["modules"] or {"kernel": kind.kernel})["kernel"] == kind.kernel
        assert world.controller.lock("rtx3090")["plan"]["driver"]["secure_boot"] == "signed"
        assert world.controller.lock("h200")["plan"]["driver"]["secure_boot"] == "own-key"

    def test_a_dry_run_changes_nothing(self, world: World) -> None:
        """`--check --diff` on bare hosts shows what would come, and leaves them as they are."""
        before = {name: bed.snapshot(WATCHED) for name, bed in world.beds.items()}
        done = world.controller.ok(*SITE, "--check", "--diff")
        assert "nvidia-driver-525 525.105.17-0ubuntu0.18.04.1" in done.out
        for name, bed in world.beds.items():
            assert before[name].changes_to(bed.snapshot(WATCHED)) == [], name
            assert done.changed(name) > 0

    def test_they_converge(self, world: World) -> None:
        """One command; only the host that needs a person at its console stops, with what to do there."""
        done = world.controller.run(*SITE, timeout=1500)
        stopped = [name for name in KINDS if done.recap[name]["failed"]]
        assert stopped == ["h200"], done.out[-6000:]
        told = done.failure("h200")
        assert "mokutil --import /var/lib/shim-signed/mok/MOK.der" in told and "Enroll MOK" in told
        world.enrol("h200")
        world.controller.ok(*SITE, "--limit", "h200")
        for name, kind in KINDS.items():
            found = world.installed(name)
            assert kind.driver in found["loaded"], name
            assert found["module"] == kind.driver
            assert "release 11.8" in found["nvcc"]
            assert "#define CUDNN_MAJOR 8" in found["cudnn"] and "#define CUDNN_MINOR 6" in found["cudnn"]
            assert found["audit"] == ""
            record = state(world.beds[name], "driver")
            assert record is not None and record["version"] == kind.driver
        assert "Canonical" in world.installed("rtx3090")["signer"]
        assert "gpuhost" in world.installed("h200")["signer"]

    def test_a_fleet_downloads_once(self, world: World) -> None:
        """The controller's cache serves all hosts."""
        asked = [line for line in world.mirror.requests if line.startswith("GET") and "cuda_11.8.0" in line]
        assert len(asked) == 1, asked

    def test_the_second_run_changes_nothing(self, world: World) -> None:
        """The same command again: changed=0 everywhere."""
        done = world.controller.ok(*SITE)
        assert {name: done.changed(name) for name in KINDS} == dict.fromkeys(KINDS, 0)

    def test_verify_passes_what_can_pass(self, world: World) -> None:
        """And names what this bed cannot prove: no TensorFlow was asked for here, OpenCV is not built yet."""
        reports = world.controller.verify("--no-benchmark")
        for name, report in reports.items():
            assert with_status(report, "fail") == ["tensorflow.installed"], (name, world.controller.verified[-3000:])
