"""The catalog renews itself: what each source says, the difference it makes, and what is never done silently."""

from __future__ import annotations

import atexit
import copy
import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from catalog import cards, debian, index, main, redistrib, runfiles
from catalog.fetch import Fetch
from catalog.rows import LINES, Missing, Person, Says, difference, name, row, written

from gpuhost.errors import ArtifactError, EnvironmentProblem
from gpuhost.planning.catalog import DATA

Json = Dict[str, Any]
PROJECT = Path(__file__).parents[2]
REFRESH = PROJECT / "tools/catalog/refresh"
SHA = "ab" * 32
INDEX = "https://index.example/simple"


@pytest.fixture
def tables() -> Dict[str, Json]:
    """The shipped tables, to change."""
    return copy.deepcopy(main.tables(DATA))


def record(folder: Path, url: str, content: str | bytes) -> None:
    """Put what an address answers where --recorded looks for it."""
    path = folder / (url.split("://")[1] + ("index" if url.endswith("/") else ""))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


# The files, and differences


@pytest.mark.parametrize("table", LINES)
def test_the_writer_leaves_an_unchanged_file_as_it_is(table: str) -> None:
    """A renewal shows in git as the rows that changed and nothing else."""
    text = (DATA / f"{table}.json").read_text("utf-8")
    assert written(table, json.loads(text)) == text


PLATFORM = ("platforms", "debian-13")


def test_a_changed_field_is_told_with_its_source_and_day(tables: Dict[str, Json]) -> None:
    """The field changes, its source is of today, and the row's other source stays."""
    before = copy.deepcopy(tables)
    says = Says("platforms", PLATFORM, {"glibc": "2.99"}, "signed package indices of Debian 13")
    made = difference(tables, [says], "2027-01-02", [])
    assert made.changed == ['~ platforms/platforms/debian-13: glibc: "2.41" -> "2.99"']
    changed = made.tables["platforms"]["platforms"]["debian-13"]
    assert changed["glibc"] == "2.99"
    assert changed["source"].startswith("signed package indices of Debian 13, read 2027-01-02; endoflife-date")
    assert tables == before
    assert difference(made.tables, [says], "2027-01-03", []).changed == []


def test_a_new_row_gets_a_source(tables: Dict[str, Json]) -> None:
    """What is added says where it comes from."""
    place = ("devices", "2fff")
    made = difference(
        tables, [Says("gpus", place, {"chip": "GB205", "name": "X"}, "pci.ids 1", where="sorted")], "D", []
    )
    devices = made.tables["gpus"]["devices"]
    assert devices["2fff"] == {"chip": "GB205", "name": "X", "source": "pci.ids 1, read D"}
    assert list(devices) == sorted(devices)


def test_a_file_with_another_checksum_is_a_conflict(tables: Dict[str, Json]) -> None:
    """The name of a file is the same and its content is not: nothing is written."""
    wheel = tables["tensorflow"]["releases"][0]["wheels"][0]
    place = ("releases", row(version=tables["tensorflow"]["releases"][0]["version"]), "wheels", row(file=wheel["file"]))
    made = difference(tables, [Says("tensorflow", place, {"file": wheel["file"], "sha256": SHA}, "index")], "D", [])
    assert made.tables == tables and made.changed == []
    assert len(made.conflicts) == 1 and SHA in made.conflicts[0] and wheel["sha256"] in made.conflicts[0]


def test_a_row_that_is_gone_stays_until_it_is_dropped(tables: Dict[str, Json]) -> None:
    """It is told and kept; named with --drop it goes."""
    missing = Missing("drivers", ("archives", "debian-13", row(package="nvidia-driver")), "Debian")
    where = name(missing.table, missing.place)
    kept = difference(tables, [missing], "D", [])
    assert kept.tables == tables and kept.kept == [f"{where}: no longer in Debian"]
    dropped = difference(tables, [missing], "D", [where])
    assert (
        len(dropped.tables["drivers"]["archives"]["debian-13"]) == len(tables["drivers"]["archives"]["debian-13"]) - 1
    )
    assert dropped.dropped


