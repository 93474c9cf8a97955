"""The plan for an observed host is made from what its own archive offers, by the rules of the catalog."""

from __future__ import annotations

import copy
import os
import random
from typing import Any, Callable, Dict, List, Optional

import pytest

from gpuhost.errors import GpuhostError, LockError, RefusedError, UnreadableError
from gpuhost.host.driver.packages import digest
from gpuhost.host.edges import Edges
from gpuhost.host.parse.relations import relations
from gpuhost.host.probe.apt import read_indexes
from gpuhost.host.probe.offers import read_offers
from gpuhost.planning import debs, lock, plan
from gpuhost.planning.catalog import DATA, shipped, validator
from gpuhost.planning.gpus import parse
from gpuhost.planning.offers import of_host, resolver_for
from gpuhost.planning.request import request_from
from gpuhost.planning.resolve import resolver

from ..example_hosts import observed
from ..offered import debian, modules, offering, offers, package, ubuntu_branch

Json = Dict[str, Any]
UBUNTU, DEBIAN = "ubuntu-18.04", "debian-12"
GA, HWE = "4.15.0-213-generic", "5.4.0-150-generic"
P2000 = observed("ubuntu1804-quadro-p2000")
CLAIMS = next(r["claims"] for r in shipped().drivers["archives"][UBUNTU] if r["package"] == "nvidia-driver-525")


def planned(observation: Json, card: str = "10de:1c30", asked: Optional[Dict[str, str]] = None, **over: Any) -> Json:
    """Return the plan for a host with another card than its own."""
    wishes = asked or {}
    found = resolver_for(observation, wishes, True)
    given = {"kernel": HWE, "secure_boot": False, **over}
    platform = observation["platform"]["id"]
    made = plan.make(found, request_from(found, platform, [parse(found.catalog, card)], wishes, **given))
    validator(DATA / "plan.schema.json")(made)
    return made


def host(rows: List[Json], platform: str = UBUNTU) -> Json:
    """Return a host whose archive has these packages."""
    base = P2000 if platform == UBUNTU else {**P2000, "platform": observed("debian12-no-gpu")["platform"]}
    return {**base, "offers": offers(platform, rows, ("restricted", "contrib", "non-free", "non-free-firmware"))}


def recorded(monkeypatch: Any = None) -> Json:
    """Return a host with what was recorded on Debian 12, as if its lists had been made on a certain day."""
    edges = Edges("/nowhere", debian().run)
    found = read_offers(edges, read_indexes(edges), "debian", "amd64", ["6.1.0-56-amd64"])
    assert found is not None
    for archive in found["archives"]:
        archive["date"] = "20261126T210335Z"
    return {**host([], DEBIAN), "offers": found}


def test_a_host_with_the_catalogs_packages_gets_the_catalogs_plan() -> None:
    """The driver's packages are the one thing that the catalog cannot name."""
    for kernel in (GA, HWE, "5.4.0-99-generic"):
        for secure_boot in (False, True):
            given = {"kernel": kernel, "secure_boot": secure_boot}
            found = resolver()
            request = request_from(found, UBUNTU, [parse(found.catalog, "10de:1c30")], {}, **given)
            mine = planned(offering(P2000), **given)
            packages = mine["driver"].pop("packages")
            of_catalog = plan.make(found, request)
            as_of = [note for note in of_catalog["notes"] if "as of" in note["text"]]
            assert [note["text"].partition(";")[0] for note in as_of] == ["what the archive has is as of 2023-05-31"]
            assert mine == {**of_catalog, "notes": [note for note in of_catalog["notes"] if note not in as_of]}
            assert "nvidia-driver-525" in [deb["name"] for deb in packages]


