"""The laws of the catalog: what must hold between its rows, whatever figures they carry."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Sequence, Tuple

import pytest
from packaging.version import Version

from gpuhost.gpucode import reach

from . import independent
from .independent import figures

FACTS = independent.read()
Json = Dict[str, Any]


def walk(node: Any, place: str = "") -> Iterator[Tuple[str, Any]]:
    """Every value of a table with its place."""
    yield place, node
    if isinstance(node, dict):
        for key, child in node.items():
            yield from walk(child, f"{place}.{key}")
    elif isinstance(node, list):
        for i, child in enumerate(node):
            yield from walk(child, f"{place}[{i}]")


def neighbours(rows: Sequence[Any]) -> Iterator[Tuple[Any, Any]]:
    """Each row with the next."""
    return zip(rows, rows[1:])


def packages() -> List[Json]:
    """The driver packages of all archives."""
    return [row for rows in FACTS["drivers"]["archives"].values() for row in rows]


def test_sizes() -> None:
    """No row of the facts got lost on the way into the catalog."""
    assert len(FACTS["gpus"]["devices"]) == 1172
    assert len(FACTS["drivers"]["runfiles"]) == 286
    assert len(FACTS["cuda"]["releases"]) == 60
    assert len(FACTS["cudnn"]["packages"]) == 100
    assert len(FACTS["opencv"]["releases"]) == 25
    assert len(FACTS["drivers"]["archives"]["ubuntu-18.04"]) == 11
    assert set(FACTS["platforms"]["platforms"]) == {"debian-12", "debian-13"} | {
        f"ubuntu-{year}.04" for year in (18, 20, 22, 24, 26)
    }
    assert len({row["series"] for row in FACTS["tensorflow"]["releases"]}) == 22  # 2.0 to 2.21


@pytest.mark.parametrize(
    ("table", "rows", "key"),
    [
        ("cuda", "releases", ("version",)),
        ("cudnn", "packages", ("version", "cuda")),
        ("opencv", "releases", ("version",)),
        ("tensorflow", "releases", ("version",)),
        ("drivers", "runfiles", ("version", "variant")),
    ],
)
def test_rows_are_told_apart(table: str, rows: str, key: Tuple[str, ...]) -> None:
    """No two rows are the same release, so a plan means exactly one."""
    found = [tuple(row[k] for k in key) for row in FACTS[table][rows]]
    assert len(found) == len(set(found))


def test_versions_parse() -> None:
    """Every version is a string that `packaging` orders, as the resolver compares them with it."""
    names = {
        "version",
        "driver_min",
        "driver_min_minor_compat",
        "driver_bundled",
        "package_version",
        "suggested",
    }
    names |= {
        "max_cuda",
        "min_kernel",
        "first_listed_driver",
        "series",
        "cuda_supported",
        "cmake_min",
    }
    seen = 0
    for table in independent.TABLES:
        for place, value in walk(FACTS[table], table):
            name = place.rpartition(".")[2]
            if name not in names or value is None or ".sources." in place:
                continue
            assert isinstance(value, str), place
            seen += 1
            distribution_version = name == "package_version" and ".archives." in place
            if not distribution_version:
                Version(value)
    assert seen > 1000


def test_artifacts_are_sealed() -> None:
    """What is downloaded has a sha256, an https URL (or a file name of a registry or archive) and a
    source."""
    sealed = 0
    for table in independent.TABLES:
        for place, value in walk(FACTS[table], table):
            if not isinstance(value, dict):
                continue
            if not place.endswith(".sources") and ("url" in value or "sha256" in value):
                sealed += 1
                assert len(value["sha256"]) == 64, place
                assert set(value["sha256"]) <= set("0123456789abcdef"), place
                url = value.get("url")
                assert url.startswith("https://") if url is not None else value["file"], place
    assert sealed > 285 + 60 + 100 + 11


def test_checksums_are_of_one_file() -> None:
    """One sha256 stands for one file: a checksum pasted into a second row would show here."""
    owners: Dict[str, str] = {}
    for table in independent.TABLES:
        for place, value in walk(FACTS[table], table):
            if isinstance(value, dict) and "sha256" in value and not place.endswith(".sources"):
                name = value.get("file") or value["url"]
                assert owners.setdefault(value["sha256"], name) == name, place


@pytest.mark.parametrize(("table", "rows"), [("drivers", "runfiles"), ("cuda", "releases"), ("cudnn", "packages")])
def test_rows_have_a_source(table: str, rows: str) -> None:
    """Each row of these tables names its own source."""
    assert all(row["source"].strip() for row in FACTS[table][rows])


def test_tables_have_sources() -> None:
    """The other tables name their sources for all rows, platforms and archive packages each for
    themselves."""
    assert FACTS["gpus"]["source"]
    for table in ("drivers", "cuda", "cudnn", "tensorflow", "opencv"):
        assert FACTS[table]["sources"], table
        assert all(text.strip() for text in FACTS[table]["sources"].values()), table
    assert all(row["source"] for row in FACTS["platforms"]["platforms"].values())
    assert all(row["source"] for row in packages())


def test_every_device_has_a_capability_and_a_generation() -> None:
    """No id leads nowhere: its chip has a capability, and that one generation."""
    gpus = FACTS["gpus"]
    owners = [cc for row in gpus["generations"] for cc in row["capabilities"]]
    assert len(owners) == len(set(owners))
    for device, row in gpus["devices"].items():
        assert gpus["chips"][row["chip"]]["compute_capability"] in owners, device
        assert device == device.lower(), device
        assert len(device) == 4, device
    assert {chip["compute_capability"] for chip in gpus["chips"].values()} == set(owners)
    assert set(gpus["unverified_chips"]) <= set(gpus["chips"])
    assert not set(gpus["integrated_chips"]) & set(gpus["chips"])


def test_branches_serve_known_generations() -> None:
    """A branch names generations that exist, in one run without gaps, and never fewer new ones than the
    last."""
    order = [row["name"] for row in FACTS["gpus"]["generations"]]
    branches = list(FACTS["drivers"]["branches"].items())
    assert [name for name, _ in branches] == sorted(name for name, _ in branches)
    for name, row in branches:
        places = [order.index(g) for g in row["generations"]]
        assert places == list(range(places[0], places[-1] + 1)), name
        assert set(row["open_modules_only"]) <= set(row["generations"]), name
    for (_, older), (name, newer) in neighbours(branches):
        for end in (
            0,
            -1,
        ):  # the oldest generation is dropped over time, a newer one added, never the reverse
            assert order.index(older["generations"][end]) <= order.index(newer["generations"][end]), name


def test_branch_of_every_driver_is_known() -> None:
    """Each package and `.run` belongs to the branch its version begins with, and that branch has a row."""
    for row in packages() + FACTS["drivers"]["runfiles"]:
        assert row["branch"] in FACTS["drivers"]["branches"]
        assert row["version"].partition(".")[0] == row["branch"]
        assert row.get("package_version", row["version"]).startswith(row["version"])


def test_suggested_release_exists() -> None:
    """A branch suggests a release that there is."""
    there = {row["version"] for row in FACTS["drivers"]["runfiles"]}
    for name, row in FACTS["drivers"]["branches"].items():
        assert row["suggested"] in there, name
        assert row["suggested"].startswith(name + ".")


def test_claims_are_devices() -> None:
    """A package claims ids of the table, each once; the server packages also name 307 that are not graphics
    cards of the table. The number is pinned, so that a typo does not hide among them."""
    devices = FACTS["gpus"]["devices"]
    unknown = set()
    for row in packages():
        assert len(row["claims"]) == len(set(row["claims"])), row["package"]
        rest = set(row["claims"]) - set(devices)
        assert not rest or row["package"] in ("nvidia-driver-418-server", "nvidia-driver-450-server")
        unknown |= rest
    assert len(unknown) == 307
    counts = {row["package"]: len(row["claims"]) for row in packages()}
    assert counts["nvidia-driver-525"] == 349  # as the package's own index says
    assert counts["nvidia-driver-525-server"] == 350
    assert counts["nvidia-driver-390"] == 378


def test_claimed_cards_are_of_a_served_generation() -> None:
    """What a package claims, its branch serves: the two sources (Modaliases, generations) agree but for
    four ids, which the two oldest server packages name and no release of their branches drives."""
    devices = FACTS["gpus"]["devices"]
    known = {"1059", "1244", "1245", "2232"}
    for row in packages():
        served = FACTS["drivers"]["branches"][row["branch"]]["generations"]
        cards = [independent.card_of(FACTS, device) for device in row["claims"] if device in devices]
        outside = {c.device for c in cards if independent.generation(FACTS, c) not in served}
        server = row["package"] in ("nvidia-driver-418-server", "nvidia-driver-450-server")
        assert outside == (known if server else set()), row["package"]


CAPABILITIES = ["3.5", "3.7", "5.0", "5.2", "6.0", "6.1", "7.0", "7.5"]
CAPABILITIES += ["8.0", "8.6", "8.9", "9.0", "10.0", "12.0"]
#: How six series of wheels reach these: c(ubin), j (PTX, compiled by the driver), - (not at all).
#: Source: fatbin headers of the 2.0.0, 2.1.4, 2.2.3 and 2.3.4 wheels, build_info.py of 2.4 and newer ones.
REACH = {
    "2.0": "ccjcccccjjjjjj",
    "2.3": "cc-cccccjjjjjj",
    "2.4": "ccccccccjjjjjj",
    "2.13": "ccccccccjjjjjj",
    "2.16": "--cccccccccjjj",
    "2.21": "----cccccccjjj",
}


@pytest.mark.parametrize("series", REACH)
def test_tensorflow_code_reaches(series: str) -> None:
    """The code in the wheels reaches exactly the cards it was seen to reach (this is why a GTX 750 Ti is
    refused TensorFlow 2.3)."""
    letters = {"cubin": "c", "ptx-jit": "j", "none": "-"}
    rows = [row for row in FACTS["tensorflow"]["releases"] if row["series"] == series]
    assert rows
    for row in rows:
        assert "".join(letters[reach(row["code"], cc)] for cc in CAPABILITIES) == REACH[series], row["version"]
        assert "".join(letters[independent.runs(row["code"], cc)] for cc in CAPABILITIES) == REACH[series]


def test_newest_cuda_grows_with_the_branch() -> None:
    """A newer branch serves no older CUDA, where it is known at all (two branches bundle none and meet
    none)."""
    known = [(n, row["max_cuda"]) for n, row in FACTS["drivers"]["branches"].items() if row["max_cuda"]]
    assert len(known) == len(FACTS["drivers"]["branches"]) - 2
    for (_, older), (name, newer) in neighbours(known):
        assert figures(older) <= figures(newer), name


def test_driver_floor_grows_with_cuda() -> None:
    """A newer toolkit needs no older driver, and minor-version compatibility never asks for a newer one
    than it."""
    rows = sorted(FACTS["cuda"]["releases"], key=lambda row: figures(row["version"]))
    for older, newer in neighbours(rows):
        assert figures(older["driver_min"]) <= figures(newer["driver_min"]), newer["version"]
    floors = {"11": "450.80.02", "12": "525.60.13", "13": "580.65.06"}
    for row in rows:
        major = row["version"].partition(".")[0]
        assert row["driver_min_minor_compat"] == floors.get(major), row["version"]
        if not row["version"].startswith("11.0."):  # 11.0 was bundled with a driver older than the floor
            floor = row["driver_min_minor_compat"]
            assert floor is None or figures(floor) <= figures(row["driver_min"]), row["version"]


def test_cuda_builds_for_cards_that_exist() -> None:
    """nvcc's list is in order, each capability belongs to a chip, and the oldest are only ever dropped."""
    gpus = FACTS["gpus"]
    chips = [*gpus["chips"].values(), *gpus["integrated_chips"].values()]
    known = {chip["compute_capability"] for chip in chips}
    rows = sorted(FACTS["cuda"]["releases"], key=lambda row: figures(row["version"]))
    unlisted = {"10.1", "8.8"}  # integrated chips: the old name of 11.0, and one that pci.ids does not know
    for row in rows:
        assert row["capabilities"] == sorted(row["capabilities"], key=figures)
        assert set(row["capabilities"]) <= known | unlisted, row["version"]
        assert row["version"].startswith(row["series"] + ".")
        assert (row["gcc_min"] or 0) <= row["gcc_max"]
    for older, newer in neighbours(rows):
        assert figures(older["capabilities"][0]) <= figures(newer["capabilities"][0])


