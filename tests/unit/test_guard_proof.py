"""The proof on written answers: what is touched, what waits and why, and what may not wait."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.host.commands import NOT_FOUND
from gpuhost.host.edges import Edges
from gpuhost.host.guard import proof as guard_proof
from gpuhost.host.guard import prove as guard_prove
from gpuhost.host.guard import rules as guard
from gpuhost.host.guard.proof import Change

from .test_guard_rules import KERNEL, LISTING, STACK, installed

DATA = Path(__file__).resolve().parents[1] / "data" / "guard"
ROOT = "/opt/gpuhost"
#: unattended-upgrades 1.1 of Ubuntu 18.04, as a user published it.
BIONIC = """\
Checking: xxd ([, ])
pkgs that look like they should be upgraded: binutils
binutils-common
g++
libstdc++6
vim-tiny
Get:1 http://archive.example bionic-security/main amd64 binutils amd64 2.30 [3388 B]
Fetched 0 B in 0s (0 B/s)
fetch.run() result: 0
"""


def text(name: str) -> str:
    """A written answer."""
    return (DATA / name).read_text(encoding="utf-8")


class Host:
    """A guarded host that answers as written."""

    def __init__(self, folder: Path) -> None:
        """The record, dpkg's status and a preference of the user's."""
        record = guard.record(installed(), KERNEL, None)
        for name, content in {
            f"{ROOT}/{guard.RECORD}": json.dumps(record),
            guard.PREFERENCES: "ours",
            "/etc/apt/preferences.d/users": "theirs",
            "/var/lib/dpkg/status": "Package: nvidia-driver-525\nStatus: hold ok installed\nArchitecture: amd64\n\n"
            "Package: users-own\nStatus: hold ok installed\nArchitecture: amd64\n",
        }.items():
            path = folder / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.guarded, self.free = text("dist-upgrade.txt"), text("dist-upgrade-without.txt")
        self.unattended: Tuple[int, str, str] = (0, text("unattended-upgrade.txt"), "")
        self.copies: Dict[str, str] = {}
        self.edges = Edges(str(folder), self.run)

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """Answer as written; look into the copies while they are there."""
        options = dict(word.split("=", 1) for word in argv if "=" in word)
        status = options.get("Dir::State::status")
        if argv[0] == "apt-get" and status:
            parts = Path(options["Dir::Etc::PreferencesParts"])
            self.copies = {"status": Path(status).read_text(), **{p.name: p.read_text() for p in parts.iterdir()}}
            return 0, self.free, ""
        answers = {
            "dpkg": (0, "amd64\n", ""),
            "dpkg-query": (0, LISTING, ""),
            "apt-get": (0, self.guarded, ""),
            "apt-cache": (0, text("apt-cache-show.txt"), ""),
            "unattended-upgrade": self.unattended,
        }
        return answers[argv[0]]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host whose guard holds."""
    return Host(tmp_path)


def test_the_recorded_host_is_proved(host: Host) -> None:
    """None of the set moves, five others do, and what waits has its reason."""
    proof = guard_prove.prove(host.edges, ROOT)
    assert "none of 15 held packages is touched, 5 others are upgraded, 11 wait" in proof.told
    held, other = proof.kept_back
    assert {word.split()[0] for word in held.partition(": ")[2].split(", ")} <= STACK
    assert other == "gpu-monitor 2.0 waits: 2.0 needs libnvidia-compute-525 >= 525.125.06-0ubuntu0.18.04.1"


def test_the_comparison_leaves_out_only_what_is_ours(host: Host) -> None:
    """A user's hold and preferences stay in force in both simulations; the copies are gone afterwards."""
    guard_prove.prove(host.edges, ROOT)
    assert "Package: nvidia-driver-525\nStatus: install ok installed" in host.copies["status"]
    assert "Package: users-own\nStatus: hold ok installed" in host.copies["status"]
    assert host.copies["users"] == "theirs" and "gpuhost" not in host.copies


