"""NVIDIA's own file is not run beside a desktop, and nothing is changed before that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.host.commands import NOT_FOUND
from gpuhost.host.driver import setup as driver_setup
from gpuhost.host.edges import Edges
from gpuhost.host.probe import desktop

from .test_driver_kept import RUNFILE
from .test_driver_modules import READY
from .test_driver_setup import Host

Answer = Tuple[int, str, str]
LIST = ("loginctl", "list-sessions", "--no-legend")
ACTIVE = ("systemctl", "is-active", "display-manager.service")
SHOWN = "Id={}\nName={}\nType={}\nClass={}\nState={}\n"
#: What systemd prints: a list of sessions, with a blank in front in 237 and with more columns in later ones.
LISTS = {
    "237": "        c1        120 gdm              seat0                             \n"
    "         2       1000 ann              seat0            tty2            \n",
    "252": " c1  120 gdm seat0 tty1\n  2 1000 ann seat0 tty2\n",
    "257": "c1  120 gdm seat0 900  greeter -    no -\n 2 1000 ann seat0 1000 user    tty2 no -\n",
}


class Box:
    """A host whose commands and files are made."""

    def __init__(self, root: Path) -> None:
        """It has systemd, no session, no display manager, and one process."""
        self.root = root
        self.answers: Dict[Tuple[str, ...], Answer] = {LIST: (0, "", ""), ACTIVE: (3, "inactive\n", "")}
        (root / "run/systemd/system").mkdir(parents=True)
        self.process(1, "systemd", "/dev/dri/card0")
        self.process(2, "sh", "/dev/null")

    def process(self, pid: int, name: str, *files: str) -> None:
        """Add a process with its open files."""
        folder = self.root / f"proc/{pid}/fd"
        folder.mkdir(parents=True)
        (folder.parent / "comm").write_text(name + "\n", encoding="utf-8")
        for number, file in enumerate(files):
            (folder / str(number)).symlink_to(file)

    def run(self, argv: Sequence[str], timeout: float) -> Answer:
        """The host's answer; every session is asked for in one call."""
        if tuple(argv) in self.answers:
            return self.answers[tuple(argv)]
        assert argv[:2] == ["loginctl", "show-session"], argv
        return self.answers[("show", *[word for word in argv[2:] if word not in ("-p", *KEYS)])]

    def seen(self) -> Tuple[List[str], List[str]]:
        """What runs, and what could not be read."""
        edges = Edges(str(self.root), self.run)
        return desktop.running(edges), [problem["what"] for problem in edges.problems]


KEYS = ("Id", "Type", "Class", "State", "Name")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """A host without a desktop."""
    return Box(tmp_path / "box")


def test_a_server_has_none(box: Box) -> None:
    """Sessions of ssh, one that is ending, programs that compute, and what keeps screens for others."""
    box.answers[LIST] = (0, LISTS["252"], "")
    shown = "\n".join(
        (SHOWN.format("c1", "gdm", "wayland", "greeter", "closing"), SHOWN.format("2", "ann", "tty", "user", "active"))
    )
    box.answers[("show", "c1", "2")] = (0, shown, "")
    box.process(7, "python3", "/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/dri/renderD128")
    box.process(8, "systemd-logind", "/dev/dri/card0")
    box.process(9, "nvidia-persiste", "/dev/nvidia-modeset")
    assert box.seen() == ([], [])


@pytest.mark.parametrize("release", LISTS)
@pytest.mark.parametrize("kind", ["x11", "wayland"])
def test_a_session_is_seen(box: Box, release: str, kind: str) -> None:
    """As each release of systemd lists it; a greeter counts as well."""
    box.answers[LIST] = (0, LISTS[release], "")
    shown = "\n".join(
        (SHOWN.format("c1", "gdm", kind, "greeter", "online"), SHOWN.format("2", "a\x1bn", kind, "user", ""))
    )
    box.answers[("show", "c1", "2")] = (0, shown, "")
    assert box.seen() == ([f"a session of {kind} (gdm)", f"a session of {kind} (a\N{REPLACEMENT CHARACTER}n)"], [])