def test_a_source_cannot_steer_the_terminal(tables: Dict[str, Json]) -> None:
    """What upstream writes is one printable line."""
    findings = [
        Person("gpus", "\x1b[2Jevil\nline"),
        Says("gpus", ("devices", "2fff"), {"chip": "GB205", "name": "\x1b]0;x\x07" * 99}, "pci.ids", where="sorted"),
    ]
    made = difference(tables, findings, "D", [])
    assert all(line.isprintable() and len(line) < 250 for line in made.people + made.changed)


# Debian

PACKAGES = """Package: libc6
Version: 2.41-12+deb13u9
Filename: pool/libc6.deb

Package: python3
Version: 3.13.5-1
Depends: python3.13 (>= 3.13.5-1~), libpython3-stdlib (= 3.13.5-1)

Package: python3.13
Version: 3.13.5-2

Package: gcc
Version: 4:14.2.0-1
Depends: cpp (= 4:14.2.0-1), gcc-14 (>= 14.2.0-6~)

Package: g++-14
Version: 14.2.0-19

Package: g++-12
Version: 12.4.0-5

Package: libgl1
Version: 1.7.0-1

Package: libglib2.0-0t64
Version: 2.84.4
"""


class Mirror:
    """A recorded suite of Debian that is signed by a key of its own, in the real format of an InRelease file."""

    def __init__(self, folder: Path) -> None:
        """Make the key."""
        self.folder, self.keyring = folder / "recorded", folder / "keys.gpg"
        # Short, because the path of the agent's socket has 107 characters at most.
        self.home = Path(tempfile.mkdtemp(prefix="gpg"))
        atexit.register(shutil.rmtree, str(self.home), True)
        self.gpg("--passphrase", "", "--quick-gen-key", "archive@example.org", "ed25519", "sign", "never")
        self.keyring.write_bytes(self.gpg("--export"))

    def gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        """Run gpg with the folder of this key."""
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--pinentry-mode", "loopback", *arguments]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    def publish(self, suite: str, more: str = "", content: str = PACKAGES) -> None:
        """Record a suite with one component."""
        packed = lzma.compress(content.encode())
        digest = hashlib.sha256(packed).hexdigest()
        text = (
            f"Origin: Debian\nCodename: {suite}\n{more}SHA256:\n {digest} {len(packed)} main/binary-amd64/Packages.xz\n"
        )
        base = f"{debian.ARCHIVE}/dists/{suite}"
        record(self.folder, f"{base}/InRelease", self.gpg("--clearsign", data=text.encode()))
        record(self.folder, f"{base}/main/binary-amd64/Packages.xz", packed)

    def read(self, suite: str = "trixie") -> Dict[str, debian.Stanza]:
        """Read the suite as the importer does."""
        fetch = Fetch(self.folder)
        signed = debian.release(fetch, debian.ARCHIVE, suite, self.keyring)
        return debian.packages(fetch, signed, "main", debian.BASE)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    """A signed mirror; its key's agent ends with it."""
    if not shutil.which("gpg") or not shutil.which("gpgv"):
        pytest.skip("gpg and gpgv sign and verify the recorded index")
    made = Mirror(tmp_path)
    yield made
    subprocess.run(["gpgconf", "--homedir", str(made.home), "--kill", "all"], check=False)


def test_debians_index_says_what_a_platform_is(mirror: Mirror) -> None:
    """glibc, Pythons, compilers and libraries come from the signed index."""
    mirror.publish("trixie")
    assert debian.platform_facts(mirror.read()) == {
        "glibc": "2.41",
        "pythons": ["3.13"],
        "gcc": {"default": "14", "available": ["12", "14"]},
        "opencv_wheel_libraries": ["libgl1", "libglib2.0-0t64"],
    }


def test_an_index_that_was_changed_is_refused(mirror: Mirror) -> None:
    """The list is not the one that was signed; or the signed text itself was changed."""
    mirror.publish("trixie")
    base = f"{debian.ARCHIVE}/dists/trixie"
    record(mirror.folder, f"{base}/main/binary-amd64/Packages.xz", lzma.compress(b"Package: libc6\nVersion: 9-1\n"))
    with pytest.raises(ArtifactError, match="is not the file that its index names"):
        mirror.read()
    path = mirror.folder / f"{base}/InRelease".split("://")[1]
    path.write_bytes(path.read_bytes().replace(b"Origin: Debian", b"Origin: debian"))
    with pytest.raises(ArtifactError, match="no good signature"):
        mirror.read()