def test_an_archive_that_moved_on_is_planned_for_as_it_is() -> None:
    """D05 by mere waiting: the catalog's version is gone, a newer one of the branch is there, for a newer kernel."""
    later, kernel = "525.125.06-0ubuntu0.18.04.1", "5.4.0-152-generic"
    rows = ubuntu_branch("525", later, CLAIMS) + modules(
        "525", "525.125.06", "generic-hwe-18.04", kernel, "5.4.0-152.169"
    )
    made = planned(host(rows), kernel=kernel, secure_boot=True)
    assert made["driver"]["package_version"] == later and made["driver"]["version"] == "525.125.06"
    assert made["driver"]["modules"] == {
        "package": "linux-modules-nvidia-525-generic-hwe-18.04",
        "package_version": "5.4.0-152.169",
        "kernel": kernel,
    }
    assert {deb["version"] for deb in made["driver"]["packages"]} == {later, "5.4.0-152.169"}


def test_a_kernel_that_is_no_longer_the_newest_gets_the_modules_for_it() -> None:
    """The package that leads to the newest kernel would bring another kernel."""
    newer = "5.4.0-152-generic"
    rows = ubuntu_branch("525", "525.105.17-0ubuntu0.18.04.1", CLAIMS)
    rows += modules("525", "525.105.17", "generic-hwe-18.04", newer, "5.4.0-152.169")
    rows += modules("525", "525.105.17", "old", HWE, "5.4.0-150.167+1")[:2]
    made = planned(host(rows), secure_boot=True)
    assert made["driver"]["modules_from"] == "signed"
    assert made["driver"]["modules"] == {
        "package": f"linux-modules-nvidia-525-{HWE}",
        "package_version": "5.4.0-150.167+1",
        "kernel": HWE,
    }
    names = [deb["name"] for deb in made["driver"]["packages"]]
    assert not any(newer in name or "dkms" in name for name in names), names
    assert planned(host(rows), kernel=newer)["driver"]["modules"]["package"].endswith("-generic-hwe-18.04")


def test_modules_for_another_version_of_the_driver_are_not_taken() -> None:
    """The archive publishes them apart from the driver, so that they are of yesterday's for some hours."""
    rows = ubuntu_branch("525", "525.125.06-0ubuntu0.18.04.1", CLAIMS)
    rows += modules("525", "525.105.17", "generic-hwe-18.04", HWE, "5.4.0-150.167")
    made = planned(host(rows))
    assert (made["driver"]["modules_from"], made["driver"]["modules"]) == ("dkms", None)
    assert "nvidia-dkms-525" in [deb["name"] for deb in made["driver"]["packages"]]


def test_a_branch_newer_than_the_catalog_is_only_taken_by_name() -> None:
    """It may have dropped the card, and nobody has read what it needs."""
    rows = ubuntu_branch("999-open", "999.10.01-0ubuntu0.18.04.1", CLAIMS)
    older = ubuntu_branch("470", "470.182.03-0ubuntu0.18.04.1", CLAIMS)
    assert planned(host(rows + older))["driver"]["branch"] == "470"
    assert planned(host(rows), "10de:2204")["driver"]["source"] == "runfile", "the package claims that card"
    named = planned(host(rows), "10de:2204", {"driver": "999"})
    assert (named["driver"]["branch"], named["driver"]["package"]) == ("999", "nvidia-driver-999-open")
    note = next(note for note in named["notes"] if note["about"] == "driver" and "999" in note["text"])
    assert note["unverified"] and "newer than this release of gpuhost" in note["text"]
    assert planned(host(rows + older), "10de:2204", {"driver": "470"})["driver"]["branch"] == "470"


def test_a_transitional_package_is_no_driver() -> None:
    """It has the name of an old branch, the version of a new one, and claims no device."""
    v = "530.41.03-0ubuntu0.18.04.2"
    leads = package("nvidia-driver-525", v, "nvidia-graphics-drivers-530", depends="nvidia-driver-530")
    made = planned(host([leads, *ubuntu_branch("530", v, CLAIMS)]))
    assert made["driver"]["package"] == "nvidia-driver-530"


