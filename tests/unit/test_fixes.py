"""Which newer kernel waits: what the archive offers, since when that is known, why, and what verify/ says of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest

from gpuhost.checks.base import FAIL, NOT_AUTOMATIC, PASS, SKIP
from gpuhost.diagnoses import verdict
from gpuhost.host.edges import Edges
from gpuhost.host.guard import rules
from gpuhost.host.parse.kernels import flavour, image_of
from gpuhost.host.probe import fixes
from gpuhost.host.watch import install
from gpuhost.host.watch import run as watch
from gpuhost.planning.catalog import DATA, validator

from ..offered import Apt
from .collected import gpu_host, judged

Json = Dict[str, Any]
ROOT = "/opt/gpuhost"
OLD, NEW = "6.1.0-30-amd64", "6.1.0-31-amd64"
META = "linux-image-amd64"
SECURITY, STABLE = "debian-security bookworm-security/main", "debian bookworm/main"
DAY = 24 * 60 * 60


def policy(*places: str, origin: str = "Debian") -> str:
    """What apt-cache policy says of these indexes."""
    rows = []
    for place in places:
        label = "Debian-Security" if "security" in place else origin
        suite = place.split()[1].partition("/")[0]
        rows.append(f" 500 http://archive.example/{place} amd64 Packages")
        rows.append(f"     release o={origin},a={suite},n={suite},l={label},c=main,b=amd64")
    return "Package files:\n" + "\n".join(rows) + "\nPinned packages:\n"


def listed(name: str, version: str, place: str) -> str:
    """A row of apt-cache madison."""
    return f"{name} | {version} | http://archive.example/{place} amd64 Packages\n"


def shown(name: str, version: str, depends: str) -> str:
    """A package as apt-cache show has it."""
    digest = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
    return (
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nDepends: {depends}\nSize: 1\nSHA256: {digest}\n"
        f"Filename: pool/main/l/linux/{name}_{version}_amd64.deb\n\n"
    )


class Host:
    """A Debian host with a kernel, the package that leads to newer ones, and an archive."""

    def __init__(self, folder: Path) -> None:
        """The archive's security suite has the next kernel."""
        self.folder = folder
        rows = listed(META, "6.1.124-1", SECURITY) + listed(META, "6.1.119-1", STABLE)
        self.apt = Apt(policy(SECURITY, STABLE), rows, shown(META, "6.1.124-1", f"linux-image-{NEW} (= 6.1.124-1)"))
        self.packages = {
            META: ("6.1.119-1", f"linux-image-{OLD} (= 6.1.119-1)"),
            f"linux-image-{OLD}": ("6.1.119-1", ""),
        }
        self.edges = Edges(str(folder), self.run)
        self.kernel: Json = {"running": OLD, "installed": [OLD], "boots": OLD, "boots_by": ""}

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """Answer as dpkg and apt do; apt is only asked."""
        if list(argv) == ["dpkg", "--print-architecture"]:
            return 0, "amd64\n", ""
        if argv[0] == "dpkg-query":
            rows = [f"{n}\tamd64\tlinux\t{v}\thold\tinstalled\t{d}\n" for n, (v, d) in self.packages.items()]
            return 0, "".join(rows), ""
        return self.apt.run(argv, timeout)

    def put(self, name: str, text: str) -> None:
        """Write a file."""
        path = self.folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def read(self) -> Json:
        """What the probe reads."""
        return fixes.fixes(self.edges, ROOT, self.kernel, "debian")

    def offered(self) -> Json:
        """The kernel that waits."""
        found = self.read()
        assert found["unknown"] == "" and found["offered"] is not None, found
        return dict(found["offered"])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """One that is held by the guard."""
    host = Host(tmp_path)
    host.put(f"{ROOT}/{rules.RECORD}", "{}")
    return host


def test_a_kernel_of_the_security_archive(host: Host) -> None:
    """It is named with its version and its archive; two questions to apt, and a third where there is something new."""
    assert host.offered() == {
        "release": NEW, "package": META, "version": "6.1.124-1", "archive": "Debian-Security bookworm-security",
        "security": True, "why": "the guard holds it", "days": None,
    }  # fmt: skip
    assert len(host.apt.asked) == 3
    host.apt.madison, host.apt.asked = listed(META, "6.1.119-1", STABLE), []
    assert host.read()["offered"] is None and len(host.apt.asked) == 2


def test_where_it_comes_from(host: Host) -> None:
    """One that is in two suites is a security fix, one of the stable release is not, and a foreign one is none."""
    host.apt.madison = listed(META, "6.1.124-1", STABLE) + listed(META, "6.1.124-1", SECURITY)
    assert host.offered()["security"] is True
    host.apt.madison = listed(META, "6.1.124-1", STABLE)
    assert (host.offered()["security"], host.offered()["archive"]) == (False, "Debian bookworm")
    host.apt.policy = policy(STABLE) + policy("other x/main", origin="Other").partition("\n")[2]
    host.apt.madison = listed(META, "6.1.119-1", STABLE) + listed(META, "6.1.124-1", "other x/main")
    assert host.read()["offered"] is None