def test_an_unsigned_a_foreign_an_expired_and_another_suite_are_refused(mirror: Mirror, tmp_path: Path) -> None:
    """A key that is not Debian's signs nothing here."""
    mirror.publish("trixie")
    with pytest.raises(ArtifactError, match="no good signature"):
        debian.release(Fetch(mirror.folder), debian.ARCHIVE, "trixie", _other_key(tmp_path))
    mirror.publish("trixie", more="Valid-Until: Fri, 06 Nov 2020 08:08:01 UTC\n")
    with pytest.raises(ArtifactError, match="was valid until"):
        mirror.read()
    record(mirror.folder, f"{debian.ARCHIVE}/dists/trixie/InRelease", "Origin: Debian\nCodename: trixie\n")
    with pytest.raises(ArtifactError, match="no good signature"):
        mirror.read()
    mirror.publish("bookworm")
    dists = mirror.folder / "deb.debian.org/debian/dists"
    shutil.copyfile(str(dists / "bookworm/InRelease"), str(dists / "trixie/InRelease"))
    with pytest.raises(ArtifactError, match="says that it is bookworm"):
        mirror.read()


def _other_key(folder: Path) -> Path:
    """A keyring that holds nothing."""
    (folder / "none.gpg").write_bytes(b"")
    return folder / "none.gpg"


# The package index


def page(project: str, *names: str, yanked: Tuple[str, ...] = ()) -> str:
    """A project's page in the form of PEP 691, cut down to the fields that pypi.org sends and this reads."""
    files = [
        {"filename": n, "hashes": {"sha256": hashlib.sha256(n.encode()).hexdigest()}, "size": 7, "yanked": n in yanked}
        for n in names
    ]
    return json.dumps({"meta": {"api-version": "1.1"}, "name": project, "files": files, "versions": []})


WHEEL = "tensorflow-{0}-{1}-{2}-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"


def test_the_index_adds_wheels_and_tells_of_releases(tables: Dict[str, Json], tmp_path: Path) -> None:
    """Wheels for a platform's Python are added; others, and a new release, are not; one that is gone is told."""
    one = next(one for one in tables["tensorflow"]["releases"] if one["version"] == "2.21.0")
    tables["tensorflow"]["releases"] = [one]
    names = [
        WHEEL.format("2.21.0", tag, abi) for tag, abi in (("cp314", "cp314"), ("cp314", "cp314t"), ("cp35", "cp35m"))
    ]
    names += [names[0].replace("x86_64", "aarch64"), WHEEL.format("2.22.0rc0", "cp314", "cp314")]
    names += [WHEEL.format("2.23.0", "cp314", "cp314")]
    record(tmp_path, f"{INDEX}/tensorflow/", page("tensorflow", *names))
    files = index.listing(Fetch(tmp_path), INDEX)
    found = list(index.tensorflow(files, tables, {"dl4cv-tensorflow-2.21.0-cp314"}))
    assert [f.facts["file"] for f in found if isinstance(f, Says)] == names[:1]
    assert len([f for f in found if isinstance(f, Missing)]) == len(one["wheels"])
    assert ["2.23.0" in f.text for f in found if isinstance(f, Person)] == [True]
    unlocked = list(index.tensorflow(files, tables, set()))
    assert not any(isinstance(f, Says) for f in unlocked)
    assert any(
        isinstance(f, Person) and f.text == f"{names[0]} is on the index: no environment is locked for it"
        for f in unlocked
    )


@pytest.mark.parametrize(
    "answer", ["<html>", "[]", '{"files": [{"filename": "x"}]}', page("x", "y").replace('"size": 7', '"size": "7"')]
)
def test_an_index_without_a_listing_is_one_sentence(answer: str, tmp_path: Path) -> None:
    """Whatever a proxy answers ends in a sentence."""
    record(tmp_path, f"{INDEX}/tensorflow/", answer)
    with pytest.raises(EnvironmentProblem, match="not a list of files"):
        index.listing(Fetch(tmp_path), INDEX)("tensorflow")