def test_ubuntus_open_packages_are_for_cards_that_the_open_modules_drive() -> None:
    """A Blackwell card needs them where the branch has both; a Pascal card is blind with them."""
    both = ["1c30", "2b85"]
    rows = ubuntu_branch("570", "570.211.01-0ubuntu0.18.04.1", both)
    rows += ubuntu_branch("570-open", "570.211.01-0ubuntu0.18.04.1", both)
    catalog = of_host(shipped(), host(rows), {})
    found = {row["package"]: row["claims"] for row in catalog.drivers["archives"][UBUNTU]}
    assert found == {"nvidia-driver-570": ["1c30"], "nvidia-driver-570-open": ["2b85"]}
    (row,) = (row for row in catalog.drivers["archives"][UBUNTU] if row["package"].endswith("-open"))
    assert row["kernel_modules"] == "open" and row["modules_package"] == "linux-modules-nvidia-570-open"
    assert planned(host(rows))["driver"]["package"] == "nvidia-driver-570"


@pytest.mark.parametrize("line", ["570", "570-server"])
@pytest.mark.parametrize(("card", "kind"), [("10de:1c30", ""), ("10de:2204", "-open")])
def test_both_kinds_of_module_share_the_rest_of_the_driver(line: str, card: str, kind: str) -> None:
    """Each kind has signed modules of its own, which need the one nvidia-kernel-common of both.

    apt on 22.04: linux-modules-nvidia-535-server-open-5.15.0-106-generic depends on nvidia-kernel-common-535-server.
    """
    version, kernel = "570.211.01-0ubuntu0.18.04.1", HWE
    rows = []
    for tail in (line, f"{line}-open"):
        rows += ubuntu_branch(tail, version, ["1c30", "2204"] if tail.endswith("-open") else ["1c30"])
        rows += modules(tail, "570.211.01", "generic-hwe-18.04", kernel, "5.4.0-150.167")
    driver = planned(host(rows), card, secure_boot=True)["driver"]
    assert (driver["package"], driver["modules_from"]) == (f"nvidia-driver-{line}{kind}", "signed")
    assert driver["modules"]["package"] == f"linux-modules-nvidia-{line}{kind}-generic-hwe-18.04"
    names = {deb["name"] for deb in driver["packages"]}
    assert {f"nvidia-driver-{line}{kind}", f"libnvidia-compute-{line}", f"nvidia-kernel-common-{line}"} <= names
    assert not {name for name in names if "dkms" in name}
    of_one_kind = {name for name in names if name.startswith(("nvidia-driver", "linux-modules", "linux-objects"))}
    assert {name for name in names if "open" in name} == (of_one_kind if kind else set())


def test_modules_named_after_a_kernel_series() -> None:
    """24.04 has linux-modules-nvidia-580-generic-7.0 beside those of the flavour generic-hwe-24.04."""
    newest, older = "7.0.0-38-generic", "6.17.0-40-generic"
    rows = ubuntu_branch("570", "570.211.01-0ubuntu0.18.04.1", CLAIMS)
    for flavour, kernel in (("generic-7.0", newest), ("generic-6.17", older), ("generic-hwe-18.04", newest)):
        rows += modules("570", "570.211.01", flavour, kernel, "7.0.0-38.38~24.04.4")
    for flavour, kernel in (("generic-7.0", newest), ("generic-6.17", older)):
        driver = planned(host(rows), kernel=kernel, secure_boot=True)["driver"]
        assert driver["modules"] == {
            "package": f"linux-modules-nvidia-570-{flavour}",
            "package_version": "7.0.0-38.38~24.04.4",
            "kernel": kernel,
        }


def test_a_new_feature_branch_comes_after_the_others() -> None:
    """It ends within months. Where nothing says so, the oldest that is new enough is taken."""
    rows = ubuntu_branch("525", "525.105.17-0ubuntu0.18.04.1", CLAIMS, support="NFB")
    rows += ubuntu_branch("530", "530.41.03-0ubuntu0.18.04.2", CLAIMS, support="PB")
    assert planned(host(rows))["driver"]["branch"] == "530"
    plain = [{key: value for key, value in row.items() if key != "support"} for row in rows]
    assert planned(host(plain))["driver"]["branch"] == "525"


