"""What the catalog knows of VirtualBox, and how a newer release of Oracle's comes into it."""

import hashlib
from pathlib import Path

import pytest
from catalog import virtualbox as importer
from catalog.fetch import Fetch
from catalog.rows import Person, Says

from gpuhost.errors import ArtifactError, GpuhostError
from gpuhost.planning import catalog
from gpuhost.planning.catalog import shipped

SUMS = "www.virtualbox.org/download/hashes"


def test_every_release_of_the_catalog_says_what_it_compiles_against() -> None:
    """A law of the data: in each series later releases know later kernels, and fail later."""
    rows = shipped().virtualbox["kernels"]
    for before, after in zip(rows, rows[1:]):
        if before["from"].rpartition(".")[0] != after["from"].rpartition(".")[0]:
            continue
        one, other = ([int(n) for n in row["from"].split(".")] for row in (before, after))
        assert one < other, after
        builds = [[int(n) for n in row["builds"].split(".")] for row in (before, after)]
        assert builds[0] <= builds[1], after
    for row in rows:
        if row["fails"]:
            assert [int(n) for n in row["builds"].split(".")] < [int(n) for n in row["fails"].split(".")], row


def test_the_catalog_speaks_of_every_platform() -> None:
    """Of a platform without a package it says so."""
    archives = shipped().virtualbox["archives"]
    assert set(shipped().platforms["platforms"]) < set(archives)
    assert archives["debian-13"]["packages"] == [] and archives["debian-13"]["source"]


def record(folder: Path, address: str, content: str) -> None:
    """Put what an address answers where --recorded looks for it."""
    file = folder / address
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def listing(version: str, build: str, sha256: str = "a" * 64) -> str:
    """A SHA256SUMS file as Oracle publishes one."""
    pack = f"Oracle_VirtualBox_Extension_Pack-{version}"
    names = [f"VirtualBox-{version}-{build}-Win.exe", f"VirtualBox-{version}-{build}-Linux_amd64.run"]
    names += [f"{pack}-{build}.vbox-extpack", f"{pack}.vbox-extpack", f"VBoxGuestAdditions_{version}.iso"]
    return "".join(f"{sha256} *{name}\n" for name in names)


def test_a_newer_release_is_added_from_oracles_list(tmp_path: Path) -> None:
    """Its files by the list's checksums, the list by its own; which kernels it knows is for a person to say."""
    tables = {"virtualbox": {"releases": []}}
    record(tmp_path, "download.virtualbox.org/virtualbox/LATEST-STABLE.TXT", "7.2.22\n")
    text = listing("7.2.22", "175154")
    record(tmp_path, f"{SUMS}/7.2.22/SHA256SUMS", text)
    row, person = list(importer.read(Fetch(tmp_path), tables))
    assert isinstance(row, Says) and isinstance(person, Person) and "changelog" in person.text
    assert row.facts["build"] == "175154" and row.facts["sums_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert row.facts["installer"]["url"].endswith("/7.2.22/VirtualBox-7.2.22-175154-Linux_amd64.run")
    assert row.facts["extension_pack"]["name"].endswith("7.2.22-175154.vbox-extpack")
    whole = {**catalog.load("virtualbox"), "releases": [{**row.facts, "source": "x"}]}
    catalog.fits(whole, "virtualbox.json", "virtualbox")


def test_a_checksum_that_is_another_needs_a_person(tmp_path: Path) -> None:
    """The catalog's row stays, and the difference is told."""
    tables = {"virtualbox": catalog.load("virtualbox")}
    record(tmp_path, "download.virtualbox.org/virtualbox/LATEST-STABLE.TXT", "6.0.24")
    for one in tables["virtualbox"]["releases"]:
        record(tmp_path, f"{SUMS}/{one['version']}/SHA256SUMS", listing(one["version"], one["build"]))
    found = list(importer.read(Fetch(tmp_path), tables))
    assert all(isinstance(one, Person) for one in found) and "8ff8aabd" in found[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["<html>", "a" * 64 + " *VirtualBox-7.2.22-1-Win.exe\n", "../../etc"])
def test_what_is_no_list_of_checksums_is_one_sentence(text: str, tmp_path: Path) -> None:
    """A page in its place, a list without an installer for Linux, a version that is a path."""
    latest = "7.2.22" if not text.startswith("..") else text
    record(tmp_path, "download.virtualbox.org/virtualbox/LATEST-STABLE.TXT", latest)
    record(tmp_path, f"{SUMS}/7.2.22/SHA256SUMS", text)
    with pytest.raises((ArtifactError, GpuhostError)) as refused:
        list(importer.read(Fetch(tmp_path), {"virtualbox": {"releases": []}}))
    assert "\n" not in refused.value.message
