"""Putting the watch on a host and taking it away, on a root of files with a systemctl that only remembers."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import List, Sequence, Tuple

import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.host.edges import Edges
from gpuhost.host.pairs import judge, keep
from gpuhost.host.watch import install as watch_install
from gpuhost.host.watch import read as watch_read
from gpuhost.host.watch import run as watch_run
from gpuhost.host.watch import tell as watch_tell

ROOT = "/opt/gpuhost"
OURS = (watch_install.APT, watch_install.LOGIN, "/etc/systemd/system/gpuhost-watch.service")


class Host:
    """A root, and systemd as far as it is asked."""

    def __init__(self, folder: Path) -> None:
        """There is nothing yet but the program."""
        self.folder, self.calls, self.on, self.works = folder, [], False, True  # type: ignore[var-annotated]
        for name in ("watch-1-a", "watch-1-b", "cuda-1"):
            (folder / "opt/gpuhost/store" / name).mkdir(parents=True)
        self.edges = Edges(str(folder), self.run)

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """systemctl."""
        if argv[1] in ("is-enabled", "is-active"):
            return (0 if self.on else 1), "", ""
        self.calls.append(" ".join(argv[1:]))
        if not self.works:
            return 1, "", "System has not been booted with systemd\n"
        self.on = {"enable": True, "disable": False}.get(argv[1], self.on)
        return 0, "", ""

    def present(self, name: str = "watch-1-a", textfile: str = "", check: bool = False) -> watch_install.Outcome:
        """Have it."""
        return watch_install.present(self.edges, ROOT, name, textfile, check)

    def files(self) -> List[str]:
        """All files and folders below the root."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host without a watch."""
    return Host(tmp_path)


def test_it_is_there_and_the_second_time_nothing_changes(host: Host) -> None:
    """Files, timer, and one look at once that is not waited for."""
    assert host.present().changed
    assert host.calls == ["daemon-reload", "enable --now gpuhost-watch.timer", "start --no-block gpuhost-watch.service"]
    assert stat.S_IMODE((host.folder / watch_install.LOGIN.lstrip("/")).stat().st_mode) == 0o755
    host.calls.clear()
    again = host.present()
    assert (again.changed, again.diff, host.calls) == (False, [], [])
    host.on = False  # somebody has switched the timer off
    assert host.present().changed and host.on


def test_a_new_program_takes_the_place_of_the_old(host: Host) -> None:
    """The service names it, and the old one goes; what is not ours stays."""
    host.present("watch-1-a")
    unit = (host.folder / OURS[2].lstrip("/")).read_text(encoding="utf-8")
    assert f"ExecStart=/usr/bin/python3 -I -B {ROOT}/store/watch-1-a/gpuhost-watch.py --root {ROOT}\n" in unit
    assert sorted(p.name for p in (host.folder / "opt/gpuhost/store").iterdir()) == ["cuda-1", "watch-1-a"]


def test_check_mode_shows_and_changes_nothing(host: Host) -> None:
    """Both ways."""
    before = host.files()
    shown = host.present(check=True)
    assert shown.changed and {row["after_header"] for row in shown.diff} >= set(OURS)
    assert (host.files(), host.calls) == (before, [])
    host.present()
    before, calls = host.files(), list(host.calls)
    gone = watch_install.absent(host.edges, ROOT, "", True)
    assert gone.changed and len(gone.diff) == 4
    assert (host.files(), host.calls) == (before, calls)


def test_removal_leaves_nothing(host: Host) -> None:
    """The state of the last look and the metrics go as well; a second removal changes nothing."""
    host.present(textfile="/var/lib/node")
    for name in (watch_read.MOTD, watch_run.LOOKED, f"{ROOT}/{watch_read.RECORD}", f"{ROOT}/{watch_run.METRICS}"):
        path = host.folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", encoding="utf-8")
    assert watch_install.absent(host.edges, ROOT, "/var/lib/node", False).changed
    left = [name for name in host.files() if "watch" in name or "run/gpuhost/" in name or "95-gpuhost" in name]
    assert left == [] and not host.on
    assert not watch_install.absent(host.edges, ROOT, "/var/lib/node", False).changed


def test_without_systemd_it_is_one_sentence(host: Host) -> None:
    """And the next run begins again: what is switched off is not taken for done."""
    host.works = False
    with pytest.raises(EnvironmentProblem, match="not been booted with systemd"):
        host.present()
    host.works = True
    assert host.present().changed


@pytest.mark.parametrize("path", ["relative", "/a b", '/a"; reboot; "', "/a/../b", "/a\nb", "/%n"])
def test_a_path_that_would_be_read_otherwise_is_refused(host: Host, path: str) -> None:
    """It would stand in a unit, in a shell's script and in apt's configuration."""
    with pytest.raises(EnvironmentProblem, match="cannot be used"):
        host.present(textfile=path)
    assert host.calls == []


