"""Preflight on apt's sources: each foreign one is named, and its removal command takes exactly it away."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from gpuhost.checks import sources
from gpuhost.host.parse.apt import parse_deb822, parse_one_line
from gpuhost.planning import preflight
from gpuhost.planning.catalog import shipped

from ..example_hosts import NAMES, folder_of, observed

Json = Dict[str, Any]
HOST = "ubuntu1804-foreign-sources"
UBUNTU = shipped().platforms["platforms"]["ubuntu-18.04"]
COMMAND = re.compile(r"[Rr]emove it:\n  (.*) && apt-get update$")
OWN = "http://ubuntu-archive.example/ubuntu"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Copy the host with foreign sources, to change it."""
    shutil.copytree(str(folder_of(HOST)), str(tmp_path / HOST), symlinks=True)
    return tmp_path


def sources_of(root: Path) -> List[Json]:
    """The sources that stand in the files of a host, without what is not written there."""
    found = []
    for path in sorted((root / HOST / "fs" / "etc" / "apt").rglob("*")):
        if path.suffix in (".list", ".sources"):
            parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
            name = "/" + path.relative_to(root / HOST / "fs").as_posix()
            found += [(name, s["uris"], s["suites"]) for s in parse(path.read_text(encoding="utf-8"), name)[0]]
    return found


def carry_out(root: Path, problem: str) -> None:
    """Run a problem's removal command on the copy: its paths, and nothing else, are led there."""
    match = COMMAND.search(problem)
    assert match, problem
    etc = str(root / HOST / "fs" / "etc" / "apt")
    subprocess.run(["sh", "-euc", match.group(1).replace("/etc/apt", etc)], check=True)


def add(root: Path, file: str, text: str) -> None:
    """Append to a source file of the copy."""
    path = root / HOST / "fs" / "etc" / "apt" / file
    with path.open("a", encoding="utf-8") as handle:
        handle.write(text)


def test_every_foreign_source_is_named_and_its_command_removes_exactly_it(copied: Path) -> None:
    """The example host: another release, a vendor's repository, one never read, and a line that cannot be read."""
    problems = preflight.problems(observed(HOST, copied))
    assert len(problems) == 4
    for problem, gone, words in zip(
        problems,
        ("xenial.list", "cuda.list", "private.list"),
        ("which is not bionic", "is not the distribution's own and offers cuda, cuda-drivers", "has not read yet"),
    ):
        assert gone in problem
        assert words in problem
        before = sources_of(copied)
        carry_out(copied, problem)
        assert sources_of(copied) == [s for s in before if not s[0].endswith(gone)]
    assert "line 2 cannot be read as an apt source" in problems[3]


def test_a_harmless_source_is_only_remarked() -> None:
    """An editor's repository offers nothing of the stack; a source that apt has not read is not called harmless."""
    observation = observed(HOST)
    (remark,) = preflight.remarks(observation)
    assert "editor.example" in remark
    assert "left alone" in remark
    assert not [p for p in preflight.problems(observation) if "editor.example" in p]


@pytest.mark.parametrize("host", sorted({*NAMES} - {HOST, "ubuntu1804-half-configured"}))
def test_every_other_example_host_is_in_order(host: str) -> None:
    """Debian's sources in deb822 form included."""
    observation = observed(host)
    assert preflight.problems(observation) == []
    assert preflight.remarks(observation) == []


FOREIGN = [
    # in the main list, beside the release's own lines and a commented one
    ("sources.list", f"deb {OWN} artful main\n# deb {OWN} artful main\n", ["artful"]),
    ("sources.list", f"deb [arch=amd64 trusted=yes] {OWN}/ focal-updates main universe\n", ["focal-updates"]),
    # a source and its sources of sources go together; a suite that only begins with the same word stays
    ("mixed.list", f"deb {OWN} focal main\ndeb-src {OWN} focal main\ndeb {OWN} bionic universe\n", ["focal", "focal"]),
    ("sub.sources", f"Types: deb\nURIs: {OWN}\nSuites: focal\nComponents: main\n", ["focal"]),
    # one stanza of two
    (
        "two.sources",
        f"# mine\nTypes: deb\nURIs: {OWN}\nSuites: bionic-backports\nComponents: main\n\n"
        f"Types: deb\nURIs: {OWN}\nSuites: focal\nComponents: main\n",
        ["focal"],
    ),
    # an address with signs that mean something to sed and perl
    ("odd.sources", "Types: deb\nURIs: http://a.example/x+y(1)/$(ARCH)\nSuites: jammy\nComponents: main\n", ["jammy"]),
    ("odd.list", "deb http://robot:p@a.example/x+y~1/ jammy main\ndeb http://b.example/x bionic main\n", ["jammy"]),
]