@pytest.mark.parametrize("name", ["libnvidia-compute-525", "linux-image-generic-hwe-18.04"])
def test_an_upgrade_of_a_held_package_is_an_error(host: Host, name: str) -> None:
    """However it got past the guard."""
    host.guarded += f"Inst {name} [1] (2 Debian:stable [amd64])\n"
    with pytest.raises(EnvironmentProblem, match=f"D02.*dist-upgrade.*{name}"):
        guard_prove.prove(host.edges, ROOT)


def test_a_removal_of_a_held_package_is_an_error(host: Host) -> None:
    """A dist-upgrade may remove what is in its way."""
    host.guarded += "Remv nvidia-driver-525 [525.105.17-0ubuntu0.18.04.1]\n"
    with pytest.raises(EnvironmentProblem, match="D02"):
        guard_prove.prove(host.edges, ROOT)


def test_unattended_upgrades_is_asked_too(host: Host) -> None:
    """It decides by rules of its own."""
    out = host.unattended[1].replace("\nlinux-headers-generic\n", "\nlibnvidia-compute-525\nlinux-headers-generic\n")
    host.unattended = (0, out, "")
    with pytest.raises(EnvironmentProblem, match=r"unattended-upgrade.*libnvidia-compute-525"):
        guard_prove.prove(host.edges, ROOT)


def test_unattended_upgrades_that_stops_is_an_error(host: Host) -> None:
    """A guard that ends all updates is none (D03)."""
    host.unattended = (1, "Cache has broken packages, exiting\n", "")
    with pytest.raises(EnvironmentProblem, match=r"D03.*Cache has broken"):
        guard_prove.prove(host.edges, ROOT)


def test_a_host_without_unattended_upgrades_is_proved_by_apt(host: Host) -> None:
    """And it is said that it was not asked."""
    host.unattended = (NOT_FOUND, "", "not installed")
    assert "not installed" in guard_prove.prove(host.edges, ROOT).told


def test_a_host_that_cannot_download_is_proved_as_far_as_it_goes(host: Host) -> None:
    """The dry run downloads, and ends where it cannot; it has named its packages by then, and they still count."""
    end = "The URI file:/srv/x.deb failed to download, aborting\n"
    named = host.unattended[1].partition("Get:1")[0]
    host.unattended = (1, named + end, "")
    assert "could not download" in guard_prove.prove(host.edges, ROOT).told
    host.unattended = (1, named.replace("plain\n", "nvidia-driver-525\n") + end, "")
    with pytest.raises(EnvironmentProblem, match="nvidia-driver-525"):
        guard_prove.prove(host.edges, ROOT)


def test_an_upgrade_that_waits_without_a_reason_is_an_error(host: Host) -> None:
    """The guard must not keep anything else from its updates."""
    host.guarded = "".join(x + "\n" for x in host.guarded.splitlines() if not x.startswith("Inst plain "))
    with pytest.raises(EnvironmentProblem, match="keeps back plain,"):
        guard_prove.prove(host.edges, ROOT)