def test_the_index_is_the_one_that_pip_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment decides first, as for pip."""
    monkeypatch.setenv("PIP_INDEX_URL", f"{INDEX}/")
    assert index.address() == INDEX


def test_a_login_in_an_address_is_shown_nowhere() -> None:
    """pip's index may have one; nobody answers at this address."""
    with pytest.raises(EnvironmentProblem, match="does not answer") as refused:
        Fetch().get("https://user:s3cret@127.0.0.1/simple/p/")
    assert "s3cret" not in f"{refused.value} {refused.value.next_step}"


# Cards, installers and manifests, in their real formats

README = """This is the source release of the NVIDIA Linux open GPU kernel modules,
version 615.71.09.

| Product Name                                    | PCI ID         |
| ----------------------------------------------- | -------------- |
| NVIDIA TITAN RTX                                | 1E02           |
| Quadro RTX 8000                                 | 1E30 1028 129E |
| NVIDIA B200                                     | 290A           |
| NVIDIA Something                                | 2FFE           |
"""


def test_the_table_of_the_open_modules(tables: Dict[str, Json], tmp_path: Path) -> None:
    """A card that no list had is listed now, another one still is not, and an unknown one is told."""
    record(tmp_path, cards.README, README)
    found = list(cards.read_table(Fetch(tmp_path), tables))
    made = difference(tables, found, "D", []).tables["gpus"]["devices"]
    assert made["290a"]["first_listed_driver"] == "615.71.09" and "unlisted_up_to" not in made["290a"]
    assert made["2c09"]["unlisted_up_to"] == "615.71.09"
    assert [f.text for f in found if isinstance(f, Person)] == [
        "2ffe is NVIDIA Something in the table of 615.71.09, and not in the catalog"
    ]


def test_pci_ids() -> None:
    """NVIDIA's devices, without subsystems and other vendors (a cutting of pci.ids 2026.08.22)."""
    text = (
        "10dd  Nippon\n\t0001  Other\n10de  NVIDIA Corporation\n\t0008  NV1 [EDGE 3D]\n\t1c30  GP106GL [Quadro P2000]\n"
        "\t\t1028 11b3  Quadro P2000\n\t1c31  GP106GL [Quadro P2200]\n10df  Emulex\n\t0720  OneConnect\n"
    )
    assert cards.devices(text) == {
        "0008": "NV1 [EDGE 3D]",
        "1c30": "GP106GL [Quadro P2000]",
        "1c31": "GP106GL [Quadro P2200]",
    }


#: One installer that both know (580.159.04), one that flathub alone knows, one on which they do not agree.
GVISOR = f"""		v580_159_04 := addDriverABI(580, 159, 4, "{SHA}", "{SHA}", v580_126_20)
		v580_999_01 := addDriverABI(580, 999, 1, "{"cd" * 32}", "{SHA}", v580_126_20)
"""


def test_checksums_need_two_sources(tables: Dict[str, Json], tmp_path: Path) -> None:
    """Both agree: a row. One only, or two different ones: a person."""
    tables["drivers"]["runfiles"] = []
    record(tmp_path, runfiles.GVISOR, GVISOR)
    versions = ("580.159.04", "580.999.01", "615.71.09")
    record(
        tmp_path,
        f"{runfiles.FLATHUB}/versions.sh",
        f'PRODUCTION_VERSIONS="{" ".join(versions)}"\nBETA_VERSIONS="1.2"\n',
    )
    for version in versions:
        address = f"http://http.download.nvidia.com/XFree86/Linux-x86_64/{version}/NVIDIA-Linux-x86_64-{version}.run"
        record(tmp_path, f"{runfiles.FLATHUB}/data/nvidia-{version}-x86_64.data", f":{SHA}:123::{address}\n")
    found = list(runfiles.read(Fetch(tmp_path), tables))
    rows = [f.facts for f in found if isinstance(f, Says)]
    assert [one["version"] for one in rows] == ["580.159.04"]
    assert rows[0]["url"].startswith("https://download.nvidia.com/XFree86/") and rows[0]["size"] == 123
    told = [f.text for f in found if isinstance(f, Person)]
    assert "do not agree" in told[0] and "one source only" in told[1] and len(told) == 2


def test_an_installer_from_elsewhere_is_refused() -> None:
    """A record that names another server is not taken."""
    with pytest.raises(ArtifactError):
        runfiles.installer(f":{SHA}:1::https://example.org/NVIDIA-Linux-x86_64-1.2.run\n")


