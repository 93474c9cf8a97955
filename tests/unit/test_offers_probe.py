"""What an archive offers is read from apt's own answers, and what cannot be relied on is a named problem."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any, Dict, Optional

import pytest

from gpuhost.host.edges import Edges
from gpuhost.host.parse import offers as parsers
from gpuhost.host.probe.apt import read_indexes
from gpuhost.host.probe.machine import observe
from gpuhost.host.probe.offers import read_offers
from gpuhost.planning.catalog import DATA, validator

from ..example_hosts import folder_of, observed, replay
from ..offered import RECORDED, Apt, debian

KERNEL = "6.1.0-56-amd64"
FILE = "Filename: pool/updates/non-free/n/nvidia-graphics-drivers/nvidia-driver_"
UBUNTU = (RECORDED / "ubuntu.txt").read_text(encoding="utf-8")
LISTS = "var/lib/apt/lists/debian-archive.example_debian-security_dists_bookworm-security_InRelease"


def read(apt: Apt, root: Path, problems: Optional[Any] = None) -> Any:
    """Return what the probe reads of a host with this apt; it must name as many problems as expected."""
    edges = Edges(str(root), apt.run)
    found = read_offers(edges, read_indexes(edges), "debian", "amd64", [KERNEL])
    assert bool(edges.problems) == (problems is not None), edges.problems
    if problems is not None:
        assert found is None
        assert len(edges.problems) == 1
        assert re.search(problems, edges.problems[0]["what"] + ": " + edges.problems[0]["error"])
    return found


def test_debians_own_index_is_read_as_it_is(tmp_path: Path) -> None:
    """Two versions of the driver, each with its archive; no devices, because Debian's index lists none."""
    (tmp_path / LISTS).parent.mkdir(parents=True)
    (tmp_path / LISTS).write_text("Origin: Debian\nDate: Thu, 26 Nov 2026 21:03:35 UTC\nSuite: x\n", encoding="utf-8")
    found = read(debian(), tmp_path)
    validator(DATA / "observation.schema.json")({**observed("debian12-no-gpu"), "offers": found})
    drivers = {row["version"]: row for row in found["packages"] if row["package"] == "nvidia-driver"}
    assert set(drivers) == {"535.309.01-0+deb12u1", "535.261.03-1"}
    newest = drivers["535.309.01-0+deb12u1"]
    archive = found["archives"][newest["archive"]]
    assert (archive["label"], archive["release"], archive["date"]) == (
        "Debian-Security",
        "bookworm-security",
        "20261126T210335Z",
    )
    assert newest["component"] == "non-free" and newest["source"] == "nvidia-graphics-drivers"
    assert newest["sha256"] == "6f154f0eff5ca8025a638676f53e63bdd45f461503e3b4acffd12f47fe3ba1d3"
    assert "devices" not in newest and "nvidia-legacy-check (>= 495)" in newest["depends"]
    other = found["archives"][drivers["535.261.03-1"]["archive"]]
    assert (other["label"], other["date"]) == ("Debian", ""), "no Release file was there for it"
    assert sorted(other["components"]) == ["contrib", "main", "non-free", "non-free-firmware"]
    assert found["tools"]["python3.11"] == "3.11.2-6+deb12u9" and found["tools"]["g++-12"] == "12.2.0-14+deb12u1"
    assert f"linux-headers-{KERNEL}" in found["tools"]


def test_ubuntus_fields_are_read() -> None:
    """Modaliases over several lines, the kind of branch, and modules that name the driver that they are made for."""
    found, wrong = parsers.parse_offered(UBUNTU)
    assert wrong == []
    rows: Dict[str, Any] = {row["package"]: row for row in found}
    assert rows["nvidia-driver-550"]["devices"] == ["1340", "134b", "1380", "1c30", "2204"]
    assert rows["nvidia-driver-550"]["depends"].startswith("libnvidia-gl-550 (= 550.54.15-0ubuntu1), nvidia-dkms-550")
    assert (rows["nvidia-driver-535"]["support"], rows["nvidia-driver-535"]["devices"]) == ("LTSB", ["1c30", "2684"])
    assert "(>= 515.86.01)" in rows["linux-modules-nvidia-515-server-5.15.0-56-generic"]["depends"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("nvidia-driver-535-server-open", True),
        ("libnvidia-compute-535", True),
        ("firmware-nvidia-gsp", True),
        ("nvidia-cuda-toolkit", False),
        ("libnvidia-container1", False),
        ("hashcat-nvidia", False),
        ("linux-modules-nvidia-535-5.4.0-150-generic", True),
        ("linux-modules-nvidia-535-5.4.0-151-generic", False),
        ("linux-modules-nvidia-535-generic", True),
        ("linux-modules-nvidia-535-generic-hwe-18.04", True),
        ("linux-modules-nvidia-535-aws", False),
        ("linux-signatures-nvidia-5.4.0-150-generic", True),
    ],
)
def test_modules_of_kernels_that_are_not_installed_are_passed_over(name: str, wanted: bool) -> None:
    """An archive has them for every kernel that it ever had."""
    assert parsers.is_of_driver(name, ["5.4.0-150-generic"]) is wanted


