"""`playbooks/update.yml` with update_once, on an imitation Ubuntu 18.04 under Secure Boot: booted once, kept or undone.

Each test goes on from where the one before it left the host. The boot loader, kernels and modules are imitated
(`beds/firmware.py`), so a kernel that panics is one that the imitation starts again.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from .beds import BedError
from .beds.archive import next_month
from .beds.driver_packages import computing
from .beds.ubuntu import UbuntuBed
from .controller import with_status
from .fleet import HWE, Kind, Steps, World, driver_packages, state
from .test_update import LEFT_OUT, NEW, NEXT, SITE, UPDATE

pytestmark = pytest.mark.full
Json = Dict[str, Any]
ONCE = (*UPDATE, "-e", "update_once=true")
AGAIN = (*ONCE, "-e", "update_again=true")
FIRST, SECOND = "525.105.17", "525.125.06"
COMPUTE = "libnvidia-compute-525"
#: Packages that differ between the pairs, each with what is installed of it.
LOCKED = "nvidia-driver-525"


@pytest.fixture(scope="module")
def world(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The host that is updated."""
    with moved_on(tmp_path_factory.mktemp("once")) as made:
        yield made


@contextlib.contextmanager
def moved_on(folder: Path) -> Iterator[World]:
    """A provisioned host whose CUDA answers, and an archive that has moved on."""
    kinds = {"box": Kind("1c30", HWE, True, FIRST, "archive")}
    with World(folder, kinds, nvidia_driver_reboot=True, watch_enabled=True) as made:
        answering(made, FIRST)
        made.beds["box"].run(["apt-get", "update"])
        made.plan()
        made.controller.ok(*SITE, timeout=1500)
        made.archive.add(next_month())
        answering(made, SECOND)
        yield made


def answering(world: World, version: str) -> None:
    """Let the archive's CUDA library start, and see a card."""
    own = world.archive.package(COMPUTE)
    world.archive.debs([COMPUTE])[0].unlink()
    world.archive.add([computing(own, version)])


def pair(bed: UbuntuBed) -> Json:
    """The record of the update."""
    found = state(bed, "pair")
    assert found is not None
    return found