def test_what_is_held_back_is_not_offered() -> None:
    """apt does not take backports by itself, so a lock with one could not be carried out."""
    rows = ubuntu_branch("525", "525.105.17-0ubuntu0.18.04.1", CLAIMS)
    late = [{**row, "archive": 1} for row in ubuntu_branch("525", "525.147.05-0ubuntu9", CLAIMS)]
    found = host(rows + late)
    found["offers"]["archives"].append({**found["offers"]["archives"][0], "release": "bionic-backports"})
    assert planned(found)["driver"]["version"] == "525.105.17"


def test_debians_driver_is_planned_as_it_was_recorded() -> None:
    """The newest of two versions; the devices of its branch, because the index lists none; its set is apt's own choice.

    `apt-get --simulate install` of nvidia-driver and of what CUDA needs beside it would install exactly these packages
    of the driver, and sixteen ordinary ones.
    """
    made = planned(recorded(), kernel="6.1.0-56-amd64")
    driver = made["driver"]
    assert (driver["package"], driver["package_version"]) == ("nvidia-driver", "535.309.01-0+deb12u1")
    debs_there = {deb["name"]: deb for deb in driver["packages"]}
    assert len(debs_there) == 29
    assert {"libcuda1", "nvidia-smi", "nvidia-kernel-dkms", "firmware-nvidia-gsp", "nvidia-modprobe"} <= set(debs_there)
    assert not {"nvidia-settings", "nvidia-tesla-535-driver", "dkms", "nvidia-open-kernel-dkms"} & set(debs_there)
    own = debs_there["nvidia-driver"]
    assert own["sha256"] == driver["sha256"] and own["file"] == "nvidia-driver_535.309.01-0+deb12u1_amd64.deb"
    assert own["snapshot"] == (
        "https://snapshot.debian.org/archive/debian-security/20261127T210335Z/pool/updates/non-free/n/"
        "nvidia-graphics-drivers/nvidia-driver_535.309.01-0+deb12u1_amd64.deb"
    )
    assert debs_there["libnvidia-egl-wayland1"]["snapshot"].startswith(
        "https://snapshot.debian.org/archive/debian/2026"
    )
    assert debs_there["libnvidia-egl-wayland1"]["version"] == "1:1.1.10-1"
    assert ":" not in debs_there["libnvidia-egl-wayland1"]["file"]


def test_a_debian_driver_of_another_branch_is_judged_by_its_generations() -> None:
    """A point release can bring one: what it drives follows from the branch, and the plan says so."""
    rows = [
        package("nvidia-driver", "545.29.06-1~deb12u1", "nvidia-graphics-drivers", "non-free"),
        package("nvidia-kernel-dkms", "545.29.06-1~deb12u1", "nvidia-graphics-drivers", "non-free"),
    ]
    made = planned(host(rows, DEBIAN), "10de:2684", kernel="6.1.0-56-amd64")
    assert (made["driver"]["source"], made["driver"]["branch"]) == ("archive", "545")
    assert any(note["unverified"] and "does not list the cards" in note["text"] for note in made["notes"])
    (row,) = of_host(shipped(), host(rows, DEBIAN), {}).drivers["archives"][DEBIAN]
    assert "1c30" in row["claims"] and "2684" in row["claims"]
    assert "2335" not in row["claims"], "an H200 is claimed from 550 on"
    assert "2b85" not in row["claims"] and "1180" not in row["claims"], "neither Blackwell nor Kepler"


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda o: o.pop("offers"), UnreadableError, "(?s)was not read.*\napt-get update\nThen plan again"),
        (lambda o: o.update(offers=None), UnreadableError, "(?s)was not read.*\napt-get update\nThen plan again"),
        (
            lambda o: o.update(offers=None, problems=[{"what": "apt-cache show", "error": "no answer"}]),
            UnreadableError,
            r"was not read \(apt-cache show: no answer\)",
        ),
        (lambda o: o["offers"].update(archives=[]), UnreadableError, "(?s)has read no archive.*\napt-get update\n"),
        (lambda o: o["offers"]["packages"][0].update(archive=7), UnreadableError, "an archive that is not listed"),
        (
            lambda o: o["offers"]["archives"][0].update(components=["main"]),
            RefusedError,
            "(?s)in the component restricted of the archive.*\nprintf .* restricted' .*\napt-get update\nThen plan",
        ),
    ],
)
def test_offers_that_cannot_be_relied_on_are_refused(spoil: Callable[[Json], Any], error: Any, words: str) -> None:
    """Never replaced by the catalog's snapshot, and never by NVIDIA's own file. A stack without a card needs none."""
    observation = copy.deepcopy(offering(P2000))
    observation["offers"]["archives"][0]["site"] = "ubuntu-archive.example"
    spoil(observation)
    with pytest.raises(error, match=words):
        resolver_for(observation, {}, True)
    assert resolver_for(observation, {}, False) is resolver()


