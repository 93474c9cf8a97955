"""`playbooks/update.yml` on an imitation Ubuntu 18.04 under Secure Boot whose archive moves on.

Each test goes on from where the one before it left the host.
"""

from __future__ import annotations

import time
from typing import Iterator

import pytest

from .beds.archive import next_month
from .beds.releases import BIONIC
from .controller import with_status
from .fleet import HWE, Kind, Steps, World, driver_packages, packages, state

OLD, NEW = "525.105.17-0ubuntu0.18.04.1", "525.125.06-0ubuntu0.18.04.1"
NEXT_HWE = BIONIC.next_kernels[1]
NEXT = NEXT_HWE.release
UPDATE = ("playbooks/update.yml", "--skip-tags", "verify")
#: A stand-in of nvcc compiles nothing, so what is built with it is left out.
SITE = ("site.yml", "--skip-tags", "verify,opencv,yolo,tensorflow")
LEFT_OUT = ["opencv.installed", "tensorflow.installed"]


@pytest.fixture(scope="module")
def world(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A provisioned host."""
    kinds = {"box": Kind("1c30", HWE, True, "525.105.17", "archive")}
    with World(tmp_path_factory.mktemp("update"), kinds, nvidia_driver_reboot=True) as made:
        made.plan()
        made.controller.ok(*SITE, timeout=1500)
        yield made


class TestUpdate:
    """The archive has what the lock names, then a newer kernel and a newer driver."""

    def test_nothing_newer(self, world: World) -> None:
        """It says so, and changes nothing."""
        done = world.controller.ok(*UPDATE)
        assert "there is nothing to update" in " ".join(done.out.split()) and done.changed("box") == 0

    def test_it_is_shown_first(self, world: World) -> None:
        """What would come, in a few lines; the host and its lock stay as they are."""
        world.archive.add(next_month())
        bed = world.beds["box"]
        bed.run(["apt-get", "update"])
        before, lock = packages(bed), world.controller.lock_file("box").read_bytes()
        done = world.controller.ok(*UPDATE, "--check", "--diff")
        assert f"kernel: {HWE} -> {NEXT}" in done.out and f"driver: {OLD} -> {NEW}" in done.out, done.out
        assert f"linux-image-{NEXT} {NEXT_HWE.version}" in done.out
        assert packages(bed) == before and world.controller.lock_file("box").read_bytes() == lock
        assert sorted(path.name for path in world.controller.lock_file("box").parent.glob("stack*")) == ["stack.json"]

    def test_a_run_that_is_cut_off_is_finished_by_the_next(self, world: World) -> None:
        """The power goes while the packages are being installed. The lock is the old one until all is done."""
        bed, lock = world.beds["box"], world.controller.lock_file("box").read_bytes()
        steps = Steps(bed)
        run = world.controller.start(*UPDATE)
        deadline = time.monotonic() + 3600  # for a run that hangs: one that has ended is a failure at once
        while "installing exactly" not in steps.told():
            assert run.poll() is None and time.monotonic() < deadline, world.controller.said()[-3000:]
            time.sleep(0.05)
        bed.kill()
        world.controller.kill(run)
        bed.boot()
        assert world.controller.lock_file("box").read_bytes() == lock
        world.controller.ok(*UPDATE, timeout=1500)
        installed = driver_packages(bed)
        assert installed["nvidia-driver-525"] == NEW and installed["linux-generic-hwe-18.04"] == NEXT_HWE.meta_version
        assert {f"linux-image-{kernel}" for kernel in (HWE, NEXT)} <= set(installed)
        assert {f"linux-modules-nvidia-525-{kernel}" for kernel in (HWE, NEXT)} <= set(installed)
        record = state(bed, "driver")
        assert record is not None and record["kernel"] == NEXT
        assert "525.125.06" in bed.run(["cat", "/proc/driver/nvidia/version"]).stdout
        assert "Canonical" in bed.signer(NEXT)
        assert bed.run(["dpkg", "--audit"]).stdout == ""

    def test_the_lock_is_what_is_installed(self, world: World) -> None:
        """Every .deb of the driver, for the new kernel; the old lock is the record of the generation before."""
        driver = world.controller.lock("box")["plan"]["driver"]
        assert (driver["package_version"], driver["modules"]["kernel"]) == (NEW, NEXT)
        installed = driver_packages(world.beds["box"])
        assert {deb["name"]: deb["version"] for deb in driver["packages"]} == {
            name: installed[name] for name in installed if "nvidia" in name
        }
        assert world.controller.ok(*UPDATE).changed("box") == 0
        assert world.controller.ok(*SITE).changed("box") == 0
        shown = world.controller.ok("playbooks/rollback.yml", "--check", "--skip-tags", "verify,nvidia_driver")
        assert "going back to generation 1" in shown.out and "525.105.17" in shown.out

    def test_the_guard_holds_what_came(self, world: World) -> None:
        """The next updates pass kernel, driver and what leads to the kernel by."""
        bed = world.beds["box"]
        before = driver_packages(bed)
        bed.run(["unattended-upgrade"], timeout=900)
        assert driver_packages(bed) == before
        held = bed.run(["apt-mark", "showhold"]).stdout.split()
        assert {f"linux-image-{NEXT}", "linux-generic-hwe-18.04", "nvidia-driver-525"} <= set(held)

    def test_the_host_is_as_its_lock_says(self, world: World) -> None:
        """What was left out is all that fails."""
        report = world.controller.verify("--no-benchmark")["box"]
        assert with_status(report, "fail") == LEFT_OUT, world.controller.verified[-3000:]

    def test_the_way_back(self, world: World) -> None:
        """As docs/how-to/updates.md has it: the newer kernel goes, and the generation before comes with its driver."""
        bed, controller = world.beds["box"], world.controller
        back = ("playbooks/rollback.yml", "--skip-tags", "verify")
        assert "(D08)" in controller.run(*back).failure("box")
        controller.ok("playbooks/guard.yml", "--tags", "release")
        newer = [f"linux-image-{NEXT}", f"linux-headers-{NEXT}"]
        bed.run(["apt-get", "purge", "--yes", *newer], env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=600)
        controller.ok(*back, timeout=900)
        driver = controller.lock("box")["plan"]["driver"]
        assert (driver["package_version"], driver["modules"]["kernel"]) == (OLD, HWE)
        installed = {name: version for name, version in driver_packages(bed).items() if "nvidia" in name}
        locked = {deb["name"]: deb["version"] for deb in driver["packages"]}
        assert {name: installed.get(name) for name in locked} == locked
        # What apt had brought along for that kernel is left for `apt-get autoremove`.
        assert all(name.endswith(NEXT) for name in installed if name not in locked)