def test_ubuntus_names(host: Host) -> None:
    """Its fixes are in -updates too, and the package in between leads to the image."""
    running, after = "5.15.0-91-generic", "5.15.0-92-generic"
    host.kernel = {**host.kernel, "running": running, "installed": [running]}
    host.packages = {
        "linux-generic": ("5.15.0.91.88", "linux-image-generic (= 5.15.0.91.88)"),
        "linux-image-generic": ("5.15.0.91.88", f"linux-image-{running}"),
        f"linux-image-{running}": ("5.15.0-91.101", ""),
        "linux-image-aws": ("5.15.0.1.1", "linux-image-5.15.0-1-aws"),
    }
    places = ("ubuntu jammy-updates/main", "ubuntu jammy-security/main")
    host.apt.policy = policy(*places, origin="Ubuntu")
    host.apt.madison = "".join(listed("linux-image-generic", "5.15.0.92.89", place) for place in places)
    host.apt.show = shown("linux-image-generic", "5.15.0.92.89", f"linux-image-{after}, linux-firmware")
    _, offered = fixes.newest(host.edges, running, "ubuntu")
    assert offered is not None and (offered["release"], offered["security"]) == (after, True)
    assert "linux-image-aws" not in host.apt.asked[1], "another kind of kernel"


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        (OLD, "amd64"),
        ("6.1.0-30-cloud-amd64", "cloud-amd64"),
        ("6.12.48+deb13-amd64", "amd64"),
        ("6.12.48+deb13+1-cloud-amd64", "cloud-amd64"),
        ("5.15.0-91-generic", "generic"),
        ("6.8.12-4-pve", "pve"),
        ("6.9.1", ""),
    ],
)
def test_the_kinds_of_kernels(kernel: str, kind: str) -> None:
    """Debian's newer releases too, whose names have no number of their own."""
    assert flavour(kernel) == kind
    assert image_of(f"linux-image-{kernel}") == (kernel if kind else None)


def test_another_build_of_the_running_release(host: Host) -> None:
    """An archive may replace a kernel under the same name."""
    image = f"linux-image-{OLD}"
    host.apt.madison = listed(META, "6.1.119-1", STABLE) + listed(image, "6.1.119-2", SECURITY)
    host.apt.show = shown(image, "6.1.119-2", "kmod")
    assert (host.offered()["release"], host.offered()["package"], host.offered()["version"]) == (
        OLD,
        image,
        "6.1.119-2",
    )


def test_why_it_waits(host: Host) -> None:
    """The first of the reasons that holds."""
    (host.folder / f"{ROOT}/{rules.RECORD}".lstrip("/")).unlink()
    assert host.offered()["why"] == "nobody has installed it"
    host.packages[META] = ("6.1.124-1", f"linux-image-{NEW}")
    host.kernel["installed"] = [OLD, NEW]
    assert host.offered()["why"] == f"it is installed, {OLD} boots next"
    host.kernel["boots"] = NEW
    assert host.offered()["why"] == "it is installed and waits for a reboot"
    host.kernel["tried"] = {"kernel": NEW, "told": ""}
    assert host.offered()["why"] == "an update to it is on trial"
    host.kernel["tried"] = {"kernel": NEW, "told": "The update was undone: it panics."}
    assert host.offered()["why"] == "The update was undone: it panics."


def test_what_is_not_known_is_not_nothing(host: Host) -> None:
    """No list, no answer, nothing that leads on, and a package that the archive has dropped."""
    host.apt.madison = ""
    assert host.read()["unknown"] == fixes.NOT_LISTED
    host.apt.said["madison"] = (100, "", "E: x")
    assert host.read()["unknown"] == fixes.NO_ANSWER
    del host.apt.said["madison"]
    host.apt.madison = listed(META, "6.1.124-1", SECURITY)
    host.apt.said["show"] = (100, "", "E: x")
    assert host.read()["unknown"] == fixes.NO_ANSWER
    del host.packages[META]
    assert host.read()["unknown"] == fixes.NOTHING_LEADS
    host.apt.policy = policy()
    assert host.read()["unknown"] == fixes.NO_LISTS
    host.apt.said["policy"] = (100, "", "E: x")
    assert host.read()["unknown"] == fixes.NO_ANSWER