@pytest.mark.parametrize(("file", "text", "suites"), FOREIGN)
def test_removal_leaves_everything_else(copied: Path, file: str, text: str, suites: List[str]) -> None:
    """Run twice, the command still takes away what was named and nothing else."""
    name = file if file == "sources.list" else f"sources.list.d/{file}"
    before = sources_of(copied)
    add(copied, name, text)
    added = [s for s in sources_of(copied) if s not in before]
    bad = [p for p in preflight.problems(observed(HOST, copied)) if f"{suites[0]}, which is not bionic" in p]
    assert len(bad) == 1
    kept = [s for s in sources_of(copied) if s[2] != [suites[0]]]
    assert len(sources_of(copied)) - len(kept) == len(suites)
    carry_out(copied, bad[0])
    assert sources_of(copied) == kept
    if (copied / HOST / "fs" / "etc" / "apt" / name).exists():
        carry_out(copied, bad[0])
    assert sources_of(copied) == kept
    assert all(s in kept for s in before)
    assert added


def test_a_stanza_with_a_suite_too_many_keeps_its_own(copied: Path) -> None:
    """Only the other release's suite is taken out."""
    add(
        copied,
        "sources.list.d/own.sources",
        f"Types: deb\nURIs: {OWN}\nSuites: bionic focal focal-updates\nComponents: main\n",
    )
    (bad,) = [p for p in preflight.problems(observed(HOST, copied)) if "own.sources" in p]
    assert "focal focal-updates, which is not bionic" in bad
    carry_out(copied, bad)
    assert ("/etc/apt/sources.list.d/own.sources", [OWN], ["bionic"]) in sources_of(copied)


def test_a_source_that_is_switched_off_is_no_problem(copied: Path) -> None:
    """apt does not use it."""
    add(
        copied, "sources.list.d/off.sources", f"Types: deb\nURIs: {OWN}\nSuites: focal\nComponents: main\nEnabled: no\n"
    )
    assert not [p for p in preflight.problems(observed(HOST, copied)) if "off.sources" in p]


def ppa(observation: Json, fetched: bool, **over: Any) -> Json:
    """Add a personal archive, which names this very release as its suite."""
    source = {**observation["apt"]["sources"][0], "uris": ["http://ppa.example/drivers/ubuntu"], "suites": ["bionic"]}
    file = "/etc/apt/sources.list.d/ppa.list"
    source.update({"file": file, "line": 1, "fetched": fetched, "releases": [], **over})
    observation["apt"]["sources"].append(source)
    return source


def test_a_personal_archive_that_apt_has_not_read_stops_the_run() -> None:
    """Its suite is this release's, and it may offer the driver: it must not pass in silence."""
    observation = observed("ubuntu1804-quadro-p2000")
    ppa(observation, fetched=False)
    (problem,) = preflight.problems(observation)
    assert "ppa.example" in problem
    assert "not read yet" in problem
    assert "Let apt read it:\n  apt-get update\nOr remove it:\n  rm /etc/apt/sources.list.d/ppa.list" in problem
    assert preflight.remarks(observation) == []


@pytest.mark.parametrize("over", [{"enabled": False}, {"types": ["deb-src"]}])
def test_what_offers_no_package_need_not_be_read(over: Json) -> None:
    """A source that is switched off, and one of source code."""
    observation = observed("ubuntu1804-quadro-p2000")
    ppa(observation, fetched=False, **over)
    assert preflight.problems(observation) == []


def test_a_suite_of_the_own_archive_that_apt_has_not_read_passes() -> None:
    """Another source at the same address has shown whose archive it is."""
    observation = observed("ubuntu1804-quadro-p2000")
    ppa(observation, fetched=False, uris=observation["apt"]["sources"][0]["uris"], suites=["bionic-backports"])
    assert preflight.problems(observation) == []


def test_a_host_whose_apt_has_read_nothing() -> None:
    """Fresh from an image: sources are judged by their suite, in words; one not of this release stops the run."""
    observation = observed("ubuntu1804-quadro-p2000")
    observation["apt"]["releases"] = []
    for source in observation["apt"]["sources"]:
        source.update(fetched=False, releases=[])
    assert preflight.problems(observation) == []
    remarks = preflight.remarks(observation)
    assert len(remarks) == len(observation["apt"]["sources"])
    assert all("judged by its suite alone" in remark for remark in remarks)
    ppa(observation, fetched=False, suites=["stable"])
    (problem,) = preflight.problems(observation)
    assert "ppa.example" in problem


