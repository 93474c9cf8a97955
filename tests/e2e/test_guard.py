"""The accident of docs/why.md, replayed: an update replaces half of a driver, with the guard and without.

On a Debian 12 bed, apt, dpkg, the holds, the preferences and unattended-upgrades are the real ones; the driver and the
kernels are stub packages with Ubuntu 18.04's names and relations. One bed serves the tests in the order they stand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest

from gpuhost.checks.base import FAIL, Result
from gpuhost.checks.base import held as outcome
from gpuhost.diagnoses import verdict as checks

from . import guard_archive as archive
from .beds import Bed
from .beds.bed import CLONE

# The same as test_guard_ubuntu.py in depth: each line of defence alone, and a user's own hold.
pytestmark = pytest.mark.full

Json = Dict[str, Any]
GUARD = ["./run", "ansible-playbook", "playbooks/guard.yml"]
OURS = ("/etc/apt/preferences.d/gpuhost", "/etc/apt/apt.conf.d/52gpuhost-unattended-upgrades")
GIVEN = ("lock.present", "lock.provisioned")
JUDGED = ("driver.installed", "guard.holds", "guard.pins", "guard.blacklist", "kernel.boots")
WATCHED = ["/etc", "/opt", "/usr", "/var/lib/dpkg"]
RECORD = {
    "schema": 1,
    "source": "archive",
    "version": "525.105.17",
    "branch": "525",
    "kernel": archive.KERNEL,
    "modules_from": "signed",
    "packages": {stub.name: stub.version for stub in archive.driver(archive.OLD, {archive.KERNEL: archive.MODULES})},
    "debs": {},
    "plan": "0",
}
#: The driver, its kernel, and what would bring another: all that must not move.
STACK = {
    *RECORD["packages"],  # type: ignore[misc]
    *(stub.name for stub in archive.kernel(archive.KERNEL, "")),
    *(stub.name for stub in archive.metas("generic-hwe-18.04", "", archive.KERNEL)),
    "nvidia-driver-520",
    "nvidia-settings",
}


def play(bed: Bed, *arguments: str) -> Tuple[str, int]:
    """Run the playbook; what it says, and how much it changed. A failure is a failure of the test."""
    said = bed.run([*GUARD, *arguments], cwd=CLONE, timeout=600).stdout
    found = re.findall(r"^localhost\s*:.*changed=(\d+).*failed=0", said, re.MULTILINE)
    assert found, said[-2000:]
    return " ".join(said.split()), int(found[-1])  # Ansible folds long lines


def versions(bed: Bed) -> Dict[str, str]:
    """The installed packages by name."""
    listed = bed.run(["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n"]).stdout
    rows = [line.split() for line in listed.splitlines()]
    return {name: version for name, version, state in rows if state == "installed"}


def held(bed: Bed) -> Set[str]:
    """What apt has on hold."""
    return set(bed.run(["apt-mark", "showhold"]).stdout.split())


def candidate(bed: Bed, name: str) -> str:
    """The version of a package that apt would install."""
    said = bed.run(["apt-cache", "policy", name]).stdout
    return re.findall(r"Candidate: (\S+)", said)[0]  # type: ignore[no-any-return]


def verified(bed: Bed) -> Dict[str, Result]:
    """What verify/ says of the driver's packages, its kernel and its guard, as they are read on the bed."""
    program = (
        "import json; from gpuhost.host.probe.machine import read_kernel;"
        "from gpuhost.host.commands import run_command; from gpuhost.host.edges import Edges;"
        "from gpuhost.host.probe.driver import record; from gpuhost.host.probe.guard import guard;"
        "edges = Edges('/', run_command);"
        "print(json.dumps({'guard': guard(edges, '/opt/gpuhost'), 'boots': read_kernel(edges)['boots'],"
        "'record': record(edges, '/opt/gpuhost')}))"
    )
    read = json.loads(bed.run(["./run", "python", "-c", program], cwd=CLONE).stdout)
    driver = {"record": read["record"], "kernel": read["boots"], "library": None}
    planned = {name: RECORD[name] for name in ("version", "source", "branch")}
    seen = {
        "lock": {"plan": {"gpus": ["a card"], "driver": planned}},
        "machine": {
            "observation": {"nvidia": {"module_version": None}},
            "installed": {"stack": None, "driver": driver, "guard": read["guard"]},
        },
    }
    # Whether there is a lock in force is not a question here.
    given = {name: checks.result(checks.BY_ID[name], outcome(True, "", "", "")) for name in GIVEN}
    results = dict(given)
    for name in JUDGED:
        results[name] = checks.judge(checks.BY_ID[name], seen, results)
    return results


