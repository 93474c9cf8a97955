"""Holding and letting go on a root of files, with a dpkg that only remembers holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Set, Tuple

import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.host import store
from gpuhost.host.edges import Edges
from gpuhost.host.guard import hold as guard_hold
from gpuhost.host.guard import rules as guard
from gpuhost.host.probe import guard as probe_guard

from .test_guard_rules import KERNEL, LISTING, STACK

ROOT = "/opt/gpuhost"
FILES = (guard.PREFERENCES, guard.UNATTENDED)


class Host:
    """A root with a driver, and dpkg as far as the guard asks it."""

    def __init__(self, folder: Path) -> None:
        """Write what is there before the guard is."""
        self.folder, self.calls = folder, 0
        self.held: Set[str] = {"users-own"}
        self.listing = LISTING
        self.marks: List[List[str]] = []
        self.answers: List[Tuple[int, str, str]] = []
        self.edges = Edges(str(folder), self.run)
        self.boots(KERNEL)
        self.driver({"version": "525.105.17", "kernel": KERNEL})

    def path(self, name: str) -> Path:
        """A file of the host."""
        return self.folder / name.lstrip("/")

    def boots(self, kernel: str) -> None:
        """Put a kernel in place, the newest so far."""
        for name in (f"/boot/vmlinuz-{kernel}", f"/lib/modules/{kernel}/modules.dep", "/proc/sys/kernel/osrelease"):
            self.path(name).parent.mkdir(parents=True, exist_ok=True)
            self.path(name).write_text("")

    def driver(self, record: Any) -> None:
        """Write the driver role's record."""
        self.path(f"{ROOT}/state").mkdir(parents=True, exist_ok=True)
        self.path(f"{ROOT}/{probe_guard.DRIVER_RECORD}").write_text(json.dumps(record))

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """Answer as dpkg does."""
        if argv[0] == "dpkg":
            return 0, "amd64\n", ""
        if argv[0] == "dpkg-query":
            lines = [line.split("\t") for line in self.listing.splitlines()]
            for fields in lines:
                fields[4] = "hold" if fields[0] in self.held else "install"
            return 0, "".join("\t".join(fields) + "\n" for fields in lines), ""
        assert argv[0] == "apt-mark"
        if self.answers:
            return self.answers.pop(0)
        self.marks.append(list(argv[1:]))
        self.held = self.held | set(argv[2:]) if argv[1] == "hold" else self.held - set(argv[2:])
        return 0, "", ""

    def hold(self, check: bool = False) -> guard_hold.Outcome:
        """Guard this host."""
        return guard_hold.hold(self.edges, ROOT, 0, check)

    def release(self, check: bool = False) -> guard_hold.Outcome:
        """Let go."""
        return guard_hold.release(self.edges, ROOT, 0, check)

    def record(self) -> Dict[str, Any]:
        """The guard's record."""
        return json.loads(self.path(f"{ROOT}/{guard.RECORD}").read_text())  # type: ignore[no-any-return]

    def files(self) -> List[str]:
        """Every file below the root, with its content; the host's lock stays as long as its folder."""
        lock = self.path(f"{ROOT}/{store.LOCK}")
        return sorted(f"{p}: {p.read_text()}" for p in self.folder.rglob("*") if p.is_file() and p != lock)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host whose driver is not guarded yet."""
    return Host(tmp_path)


def test_everything_is_held_and_the_second_time_nothing_changes(host: Host) -> None:
    """Holds, pins, blacklist and record; the user's own hold is not ours."""
    first = host.hold()
    assert first.changed and first.guarded and "15 packages" in first.told
    assert host.held == STACK | {"users-own"}
    seen = probe_guard.guard(host.edges, ROOT)
    assert set(seen["pins"]) == set(seen["blacklist"]) == set(seen["stack"]) == STACK
    assert seen["record"] == host.record() and set(host.record()["held"]) == STACK
    before, marks = host.files(), list(host.marks)
    assert host.hold() == guard_hold.Outcome(False, True, first.told, [])
    assert (host.files(), host.marks) == (before, marks)


def test_check_mode_shows_and_changes_nothing(host: Host) -> None:
    """The diff has both files, the record and the holds."""
    before = host.files()
    shown = host.hold(check=True)
    assert shown.changed and (host.files(), host.marks) == (before, [])
    assert {row["after_header"] for row in shown.diff} == {*FILES, f"{ROOT}/{guard.RECORD}", "apt-mark showhold"}
    host.hold()
    before = host.files()
    assert host.release(check=True).changed and host.files() == before


def test_release_leaves_the_host_as_it_was(host: Host) -> None:
    """Exactly ours go: the holds, both files and the record; and it is said loudly."""
    before = host.files()
    host.hold()
    told = host.release()
    assert told.changed and not told.guarded and told.told.startswith("THE GUARD IS RELEASED")
    assert (host.files(), host.held) == (before, {"users-own"})
    assert not host.release().changed


def test_a_user_s_hold_on_the_driver_stays_the_user_s(host: Host) -> None:
    """It was there before ours, so it is there after."""
    host.held.add("nvidia-driver-525")
    host.hold()
    assert "nvidia-driver-525" not in host.record()["held"] and "nvidia-driver-525" in host.record()["pins"]
    host.hold()
    host.release()
    assert host.held == {"users-own", "nvidia-driver-525"}


