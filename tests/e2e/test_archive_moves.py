"""The archive moves to newer drivers after a lock was made: the locked host stays, a fresh one gets what is there.

Two imitation Ubuntu 18.04 hosts, as in the fleet. No service keeps 18.04's archive, so what the locked host needs again
comes from its own cache. The tests build on one another.
"""

from __future__ import annotations

from typing import Iterator

import pytest

from .beds.archive import next_month
from .controller import with_status
from .fleet import HWE, Kind, World, driver_packages

#: In CI, test_update.py has an archive whose newer driver is taken, and test_rebuild.py a driver from the cache.
pytestmark = pytest.mark.full

OLD, NEW = "525.105.17-0ubuntu0.18.04.1", "525.125.06-0ubuntu0.18.04.1"
KINDS = {
    "locked": Kind("1c30", HWE, False, "525.105.17", "archive"),
    "fresh": Kind("1c30", HWE, True, "525.125.06", "archive"),
}
#: A stand-in of nvcc compiles nothing, so what is built with it is left out.
SITE = ("site.yml", "--skip-tags", "verify,opencv,yolo,tensorflow")
LEFT_OUT = ["opencv.installed", "tensorflow.installed"]


@pytest.fixture(scope="module")
def world(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The two hosts, fresh from their installation."""
    with World(tmp_path_factory.mktemp("moves"), KINDS, nvidia_driver_reboot=True) as made:
        yield made


def plan(world: World, name: str) -> None:
    """Let the playbook write one host's lock, then put the stand-ins' checksums in."""
    world.controller.ok("playbooks/plan.yml", "--limit", name)
    world.controller.edit_lock(name, world.stand_ins)


class TestAnArchiveThatMoves:
    """One host is provisioned before the move, the other after it."""

    def test_the_lock_names_every_deb(self, world: World) -> None:
        """As the archive has them now, with their checksums; 18.04's are kept by nobody."""
        plan(world, "locked")
        driver = world.controller.lock("locked")["plan"]["driver"]
        debs = {deb["name"]: deb for deb in driver["packages"]}
        assert driver["package_version"] == debs["nvidia-driver-525"]["version"] == OLD
        assert {f"linux-modules-nvidia-525-{HWE}", f"linux-signatures-nvidia-{HWE}", "libnvidia-gl-525"} <= set(debs)
        assert not any("dkms" in name for name in debs)
        for name, deb in debs.items():
            assert (deb["sha256"], deb["snapshot"]) == (world.archive.sha256(name), None)
        world.controller.ok(*SITE, "--limit", "locked", timeout=1500)
        installed = driver_packages(world.beds["locked"])
        assert {name: installed[name] for name in debs} == {name: deb["version"] for name, deb in debs.items()}
        assert {name for name in installed if "nvidia" in name} == set(debs)

    def test_the_locked_host_stays(self, world: World) -> None:
        """The archive has dropped what the lock names: nothing changes, and packages that got lost come back."""
        before = driver_packages(world.beds["locked"])
        world.archive.add(next_month())
        for bed in world.beds.values():
            bed.run(["apt-get", "update"])
        assert world.archive.version("nvidia-driver-525") == NEW
        assert world.controller.ok(*SITE, "--limit", "locked").changed("locked") == 0
        gone = ["nvidia-driver-525", "nvidia-utils-525"]
        world.beds["locked"].run(["apt-get", "purge", "--yes", "--allow-change-held-packages", *gone])
        assert world.controller.ok(*SITE, "--limit", "locked").changed("locked") > 0
        assert driver_packages(world.beds["locked"]) == before

    def test_a_fresh_host_gets_what_is_there_now(self, world: World) -> None:
        """The newer driver, and under Secure Boot the signed modules for the kernel that it has: that kernel is no
        longer the archive's newest, so the package that leads to the newest would bring another one.
        """
        plan(world, "fresh")
        driver = world.controller.lock("fresh")["plan"]["driver"]
        assert (driver["package_version"], driver["secure_boot"]) == (NEW, "signed")
        assert driver["modules"]["package"] == f"linux-modules-nvidia-525-{HWE}"
        world.controller.ok(*SITE, "--limit", "fresh", timeout=1500)
        found = world.installed("fresh")
        assert found["module"] == "525.125.06" and "525.125.06" in found["loaded"] and "Canonical" in found["signer"]
        assert world.controller.ok(*SITE, "--limit", "fresh").changed("fresh") == 0

    def test_both_are_as_their_locks_say(self, world: World) -> None:
        """Each against its own; what was left out is all that fails."""
        for name, report in world.controller.verify("--no-benchmark").items():
            assert with_status(report, "fail") == LEFT_OUT, (name, world.controller.verified[-3000:])