def manifest(version: str, sha256: str) -> str:
    """A manifest in NVIDIA's form (cudnn/redist/redistrib_9.21.0.json, cut down to what is read)."""
    path = f"cudnn/linux-x86_64/cudnn-linux-x86_64-{version}_cuda13-archive.tar.xz"
    one = {"relative_path": path, "sha256": sha256, "md5": "0" * 32, "size": "1"}
    part = {"name": "NVIDIA CUDA Deep Neural Network library", "version": version, "linux-x86_64": {"cuda13": one}}
    return json.dumps({"release_date": "2026-05-01", "release_product": "cudnn", "cudnn": part})


def test_a_manifest_confirms_an_archive_and_tells_of_a_new_one(tables: Dict[str, Json], tmp_path: Path) -> None:
    """The same checksum changes nothing but the source, another one is a conflict, a new release is told."""
    old = next(p for p in tables["cudnn"]["packages"] if p["version"] == "9.21.0.82" and p["cuda"] == "13")
    tables["cudnn"]["packages"] = [old]
    listing = "<a href='redistrib_9.21.0.json'>redistrib_9.21.0.json</a><a href='redistrib_9.22.0.json'>x</a>"
    record(tmp_path, redistrib.CUDNN, listing)
    record(tmp_path, f"{redistrib.CUDNN}redistrib_9.22.0.json", manifest("9.22.0.52", SHA))
    for sha256, conflicts in ((old["sha256"], 0), (SHA, 1)):
        record(tmp_path, f"{redistrib.CUDNN}redistrib_9.21.0.json", manifest("9.21.0.82", sha256))
        made = difference(tables, list(redistrib.read(Fetch(tmp_path), tables)), "D", [])
        assert made.tables == tables and made.changed == [] and len(made.conflicts) == conflicts
        assert len(made.people) == 1 and "9.22.0.52" in made.people[0]


# The laws of sources

#: Rows whose only source is a person: what no machine-readable list says. Where a source can be asked, it belongs into
#: an importer of tools/catalog, and out of this list.
BY_HAND = {
    "cuda.headers": "what nvcc did on each glibc, run by hand",
    "cuda.platforms": "which distributions NVIDIA has an installer for",
    "cuda.releases": "drivers, capabilities and compilers from release notes; installers from spack and easybuild",
    "cudnn.packages": "the cards that each release serves; archives before 8.3 have no manifest",
    "drivers.archives.ubuntu-*": "Canonical's archive was read by hand or not at all",
    "drivers.branches": "which generations a branch serves",
    "gpus.chips": "the compute capability of a chip",
    "gpus.generations": "NVIDIA's naming",
    "opencv.releases": "what each release builds with, from its sources",
    "platforms.ansible_core": "Ansible's support matrix",
    "platforms.platforms.ubuntu-*": "release notes and lists of others",
    "tensorflow.releases": "what each release was tested with, and the code in its wheels",
    "virtualbox.archives": "what apt, and the archives' own lists, said of each release",
    "virtualbox.kernels": "Oracle's and Debian's changelogs, read by a person",
}
#: Rows that an importer answers for.
BY_IMPORTER = {
    "drivers.archives.debian-*",
    "drivers.runfiles",
    "gpus.devices",
    "opencv.releases.artifacts",
    "opencv.releases.wheels",
    "platforms.platforms.debian-*",
    "tensorflow.releases.wheels",
    "virtualbox.releases",
}


def rows_of(table: str, tables: Dict[str, Json]) -> Iterator[Tuple[str, Json, str]]:
    """Every row with the name of its kind and what the table says of its kind's sources."""
    facts = tables[table]
    general = facts.get("source") or " ".join(facts.get("sources", {}).values())
    for section, held in facts.items():
        if section in ("schema", "source", "sources", "unverified", "notes", "layouts", "installer", "codenames"):
            continue
        groups = held.items() if isinstance(held, dict) else [("", held)]
        for key, group in groups:
            kind = f"{table}.{section}"
            if (table, section) in (("platforms", "platforms"), ("drivers", "archives")):
                kind += "." + re.sub(r"-.*", "-*", key)
            for one in group if isinstance(group, list) else [group]:
                if not isinstance(one, dict):
                    continue
                yield kind, one, general
                for part in ("artifacts", "wheels"):
                    yield from ((f"{kind}.{part}", inner, general) for inner in one.get(part, ()))


