"""The controller's timer of proved updates: its units, whom it is for, and what it refuses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import pytest

from gpuhost.errors import EnvironmentProblem, RefusedError
from gpuhost.host.edges import Edges
from gpuhost.host.pairs import timer
from gpuhost.host.pairs.ask import Asked
from gpuhost.host.pairs.restart import MARK
from gpuhost.host.probe import fixes

NIGHT = "02:00-05:00"
INVENTORY = ["/srv/hosts.yml", "/srv/more"]


class Controller:
    """A controller's files, and its systemctl."""

    def __init__(self, folder: Path) -> None:
        """Nothing is there."""
        self.calls: List[List[str]] = []
        self.on: Dict[str, bool] = {}
        self.edges = Edges(str(folder), self.run)

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """Note what is switched."""
        words = [word for word in argv[1:] if word not in ("--user", "--quiet", "--now")]
        if words[0] in ("is-enabled", "is-active"):
            return 0 if self.on.get(words[0]) else 1, "", ""
        self.calls.append(list(argv[1:]))
        if words[0] == "enable":
            self.on["is-enabled"] = True
        if words[0] == "restart":
            self.on["is-active"] = True
        if words[0] == "disable":
            self.on = {}
        return 0, "", ""

    def present(self, check: bool = False, is_root: bool = True, folder: str = "", **more: Any) -> timer.Outcome:
        """Have the timer."""
        wanted = {"project": "/srv/gpuhost", "inventory": INVENTORY, "windows": {"b": NIGHT, "a": NIGHT}, **more}
        return timer.present(self.place(is_root, folder), timer.Wanted(**wanted), check)

    def place(self, is_root: bool = True, folder: str = "") -> timer.Place:
        """Where the units go."""
        return timer.Place(self.edges, is_root, "/home/ann", folder)

    def unit(self, name: str, folder: str = "/etc/systemd/system") -> str:
        """The text of a unit."""
        return self.edges.text(f"{folder}/{name}") or ""


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    """One without a timer."""
    return Controller(tmp_path)


def test_it_is_put_on_once_and_taken_away(controller: Controller) -> None:
    """In check mode it is only shown; the second time nothing changes; what is switched off by hand comes back."""
    assert controller.present(check=True).changed and controller.unit(timer.TIMER) == "" and controller.calls == []
    done = controller.present()
    assert done.changed and len(done.diff) == 2 and done.told.startswith("From 02:00 on")
    assert controller.calls == [["daemon-reload"], ["enable", timer.TIMER], ["restart", timer.TIMER]]
    assert not controller.present().changed and len(controller.calls) == 3
    controller.on["is-active"] = False
    assert controller.present().changed
    assert timer.absent(controller.place(), INVENTORY, True).changed and controller.unit(timer.TIMER)
    assert timer.absent(controller.place(), INVENTORY, False).changed
    assert controller.unit(timer.TIMER) == controller.unit(timer.SERVICE) == "" and controller.on == {}
    assert not timer.absent(controller.place(), INVENTORY, False).changed


def test_what_it_runs(controller: Controller) -> None:
    """The hosts one after the other, with the inventory as it was given and the window that they hold to."""
    controller.present()
    line = next(one for one in controller.unit(timer.SERVICE).splitlines() if one.startswith("ExecStart="))
    assert line == (
        "ExecStart=/srv/gpuhost/run ansible-playbook -i /srv/hosts.yml -i /srv/more playbooks/update.yml --limit b,a "
        "-e update_once=true -e update_serial=1 -e nvidia_driver_reboot=true -e update_window=02:00-05:00"
    )
    assert "Persistent" not in controller.unit(timer.TIMER), "a start that was missed would be outside of the window"


def test_without_a_host_there_is_no_timer(controller: Controller) -> None:
    """update_automatic: false for the last of them takes it away."""
    controller.present()
    assert controller.present(windows={}).changed and controller.unit(timer.SERVICE) == ""


def test_a_controller_that_is_one_of_its_hosts(controller: Controller) -> None:
    """It is the last one; what is left after its restart is done at the next boot, for it alone; later no more."""
    assert controller.present(own="a", root="/opt/gpuhost").changed
    assert ["enable", timer.TIMER, timer.RESUME] in controller.calls
    resume = controller.unit(timer.RESUME)
    assert "playbooks/update.yml --limit a -e update_once=true" in resume
    assert "--limit b,a " in controller.unit(timer.SERVICE)
    assert f"ConditionPathExists=/opt/gpuhost/{MARK}\n" in resume
    assert not controller.present(own="a", root="/opt/gpuhost").changed
    done = controller.present()
    assert done.changed and controller.unit(timer.RESUME) == "" and ["disable", timer.RESUME] in controller.calls
    controller.present(own="a", root="/opt/gpuhost")
    assert timer.absent(controller.place(), INVENTORY, False).changed and controller.unit(timer.RESUME) == ""