def test_no_offer_that_keeps_its_form_breaks_a_plan() -> None:
    """Whatever a host says within the schema: a lock that its loader judges, or one of the package's refusals."""
    chance = random.Random(int(os.environ.get("GPUHOST_SEED") or 15))  # noqa: S311 - a test that can be repeated
    check = validator(DATA / "observation.schema.json")
    texts: Dict[str, List[str]] = {
        "package": ["nvidia-driver-999-open", "nvidia-driver", "nvidia-driver-525", "linux-modules-nvidia-525-x"],
        "version": ["0", "9" * 100, "9:999.1-1", "525.1-", "525.1.1.1.1.1-1", "1.1~~", "525.125.06-0ubuntu1"],
        "depends": ["|,|", "nvidia-driver-525 (>= 1) | nvidia-b", "x (<< ", "{{ x }}", "a" * 20000, "nvidia-b" * 2000],
        "provides": ["nvidia-driver-525 (= 9:9)", "(", "{% x %}"],
        "component": ["", "restricted"],
        "file": ["pool/x", "pool/_/+/~/a~b+c.deb", "pool/" + "a" * 200],
        "source": ["nvidia-graphics-drivers", "xx"],
        "support": ["NFB", "x"],
    }
    base, made = offering(P2000), 0
    for _ in range(25):
        observation = {**base, "offers": {**base["offers"], "packages": list(base["offers"]["packages"])}}
        packages = observation["offers"]["packages"]
        for _ in range(chance.randrange(1, 40)):
            at, key = chance.randrange(len(packages)), chance.choice(sorted(texts))
            packages[at] = {**packages[at], key: chance.choice(texts[key])}
        check(observation)
        asked = chance.choice([{}, {"driver": "999"}, {"driver": "525"}])
        try:
            answer = planned(observation, kernel=chance.choice([GA, HWE]), asked=asked)
        except GpuhostError:
            continue
        if answer["status"] == "planned":
            made += 1
            try:
                lock.check(lock.make("box", P2000, answer), "made", "box")
            except LockError as error:  # a known checksum under another version: the host has lied
                assert "belongs to driver" in str(error)
    assert made > 8