@pytest.mark.parametrize("table", LINES)
def test_no_row_is_without_a_source(table: str, tables: Dict[str, Json]) -> None:
    """A row names its own source, or its table names one for all."""
    for kind, one, general in rows_of(table, tables):
        assert one.get("source") or one.get("evidence") or one.get("sources") or general.strip(), (kind, one)


def test_rows_by_hand_are_listed(tables: Dict[str, Json]) -> None:
    """A new kind of row says in one of the two lists who answers for it."""
    kinds = {kind for table in LINES for kind, _, _ in rows_of(table, tables)}
    text_only = {"gpus.integrated_chips"}
    assert kinds - text_only == set(BY_HAND) | BY_IMPORTER


# The command, and a catalog that somebody points at


def refresh(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, str(REFRESH), *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_a_source_that_does_not_answer_is_told(tmp_path: Path) -> None:
    """Nothing is taken for unchanged that was not asked."""
    done = refresh("--check", "cudnn", "--recorded", str(tmp_path))
    assert done.returncode == 7 and "did not answer:" in done.stdout and "is not recorded" in done.stdout
    assert refresh("nonsense").returncode == 2
    assert "Traceback" not in done.stderr


@pytest.fixture
def renewed(tmp_path: Path) -> Path:
    """A whole catalog elsewhere, as the command writes it."""
    record(tmp_path, cards.README, README)
    folder = tmp_path / "renewed"
    done = refresh("gpus", "--recorded", str(tmp_path), "-o", str(folder))
    assert done.returncode == 7, done.stderr  # pci.ids is not recorded
    assert json.loads((folder / "gpus.json").read_text())["devices"]["290a"]["first_listed_driver"] == "615.71.09"
    return folder


def plan(folder: Path, *form: str) -> subprocess.CompletedProcess[str]:
    """Plan with that catalog."""
    command = [sys.executable, "-m", "gpuhost.cli", "plan", "--os", "debian-13", "--gpu", "RTX 4090", *form]
    env = {**os.environ, "GPUHOST_CATALOG": str(folder)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_a_plan_comes_from_the_catalog_that_is_named(renewed: Path) -> None:
    """A change in it shows in the plan; the package's own catalog is left alone."""
    was = plan(renewed, "--json")
    assert was.returncode == 0, was.stderr
    path = renewed / "drivers.json"
    table = json.loads(path.read_text())
    table["archives"]["debian-13"][0]["package_version"] = "550.163.01-77"
    path.write_text(json.dumps(table))
    assert "550.163.01-77" in plan(renewed, "--json").stdout and "550.163.01-77" not in was.stdout


HOSTILE: List[Tuple[str, bytes]] = [
    ("not JSON", b"{"),
    ("a list", b"[]"),
    ("deep", b"[" * 100000),
    ("a number without end", b'{"schema": 1e999}'),
    ("a key twice", b'{"schema": 1, "schema": 1}'),
    ("control characters as a key", b'{"schema": 1, "\\u001b[2J\\n": 1}'),
    ("another table", b'{"schema": 2}'),
]


@pytest.mark.parametrize("content", [content for _, content in HOSTILE], ids=[case for case, _ in HOSTILE])
def test_a_hostile_catalog_is_one_sentence(renewed: Path, content: bytes) -> None:
    """It ends with the catalog's exit code, the name of the file, and nothing that moves the cursor."""
    (renewed / "cuda.json").write_bytes(content)
    done = plan(renewed)
    assert done.returncode == 5 and "cuda.json" in done.stderr and "Traceback" not in done.stderr
    assert all(line.isprintable() for line in done.stderr.split("\n"))


def test_a_catalog_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """A mistyped folder is not replaced by the package's catalog."""
    done = plan(tmp_path / "none")
    assert done.returncode == 5 and "GPUHOST_CATALOG" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.full
def test_the_real_sources_answer() -> None:
    """Debian's indices are verified with Debian's keys, and the package index lists what the catalog names."""
    done = refresh("--check", "platforms", "tensorflow", "opencv", "wheels")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "gone from its source" not in done.stdout and "two checksums" not in done.stdout, done.stdout