@pytest.mark.parametrize(
    ("is_root", "own", "words"),
    [(True, "b", "ends the run before the hosts that come after it"), (False, "a", "only root's timer")],
)
def test_a_controller_that_could_not_carry_on(controller: Controller, is_root: bool, own: str, words: str) -> None:
    """Nothing is written."""
    with pytest.raises(RefusedError, match=words):
        controller.present(is_root=is_root, own=own, root="/opt/gpuhost")
    assert controller.unit(timer.SERVICE) == ""


@pytest.mark.parametrize("is_root", [True, False])
def test_systemd_takes_the_units(controller: Controller, tmp_path: Path, is_root: bool) -> None:
    """The real systemd-analyze, of the units and of the time."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    project = tmp_path / "project"
    project.mkdir()
    (project / "run").write_text("#!/bin/sh\n", encoding="utf-8")
    (project / "run").chmod(0o755)
    own = {"own": "a", "root": "/opt/gpuhost"} if is_root else {}
    controller.present(is_root=is_root, folder="/units", project=str(project), windows={"a": "23:30-04:00"}, **own)
    units = [str(tmp_path / "units" / name) for name in (timer.SERVICE, timer.TIMER, *([timer.RESUME] if own else []))]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, [one for one in done.stderr.splitlines() if "gpuhost-update" in one]) == (0, [])
    when = next(one for one in Path(units[1]).read_text().splitlines() if one.startswith("OnCalendar="))
    argv = ["systemd-analyze", "calendar", when.partition("=")[2]]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "Normalized form: *-*-* 23:30:00" in shown


def test_units_of_a_user(controller: Controller) -> None:
    """They are switched on by systemctl --user, and what lets them run at night is said."""
    done = controller.present(is_root=False)
    assert controller.unit(timer.TIMER, "/home/ann/.config/systemd/user")
    assert [call[0] for call in controller.calls] == ["--user"] * 3
    assert "loginctl enable-linger" in done.told and "network-online" not in controller.unit(timer.SERVICE)
    assert not controller.present(is_root=False).changed


def test_a_folder_of_ones_own(controller: Controller) -> None:
    """Nothing is switched on."""
    done = controller.present(folder="/units")
    assert done.changed and controller.calls == [] and "nothing is switched on" in done.told
    assert not controller.present(folder="/units").changed
    assert timer.absent(controller.place(folder="/units"), INVENTORY, False).changed and controller.calls == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"windows": {"a": ""}}, "a, and there is no update_window"),
        ({"windows": {"a": NIGHT, "b": "03:00-05:00"}}, "02:00-05:00 for a and 03:00-05:00 for b"),
        ({"windows": {"a": "02:00-02:45"}}, "45 minutes long"),
        ({"windows": {"a": "at night"}}, "such as 02:00-05:00"),
        ({"windows": {"a b": NIGHT}}, "cannot be written into a unit"),
    ],
)
def test_what_is_refused(controller: Controller, more: Dict[str, Any], words: str) -> None:
    """In one sentence, and nothing is written."""
    with pytest.raises(RefusedError, match=words):
        controller.present(**more)
    assert controller.unit(timer.TIMER) == ""


@pytest.mark.parametrize("more", [{"project": "/srv/gpu host"}, {"inventory": ["/srv/%h"]}])
def test_paths_that_a_unit_would_read_otherwise(controller: Controller, more: Dict[str, Any]) -> None:
    """Blanks and systemd's own signs; a list of hosts is none."""
    with pytest.raises(EnvironmentProblem, match="cannot be used by The timer"):
        controller.present(**more)
    assert controller.present(inventory=["a,b,"]).changed


def test_the_timer_of_another_inventory(controller: Controller) -> None:
    """It is neither replaced nor taken away, also where it is nobody's that is known."""
    controller.present()
    with pytest.raises(RefusedError, match="not for the inventory /srv/other"):
        controller.present(inventory=["/srv/other"])
    assert not timer.absent(controller.place(), ["/srv/other"], False).changed
    assert not controller.present(inventory=["/srv/other"], windows={}).changed
    controller.edges.path(f"/etc/systemd/system/{timer.TIMER}").write_text("[Timer]\n", encoding="utf-8")
    with pytest.raises(RefusedError):
        controller.present()


def test_what_a_host_notes(tmp_path: Path) -> None:
    """That a timer updates it, once; and no more."""
    root = str(tmp_path / "root")
    edges = Edges("/", lambda argv, timeout: (1, "", ""))

    def asked(state: str, check: bool = False, window: str = NIGHT) -> bool:
        return bool(getattr(Asked({"root": root, "window": window}, edges, check), state)()["changed"])

    assert not asked("manual")
    assert asked("automatic", check=True) and not edges.exists(f"{root}/{fixes.AUTOMATIC}")
    assert asked("automatic") and not asked("automatic")
    assert edges.record(f"{root}/{fixes.AUTOMATIC}") == {"schema": 1, "window": NIGHT}
    with pytest.raises(RefusedError, match="update_window"):
        asked("automatic", window="")
    assert asked("manual") and not edges.exists(f"{root}/{fixes.AUTOMATIC}")