def test_what_a_foreign_archive_offers_is_passed_over(tmp_path: Path) -> None:
    """A package of the same name and a newer version, from an archive that is not the distribution's."""
    apt = debian()
    apt.policy = apt.policy.replace(
        "Pinned packages:",
        " 500 http://repository.example/x  Packages\n     release o=NVIDIA,l=NVIDIA CUDA,c=\n"
        "     origin repository.example\n"
        "Pinned packages:",
    )
    apt.madison += "nvidia-driver | 999.1-1 | http://repository.example/x  Packages\n"
    assert {row["version"] for row in read(apt, tmp_path)["packages"] if row["package"] == "nvidia-driver"} == {
        "535.309.01-0+deb12u1",
        "535.261.03-1",
    }


def test_an_archive_that_was_never_read_offers_nothing_and_that_is_no_fault(tmp_path: Path) -> None:
    """A machine without lists: nothing is listed, and nothing more is asked."""
    apt = Apt("Package files:\n 100 /var/lib/dpkg/status\n     release a=now\nPinned packages:\n", "", "")
    assert read(apt, tmp_path) == {"archives": [], "packages": [], "tools": {}}
    assert len(apt.asked) == 1


def test_lists_that_apt_has_not_read_are_read_aside(tmp_path: Path) -> None:
    """A fresh machine with a card: into a folder of the moment. A failure is a named problem; without a card nobody
    needs them.
    """
    empty, apt = "Package files:\n 100 /var/lib/dpkg/status\n     release a=now\nPinned packages:\n", debian()
    recorded, updates = apt.policy, []

    def run(argv: Any, timeout: float) -> Any:
        aside = [word for word in argv if word.startswith("Dir::State::Lists=")]
        if argv[0] == "apt-get":
            updates.append(aside[0])
            return status, "", "E: no network"
        apt.policy = recorded if aside else empty
        return apt.run(argv, timeout)

    status, edges = 0, Edges(str(tmp_path), run)
    found = read_offers(edges, read_indexes(edges), "debian", "amd64", [KERNEL], fetch=True)
    assert found is not None and len(found["archives"]) == 3 and edges.problems == []
    assert not Path(updates[0].partition("=")[2]).exists(), "the folder stayed"
    assert read_offers(edges, read_indexes(edges), "debian", "amd64", [KERNEL]) == {
        "archives": [],
        "packages": [],
        "tools": {},
    }
    status = 100
    assert read_offers(edges, read_indexes(edges), "debian", "amd64", [KERNEL], fetch=True) is None
    assert [problem["what"] for problem in edges.problems] == ["apt-get update"] and len(updates) == 2


@pytest.mark.parametrize(
    ("word", "answer", "told"),
    [
        ("policy", (124, "", "apt-cache gave no answer within 120 s"), "apt-cache policy: .*no answer"),
        ("policy", (0, "", ""), "apt-cache policy: It printed nothing"),
        ("pkgnames", (100, "", "E: Could not open lock file"), "apt-cache pkgnames: E: Could not open"),
        ("pkgnames", (125, "", "apt-cache said more than 32 MB"), "apt-cache pkgnames: .*more than 32 MB"),
        ("madison", (100, "", "E: Malformed line"), "apt-cache madison: E: Malformed line"),
        ("show", (124, "", "apt-cache gave no answer within 120 s"), "apt-cache show: .*no answer"),
        ("show", (0, "garbage\n: \n\x00\n", ""), "apt-cache show: It does not show"),
    ],
)
def test_apt_that_does_not_answer_is_a_named_problem(word: str, answer: Any, told: str, tmp_path: Path) -> None:
    """An empty list would mean that the archive offers nothing."""
    apt = debian()
    apt.said[word] = answer
    read(apt, tmp_path, told)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("SHA256: 6f154f0e", "SHA256: ", "The field SHA256 of nvidia-driver 535.309.01"),
        ("Size: 521900", "Size: -1", "The field Size of nvidia-driver"),
        ("Size: 521900", "Size: " + "9" * 400, "The field Size of nvidia-driver"),
        (FILE, "Filename: pool/../x_", "Filename"),
        (FILE, "Filename: /etc/", "Filename"),
        ("Depends: nvidia-driver-libs (= 535.309", "Depends: " + "x," * 9000 + " (= 535.309", "Depends"),
        ("Source: nvidia-graphics-drivers\nVersion: 535.309", "Source: {{ x }}\nVersion: 535.309", "Source"),
    ],
)  # fmt: skip
def test_a_broken_field_is_a_named_problem(old: str, new: str, told: str, tmp_path: Path) -> None:
    """The package, the version and the field are named; nothing of the value goes on."""
    apt = debian()
    assert old in apt.show
    apt.show = apt.show.replace(old, new)
    read(apt, tmp_path, told)


