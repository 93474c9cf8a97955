"""The accident on an imitation Ubuntu 18.04 with a Quadro P2000, and what verify/ says of driver and guard.

The names of the packages are its own, and it is rebooted. The guard is put up by ssh, under the host's Python.
One bed serves the tests in the order they stand; the driver is installed by hand, as its role would.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from gpuhost.checks import card as checks_card
from gpuhost.checks import driver as checks_driver
from gpuhost.checks import guard as checks_guard
from gpuhost.checks import toolkit as checks_gpu
from gpuhost.checks.base import FAIL, PASS, Result
from gpuhost.checks.base import held as outcome
from gpuhost.diagnoses import verdict as checks
from gpuhost.planning import lock, plan
from gpuhost.planning.request import request_of
from gpuhost.planning.resolve import resolver
from gpuhost.verification import collect as checks_collect
from gpuhost.verification.expected import expected

from .beds.archive import next_month
from .beds.bed import PROJECT
from .beds.ubuntu import UbuntuBed

Json = Dict[str, Any]
KERNEL = "5.4.0-150-generic"
MODULES = "linux-modules-nvidia-525-generic-hwe-18.04"
GIVEN = ("lock.present", "lock.provisioned")
DRIVER = (*checks_driver.INSTALLED, *checks_guard.CHECKS, *checks_driver.CHECKS, *checks_card.CHECKS)
JUDGED = ["lock.cards", *(c.id for c in (*checks_gpu.CARD, *DRIVER))]


def machine(bed: UbuntuBed) -> Json:
    """What verify/ reads of the host."""

    def run(command: str) -> Tuple[int, str, str]:
        done = bed.run(["sh", "-c", command], check=False)
        return done.returncode, done.stdout, done.stderr

    return checks_collect.machine(run, "/opt/gpuhost")


def verified(bed: UbuntuBed, locked: Json) -> Dict[str, Result]:
    """The results of verify/'s checks of the card, the driver and the guard."""
    found = machine(bed)
    seen = {"lock": locked, "machine": found, "expected": expected(locked, found), "options": {"require_gpu": False}}
    # Whether there is a lock in force is not a question here.
    results = {name: checks.result(checks.BY_ID[name], outcome(True, "", "", "")) for name in GIVEN}
    for name in JUDGED:
        results[name] = checks.judge(checks.BY_ID[name], seen, results)
    return results


def failed(results: Dict[str, Result]) -> List[str]:
    """The checks that failed."""
    return [name for name, result in results.items() if result.status == FAIL]


def versions(bed: UbuntuBed) -> Dict[str, str]:
    """The installed packages by name."""
    listed = bed.run(["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n"]).stdout
    rows = [line.split() for line in listed.splitlines()]
    return {name: version for name, version, state in rows if state == "installed"}


class Guard:
    """The playbook, from this machine."""

    def __init__(self, bed: UbuntuBed, folder: Path) -> None:
        """Write the inventory."""
        self.inventory, self.folder = folder / "hosts.json", folder
        self.inventory.write_text(json.dumps({"gpu_hosts": {"hosts": bed.inventory("box")}}))

    def play(self, *arguments: str) -> Tuple[str, int]:
        """Run it; what it says on one line, and how much it changed."""
        keep = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        env = {**keep, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_HOME": str(self.folder / "home")}
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(self.inventory), "playbooks/guard.yml"]
        done = subprocess.run(
            [*command, *arguments], cwd=str(PROJECT), env=env, capture_output=True, text=True, check=False
        )
        found = re.findall(r"^box\s*:.*changed=(\d+).*failed=0", done.stdout, re.MULTILINE)
        assert done.returncode == 0 and found, done.stdout[-3000:] + done.stderr[-1000:]
        return " ".join(done.stdout.split()), int(found[-1])


