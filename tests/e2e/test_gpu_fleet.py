"""Imitation Ubuntu 18.04 hosts with different cards become GPU hosts, and updates do not break them.

The hosts are made by `beds/ubuntu.py`: apt, dpkg, systemd, ssh, kmod and DKMS are real. Imitated are the payloads of
the archive, NVIDIA's installers, the card, and the kernel's loading of modules; README.md says what that proves and
what not. Ansible runs outside and reaches the hosts over ssh, as with a fleet. The tests build on one another.
"""

from __future__ import annotations

import re
from typing import Iterator, List

import pytest

from gpuhost.planning import contents
from gpuhost.planning.catalog import shipped

from .beds.archive import next_month
from .beds.packages import next_month_others
from .beds.releases import BIONIC
from .beds.snapshot import Snapshot
from .controller import Json, with_status
from .fleet import GA, HWE, WATCHED, Kind, World, driver_packages, packages, state

KINDS = {
    "gtx750ti": Kind("1380", GA, False, "525.105.17", "archive"),
    "p2000": Kind("1c30", HWE, False, "525.105.17", "archive"),
    "rtx3090": Kind("2204", HWE, True, "525.105.17", "archive"),
    "k80": Kind("102d", GA, False, "470.182.03", "archive"),
    "h200": Kind("2335", HWE, True, "550.163.01", "runfile"),
}
#: A stand-in of nvcc compiles nothing, so OpenCV is left out here; tests/opencv builds it.
SITE = ("site.yml", "--skip-tags", "verify,opencv,yolo,tensorflow")
WHOLE = ("site.yml", "--skip-tags", "verify,opencv,yolo")
#: The libraries of CUDA are stand-ins too, which compute nothing.
UNPROVED = ["opencv.installed", "tensorflow.gpu"]


#: Signed modules of Canonical's and NVIDIA's `.run`, both under Secure Boot. test_rebuild.py has a host without it.
FEW = ("rtx3090", "h200")