def test_a_suite_whose_name_moves_is_told_by_what_apt_read() -> None:
    """`stable` is another release only where apt has shown the distribution's archive of another code name."""
    observation = observed("debian12-no-gpu")
    editor = "https://editor.example/repos/code"
    ppa(observation, fetched=True, uris=[editor], suites=["stable"], file="/etc/apt/sources.list.d/editor.list")
    row = {"origin": "Editor", "label": "code", "codename": "stable", "suite": "stable", "site": "editor.example"}
    observation["apt"]["releases"].append(row)
    assert preflight.problems(observation) == []
    assert any(editor in remark for remark in preflight.remarks(observation))
    mirror = "http://mirror.example/debian"
    ppa(observation, fetched=True, uris=[mirror], suites=["stable"], file="/etc/apt/sources.list.d/next.list")
    row = {"origin": "Debian", "label": "Debian", "codename": "trixie", "suite": "stable", "site": "mirror.example"}
    observation["apt"]["releases"].append(row)
    (problem,) = preflight.problems(observation)
    assert "next.list" in problem and "which is not bookworm" in problem


@pytest.mark.parametrize("suite", ["bullseye", "trixie-updates", "focal"])
def test_a_release_of_any_distribution_but_this_one_is_foreign(suite: str) -> None:
    """An older or a newer Debian, or an Ubuntu, on Debian 12; whether apt has read it does not matter."""
    observation = observed("debian12-no-gpu")
    ppa(observation, fetched=False, suites=[suite], file="/etc/apt/sources.list.d/other.list")
    (problem,) = preflight.problems(observation)
    assert f"{suite}, which is not bookworm" in problem and "rm /etc/apt/sources.list.d/other.list" in problem


def offer(observation: Json, file: Optional[str], line: Optional[int], site: str) -> None:
    """Let a source offer the driver."""
    row = {"package": "nvidia-driver-570", "site": site, "version": "570.1", "file": file, "line": line}
    observation["apt"]["foreign_packages"].append(row)


def test_a_site_that_also_mirrors_the_distribution_keeps_the_mirror() -> None:
    """The line that offers the driver is meant, not the first line with that host in it."""
    observation = observed("ubuntu1804-quadro-p2000")
    own = observation["apt"]["sources"][0]
    source = ppa(observation, fetched=True, uris=["http://ubuntu-archive.example/ppa"])
    offer(observation, source["file"], source["line"], "ubuntu-archive.example")
    (problem,) = preflight.problems(observation)
    assert "offers nvidia-driver-570" in problem
    assert "rm /etc/apt/sources.list.d/ppa.list" in problem
    assert own["file"] not in problem.replace(source["file"], "")


def test_an_offer_whose_source_is_not_known_says_how_to_find_it() -> None:
    """Two sources of one index: the probe gives no file then."""
    observation = observed("ubuntu1804-quadro-p2000")
    offer(observation, None, None, "vendor.example")
    (problem,) = preflight.problems(observation)
    assert "grep -rlF -e vendor.example /etc/apt/sources.list" in problem


def test_two_sources_in_one_file_have_commands_of_their_own(copied: Path) -> None:
    """The commands can be run one after the other: neither counts lines."""
    add(
        copied,
        "sources.list.d/both.list",
        f"deb {OWN} focal main\ndeb {OWN} focal-updates main\ndeb {OWN} bionic main\n",
    )
    bad = [p for p in preflight.problems(observed(HOST, copied)) if "both.list" in p]
    assert len(bad) == 2
    for problem, left in zip(bad, (["focal-updates", "bionic"], ["bionic"])):
        carry_out(copied, problem)
        assert [s[2] for s in sources_of(copied) if s[0].endswith("both.list")] == [[suite] for suite in left]


def test_a_removal_without_the_other_sources_does_not_take_the_file() -> None:
    """Who does not know what else stands in the file must not remove it."""
    source = {**observed("ubuntu1804-quadro-p2000")["apt"]["sources"][0], "file": "/etc/apt/sources.list.d/x.list"}
    assert sources.removal(source, {"sources": [], "problems": []}).startswith("sed -E -i ")
    assert (
        sources.removal(source, {"sources": [source], "problems": []})
        == "rm /etc/apt/sources.list.d/x.list && apt-get update"
    )