def test_one_version_with_two_contents_is_a_named_problem(tmp_path: Path) -> None:
    """Which of the two apt would take cannot be told."""
    apt = debian()
    stanza = next(text for text in apt.show.split("\n\n") if text.startswith("Package: nvidia-driver\n"))
    apt.show += "\n" + re.sub("SHA256: ......", "SHA256: 000000", stanza) + "\n"
    read(apt, tmp_path, "nvidia-driver 535.309.01.* two different contents")


def test_too_many_packages_are_a_named_problem(tmp_path: Path) -> None:
    """An archive of 100,000 packages is not a burden; one that calls them all a driver is refused."""
    apt = debian()
    names = "".join(f"lib{number}\n" for number in range(100_000))
    apt.said["pkgnames"] = (0, names + "nvidia-driver\n", "")
    assert {row["package"] for row in read(apt, tmp_path)["packages"]} == {"nvidia-driver"}
    apt.said["pkgnames"] = (0, "".join(f"nvidia-{number}\n" for number in range(100_000)), "")
    read(apt, tmp_path, "apt-cache pkgnames: It names 100000 packages")


def test_any_text_gives_packages_or_sentences() -> None:
    """Cut, doubled and shuffled stanzas: whatever is given out has the form that the schema asks for."""
    text = (RECORDED / "debian-12-show.txt").read_text(encoding="utf-8") + UBUNTU
    check = validator(DATA / "observation.schema.json")
    base = observed("debian12-no-gpu")
    chance = random.Random(11)  # noqa: S311 - a test that can be repeated
    for _ in range(40):
        lines = text.splitlines()[: chance.randrange(400)]
        chance.shuffle(lines)
        cut = "\n".join(line[: chance.randrange(1, 200)] for line in lines)
        found, wrong = parsers.parse_offered(cut)
        assert all(sentence.endswith("broken.") for sentence in wrong)
        rows = [{**row, "archive": 0, "component": ""} for row in found]
        check(json.loads(json.dumps({**base, "offers": {"archives": [], "packages": rows, "tools": {}}})))


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("Date: Sat, 07 Mar 2026 01:02:03 UTC\n", "20260307T010203Z"),
        ("Origin: x\nDate: Sat, 7 Mar 2026 01:02:03 GMT\n", "20260307T010203Z"),
        ("Date: Sat, 07 Xxx 2026 01:02:03 UTC\n", ""),
        ("Date: Sat, 07 Mar 2026 01:02:03 +0200\n", ""),
        ("", ""),
    ],
)
def test_the_date_of_an_index(text: str, stamp: str) -> None:
    """As the snapshot services write it."""
    assert parsers.parse_release_date(text) == stamp


def test_offers_are_observed_only_when_asked_for() -> None:
    """They cost apt some seconds, which verify, the watch and the doctor need not spend."""
    folder = folder_of("debian12-no-gpu")
    assert "offers" not in observed("debian12-no-gpu")
    known, apt = replay(folder), debian()
    asked = []

    def run(argv: Any, timeout: float) -> Any:
        asked.append(argv[-1])
        try:
            return known(argv, timeout)
        except KeyError:
            return apt.run(argv, timeout)

    found = observe(str(folder / "fs"), run, offers=True)
    assert [archive["label"] for archive in found["offers"]["archives"]] == ["Debian-Security", "Debian", "Debian"]
    assert asked.count("policy") == 1, "one answer serves the sources and the offers"
    validator(DATA / "observation.schema.json")(found)