class TestWatch:
    """It notes when it first saw an offer."""

    @pytest.fixture
    def watched(self, host: Host) -> Host:
        """A host with a driver of gpuhost's, as the watch reads it."""
        host.put(f"{ROOT}/state/driver.json", "{}")
        host.put("/etc/os-release", "ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\n")
        host.put("/proc/sys/kernel/osrelease", OLD + "\n")
        return host

    def look(self, host: Host, now: int) -> Tuple[Optional[Json], Tuple[str, ...]]:
        """Look at a time; what is recorded then, and said."""
        put, said = watch.offered(host.edges, ROOT, now)
        for name, text in put:
            watch.put(host.edges.path(name), text)
        return host.edges.record(f"{ROOT}/{fixes.RECORD}"), said

    def test_since_when(self, watched: Host) -> None:
        """The first time counts for as long as the same kernel runs, also where a newer one is offered by then."""
        assert self.look(watched, 1000) == (
            {"schema": 1, "running": OLD, "since": 1000, "release": NEW, "package": META, "version": "6.1.124-1"},
            (),
        )
        assert watch.offered(watched.edges, ROOT, 2000) == ([], ()), "nothing is written where nothing changes"
        watched.apt.madison = listed(META, "6.1.140-1", SECURITY)
        watched.apt.show = shown(META, "6.1.140-1", "linux-image-6.1.0-32-amd64")
        record = self.look(watched, 3000)[0]
        assert record is not None and (record["since"], record["release"]) == (1000, "6.1.0-32-amd64")
        watched.apt.said["madison"] = (100, "", "E: x")
        assert self.look(watched, 4000)[0] == record, "a look that learns nothing forgets nothing"
        del watched.apt.said["madison"]
        watched.put("/proc/sys/kernel/osrelease", NEW + "\n")
        record = self.look(watched, 5000)[0]
        assert record is not None and record["since"] == 5000
        watched.apt.madison = listed(META, "6.1.119-1", STABLE)
        assert self.look(watched, 6000)[0] is None

    def test_it_is_said_where_updates_are_automatic(self, watched: Host) -> None:
        """And only once it has waited for more than a day."""
        self.look(watched, 1000)
        assert self.look(watched, 1000)[1] == ()
        watched.put(f"{ROOT}/{fixes.AUTOMATIC}", "{}")
        (said,) = self.look(watched, 1000)[1]
        assert NEW in said and "the guard holds it" in said

    def test_a_host_without_a_driver_is_not_asked(self, host: Host) -> None:
        """Nothing is held there."""
        assert watch.offered(host.edges, ROOT, 1) == ([], ()) and host.apt.asked == []

    def test_it_goes_with_the_watch(self, watched: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """A record that nobody keeps would tell wrong days."""
        self.look(watched, 1)
        monkeypatch.setattr(install, "take_off", lambda edges, root, there: gone.extend(there))
        gone: List[str] = []
        install.absent(watched.edges, ROOT, "", False)
        assert f"{ROOT}/{fixes.RECORD}" in gone


OFFER = {
    "release": NEW, "package": META, "version": "6.1.124-1", "archive": "Debian-Security bookworm-security",
    "security": True, "why": "the guard holds it", "days": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("found", "status", "verdict_is", "words"),
    [
        ({"offered": None}, PASS, "ok", "nothing newer is offered"),
        ({}, PASS, "ok", "a security fix, waits for 3 days: the guard holds it. Not asked for"),
        ({"offered": {**OFFER, "days": None}}, SKIP, "ok", NOT_AUTOMATIC),
        ({"unknown": fixes.NO_LISTS, "offered": None}, SKIP, "ok", NOT_AUTOMATIC),
        ({"automatic": True}, FAIL, "broken", "waits for 3 days: the guard holds it"),
        ({"automatic": True, "offered": {**OFFER, "days": 0}}, PASS, "ok", "waits for less than a day:"),
        (
            {"automatic": True, "offered": {**OFFER, "days": None}},
            SKIP,
            "incomplete",
            "since when it waits is not known",
        ),
        ({"automatic": True, "unknown": fixes.NO_LISTS, "offered": None}, SKIP, "incomplete", "not known"),
    ],
)
def test_what_verify_says(found: Json, status: str, verdict_is: str, words: str) -> None:
    """It fails only where updates are automatic, and is never green by what is not known."""
    seen = gpu_host()
    seen["machine"]["installed"]["fixes"] = {"unknown": "", "offered": OFFER, "automatic": False, **found}
    results = judged(seen)
    one = results["kernel.fixes"]
    assert (one.status, verdict.verdict(results.values(), True, True)) == (status, verdict_is)
    assert words in one.actual
    if status == SKIP and "unknown" not in found:
        assert NEW in one.required and "playbooks/watch.yml" in one.required
    assert ("update_once=true" in one.remediation) == (status == FAIL)


@pytest.mark.parametrize("automatic", [True, False])
def test_what_the_guard_means(automatic: bool) -> None:
    """Where updates are automatic, what it holds moves in one way only."""
    seen = gpu_host()
    seen["machine"]["installed"]["fixes"]["automatic"] = automatic
    one = judged(seen)["guard.holds"]
    assert one.status == PASS and ("only as a pair that a boot has proved" in one.actual) == automatic


def test_the_answer_is_one_that_travels(host: Host) -> None:
    """As JSON, by the schema."""
    seen = gpu_host()["machine"]["installed"]
    seen["fixes"] = json.loads(json.dumps(host.read()))
    validator(DATA / "installed.schema.json")(seen)