def failed(results: Dict[str, Result]) -> List[str]:
    """The checks that failed."""
    return [name for name, result in results.items() if result.status == FAIL]


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> List[Path]:
    """The archive of the day of the installation, and that of a month later."""
    return archive.months(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def bed(bed_tools: None, months: List[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A host with a driver, two kernels, other packages and one hold of its user's."""
    with archive.host(months[0], tmp_path_factory.mktemp("guard")) as made:
        made.run(["apt-mark", "hold", "users-own"])
        yield made


class TestAccident:
    """From an unguarded host to the accident and back."""

    def test_without_a_driver_there_is_nothing_to_guard(self, bed: Bed) -> None:
        """A CPU host is told so in one line."""
        said, changed = play(bed)
        assert changed == 0 and "nothing to guard" in said and held(bed) == {"users-own"}

    def test_a_dry_run_shows_the_files_and_changes_nothing(self, bed: Bed, tmp_path: Path) -> None:
        """`--check --diff` on a host that has just got its driver."""
        record = tmp_path / "driver.json"
        record.write_text(json.dumps(RECORD))
        bed.push(record, "/opt/gpuhost/state/driver.json")
        before = bed.snapshot(WATCHED)
        said, changed = play(bed, "--check", "--diff")
        assert changed == 1 and f"+Pin: version {archive.OLD}" in said and "Package-Blacklist" in said
        assert before.changes_to(bed.snapshot(WATCHED)) == []

    def test_the_set_is_held_and_proved_and_the_second_run_changes_nothing(self, bed: Bed) -> None:
        """Exactly the driver, its kernel and what leads to it."""
        said, changed = play(bed)
        assert changed == 1 and f"none of {len(STACK)} held packages is touched" in said
        assert held(bed) == STACK | {"users-own"}
        said, changed = play(bed)
        assert changed == 0 and "Proved" not in said

    def test_apt_s_own_policy_says_the_same(self, bed: Bed, months: List[Path]) -> None:
        """A month later: no other version of the set, no other branch, and everything else."""
        there = versions(bed)
        archive.offer(bed, months[1])
        assert {name: candidate(bed, name) for name in STACK} == {name: there[name] for name in STACK}
        assert candidate(bed, "nvidia-driver-530") == "(none)"
        assert (candidate(bed, "plain"), candidate(bed, "nvidia-container-toolkit")) == ("1.1", "1.14.0-1")

    def test_the_pins_hold_without_the_holds(self, bed: Bed) -> None:
        """The second line of defence stands by itself: as if somebody had typed apt-mark unhold."""
        said = bed.run(["apt-get", "-s", "-o", "APT::Ignore-Hold=true", "dist-upgrade"]).stdout
        changes = re.findall(r"^(?:Inst|Remv) (\S+)", said, re.MULTILINE)
        assert "plain" in changes and not STACK & set(changes)

    def test_the_proof_names_what_waits(self, bed: Bed) -> None:
        """What needs a newer driver waits, with the reason, and nothing else."""
        said, changed = play(bed, "-e", "apt_guard_prove=true")
        assert changed == 0 and f"needs libnvidia-compute-525 >= {archive.NEW}" in said
        assert "5 others are upgraded" in said

    def test_unattended_upgrades_really_run_and_do_no_harm(self, bed: Bed) -> None:
        """Unrelated packages and the other kernel are upgraded, the stack is untouched, verify/ has no complaint."""
        before = versions(bed)
        bed.run(["unattended-upgrade"], timeout=600)
        after = versions(bed)
        assert {name: after.get(name) for name in STACK} == {name: before[name] for name in STACK}
        assert (after["plain"], after["nvidia-container-toolkit"], after["users-own"]) == ("1.1", "1.14.0-1", "1.0")
        assert after["linux-generic"] == "4.15.0.214.197" and "nvidia-driver-530" not in after
        assert failed(verified(bed)) == []

    def test_release_lets_go_of_ours_and_says_so(self, bed: Bed) -> None:
        """The user's hold stays; verify/ says that the guard is down, and how to put it up."""
        said, changed = play(bed, "--tags", "release")
        assert changed == 1 and "THE GUARD IS RELEASED" in said
        assert held(bed) == {"users-own"}
        assert [bed.run(["test", "-e", name], check=False).returncode for name in OURS] == [1, 1]
        results = verified(bed)
        assert failed(results) == ["guard.holds"]
        assert (results["guard.holds"].diagnosis, results["guard.holds"].remediation) == ("D02", " ".join(GUARD))
        assert play(bed, "--tags", "release")[1] == 0

    def test_the_next_run_holds_again(self, bed: Bed) -> None:
        """And a release after it is as good as the first."""
        assert play(bed)[1] == 1 and held(bed) == STACK | {"users-own"}
        assert play(bed, "--tags", "release")[1] == 1 and held(bed) == {"users-own"}

    def test_without_the_guard_the_same_update_is_the_accident(self, bed: Bed) -> None:
        """The driver is replaced, the branch jumps, another kernel will boot; verify/ names the cause once."""
        bed.run(["unattended-upgrade"], timeout=600)
        after = versions(bed)
        assert after["libnvidia-compute-525"] == archive.NEW and "nvidia-driver-530" in after
        results = verified(bed)
        assert failed(results) == ["driver.installed"]
        assert results["driver.installed"].diagnosis in ("D02", "D04")
        assert f"libnvidia-compute-525 is {archive.NEW}" in results["driver.installed"].actual
        assert "playbooks/driver.yml" in results["driver.installed"].remediation

    def test_a_broken_host_is_not_guarded_as_it_is(self, bed: Bed) -> None:
        """Holding the kernel that the driver was not made for would keep the fault."""
        done = bed.run(GUARD, cwd=CLONE, timeout=600, check=False)
        assert done.returncode != 0 and "D08" in done.stdout and held(bed) == {"users-own"}