def settled(bed: UbuntuBed, deadline_s: float = 900) -> Json:
    """The record once the host has come to an end with it, after however many restarts of its own."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        with contextlib.suppress(BedError, ValueError):  # it is off for a moment
            found = state(bed, "pair")
            if found is not None and (found["state"] == "proved" or found["recovered"]):
                return found
        time.sleep(1)
    raise AssertionError(f"it does not settle: {pair(bed)}")


def works(bed: UbuntuBed, kernel: str, version: str) -> None:
    """A whole pair runs, and nothing is left half-done."""
    loaded = bed.run(["cat", "/proc/driver/nvidia/version"]).stdout
    assert version in loaded and bed.run(["cat", "/proc/sys/kernel/osrelease"]).stdout.strip() == kernel
    assert driver_packages(bed)[LOCKED].startswith(version) and bed.run(["dpkg", "--audit"]).stdout == ""
    record = state(bed, "driver")
    assert record is not None and (record["kernel"], record["version"]) == (kernel, version)
    assert bed.run(["modinfo", "-k", kernel, "-F", "version", "nvidia"]).stdout.strip() == version
    assert bed.run(["test", "-e", "/etc/modprobe.d/00-gpuhost-trial.conf"], check=False).returncode == 1


class TestUpdateOnce:
    """The archive has a newer kernel and a newer driver."""

    def test_a_boot_loader_that_cannot_write_is_refused(self, world: World) -> None:
        """Before anything is changed, with why and with what is left."""
        bed = world.beds["box"]
        bed.run(["sh", "-c", "echo lvm >/etc/grub-probe.abstraction"])
        before = driver_packages(bed)
        said = world.controller.run(*ONCE).failure("box")
        bed.run(["rm", "/etc/grub-probe.abstraction"])
        assert "GRUB cannot write to lvm" in said and "without update_once" in said
        assert driver_packages(bed) == before and state(bed, "pair") is None

    def test_a_kernel_that_panics_is_undone(self, world: World) -> None:
        """The old kernel and the old driver run again, by the host alone; the run says why."""
        bed = world.beds["box"]
        bed.firmware.panics = {NEXT}
        said = world.controller.run(*ONCE, timeout=1500).failure("box")
        assert f"kernel {NEXT} was started and did not come up" in said and "docs/runbooks/undone.md" in said
        works(bed, HWE, FIRST)
        found = pair(bed)
        assert (found["state"], found["tries"], found["restarts"] <= 2) == ("undone", 0, True)
        # The new kernel stays installed beside it, and does not boot.
        assert f"linux-image-{NEXT}" in driver_packages(bed)

    def test_it_is_told(self, world: World) -> None:
        """At the login, in the journal and by the watch, which finds nothing wrong."""
        bed = world.beds["box"]
        bed.run(["systemctl", "start", "gpuhost-watch"])
        watch = state(bed, "watch")
        assert watch is not None and watch["status"] == "ok" and "did not come up" in watch["notes"][0]
        assert "was undone" in bed.run(["/etc/update-motd.d/95-gpuhost"]).stdout
        assert "did not come up" in bed.run(["journalctl", "-u", "gpuhost-pair", "--no-pager"]).stdout

    def test_the_same_pair_is_not_tried_again_unasked(self, world: World) -> None:
        """The run ends before anything is changed, with the reason."""
        bed = world.beds["box"]
        before = driver_packages(bed)
        said = world.controller.run(*ONCE).failure("box")
        assert "was tried on this host and undone" in said and "update_again=true" in said
        assert driver_packages(bed) == before

    def test_a_driver_that_refuses_the_card_is_undone(self, world: World) -> None:
        """Asked for once more, it is tried once more."""
        bed = world.beds["box"]
        bed.firmware.panics, bed.firmware.refuses = set(), {SECOND}
        said = world.controller.run(*AGAIN, timeout=1500).failure("box")
        assert "driver.nodes" in said
        works(bed, HWE, FIRST)

    @pytest.mark.parametrize("seed", range(3))
    def test_the_power_goes_while_packages_are_installed(self, world: World, seed: int) -> None:
        """The host goes back to the whole old pair at its next start."""
        bed = world.beds["box"]
        bed.firmware.refuses = set()
        steps = Steps(bed)
        run = world.controller.start(*AGAIN)
        deadline = time.monotonic() + 3600
        while "installing exactly" not in steps.told():
            assert run.poll() is None and time.monotonic() < deadline, world.controller.said()[-3000:]
            time.sleep(0.05)
        time.sleep(random.Random(seed).uniform(0, 5))  # noqa: S311 - a moment, not a secret
        bed.kill()
        world.controller.kill(run)
        with contextlib.suppress(BedError):  # its boot lasts until the old pair is back
            bed.boot()
        found = settled(bed)
        assert found["state"] == "undone" and "cut off" in found["reason"]
        works(bed, HWE, FIRST)
        print(json.dumps({key: found[key] for key in ("state", "reason", "restarts", "failed")}))

    def test_one_that_is_right_becomes_the_default(self, world: World) -> None:
        """Booted once, judged, and kept; the lock and the guard follow, and the old kernel stays."""
        bed = world.beds["box"]
        done = world.controller.ok(*AGAIN, timeout=1500)
        assert "is booted once and judged" in " ".join(done.out.split())
        works(bed, NEXT, SECOND)
        assert pair(bed)["state"] == "proved"
        driver = world.controller.lock("box")["plan"]["driver"]
        assert (driver["package_version"], driver["modules"]["kernel"]) == (NEW, NEXT)
        held = set(bed.run(["apt-mark", "showhold"]).stdout.split())
        assert {f"linux-image-{HWE}", f"linux-image-{NEXT}", "nvidia-driver-525"} <= held
        bed.reboot()
        works(bed, NEXT, SECOND)
        assert world.controller.ok(*ONCE).changed("box") == 0

    def test_the_host_is_as_its_lock_says(self, world: World) -> None:
        """What was left out is all that fails."""
        report = world.controller.verify("--no-benchmark")["box"]
        assert with_status(report, "fail") == LEFT_OUT, world.controller.verified[-3000:]