@pytest.fixture(scope="module", params=[FEW, pytest.param(tuple(KINDS), marks=pytest.mark.full)], ids=len)
def world(bed_tools: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    """The hosts, fresh from their installation; one of them has Ubuntu Pro's sources."""
    kinds = {name: KINDS[name] for name in request.param}
    with World(tmp_path_factory.mktemp("fleet"), kinds, nvidia_driver_reboot=True) as made:
        made.beds["rtx3090"].attach_pro()
        yield made


class TestFleet:
    """From fresh hosts to provisioned ones."""

    def test_ubuntu_pro_offers_drivers_too(self, world: World) -> None:
        """Else the tests below, in which that host's sources are in order, would say little."""
        said = world.beds["rtx3090"].run(["apt-cache", "policy", "nvidia-driver-390"]).stdout
        assert "http://esm.ubuntu.com" in said and "Candidate: 390.157.99" in said

    def test_each_card_gets_its_driver(self, world: World) -> None:
        """The locks, as the resolver makes them from what the probe reads there."""
        world.plan()
        for name, kind in world.kinds.items():
            driver = world.controller.lock(name)["plan"]["driver"]
            assert (driver["version"], driver["source"]) == (kind.driver, kind.source), name
            assert (driver["modules"] or {"kernel": kind.kernel})["kernel"] == kind.kernel
        assert world.controller.lock("rtx3090")["plan"]["driver"]["secure_boot"] == "signed"
        assert world.controller.lock("h200")["plan"]["driver"]["secure_boot"] == "own-key"

    def test_a_dry_run_changes_nothing(self, world: World) -> None:
        """`--check --diff` on bare hosts shows what would come, and leaves them as they are; one host of each kind."""
        before = {name: world.beds[name].snapshot(WATCHED) for name in FEW}
        done = world.controller.ok(*SITE, "--check", "--diff", "--limit", ",".join(FEW))
        assert "nvidia-driver-525 525.105.17-0ubuntu0.18.04.1" in done.out
        for name, snapshot in before.items():
            assert snapshot.changes_to(world.beds[name].snapshot(WATCHED)) == [], name
            assert done.changed(name) > 0

    def test_they_converge(self, world: World) -> None:
        """One command; only the host that needs a person at its console stops, with what to do there."""
        done = world.controller.run(*SITE, timeout=1500)
        stopped = [name for name in world.kinds if done.recap[name]["failed"]]
        assert stopped == ["h200"], done.out[-6000:]
        told = done.failure("h200")
        assert "mokutil --import /var/lib/shim-signed/mok/MOK.der" in told and "Enroll MOK" in told
        world.enrol("h200")
        world.controller.ok(*SITE, "--limit", "h200")
        for name, kind in world.kinds.items():
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
        assert {name: done.changed(name) for name in world.kinds} == dict.fromkeys(world.kinds, 0)

    def test_verify_passes_what_can_pass(self, world: World) -> None:
        """And names what is not there: TensorFlow and OpenCV were left out."""
        reports = world.controller.verify("--no-benchmark")
        for name, report in reports.items():
            assert with_status(report, "fail") == ["opencv.installed", "tensorflow.installed"], (
                name,
                world.controller.verified[-3000:],
            )

    @pytest.mark.full
    def test_with_tensorflow(self, world: World) -> None:
        """TensorFlow too, on one of them: OpenCV fails then, and what no bed can prove, a card that computes."""
        world.controller.ok(*WHOLE, "--limit", "p2000", timeout=1500)
        assert world.controller.ok(*WHOLE, "--limit", "p2000").changed("p2000") == 0
        report = world.controller.verify("--no-benchmark", only="p2000")["p2000"]
        assert with_status(report, "fail") == UNPROVED, world.controller.verified[-3000:]
        assert report["verdict"] == "broken"


def changes(before: Snapshot, after: Snapshot) -> List[str]:
    """What is otherwise on a host, but for our own log."""
    return [line for line in before.changes_to(after) if " /opt/gpuhost/log/" not in line]


class TestForeignSources:
    """The mistake that docs/why.md begins with, on one host of the fleet."""

    def test_sources_of_other_releases_are_refused(self, world: World) -> None:
        """16.04 and 20.04 beside 18.04: each named, with the command that removes it, before anything is changed."""
        bed = world.beds["rtx3090"]
        for release in ("xenial", "focal"):
            line = f"deb {world.archive.url} {release} main"
            bed.run(["sh", "-c", f"echo '{line}' > /etc/apt/sources.list.d/{release}.list"])
        before = bed.snapshot(WATCHED)
        done = world.controller.run(*SITE, "--limit", "rtx3090")
        told = done.failure("rtx3090")
        assert done.rc != 0 and done.changed("rtx3090") == 0
        assert before.changes_to(bed.snapshot(WATCHED)) == []
        for release in ("xenial", "focal"):
            remedy = f"rm /etc/apt/sources.list.d/{release}.list && apt-get update"
            assert release in told and remedy in told
            # While the other source is there, apt still asks its server for a release that it does not have.
            bed.run(["sh", "-c", remedy], check=False)
        bed.run(["apt-get", "update"])
        assert world.controller.ok(*SITE, "--limit", "rtx3090").changed("rtx3090") == 0


class TestArtifacts:
    """What can go wrong with a download, on one host of the fleet: CUDA 10.0 is put beside what it has."""

    @staticmethod
    def ask_for(world: World) -> Json:
        """A runfile that is neither on the host nor in the controller's cache; the lock names it from now on."""
        made: Json = world.mirror.artifact("cuda", "10.0.130")
        row = next(row for row in shipped().cuda["releases"] if row["version"] == "10.0.130")

        def edit(lock: Json) -> None:
            part = lock["plan"]["cuda"]
            part.update(version="10.0.130", series="10.0", file=made["name"], sha256=made["sha256"])
            part["url"] = row["runfile"]["url"]
            lock["contents"] = contents.of(lock["plan"])["contents"]

        world.controller.edit_lock("rtx3090", edit)
        return made

    @pytest.mark.full
    @pytest.mark.parametrize(
        ("kind", "count", "told"),
        [
            ("truncate", 1000, "sha256"),
            ("corrupt", 1000, "sha256"),
            ("swap", 0, "sha256"),
            ("absent", 0, "404"),
            ("drop", 1000, "could not be fetched"),
        ],
    )
    def test_a_bad_download(self, world: World, kind: str, count: int, told: str) -> None:
        """A clear error, and the host as before."""
        artifact, bed, more = self.ask_for(world), world.beds["rtx3090"], {}
        if kind == "swap":
            more = {"other": world.mirror.artifact("cuda", "11.8.0")}
        before = bed.snapshot(WATCHED)
        world.mirror.order(artifact, kind, count, **more)
        done = world.controller.run("playbooks/cuda.yml", "--limit", "rtx3090")
        world.mirror.repair()
        assert done.rc != 0 and told in done.failure("rtx3090"), done.out[-2000:]
        assert changes(before, bed.snapshot(WATCHED)) == []

    @pytest.mark.full
    def test_a_full_disk(self, world: World) -> None:
        """The same."""
        self.ask_for(world)
        bed = world.beds["rtx3090"]
        bed.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/opt/gpuhost/cache/artifacts"])
        before = bed.snapshot(WATCHED)
        done = world.controller.run("playbooks/cuda.yml", "--limit", "rtx3090")
        after = bed.snapshot(WATCHED)
        bed.run(["umount", "/opt/gpuhost/cache/artifacts"])
        assert done.rc != 0 and "0 MB are free" in done.failure("rtx3090"), done.out[-2000:]
        assert changes(before, after) == []

    @pytest.mark.full
    def test_two_toolkits_side_by_side(self, world: World) -> None:
        """Now it goes through; both compilers answer, and removing one leaves the other working."""
        self.ask_for(world)
        bed = world.beds["rtx3090"]
        world.controller.ok("playbooks/cuda.yml", "--limit", "rtx3090")

        def nvcc(name: str) -> str:
            return bed.run([f"/opt/gpuhost/current/{name}/bin/nvcc", "--version"], check=False).stdout

        assert "release 10.0" in nvcc("cuda") and "release 10.0" in nvcc("cuda-10.0")
        assert "release 11.8" in nvcc("cuda-11.8")
        remove = ("playbooks/cuda.yml", "--limit", "rtx3090", "--tags", "remove", "-e", "cuda_remove=11.8.0")
        world.controller.ok(*remove)
        assert nvcc("cuda-11.8") == "" and "release 10.0" in nvcc("cuda")


class TestAccident:
    """What docs/why.md tells, replayed on one host of the fleet."""

    @pytest.mark.full
    def test_an_update_passes_the_stack_by(self, world: World) -> None:
        """The archive gains driver, libraries, kernel and others; unattended-upgrades really runs."""
        bed = world.beds["p2000"]
        before, others = driver_packages(bed), packages(bed)
        world.archive.add(next_month())
        bed.run(["apt-get", "update"])
        bed.run(["unattended-upgrade", "--verbose"], timeout=600)
        assert driver_packages(bed) == before
        after = packages(bed)
        for unrelated in next_month_others(BIONIC):
            assert after[unrelated.name] == unrelated.version != others[unrelated.name]
        bed.reboot()
        report = world.controller.verify("--no-benchmark", only="p2000")["p2000"]
        assert with_status(report, "fail") == UNPROVED, world.controller.verified[-3000:]

    @pytest.mark.full
    def test_without_the_guard_the_same_run_breaks_the_host(self, world: World) -> None:
        """And verify/ says what has happened, with the fix."""
        bed = world.beds["p2000"]
        before = driver_packages(bed)
        done = world.controller.ok("playbooks/guard.yml", "--limit", "p2000", "--tags", "release")
        assert done.changed("p2000") > 0
        bed.run(["unattended-upgrade", "--verbose"], timeout=600)
        assert driver_packages(bed) != before
        report = world.controller.verify("--no-benchmark", only="p2000")["p2000"]
        found = {check["id"]: check for check in report["checks"] if check["status"] == "fail"}
        assert {check["diagnosis"] for check in found.values()} & {"D01", "D02"}, world.controller.verified[-4000:]
        assert all(check["remediation"] for check in found.values())

    @pytest.mark.full
    def test_the_same_command_brings_it_back(self, world: World) -> None:
        """From the files that were kept, because the archive no longer has the locked version; and it holds again."""
        bed = world.beds["p2000"]
        refused = world.controller.run(*SITE, "--limit", "p2000").failure("p2000")
        assert "D08" in refused, refused
        command = re.findall(r"On the host, as root:\s+(apt-get purge .*?)\s+Or here:", refused)[0]
        bed.run(["sh", "-c", f"{command} --yes"])
        world.controller.ok(*SITE, "--limit", "p2000")
        found = packages(bed)
        assert found["nvidia-driver-525"] == found["libnvidia-compute-525"] == "525.105.17-0ubuntu0.18.04.1"
        assert "525.105.17" in world.installed("p2000")["loaded"]
        report = world.controller.verify("--no-benchmark", only="p2000")["p2000"]
        assert with_status(report, "fail") == UNPROVED, world.controller.verified[-3000:]
        assert world.controller.ok(*SITE, "--limit", "p2000").changed("p2000") == 0
