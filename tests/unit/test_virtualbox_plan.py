"""Which VirtualBox a host gets: by its own archive, by its kernel, once, and kept in the lock."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, List, Optional

import pytest

from gpuhost.errors import LockError, RefusedError, UnreadableError, UsageError
from gpuhost.planning import contents, lock, lock_diff, specs, virtualbox
from gpuhost.planning.candidates import Request
from gpuhost.planning.plan import make
from gpuhost.planning.resolve import resolver
from gpuhost.planning.rules.table import BESIDE

from ..locks import of
from .typed import typed

Json = Dict[str, Any]
NOBLE = "7.0.16-dfsg-2ubuntu1.3"


def deb(name: str, version: str, depends: str = "") -> Json:
    """A package as the probe reads it of an archive."""
    file = f"pool/multiverse/v/virtualbox/{name}_{version}_amd64.deb"
    row = {"package": name, "version": version, "architecture": "amd64", "archive": 0, "component": "multiverse"}
    digest = hashlib.sha256(name.encode()).hexdigest()
    row.update(source="virtualbox", size=7, sha256=digest, file=file, depends=depends, provides="")
    return row


def observed(kernel: Optional[str], *versions: str, component: str = "multiverse") -> Json:
    """As much of an observation as the choice rests on."""
    archive = {"label": "Ubuntu", "release": "noble-updates", "codename": "noble", "site": "archive.example"}
    archive.update(date="20261101T000000Z", components=["main", component])
    rows: List[Json] = []
    for version in versions:
        rows += [deb("virtualbox", version, "libc6, virtualbox-dkms (>= 7.0) | virtualbox-source")]
        rows += [deb("virtualbox-dkms", version, "dkms (>= 2.1)"), deb("virtualbox-qt", version)]
    source = {"file": "/etc/apt/sources.list", "line": 1, "types": ["deb"], "uris": ["http://archive.example/ubuntu"]}
    source.update(suites=["noble"], components=["main"], signed_by=None, enabled=True)
    offers = {"archives": [archive], "packages": rows, "tools": {}}
    return {"kernel": {"boots": kernel}, "offers": offers, "apt": {"sources": [source]}}


def test_the_releases_own_is_taken_at_its_version_with_every_checksum() -> None:
    """From the host's archive, the program with its modules and its windows, and nothing that it merely needs."""
    held = virtualbox.part("ubuntu-24.04", "", observed("6.8.0-149-generic", NOBLE))
    assert (held["source"], held["version"], held["package_version"]) == ("archive", "7.0.16", NOBLE)
    assert [row["name"] for row in held["packages"]] == ["virtualbox", "virtualbox-dkms", "virtualbox-qt"]
    assert {row["version"] for row in held["packages"]} == {NOBLE}
    assert held["unverified"] == []
    told = virtualbox.lines(held, "6.8.0-149-generic", "ubuntu-24.04")
    assert "compile against kernel 6.8.0-149-generic" in told[1]


def test_a_later_package_of_the_archive_is_the_archives_to_offer() -> None:
    """The catalog's snapshot is older than the host's archive; what it knows of the release still holds."""
    held = virtualbox.part("ubuntu-24.04", "", observed("6.14.0-37-generic", "7.0.16-dfsg-2ubuntu1.9"))
    assert held["package_version"] == "7.0.16-dfsg-2ubuntu1.9" and held["unverified"] == []


