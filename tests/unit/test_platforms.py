"""Hosts of a release that the catalog does not know: what is said of them, and what they may be taken for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest

from gpuhost.checks.lock import platform as lock_platform
from gpuhost.cli import plan as cli_plan
from gpuhost.errors import UsageError
from gpuhost.host.parse.machine import parse_os_release
from gpuhost.planning import lock, plan, platforms, preflight
from gpuhost.planning.catalog import shipped
from gpuhost.planning.request import request_of
from gpuhost.planning.resolve import resolver

from ..example_hosts import observed
from .typed import typed

FILES = Path(__file__).resolve().parents[1] / "data" / "os-release"
#: A release of Ubuntu after the newest that the catalog knows, and one before the oldest.
LATER = 'ID=ubuntu\nVERSION_ID="26.10"\nVERSION_CODENAME=stonking\nPRETTY_NAME="Ubuntu 26.10"\n'
EARLIER = 'ID=ubuntu\nVERSION_ID="16.04"\nVERSION_CODENAME=xenial\nPRETTY_NAME="Ubuntu 16.04.7 LTS"\n'
SID = 'ID=debian\nVERSION_CODENAME=forky\nPRETTY_NAME="Debian GNU/Linux forky/sid"\n'


def text_of(name: str) -> str:
    """An os-release by the name of its file, or itself."""
    return name if "\n" in name else (FILES / name).read_text(encoding="utf-8")


def host(name: str) -> Dict[str, Any]:
    """The observation of a host without a card that has this os-release."""
    return {**observed("debian12-no-gpu"), "platform": parse_os_release(text_of(name))}


@pytest.mark.parametrize(
    ("name", "identity", "nearest"),
    [
        ("linuxmint_22", "linuxmint-22", "ubuntu-24.04"),
        ("elementary_7", "elementary-7", "ubuntu-22.04"),
        ("zorin", "zorin-16", "ubuntu-20.04"),
        ("lmde_6", "linuxmint-6", "debian-12"),
        (LATER, "ubuntu-26.10", "ubuntu-26.04"),
        (EARLIER, "ubuntu-16.04", "ubuntu-18.04"),
        (SID, "debian", "debian-13"),
    ],
)
def test_one_sentence_says_what_it_is_and_what_it_may_be_taken_for(name: str, identity: str, nearest: str) -> None:
    """Its own name, the platform and the option; then the host is read as one of that platform, with its name kept."""
    seen = host(name)
    (problem,) = preflight.problems(seen)
    assert f"({identity}) is not in the catalog" in problem and f"-e gpu_stack_as={nearest} (" in problem
    assert ("made from" in problem) == (identity.partition("-")[0] not in ("ubuntu", "debian"))
    taken = platforms.taken_as(shipped(), seen, nearest)["platform"]
    row = shipped().platforms["platforms"][nearest]
    assert (taken["id"], taken["own"], taken["codename"]) == (nearest, identity, row["codename"])


@pytest.mark.parametrize(
    ("name", "wanted", "words"),
    [
        ("linuxmint_22", "ubuntu-22.04", "It can be for ubuntu-24.04"),
        ("lmde_6", "ubuntu-24.04", "It can be for debian-12"),
        (LATER, "debian-13", "It can be for ubuntu-26.04"),
        ("kali_2025_4", "debian-13", "neither Debian nor Ubuntu"),
        ("ID=fedora\nVERSION_ID=41\n", "debian-13", "neither Debian nor Ubuntu"),
        ("linuxmint_22", "ubuntu-99", "not in the catalog"),
        ("ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\n", "debian-13", "which the catalog knows"),
    ],
)
def test_it_is_taken_for_nothing_else(name: str, wanted: str, words: str) -> None:
    """A derivative for the release that it names alone, and no distribution for another."""
    with pytest.raises(UsageError, match=words):
        platforms.taken_as(shipped(), host(name), wanted)


def test_what_is_neither_debian_nor_ubuntu_is_told_what_is_known() -> None:
    """Kali says that it is like Debian, and not which: there is nothing to take it for."""
    (problem,) = preflight.problems(host("kali_2025_4"))
    assert "neither Debian nor Ubuntu" in problem and "gpu_stack_as" not in problem


def test_a_known_host_stays_as_it_is() -> None:
    """The variable may stand in the group of a mixed fleet."""
    seen = observed("debian12-no-gpu")
    assert platforms.taken_as(shipped(), seen, "debian-12") is seen


def test_installing_wants_the_hosts_own_name_typed() -> None:
    """Planning does not; nor does a host that is taken for nothing."""
    taken = platforms.taken_as(shipped(), host("lmde_6"), "debian-12")
    assert preflight.problems(taken) == [] == preflight.problems(taken, untested="linuxmint-6")
    for typed_name in ("", "debian-12", "true"):
        (problem,) = preflight.problems(taken, untested=typed_name)
        assert "nobody has tried that" in problem and "-e gpu_stack_untested=linuxmint-6" in problem
    assert preflight.problems(observed("debian12-no-gpu"), untested="") == []


def test_its_lock_says_so_and_verify_takes_it_as_its_lock_does() -> None:
    """What the lock names holds for the host that it names; an upgrade to another release is a finding."""
    taken = platforms.taken_as(shipped(), host("lmde_6"), "debian-12")
    made = plan.make(resolver(), request_of(resolver(), taken, {}))
    assert {
        "about": "platform",
        "unverified": False,
        "text": "linuxmint-6 is taken for debian-12, which nobody has tried",
    } in made["notes"]
    locked = lock.check(lock.make("box", taken, made), "here")
    assert locked["own_platform"] == "linuxmint-6"
    assert lock.differences(locked, taken, {}) == []
    assert platforms.as_locked(shipped(), host("lmde_6"), locked) == taken
    for other, same in ((host("lmde_6"), True), (host("linuxmint_22"), False), (observed("debian12-no-gpu"), True)):
        seen = {"machine": {"observation": platforms.as_locked(shipped(), other, locked)}}
        outcome = lock_platform({**seen, "lock": locked, "expected": {"in_force": locked}})
        assert (outcome.status == "pass") == same


def test_plan_as(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`gpuhost plan` names the option, plans with it, and says in the plan what it rests on."""
    monkeypatch.setattr(cli_plan, "observe", lambda offers: host("linuxmint_22"))
    for arguments in ([], ["--gpu", "RTX 4090"]):
        code, _, err = typed(capsys, "plan", *arguments)
        assert code == 2 and "made from Ubuntu 24.04" in err and "--as ubuntu-24.04" in err
        code, out, _ = typed(capsys, "plan", "--as", "noble", "--json", *arguments)
        assert (code, json.loads(out)["platform"]) == (0, "ubuntu-24.04")
    assert typed(capsys, "plan", "--as", "noble", "--os", "noble")[0] == 2