def test_a_run_that_was_killed_before_the_holds_is_taken_up(host: Host) -> None:
    """The record comes first: what may be ours is written down before it is."""
    host.answers = [(1, "", "E: killed")]
    with pytest.raises(EnvironmentProblem):
        host.hold()
    assert host.held == {"users-own"} and set(host.record()["held"]) == STACK
    assert host.hold().changed and host.held == STACK | {"users-own"}
    assert not host.hold().changed


def test_a_release_that_was_killed_is_taken_up(host: Host) -> None:
    """The record goes last."""
    host.hold()
    host.answers = [(1, "", "E: killed")]
    with pytest.raises(EnvironmentProblem):
        host.release()
    host.release()
    assert host.held == {"users-own"} and not host.path(guard.PREFERENCES).exists()


def test_what_is_no_longer_of_the_set_is_let_go(host: Host) -> None:
    """After a deliberate upgrade to another kernel, the old one's packages are free again."""
    host.hold()
    new = "5.4.0-152-generic"
    host.listing = host.listing.replace("5.4.0-150", "5.4.0-152") + "".join(
        line + "\n" for line in LISTING.splitlines() if line.startswith("linux-image-5.4.0-150-generic")
    )
    host.boots(new)
    host.driver({"version": "525.125.06", "kernel": new})
    host.hold()
    assert "linux-image-5.4.0-150-generic" not in host.held
    assert "linux-image-5.4.0-152-generic" in host.held
    assert host.record()["kernel"] == new


def test_a_kernel_that_the_driver_was_not_made_for_is_refused(host: Host) -> None:
    """Holding that state would keep the host broken; nothing is changed."""
    host.boots("5.4.0-152-generic")
    before = host.files()
    with pytest.raises(EnvironmentProblem, match="D08"):
        host.hold()
    assert host.files() == before and host.marks == []


def test_without_a_driver_there_is_nothing_to_do(host: Host) -> None:
    """One line, no change; and what was guarded before the driver was taken down is released."""
    host.hold()
    host.path(f"{ROOT}/{probe_guard.DRIVER_RECORD}").unlink()
    gone = host.hold()
    assert gone.changed and not gone.guarded and host.held == {"users-own"}
    idle = host.hold()
    assert not idle.changed and not idle.guarded and "nothing to guard" in idle.told


def test_a_removed_package_has_no_hold_to_take_away(host: Host) -> None:
    """apt-mark would fail on a name that dpkg does not know."""
    host.hold()
    host.listing = "".join(x + "\n" for x in LISTING.splitlines() if not x.startswith("nvidia-settings\t"))
    host.release()
    assert "nvidia-settings" not in host.marks[-1]


def test_a_locked_package_database_is_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """apt-daily has it for a while after each boot (D35)."""
    monkeypatch.setattr(guard_hold, "_PAUSE_S", 0)
    host.answers = [(100, "", "dpkg: error: dpkg status database is locked by another process")] * 3
    assert guard_hold.hold(host.edges, ROOT, 60, False).changed
    assert host.held == STACK | {"users-own"}


def test_another_failure_of_apt_mark_is_told_at_once(host: Host) -> None:
    """Waiting would not fix it."""
    host.answers = [(100, "", "E: Read-only file system")]
    with pytest.raises(EnvironmentProblem, match="Read-only"):
        guard_hold.hold(host.edges, ROOT, 3600, False)


def test_a_damaged_listing_is_refused(host: Host) -> None:
    """Half a hold set is not a guard (D02)."""
    host.run = lambda argv, timeout: (1, "", "dpkg-query: no such file")  # type: ignore[method-assign]
    host.edges.run = host.run
    with pytest.raises(EnvironmentProblem, match="cannot be read"):
        host.hold()


def test_a_guard_counts_as_proved_only_as_it_was_then(tmp_path: Path) -> None:
    """A run that was killed before the proof leaves one to be proved; so does any change; a release forgets it."""
    host = Host(tmp_path)
    guard_hold.hold(host.edges, ROOT, 0, False)
    assert not guard_hold.is_proved(host.edges, ROOT)
    guard_hold.note_proof(host.edges, ROOT)
    assert guard_hold.is_proved(host.edges, ROOT)
    record = host.path(f"{ROOT}/{guard.RECORD}")
    record.write_text(record.read_text().replace("525.105.17", "525.125.06"))
    assert not guard_hold.is_proved(host.edges, ROOT)
    guard_hold.release(host.edges, ROOT, 0, False)
    assert not host.path(f"{ROOT}/{guard_hold.PROOF}").exists()


@pytest.mark.parametrize("name", [probe_guard.DRIVER_RECORD, guard.RECORD])
@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_record_is_not_taken_for_none(host: Host, name: str, text: str) -> None:
    """Without the driver's record the guard would be let go; without its own, holds would stay for ever."""
    host.hold()
    marks = list(host.marks)
    host.path(f"{ROOT}/{name}").write_text(text)
    with pytest.raises(EnvironmentProblem, match=f"{name} cannot be read"):
        host.hold()
    if name == guard.RECORD:
        with pytest.raises(EnvironmentProblem, match="cannot be read"):
            guard_hold.release(host.edges, ROOT, 0, False)
    assert host.marks == marks


def test_what_is_not_there_was_not_proved(tmp_path: Path) -> None:
    """Neither the record nor the proof: nothing agrees with nothing."""
    assert not guard_hold.is_proved(Edges(str(tmp_path), lambda argv, timeout: (1, "", "")), ROOT)