@pytest.mark.parametrize(
    ("platform", "kernel", "text", "offered", "words"),
    [
        ("ubuntu-22.04", "5.15.0-203-generic", "6.0.24", (), ("6.0.24 does not compile", "5.15", "6.1.28", "6.1.36")),
        ("ubuntu-24.04", "7.0.0-31-generic", "", (NOBLE,), ("does not compile against kernel 7.0.0-31", "7.2.8")),
        ("ubuntu-18.04", "5.3.0-1-generic", "6.0.10", (), ("6.0.10 is not known", "6.0.24")),
        ("debian-12", "6.1.0-56-amd64", "", (), ("no VirtualBox", "7.0.6", "tools/catalog/refresh virtualbox")),
    ],
)
def test_a_pair_that_cannot_be_is_refused_with_what_would_do(
    platform: str, kernel: str, text: str, offered: Any, words: Any
) -> None:
    """Never another one instead, and never a build that is known to fail."""
    with pytest.raises(RefusedError) as refused:
        virtualbox.part(platform, text, observed(kernel, *offered))
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_a_kernel_that_no_source_names_is_said_to_be_one() -> None:
    """It may compile: DKMS tells, and the plan says that nobody else did."""
    held = virtualbox.part("ubuntu-18.04", "6.0.24", observed("5.4.0-150-generic"))
    assert held["source"] == "runfile" and held["file"]["sha256"].startswith("8ff8aabd")
    assert any("5.4.0-150-generic: DKMS tells" in text for text in held["unverified"])
    assert virtualbox.doubt(held, "ubuntu-18.04", "5.4.0-150-generic")
    assert not virtualbox.doubt(held, "ubuntu-18.04", "4.15.0-213-generic")


def test_a_missing_component_is_named_before_oracles_file_is_taken() -> None:
    """A source line that leaves multiverse out must not change where VirtualBox comes from."""
    with pytest.raises(RefusedError, match="multiverse") as refused:
        virtualbox.part("ubuntu-24.04", "", observed("6.8.0-149-generic", component="universe"))
    assert "components.list" in str(refused.value)
    assert virtualbox.part("ubuntu-18.04", "6.0.24", observed("4.15.0-1-generic", component="universe"))["file"]


def test_an_archive_that_was_not_read_decides_nothing() -> None:
    """Apt has no lists: it is not known what there is."""
    seen = observed("6.8.0-149-generic")
    seen["offers"]["archives"] = []
    with pytest.raises(UnreadableError):
        virtualbox.part("ubuntu-24.04", "", seen)


@pytest.mark.parametrize("text", ["latest", ">>6", "6.0.x"])
def test_a_wish_that_nobody_can_read_is_told_with_an_example(text: str) -> None:
    """In the words of the variable, not of an option."""
    with pytest.raises(UsageError, match="virtualbox_version"):
        virtualbox.part("ubuntu-24.04", text)


def test_the_pair_of_virtualbox_and_kernel_is_a_rule_of_the_table() -> None:
    """One entry beside the stack's, and it speaks of VirtualBox alone."""
    (rule,) = BESIDE
    assert rule.id == "virtualbox-kernel" and rule.unary is not None


# The lock


def locked(text: str = "", kernel: str = "6.8.0-149-generic", *versions: str) -> Json:
    """A lock of Ubuntu 24.04 with VirtualBox."""
    plain = of(make(resolver(), Request("ubuntu-24.04")))
    asked = contents.Options(virtualbox=True, virtualbox_version=text)
    return contents.added(plain, asked, observed(kernel, *(versions or (NOBLE,))))


def test_the_lock_keeps_it_and_stays_a_lock() -> None:
    """Chosen once; a newer package in the archive changes nothing, another wish does."""
    found = locked()
    assert lock.check(found, "here") is not None
    again = contents.Options(virtualbox=True)
    newer = observed("6.8.0-149-generic", "7.0.16-dfsg-2ubuntu1.9")
    assert contents.added(found, again, newer) is found
    other = contents.added(found, contents.Options(virtualbox=True, virtualbox_version="6.1.36"), observed("5.15.0-1"))
    assert other["contents"]["virtualbox"]["version"] == "6.1.36"
    assert {key: value for key, value in other["contents"].items() if key != "virtualbox"} == {
        key: value for key, value in found["contents"].items() if key != "virtualbox"
    }
    assert contents.added(found, contents.Options(), newer) is found
    assert specs.of_lock(other)["virtualbox"]["file"]["name"].endswith(".run")
    assert specs.of_lock(found)["virtualbox"]["file"] is None
    plain = of(make(resolver(), Request("ubuntu-24.04")))
    assert specs.of_lock(plain)["virtualbox"]["wanted"] is None and "virtualbox" not in plain["contents"]