@pytest.fixture(scope="module")
def bed(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UbuntuBed]:
    """A host with the driver in place and loaded."""
    with UbuntuBed.fresh(cards=["1c30"], kernel=KERNEL, logs=tmp_path_factory.mktemp("guard")) as made:
        apt = ["apt-get", "install", "-y", "--no-install-recommends", "nvidia-driver-525", MODULES]
        made.run(apt, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=900)
        made.run(["sh", "-c", "echo blacklist nouveau > /etc/modprobe.d/gpuhost-nouveau.conf"])
        made.run(["update-initramfs", "-u", "-k", KERNEL], timeout=300)
        record = {
            "schema": 1,
            "source": "archive",
            "version": "525.105.17",
            "branch": "525",
            "kernel": KERNEL,
            "modules_from": "signed",
            "packages": {name: version for name, version in versions(made).items() if "nvidia" in name},
            "debs": {},
            "plan": "0",
        }
        folder = tmp_path_factory.mktemp("record")
        (folder / "driver.json").write_text(json.dumps(record))
        made.push(folder / "driver.json", "/opt/gpuhost/state/driver.json")
        made.reboot()
        yield made


@pytest.fixture(scope="module")
def locked(bed: UbuntuBed) -> Json:
    """The lock that this host gets."""
    observation, found = machine(bed)["observation"], resolver()
    return lock.make("box", observation, plan.make(found, request_of(found, observation, {})))


@pytest.fixture(scope="module")
def guard(bed: UbuntuBed, tmp_path_factory: pytest.TempPathFactory) -> Guard:
    """The playbook for this host."""
    return Guard(bed, tmp_path_factory.mktemp("controller"))


class TestAccident:
    """With the guard, then without."""

    def test_verify_asks_for_the_guard_and_for_nothing_else(self, bed: UbuntuBed, locked: Json) -> None:
        """The driver is right; what is missing is what keeps it so."""
        assert locked["plan"]["driver"]["version"] == "525.105.17"
        assert failed(verified(bed, locked)) == ["guard.holds"]

    def test_the_guard_goes_up_and_is_proved(self, bed: UbuntuBed, guard: Guard, locked: Json) -> None:
        """Now every check of card, driver and guard passes, and a second run changes nothing."""
        said, changed = guard.play("--diff")
        assert changed == 1 and "Proved with apt-get dist-upgrade and unattended-upgrade" in said
        results = verified(bed, locked)
        assert {name: results[name].status for name in JUDGED} == {name: PASS for name in JUDGED}
        assert guard.play()[1] == 0

    def test_an_unattended_update_and_a_reboot_do_no_harm(self, bed: UbuntuBed, guard: Guard, locked: Json) -> None:
        """The archive has gained a driver, kernels and unrelated packages."""
        before = versions(bed)
        bed.archive.add(next_month())
        bed.run(["apt-get", "update"])
        said, changed = guard.play("-e", "apt_guard_prove=true")
        assert changed == 0 and re.search(r"none of \d+ held packages is touched, [1-9]\d* others are upgraded", said)
        bed.run(["unattended-upgrade"], timeout=900)
        after = versions(bed)
        moved = {name for name in before if after.get(name) != before[name]}
        assert moved and not [name for name in moved if "nvidia" in name or name.startswith("linux-")]
        bed.reboot()
        assert failed(verified(bed, locked)) == []

    def test_without_the_guard_the_same_update_is_the_accident(
        self, bed: UbuntuBed, guard: Guard, locked: Json
    ) -> None:
        """The library is of another version than the loaded module: D02, and D01 as what it looks like."""
        said, _ = guard.play("--tags", "release")
        assert "THE GUARD IS RELEASED" in said
        bed.run(["unattended-upgrade"], timeout=900)
        smi = bed.run(["nvidia-smi"], check=False)
        assert smi.returncode != 0 and "Driver/library version mismatch" in smi.stdout + smi.stderr
        results = verified(bed, locked)
        assert failed(results) == ["driver.installed"]
        broken = results["driver.installed"]
        assert broken.diagnosis == "D02" and "D01: loaded is 525.105.17" in broken.actual
        assert "playbooks/driver.yml" in broken.remediation