def test_a_lock_names_each_deb_and_its_schema_takes_it() -> None:
    """And for Ubuntu 18.04 no address, because no service keeps its archive."""
    made = lock.make("box", P2000, planned(offering(P2000)))
    assert lock.check(made, "made", "box") == made
    assert {deb["snapshot"] for deb in made["plan"]["driver"]["packages"]} == {None}
    observation = recorded()
    made = lock.make("box", P2000, planned(observation, kernel="6.1.0-56-amd64"))
    assert lock.check(made, "made", "box") == made


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p[0].update(snapshot="https://evil.example/" + p[0]["file"]), "not one of the known origins"),
        (lambda p: p[0].update(snapshot=p[0]["snapshot"].replace("https", "http")), "damaged"),
        (lambda p: p[0].update(snapshot=p[0]["snapshot"].replace("/pool/", "/../pool/")), "damaged"),
        (lambda p: p[0].update(snapshot=p[1]["snapshot"]), "which is not the file"),
        (lambda p: p[0].update(file="../x"), "damaged"),
        (lambda p: p[0].update(size=10**400), "damaged"),
        (lambda p: p[0].update(version="{{ x }}"), "damaged"),
        (lambda p: p[0].update(extra=1), "damaged"),
        (lambda p: p.append(dict(p[0])), "twice"),
        (lambda p: p.clear(), "damaged"),
        (lambda p: own(p).update(sha256="0" * 64), "two different contents"),
        (lambda p: p.remove(own(p)), "leave out nvidia-driver"),
    ],
)
def test_a_lock_whose_debs_were_edited_is_refused(spoil: Callable[[List[Json]], Any], words: str) -> None:
    """One sentence each."""
    made = lock.make("box", P2000, planned(recorded(), kernel="6.1.0-56-amd64"))
    spoil(made["plan"]["driver"]["packages"])
    with pytest.raises(LockError, match=words):
        lock.check(made, "made", "box")


def own(packages: List[Json]) -> Json:
    """Return the driver's own package of a set."""
    return next(deb for deb in packages if deb["name"] == "nvidia-driver")


def test_where_a_deb_is_kept_makes_no_other_driver_of_it() -> None:
    """The address has a date in it, which every reading of the lists moves; another content is another driver."""
    driver = planned(recorded(), kernel="6.1.0-56-amd64")["driver"]
    moved, other = copy.deepcopy(driver), copy.deepcopy(driver)
    moved["packages"][0]["snapshot"] = None
    other["packages"][0]["sha256"] = "0" * 64
    assert digest(moved, "k") == digest(driver, "k") != digest(other, "k")


@pytest.mark.parametrize(
    ("label", "codename", "date", "kept"),
    [
        ("Ubuntu", "noble", "20261126T210335Z", "https://snapshot.ubuntu.com/ubuntu/20261127T210335Z/pool/x.deb"),
        ("Ubuntu", "bionic", "20261126T210335Z", None),
        ("Debian", "bookworm", "", None),
        ("Debian", "bookworm", "99991231T235959Z", None),
        ("UbuntuESM", "jammy", "20261126T210335Z", None),
    ],
)
def test_where_the_distribution_keeps_a_file(label: str, codename: str, date: str, kept: Optional[str]) -> None:
    """A day after the index was made: the services take their snapshots some hours later."""
    assert debs.snapshot({"label": label, "codename": codename, "date": date}, "pool/x.deb") == kept


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("aa (= 1), bb | cc", 3), ("aa (~ 1)", 0), ("aa (>= 1", 0), (",,|,", 0), ("libc6:any (>= 2.1)", 1)],
)
def test_dependencies_are_read_as_far_as_they_can_be(text: str, count: int) -> None:
    """What cannot be read is not a package of the driver."""
    assert sum(len(clause) for clause in relations(text)) == count


def test_a_set_ends_where_packages_need_one_another() -> None:
    """A circle of dependencies, a stand-in with and without a version, and the driver's own source before others'."""
    rows = [
        package(
            "nvidia-driver", "5-1", "nvidia-graphics-drivers", depends="nvidia-a (= 5-1), nvidia-virtual, libx11-6"
        ),
        package("nvidia-a", "5-1", "nvidia-graphics-drivers", depends="nvidia-driver, nvidia-versioned (>= 5)"),
        package("nvidia-c", "9-1", "other", provides="nvidia-virtual, nvidia-versioned (= 6)"),
        package("nvidia-b", "5-1", "nvidia-graphics-drivers", provides="nvidia-virtual, nvidia-versioned"),
        package("nvidia-gone", "1-1", "other"),
    ]
    found = debs.whole_set(offers(DEBIAN, rows), ["nvidia-driver=5-1", "linux-headers-x"], "nvidia-graphics-drivers")
    assert [deb["name"] for deb in found] == ["nvidia-a", "nvidia-b", "nvidia-c", "nvidia-driver"]