def test_the_hook_is_one_command_that_cannot_fail(host: Host, tmp_path: Path) -> None:
    """As apt itself reads it, run where systemctl hangs, fails or is missing."""
    if shutil.which("apt-config") is None:
        pytest.skip("no apt here")
    host.present()
    done = subprocess.run(
        ["apt-config", "-c", str(host.folder / watch_install.APT.lstrip("/")), "dump"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line for line in done.stdout.splitlines() if line.startswith("DPkg::Post-Invoke:: ") and "gpuhost" in line]
    assert len(rows) == 1
    command = rows[0].partition(' "')[2].rpartition('"')[0]
    assert "start --no-block gpuhost-watch.service" in command
    # Taken on, even where systemd does not run.
    command = command.replace("[ -d /run/systemd/system ]", "true")
    for text in ("exit 1", "kill -9 $$", None):
        if text is not None:
            (tmp_path / "systemctl").write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
            (tmp_path / "systemctl").chmod(0o755)
        else:
            (tmp_path / "systemctl").unlink()
        found = subprocess.run(
            ["/bin/sh", "-c", command], env={"PATH": str(tmp_path)}, capture_output=True, check=False
        )
        assert (found.returncode, found.stdout) == (0, b"")


def test_the_units_are_what_systemd_takes(host: Host, tmp_path: Path) -> None:
    """Read by systemd's own checker, where this machine has it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    host.present()
    folder = host.folder / "etc/systemd/system"
    units = [str(folder / name) for name in (watch_install.SERVICE, watch_install.TIMER)]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert [line for line in (done.stdout + done.stderr).splitlines() if "gpuhost-watch" in line] == []


def test_the_line_at_login(host: Host, tmp_path: Path) -> None:
    """Nothing while all is well and the watch has looked; its words when not; and a watch that is silent is named."""
    host.present()
    script = (host.folder / watch_install.LOGIN.lstrip("/")).read_text(encoding="utf-8")
    motd, looked, uptime = tmp_path / "motd", tmp_path / "looked", tmp_path / "uptime"
    script = script.replace(watch_read.MOTD, str(motd)).replace(watch_run.LOOKED, str(looked))
    script = script.replace("/proc/uptime", str(uptime))
    uptime.write_text("1000.5 1\n", encoding="utf-8")

    def login() -> str:
        done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert "has said nothing for three hours" in login()
    uptime.write_text("60.5 1\n", encoding="utf-8")
    assert login() == ""
    uptime.write_text("1000.5 1\n", encoding="utf-8")
    looked.write_text("900", encoding="utf-8")
    assert login() == ""
    motd.write_text("broken\n", encoding="utf-8")
    assert login() == "broken\n"


def test_a_clock_that_was_set_back_does_not_silence_the_line(host: Host, tmp_path: Path) -> None:
    """Its record then has a time in the future, for as long as the clock was set back."""
    host.present()
    script = (host.folder / watch_install.LOGIN.lstrip("/")).read_text(encoding="utf-8")
    looked, uptime, record = tmp_path / "looked", tmp_path / "uptime", tmp_path / "watch.json"
    for name, path in ((watch_run.LOOKED, looked), ("/proc/uptime", uptime), (f"{ROOT}/{watch_read.RECORD}", record)):
        script = script.replace(name, str(path))
        path.write_text("1000", encoding="utf-8")
        os.utime(str(path), (4102444800, 4102444800))
    for now, silent in (("11800.2 9", False), ("11801.2 9", True)):
        uptime.write_text(now, encoding="utf-8")
        done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)
        assert ("has said nothing" in done.stdout, done.stderr) == (silent, "")


def test_the_collector_s_folder_gets_a_link_and_nothing_else(host: Host) -> None:
    """The metrics themselves are written in our own folder; an old file of ours, or a foreign link, is replaced."""
    folder = host.folder / "var/lib/node"
    folder.mkdir(parents=True)
    victim = host.folder / "victim"
    victim.write_text("precious", encoding="utf-8")
    name = folder / watch_run.TEXTFILE
    for prepare in (lambda: name.write_text("old", encoding="utf-8"), lambda: name.symlink_to(victim)):
        if os.path.lexists(str(name)):
            name.unlink()
        prepare()
        assert host.present(textfile="/var/lib/node").changed
        assert os.readlink(str(name)) == f"{ROOT}/{watch_run.METRICS}"
        assert not host.present(textfile="/var/lib/node").changed
    assert [path.name for path in folder.iterdir()] == [watch_run.TEXTFILE]
    assert victim.read_text(encoding="utf-8") == "precious"
    unit = (host.folder / OURS[2].lstrip("/")).read_text(encoding="utf-8")
    assert [line for line in unit.splitlines() if "ReadWritePaths" in line] == [f"ReadWritePaths={ROOT}/state"]
    assert watch_install.absent(host.edges, ROOT, "/var/lib/node", False).changed
    assert list(folder.iterdir()) == [] and victim.read_text(encoding="utf-8") == "precious"


def test_an_update_that_was_undone_is_told_at_each_login(host: Host) -> None:
    """Also where nothing is wrong: a line, no alarm, and in the record; the next update takes it away."""
    record = judge.fresh({"kernel": "6.1", "version": "550.1"}, {"kernel": "6.2", "version": "550.1"}, "1")
    record = judge.noted(record, judge.Step(judge.UNDO, "cuda.answers: cuInit gave 100"), "2")
    keep.write(host.edges, ROOT, {**record, "recovered": True})
    state = watch_run.State("ok", [])._replace(notes=watch_run.notes(host.edges, ROOT))
    assert watch_tell.EXIT[state.status] == 0
    wanted = (
        "The update to kernel 6.2 with driver 550.1 was undone, and kernel 6.1 with driver 550.1 is kept: cuda.answers"
    )
    assert wanted in watch_tell.motd(state) and "BROKEN" not in watch_tell.motd(state)
    assert wanted in json.loads(watch_tell.record(state, 1.0))["notes"][0]
    keep.write(host.edges, ROOT, judge.fresh(record["old"], record["new"], "3"))
    assert watch_run.notes(host.edges, ROOT) == ()
    assert watch_tell.motd(watch_run.State("ok", [])) == ""