def test_a_display_manager_and_a_screen_are_seen(box: Box) -> None:
    """Also where logind knows no session: startx by hand, or a compositor of its own."""
    box.answers[ACTIVE] = (0, "active\n", "")
    box.process(20, "sway", "/dev/null", "/dev/dri/card1")
    box.process(30, "Xorg")
    assert box.seen() == (["display-manager.service", "sway (process 20, /dev/dri/card1)", "Xorg (process 30)"], [])


def test_without_systemd_the_processes_tell(box: Box) -> None:
    """Nothing is asked that is not there."""
    (box.root / "run/systemd/system").rmdir()
    box.answers.clear()
    assert box.seen() == ([], [])
    box.process(30, "X")
    assert box.seen() == (["X (process 30)"], [])


def test_what_cannot_be_read_is_not_none(box: Box) -> None:
    """A bus that does not answer, an unknown word, no process at all; without any session logind need not answer."""
    no_bus = (1, "", "Failed to connect to bus: No such file or directory")
    box.answers[LIST] = no_bus
    assert box.seen() == ([], [])
    (box.root / "run/systemd/sessions").mkdir()
    (box.root / "run/systemd/sessions/2").write_text("TYPE=wayland\n", encoding="utf-8")
    assert box.seen() == ([], ["loginctl"])
    box.answers[LIST] = (0, LISTS["252"], "")
    box.answers[("show", "c1", "2")] = (0, "what\n", "")
    assert box.seen() == ([], ["loginctl"])
    box.answers[LIST] = (0, "", "")
    box.answers[ACTIVE] = no_bus
    assert box.seen() == ([], ["systemctl"])
    box.answers[ACTIVE] = (NOT_FOUND, "", "systemctl is not installed")
    (box.root / "proc").rename(box.root / "elsewhere")
    assert box.seen() == ([], ["/proc"])


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host without the driver, whose screen is what `desktop.running` says."""
    monkeypatch.setattr(driver_setup, "NOUVEAU_FILE", str(tmp_path / "nouveau.conf"))
    monkeypatch.setattr(driver_setup, "UNINSTALL", str(tmp_path / "nvidia-uninstall"))
    state = {**READY, "record": None, "library": None, "module": None}
    monkeypatch.setattr(driver_setup.Setup, "state", lambda self: state)
    return Host(tmp_path)


def let(monkeypatch: pytest.MonkeyPatch, there: Sequence[str], unread: str = "") -> None:
    """Let this be what runs there, or what cannot be read."""

    def running(edges: Any) -> List[str]:
        if unread:
            edges.problem(unread, "It cannot be read.")
        return list(there)

    monkeypatch.setattr(desktop, "running", running)


@pytest.mark.parametrize(
    ("there", "unread", "words"),
    [(["a session of x11 (ann)"], "", "a session of x11 .*isolate multi-user.target"), ([], "loginctl", "loginctl")],
)
def test_nvidias_own_file_is_not_run_beside_a_desktop(
    host: Host, monkeypatch: pytest.MonkeyPatch, there: List[str], unread: str, words: str
) -> None:
    """Neither installed nor removed, and nothing is changed; the same in a dry run."""
    let(monkeypatch, there, unread)
    for attempt in (host.setup(driver=RUNFILE).present, host.setup(driver=RUNFILE).preflight):
        with pytest.raises(EnvironmentProblem, match=words):
            attempt()
    Path(driver_setup.UNINSTALL).touch()
    (host.root / "state").mkdir(parents=True)
    record = host.root / driver_setup.RECORD
    record.write_text('{"source": "runfile", "version": "550.163.01"}', encoding="utf-8")
    for attempt in (host.setup().present, host.setup(driver=RUNFILE).remove):
        with pytest.raises(EnvironmentProblem, match=words):
            attempt()
    assert record.exists() and not (host.root / driver_setup.PENDING).exists()
    assert not Path(driver_setup.NOUVEAU_FILE).exists() and host.work.done == []


def test_the_archives_packages_do_not_mind_a_desktop(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stop no server and unload no module."""
    let(monkeypatch, ["a session of x11 (ann)"])
    assert host.setup().preflight().install