def test_a_kernel_that_came_since_is_named_before_anything_is_changed() -> None:
    """The lock stays; the run ends with the pair and what would do."""
    with pytest.raises(RefusedError, match="Nothing was changed") as refused:
        contents.added(locked(), contents.Options(virtualbox=True), observed("7.0.0-31-generic", NOBLE))
    assert "D52" in str(refused.value) and "7.2.8" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda held: held["file"].update(url="https://example.org/VirtualBox.run"), "known origins"),
        (
            lambda held: held["file"].update(sha256="3c84f0177a47a1969aff7c98e01ddceedd50348f56cc52d63f4c2dd38ad2ca75"),
            "belongs to",
        ),
        (lambda held: held.update(command="rm"), "damaged"),
        (lambda held: held.update(version="{{ x }}"), "damaged"),
    ],
)
def test_a_changed_lock_is_refused(change: Any, words: str) -> None:
    """Another address, the checksum of another file, a key or a word that no lock has."""
    found = json.loads(json.dumps(locked("6.1.36", "5.15.0-1-generic")))
    change(found["contents"]["virtualbox"])
    if words == "belongs to":  # Oracle's extension pack in the installer's place
        found["contents"]["virtualbox"]["version"] = "6.0.24"
    with pytest.raises(LockError, match=words):
        lock.check(found, "here")


def test_two_locks_say_what_differs() -> None:
    """One sentence for it, as for a toolkit."""
    told = [change.text for change in lock_diff.changes(locked(), locked("6.1.36", "5.15.0-1-generic"))]
    assert any("VirtualBox 6.1.36 is added" in text for text in told), told


# What an update and a rebuild say


def test_an_update_to_such_a_kernel_is_refused() -> None:
    """Before anything is changed, with the kernel's and VirtualBox's names; where it is off nobody is stopped."""
    held = locked("6.1.36", "5.15.0-1-generic")["contents"]["virtualbox"]
    virtualbox.refuse_kernel(held, "ubuntu-22.04", "5.15.0-300-generic")
    old = virtualbox.part("ubuntu-18.04", "6.0.24")
    with pytest.raises(RefusedError, match="Nothing was changed") as refused:
        virtualbox.refuse_kernel(old, "ubuntu-18.04", "5.15.0-300-generic")
    assert "6.0.24" in str(refused.value) and "5.15.0-300" in str(refused.value) and "D52" in str(refused.value)


def test_the_command_says_which_goes_with_a_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    """`gpuhost plan --virtualbox`: the release's own, a version that was asked for, and one that cannot be."""
    host = ("plan", "--os", "ubuntu-18.04", "--gpu", "Quadro P2000", "--kernel")
    code, out, _ = typed(capsys, *host, "4.15.0-213-generic", "--virtualbox")
    assert code == 0 and "VirtualBox 5.2.42: the archive's 5.2.42-dfsg-0~ubuntu1.18.04.1" in out
    assert "its modules compile against kernel 4.15.0-213-generic: " in out
    code, out, _ = typed(capsys, *host, "5.3.0-76-generic", "--virtualbox", "6.0.24")
    assert code == 0 and "Oracle's VirtualBox-6.0.24-139119-Linux_amd64.run" in out
    code, _, err = typed(capsys, *host, "5.15.0-139-generic", "--virtualbox", "6.0.24")
    assert code == 3 and "(D52)" in err and "6.1.28" in err
    code, out, _ = typed(capsys, *host, "5.3.0-76-generic", "--virtualbox", "--json")
    assert code == 2 and "as text only" in out
