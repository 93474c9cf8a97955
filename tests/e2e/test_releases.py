"""One imitation host of each Ubuntu release after 18.04 becomes a GPU host, and the accident is replayed on it.

Its sources are written as that release's installer writes them; driver lines, kernels and Python are that release's
too, and its archive has both kinds of kernel module. What `test_gpu_fleet.py` and `test_guard_ubuntu.py` show on 18.04
is shown here in one go; README.md says what is real in it. The tests build on one another.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, NamedTuple

import pytest

from gpuhost.planning import contents

from .beds.archive import next_month
from .beds.packages import next_month_others
from .beds.releases import FOCAL, JAMMY, NOBLE, RESOLUTE, Release
from .controller import with_status
from .fleet import WATCHED, Kind, World, driver_packages, packages, state
from .walk import timed, told

#: A stand-in of nvcc compiles nothing, so OpenCV is left out here; TensorFlow's own tests install it.
SITE = ("site.yml", "--skip-tags", "verify,opencv,yolo,tensorflow")
LEFT_OUT = ["opencv.installed", "tensorflow.installed"]


class Case(NamedTuple):
    """A release, a card, what its lock must come to, and what is left out for it."""

    release: Release
    card: str
    driver: str
    package: str
    modules: str
    cuda: str
    without: str = ""

    @property
    def kind(self) -> Kind:
        """The host, with the release's newer kernel and Secure Boot."""
        return Kind(self.card, self.release.kernels[1].release, True, self.driver, "archive")


CASES = {
    "ubuntu-20.04": Case(
        FOCAL, "2684", "535.183.01", "nvidia-driver-535", "linux-modules-nvidia-535-generic-hwe-20.04", "11.8.0"
    ),
    "ubuntu-22.04": Case(
        JAMMY, "2684", "580.173.02", "nvidia-driver-580", "linux-modules-nvidia-580-generic-6.8", "12.5.1"
    ),
    "ubuntu-24.04": Case(
        NOBLE, "2684", "580.178.04", "nvidia-driver-580", "linux-modules-nvidia-580-generic-7.0", "12.5.1"
    ),
    # CUDA comes from NVIDIA's wheels there, which are fetched for real.
    "ubuntu-26.04": Case(
        RESOLUTE,
        "2b85",
        "595.91.07",
        "nvidia-driver-595-open",
        "linux-modules-nvidia-595-open-generic-7.0",
        "13.2.1",
        "tensorflow",
    ),
}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.full) for name in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    """Each release in turn."""
    return CASES[request.param]


@pytest.fixture(scope="module")
def world(case: Case, bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One host of the release, fresh from its installation."""
    variables: Dict[str, Any] = {"nvidia_driver_reboot": True}
    if case.without:
        variables["gpu_stack_without"] = [case.without]
    with World(tmp_path_factory.mktemp("release"), {"box": case.kind}, case.release, **variables) as made:
        yield made


def test_the_sources_are_the_installers(world: World, case: Case) -> None:
    """Else the rest would say little of a host of that release."""
    bed = world.beds["box"]
    lines = bed.run(["cat", "/etc/apt/sources.list"]).stdout.splitlines()
    assert bool([line for line in lines if line.startswith("deb ")]) != case.release.deb822
    if case.release.deb822:
        assert "Types: deb" in bed.run(["cat", "/etc/apt/sources.list.d/ubuntu.sources"]).stdout
    assert "Modaliases: nvidia_driver_" in bed.run(["apt-cache", "show", case.package]).stdout


def test_the_lock_names_the_driver_of_the_archive(world: World, case: Case) -> None:
    """With the signed modules for the kernel that will boot, by the package that the release has for it."""
    world.plan()
    plan = world.controller.lock("box")["plan"]
    driver = plan["driver"]
    assert (plan["platform"], driver["version"], driver["package"]) == (
        case.release.platform,
        case.driver,
        case.package,
    )
    assert driver["modules"]["package"] == case.modules
    assert driver["modules"]["kernel"] == case.kind.kernel
    assert (driver["modules_from"], driver["secure_boot"], plan["cuda"]["version"]) == ("signed", "signed", case.cuda)
    assert contents.platform(plan)["codename"] == case.release.codename


def test_a_dry_run_changes_nothing(world: World) -> None:
    """`--check --diff` on the bare host."""
    bed = world.beds["box"]
    before = bed.snapshot(WATCHED)
    assert world.controller.ok(*SITE, "--check", "--diff").changed("box") > 0
    assert before.changes_to(bed.snapshot(WATCHED)) == []


def test_it_converges_and_is_verified(world: World, case: Case) -> None:
    """One command, a second one that changes nothing, and every check passes that can."""
    where = case.release.platform
    told(where, "site.yml on a fresh host", world.controller.ok(*SITE, timeout=1500).seconds)
    found = world.installed("box")
    assert case.driver in found["loaded"] and found["module"] == case.driver
    assert "Canonical" in found["signer"] and found["audit"] == ""
    assert f"release {'.'.join(case.cuda.split('.')[:2])}" in found["nvcc"]
    kind = "open" if case.package.endswith("-open") else "proprietary"
    assert ("Open Kernel Module" in found["loaded"]) == (kind == "open")
    record = state(world.beds["box"], "driver")
    assert record is not None and record["version"] == case.driver
    again = world.controller.ok(*SITE)
    told(where, "the second run", again.seconds)
    assert again.changed("box") == 0
    left_out = [name for name in LEFT_OUT if not case.without or not name.startswith(case.without)]
    with timed(where, "pytest verify/"):
        report = world.controller.verify("--no-benchmark")["box"]
    assert with_status(report, "fail") == left_out, world.controller.verified[-3000:]


def test_an_update_passes_the_stack_by(world: World, case: Case) -> None:
    """The archive gains driver, modules, kernels and others; unattended-upgrades really runs."""
    bed = world.beds["box"]
    before = driver_packages(bed)
    world.archive.add(next_month(case.release))
    bed.run(["apt-get", "update"])
    bed.run(["unattended-upgrade", "--verbose"], timeout=900)
    assert driver_packages(bed) == before
    after = packages(bed)
    for unrelated in next_month_others(case.release):
        assert after[unrelated.name] == unrelated.version
    bed.reboot()
    assert case.driver in world.installed("box")["loaded"]
    assert world.controller.ok(*SITE).changed("box") == 0


def test_without_the_guard_the_same_run_breaks_the_host(world: World) -> None:
    """And verify/ says what has happened, with the fix."""
    bed = world.beds["box"]
    before = driver_packages(bed)
    world.controller.ok("playbooks/guard.yml", "--tags", "release")
    bed.run(["unattended-upgrade", "--verbose"], timeout=900)
    assert driver_packages(bed) != before
    report = world.controller.verify("--no-benchmark")["box"]
    found = [check for check in report["checks"] if check["status"] == "fail"]
    assert {check["diagnosis"] for check in found} & {"D01", "D02"}, world.controller.verified[-4000:]
    assert all(check["remediation"] for check in found)