def test_cudnn_is_for_a_cuda_that_exists() -> None:
    """A cuDNN is built for a series of which a toolkit is there, and its range is one."""
    for row in FACTS["cudnn"]["packages"]:
        assert any(independent.pair_cudnn_cuda(row, cuda) for cuda in FACTS["cuda"]["releases"]), row["file"]
        assert figures(row["capability_min"]) <= figures(row["capability_max"])
        assert row["version"] in row["file"]


def test_platforms_name_known_cuda_platforms() -> None:
    """Every toolkit says of every platform whether it is for it, and nothing of any other: the rows about a platform
    begin with the first release, each with a release that there is, in order.
    """
    platforms = set(FACTS["platforms"]["platforms"])
    assert set(FACTS["cuda"]["platforms"]) == platforms
    releases = sorted((row["version"] for row in FACTS["cuda"]["releases"]), key=figures)
    for platform, rows in FACTS["cuda"]["platforms"].items():
        starts = [row["from"] for row in rows]
        assert starts[0] == releases[0], platform
        assert set(starts) <= set(releases), platform
        assert starts == sorted(set(starts), key=figures), platform
    assert set(FACTS["drivers"]["archives"]) == set(FACTS["drivers"]["archives_as_of"]) == platforms


def test_locked_files_are_the_catalog_s() -> None:
    """An environment lock pins the very wheel that the catalog's row names."""
    sealed = {w["file"]: w["sha256"] for r in FACTS["tensorflow"]["releases"] for w in r["wheels"]}
    sealed.update({w["file"]: w["sha256"] for r in FACTS["opencv"]["releases"] for w in r["wheels"]})
    for name in FACTS["locks"]:
        if name.startswith(("opencv_build-", "service-")):
            continue  # the tools that build OpenCV, and what the detection service adds to it, hold no OpenCV
        files = independent.pinned(FACTS, name)
        shared = set(files) & set(sealed)
        assert len(shared) == 1, name
        assert all(files[file] == sealed[file] for file in shared), name


def test_doubt_is_kept() -> None:
    """What no source confirmed stays marked, row by row: a mark that vanishes is a fact made up."""

    def count(table: str, rows: str) -> int:
        return sum(bool(row.get("unverified")) for row in FACTS[table][rows])

    assert count("cudnn", "packages") == 37
    assert count("opencv", "releases") == 19
    assert count("cuda", "releases") == 0
    assert count("tensorflow", "releases") == 0
    doubts = {"ubuntu-18.04": 24, "ubuntu-20.04": 60, "ubuntu-22.04": 60, "ubuntu-24.04": 60, "ubuntu-26.04": 3}
    for platform, doubtful in {**doubts, "debian-12": 34, "debian-13": 34}.items():
        ask = independent.Ask(platform, ())
        places = [independent.place(FACTS, ask, row) for row in FACTS["cuda"]["releases"]]
        assert sum(bool(p.get("unverified")) for p in places) == doubtful, platform
    assert FACTS["gpus"]["unverified_chips"] == ["GB100", "GB102", "GB110", "GB112"]
    assert set(FACTS["drivers"]["unverified"]) == {"open_modules_only", "615"}