def test_a_broken_simulation_is_told(host: Host) -> None:
    """apt's own words, with the command that fixes it."""

    def run(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        return (100, "", "E: Unmet dependencies.") if argv[0] == "apt-get" else host.run(argv, timeout)

    host.edges.run = run
    with pytest.raises(EnvironmentProblem, match="Unmet dependencies"):
        guard_prove.prove(host.edges, ROOT)


def test_what_unattended_upgrades_names() -> None:
    """Both places where it names packages, of both releases."""
    found = guard_proof.parse_unattended_run(text("unattended-upgrade.txt"))
    assert found == [
        "linux-generic",
        "linux-headers-generic",
        "linux-image-generic",
        "nvidia-container-toolkit",
        "plain",
    ]
    assert guard_proof.parse_unattended_run(BIONIC) == ["binutils", "binutils-common", "g++", "libstdc++6", "vim-tiny"]
    none = "pkgs that look like they should be upgraded: \nFetched 0 B in 0s (0 B/s)\nfetch.run() result: 0\n"
    assert guard_proof.parse_unattended_run(none) == []
    last = "Packages that will be upgraded: nvidia-driver-525 plain\n"
    assert guard_proof.parse_unattended_run(last) == ["nvidia-driver-525", "plain"]
    assert guard_proof.parse_unattended_run("Packages that were successfully auto-removed: a b\n") == ["a", "b"]


def test_a_simulation_s_lines() -> None:
    """An upgrade, a new package, a removal; nothing else of the output counts."""
    lines = (
        "Inst a [1] (2 Ubuntu:18.04/bionic-security [amd64]) []\nInst b:i386 (3 Debian:12 [i386])\nRemv c [4]\n"
        "Conf a (2 Ubuntu:18.04/bionic-security [amd64])\n"
    )
    assert guard_proof.parse_simulation(lines) == {
        "a": Change("a", "1", "2"),
        "b:i386": Change("b:i386", None, "3"),
        "c": Change("c", "4", None),
    }


def explained(
    needs: str = "", fields: str = "depends", relation: str = "", others: Sequence[Change] = ()
) -> Optional[str]:
    """The reason why `app` 2 waits, when the guard holds lib 1.5 (which needs `needs`)."""
    kept: List[Change] = [Change("app", "1", "2"), *others]
    records = {"app": {fields: relation}, "beside": {"depends": "lib (>= 2)"}}
    there = {"app": "1", "lib": "1.5", "beside": "1"}
    return guard_proof.explain(kept, {"lib": "1.5"}, there, {"lib": needs}, records).get("app")


@pytest.mark.parametrize(
    ("relation", "reason"),
    [
        ("lib (>= 2)", "2 needs lib >= 2"),
        ("libc6, lib:any (= 1.6)", "2 needs lib = 1.6"),
        ("lib (>= 1.5)", None),
        ("lib", None),
        ("lib (>= 2) | other", None),
        ("lib (>= 2) | nvidia-driver-530", "2 needs lib >= 2"),
        ("nvidia-driver-530", "2 needs nvidia-driver-530"),
        ("libc6 (>= 9)", None),
        ("", None),
    ],
)
def test_a_dependency_explains_only_where_it_is_not_met(relation: str, reason: Optional[str]) -> None:
    """Naming a held package is not a reason; needing another version of it is."""
    assert explained(relation=relation) == reason


def test_a_conflict_explains() -> None:
    """A new version that breaks the held one cannot come."""
    assert explained(fields="breaks", relation="lib (<< 2)") == "2 does not go with lib 1.5"
    assert explained(fields="breaks", relation="lib (<< 1)") is None


def test_a_held_package_may_need_the_old_version() -> None:
    """It is the other direction of the same tie."""
    assert explained(needs="app (= 1)") == "lib, which is held, does not go with 2"
    assert explained(needs="app (>= 1)") is None


def test_a_package_may_wait_for_one_that_waits() -> None:
    """The reason is found by way of others, in any order."""
    beside = Change("beside", "1", "2")
    assert explained(relation="beside (>= 2)", others=[beside]) == "2 needs beside >= 2"
    assert explained(relation="beside (>= 2)") is None


@pytest.mark.parametrize("name", ["/var/lib/dpkg/status", "/etc/apt/preferences.d/users"])
@pytest.mark.parametrize("way", ["gone", "empty", "loop"])
def test_nothing_is_proved_from_what_could_not_be_read(host: Host, tmp_path: Path, name: str, way: str) -> None:
    """With no packages to upgrade, nothing would be kept back. A user's preferences may be empty, or not be there."""
    path = tmp_path / name.lstrip("/")
    path.unlink()
    if way == "empty":
        path.touch()
    if way == "loop":
        path.symlink_to(path.name)
    if way != "loop" and path.name == "users":
        return
    with pytest.raises(EnvironmentProblem, match=name):
        guard_prove.prove(host.edges, ROOT)


def test_a_simulation_that_says_nothing_proves_nothing(host: Host) -> None:
    """apt-get counts its changes also when there are none; unattended-upgrade -d says what it does."""
    host.unattended = (0, "", "")
    with pytest.raises(EnvironmentProblem, match="It printed nothing"):
        guard_prove.prove(host.edges, ROOT)
    host.guarded = ""
    with pytest.raises(EnvironmentProblem, match="it printed nothing"):
        guard_prove.prove(host.edges, ROOT)
