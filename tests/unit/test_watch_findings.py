"""What the watch finds, checked against verify/: the same host, the same fault, the same check."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Set, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuhost.checks.base import FAIL
from gpuhost.diagnoses import verdict as checks
from gpuhost.host.edges import Edges
from gpuhost.host.watch import judge as watch
from gpuhost.host.watch import read as watch_read
from gpuhost.host.watch import run as watch_run
from gpuhost.host.watch import tell as watch_tell
from gpuhost.host.watch.judge import Finding, State
from gpuhost.shipping import tree

from .collected import BESIDE as PACKAGED
from .collected import beside_host, cpu_host, gpu_host, judged

Json = Dict[str, Any]
Change = Callable[[Json], Any]
#: Known to verify/ only where its probe reads the device nodes.
KNOWN = {*checks.BY_ID, "driver.nodes"}
EVIL = 'x"}\n<3>y\x1b[2J\u202e\\ {a="b"}'


def watched(seen: Json) -> Json:
    """What the watch reads of the host of which verify/ has collected this."""
    installed, observation = seen["machine"]["installed"], seen["machine"]["observation"]
    count = len(observation["gpus"])
    virtualbox = installed.get("virtualbox") or {}
    unasked = ("program", "dkms", "device", "members", "kvm", "key")
    return {
        **({"virtualbox": {k: v for k, v in virtualbox.items() if k not in unasked}} if virtualbox else {}),
        "generation": installed["generation"],
        "stack": installed["stack"],
        "driver": installed["driver"],
        "running": observation["kernel"]["running"],
        "guard": installed["guard"],
        "cards": [card["pci_id"] for card in observation["gpus"]],
        "loaded": observation["nvidia"]["module_version"] if observation["nvidia"]["module_loaded"] else None,
        "nodes": ["nvidiactl", *(f"nvidia{number}" for number in range(count))],
    }


def driver(seen: Json) -> Json:
    """The driver that the probe read."""
    return dict(seen["machine"]["installed"])["driver"]  # type: ignore[no-any-return]


def guard(seen: Json) -> Json:
    """The guard that the probe read."""
    return dict(seen["machine"]["installed"])["guard"]  # type: ignore[no-any-return]


def nvidia(seen: Json) -> Json:
    """What is loaded."""
    return dict(seen["machine"]["observation"])["nvidia"]  # type: ignore[no-any-return]


NEWER = {"libnvidia-compute-525": "525.147.05-0ubuntu0.18.04.1"}
BESIDE = {"nvidia-driver-470": "470.182.03-0ubuntu0.18.04.1"}
FAULTS: List[Tuple[str, Change]] = [
    ("driver.installed", lambda seen: driver(seen).update(record=None)),
    ("driver.installed", lambda seen: guard(seen)["stack"].update(NEWER)),
    ("driver.installed", lambda seen: guard(seen)["stack"].pop("libnvidia-compute-525")),
    (
        "driver.installed",
        lambda seen: guard(seen)["stack"].update(BESIDE),
    ),
    ("guard.holds", lambda seen: guard(seen).update(held=guard(seen)["held"][1:])),
    ("guard.holds", lambda seen: guard(seen).update(record=None)),
    ("kernel.boots", lambda seen: driver(seen).update(kernel="5.4.0-999-generic")),
    ("kernel.boots", lambda seen: driver(seen).update(kernel=None)),
    ("driver.module", lambda seen: driver(seen).update(module=None)),
    ("driver.module", lambda seen: driver(seen)["module"].update(version="470.1")),
    ("driver.loaded", lambda seen: nvidia(seen).update(module_loaded=False, module_version=None)),
    ("driver.loaded", lambda seen: nvidia(seen).update(module_version="470.1")),
    ("driver.loaded", lambda seen: seen["machine"]["observation"]["kernel"].update(running="4.15.0-1-generic")),
    ("driver.match", lambda seen: driver(seen).update(library="525.147.05")),
    ("driver.match", lambda seen: driver(seen).update(library=None)),
    ("lock.cards", lambda seen: seen["machine"]["observation"]["gpus"][0].update(pci_id="10de:1c30")),
    ("lock.cards", lambda seen: seen["machine"]["observation"]["gpus"].clear()),
    ("lock.generation", lambda seen: seen["machine"]["installed"].update(stack={"plan": 3})),
]


@pytest.mark.parametrize(("check", "change"), FAULTS, ids=[f"{n}-{name}" for n, (name, _) in enumerate(FAULTS)])
def test_one_fault_is_one_finding_and_verify_says_the_same(check: str, change: Change) -> None:
    """By the id of verify's own check, judged on the same host."""
    seen = gpu_host()
    change(seen)
    state = watch.judge(watched(seen))
    assert (state.status, [f.id for f in state.findings]) == ("broken", [check])
    assert judged(seen)[check].status == FAIL


def beside(seen: Json) -> Json:
    """The VirtualBox that the probe read."""
    return dict(seen["machine"]["installed"])["virtualbox"]  # type: ignore[no-any-return]


NONE = dict.fromkeys(("vboxdrv", "vboxnetflt", "vboxnetadp"))
VIRTUALBOX: List[Tuple[str, Change]] = [
    ("virtualbox.one", lambda seen: beside(seen)["packagings"].append("Oracle's installer in /opt/VirtualBox")),
    ("virtualbox.one", lambda seen: beside(seen).update(packagings=["virtualbox 6.1.50-dfsg-1"])),
    ("virtualbox.modules", lambda seen: beside(seen).update(modules=NONE)),
    ("virtualbox.release", lambda seen: beside(seen)["modules"]["vboxdrv"].update(release="5.2.34")),
    ("virtualbox.release", lambda seen: beside(seen).update(loaded="5.2.34")),
    ("virtualbox.loaded", lambda seen: beside(seen).update(loaded=None)),
    ("virtualbox.kept", lambda seen: beside(seen)["record"]["packages"].update({"virtualbox-qt": PACKAGED})),
]


@pytest.mark.parametrize(("check", "change"), VIRTUALBOX, ids=[f"{n}-{c}" for n, (c, _) in enumerate(VIRTUALBOX)])
def test_a_fault_of_virtualbox_is_one_finding(check: str, change: Change) -> None:
    """Beside a driver, and where there is nothing but VirtualBox, as the same check of verify/."""
    seen = beside_host()
    healthy = watched(seen)
    alone = {"generation": None, "left": [], "guard": healthy["guard"], "virtualbox": healthy["virtualbox"]}
    assert watch.judge(healthy) == watch.judge(alone) == State("ok", [])
    change(seen)
    for found in (watched(seen), {**alone, "virtualbox": watched(seen)["virtualbox"]}):
        state = watch.judge(found)
        assert (state.status, [f.id for f in state.findings]) == ("broken", [check])
    assert judged(seen)[check].status == FAIL


def test_a_hold_that_is_gone_is_told_once() -> None:
    """The driver's guard holds VirtualBox as well."""
    seen = beside_host()
    guard(seen)["held"].remove("virtualbox")
    assert [f.id for f in watch.judge(watched(seen)).findings] == ["guard.holds"]


def test_a_healthy_host_is_well_and_verify_says_the_same() -> None:
    """Neither has a complaint about what both look at."""
    seen = gpu_host()
    assert watch.judge(watched(seen)) == State("ok", [])
    red = [name for name, found in judged(seen).items() if found.status == FAIL]
    assert not set(red) & {name for name, _ in FAULTS}


def test_a_replaced_library_is_told_with_what_follows_from_it() -> None:
    """Driver and library of two versions: the watch and verify/ say so in the same words, with the diagnosis."""
    seen = gpu_host()
    guard(seen)["stack"].update(NEWER)
    driver(seen).update(library="525.147.05")
    (finding,) = watch.judge(watched(seen)).findings
    follows = "so nvidia-smi and CUDA fail (D01: loaded is 525.105.17, the library is 525.147.05)"
    assert finding.id == "driver.installed" and finding.what.endswith(f"; {follows}")
    assert judged(seen)["driver.installed"].actual.endswith(follows)


@pytest.mark.parametrize("nodes", [[], ["nvidia0"], ["nvidiactl"]])
def test_nodes_that_are_missing(nodes: List[str]) -> None:
    """The driver's own, and one for each card."""
    found = watch.judge({**watched(gpu_host()), "nodes": nodes})
    assert [f.id for f in found.findings] == ["driver.nodes"]


def test_without_a_card_or_a_generation_nothing_is_watched() -> None:
    """And nothing is said at a login. What is left of gpuhost shows that there was a generation."""
    left = watch.judge({"generation": None, "left": ["/opt/gpuhost/state/driver.json"]})
    assert (left.status, [f.id for f in left.findings]) == ("broken", ["lock.provisioned"])
    for seen in (watched(cpu_host()), {"generation": None, "left": []}):
        state = watch.judge(seen)
        assert state == State("nothing to watch", [])
        assert (watch_tell.motd(state), watch_tell.EXIT[state.status]) == ("", 0)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
    max_leaves=5,
)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(at=st.integers(0, 10**6), value=JSONS)
def test_damaged_records_of_the_host_are_findings(at: int, value: Any) -> None:
    """One place of the lock in force or of the driver's record replaced by anything."""
    seen = watched(gpu_host())
    places = [(seen, "stack"), (seen["driver"], "record")]
    for top in (seen["stack"], seen["stack"]["plan"], *seen["stack"]["cards"], seen["driver"]["record"]):
        places += [(top, key) for key in top]
    inner, key = places[at % len(places)]
    inner[key] = value
    state = watch.judge(seen)
    assert all(f.id in KNOWN for f in state.findings)
    assert watch_tell.journal(state).count("\n") == len(watch_tell.lines(state))


def test_what_is_said_is_words() -> None:
    """In the motd, in the journal, and within the quotes of a label."""
    state = State("broken", [Finding("driver.installed", EVIL)])
    for text in (watch_tell.motd(state), watch_tell.journal(state), watch_tell.record(state, 0.0)):
        assert "\x1b" not in text and "\u202e" not in text
    assert all(
        line.startswith("<3>gpuhost: ") or line.startswith("<3>  ") for line in watch_tell.journal(state).splitlines()
    )
    assert watch_tell.label(EVIL) == 'x\\"} <3>y?[2J?\\\\ {a=\\"b\\"}'
    assert 'gpuhost_watch_finding{check="driver.installed"} 1\n' in watch_tell.metrics(state, 7.4)
    assert "gpuhost_watch_ok 0\n" in watch_tell.metrics(state, 7.4)
    assert "run_timestamp_seconds 7\n" in watch_tell.metrics(State("ok", []), 7.4)
    assert watch_tell.lines(state)[-1].strip() == watch_tell.REMEDY
    assert watch_tell.motd(State("ok", [])) == ""


class Machine:
    """A root of files with a whole host of a driver, a card and a generation."""

    def __init__(self, folder: Path) -> None:
        """Write it."""
        self.folder, self.seen = folder, gpu_host()
        found, root = watched(self.seen), "/opt/gpuhost"
        self.kernel = found["driver"]["kernel"]
        self.put(f"{root}/generations/3/stack.json", json.dumps(found["stack"]))
        (folder / "opt/gpuhost/current").symlink_to("generations/3")
        self.put(f"{root}/state/driver.json", json.dumps(found["driver"]["record"]))
        self.put(f"{root}/state/guard.json", json.dumps(found["guard"]["record"]))
        self.put(f"/boot/vmlinuz-{self.kernel}", "")
        self.put(f"/lib/modules/{self.kernel}/modules.dep", "")
        self.put("/proc/sys/kernel/osrelease", self.kernel)
        self.version = found["driver"]["record"]["version"]
        said = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {self.version}  Fri\n"
        self.put("/proc/driver/nvidia/version", said)
        self.put(f"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{self.version}", "")
        (folder / "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1").symlink_to(f"libnvidia-ml.so.{self.version}")
        for name in found["nodes"]:
            self.put(f"/dev/{name}", "")
        for name, text in (("vendor", "0x10de"), ("class", "0x030000"), ("device", "0x" + found["cards"][0][-4:])):
            self.put(f"/sys/bus/pci/devices/0000:01:00.0/{name}", text + "\n")
        self.put("/var/lib/dpkg/status", "")
        self.packages = dict(found["guard"]["stack"])
        self.held = set(found["guard"]["held"])
        self.broken: Tuple[str, ...] = ()

    def put(self, name: str, text: str) -> None:
        """Write a file of the machine."""
        path = self.folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """dpkg and modinfo, as far as they are asked."""
        if argv[0] in self.broken:
            return 127, "", f"{argv[0]} is not installed"
        if argv[0] == "modinfo":
            return 0, f"filename: /x/nvidia.ko\nversion: {self.version}\nlicense: NVIDIA\n", ""
        if argv[0] == "dpkg":
            return 0, "amd64\n", ""
        rows = [
            f"{name}\tamd64\tnvidia-graphics-drivers-525\t{version}\t"
            f"{'hold' if name in self.held else 'install'}\tinstalled\tlinux-image-{self.kernel}\n"
            for name, version in self.packages.items()
        ]
        return 0, "".join(rows), ""

    def look(self, *arguments: str) -> int:
        """Run the watch."""
        return watch_run.main(["--patience", "0", *arguments], Edges(str(self.folder), self.run))

    def text(self, name: str) -> str:
        """A file that the watch wrote, or ""."""
        path = self.folder / name.lstrip("/")
        return path.read_text(encoding="utf-8") if path.exists() else ""


class Beside(Machine):
    """A host without a driver or a generation, on which VirtualBox was installed alone."""

    def __init__(self, folder: Path) -> None:
        """Write it."""
        super().__init__(folder)
        found = beside(beside_host())
        (folder / "opt/gpuhost/current").unlink()
        shutil.rmtree(str(folder / "opt/gpuhost/generations"))
        (folder / "opt/gpuhost/state/driver.json").unlink()
        (folder / "proc/driver/nvidia/version").unlink()
        self.put("/opt/gpuhost/state/virtualbox.json", json.dumps(found["record"]))
        self.put("/opt/gpuhost/state/guard.json", '{"kernel": null}')
        self.put(watch_read.rules.PREFERENCES, "")
        self.put("/proc/modules", "vboxdrv 1 0 - Live 0x0\n")
        self.put("/sys/module/vboxdrv/version", "5.2.42_Ubuntu r137960 (0x00290008)\n")
        self.version = "5.2.42_Ubuntu r137960 (0x00290008)"
        self.packages = dict(found["record"]["packages"])
        self.held = set(self.packages)
        self.asked: Set[str] = set()

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """The same, noting what is asked."""
        self.asked.add(argv[0])
        return super().run(argv, timeout)


def test_virtualbox_alone_is_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its guard and the watch's own word are nothing that is left of a stack; neither it nor DKMS is started."""
    host = Beside(tmp_path)
    assert (host.look(), host.look()) == (0, 0) and host.text(watch_read.MOTD) == ""
    assert host.asked == {"dpkg", "dpkg-query", "modinfo"}
    host.packages["virtualbox"] = "6.1.50-dfsg-1"
    assert host.look() == 1
    assert "virtualbox.one: virtualbox is 6.1.50-dfsg-1" in host.text(watch_read.MOTD)
    host.packages["virtualbox"] = PACKAGED
    assert host.look() == 0
    host.put("/opt/gpuhost/state/guard.json", '{"kernel": "5.4.0-150-generic"}')
    assert host.look() == 1 and "lock.provisioned" in host.text(watch_read.MOTD)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A host that is well."""
    return Machine(tmp_path)


def test_broken_and_mended(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Said everywhere while it lasts, and gone when it is over."""
    assert machine.look() == 0
    assert machine.text(watch_read.MOTD) == "" and "<6>gpuhost: ok" in capsys.readouterr().out
    assert "gpuhost_watch_ok 1" in machine.text(f"/opt/gpuhost/{watch_run.METRICS}")
    machine.packages.update(NEWER)
    assert machine.look() == 1
    told = machine.text(watch_read.MOTD)
    assert "driver.installed: libnvidia-compute-525 is 525.147.05" in told and "./run pytest verify/" in told
    assert "<3>gpuhost: THE GPU STACK OF THIS HOST IS BROKEN" in capsys.readouterr().out
    assert 'check="driver.installed"' in machine.text(f"/opt/gpuhost/{watch_run.METRICS}")
    state = json.loads(machine.text("/opt/gpuhost/state/watch.json"))
    assert (state["status"], [f["id"] for f in state["findings"]]) == ("broken", ["driver.installed"])
    machine.packages["libnvidia-compute-525"] = machine.seen["machine"]["installed"]["guard"]["stack"][
        "libnvidia-compute-525"
    ]
    assert machine.look() == 0
    assert machine.text(watch_read.MOTD) == ""
    assert sorted(p.name for p in (machine.folder / "opt/gpuhost/state").glob("*watch*")) == [
        "gpuhost_watch.prom",
        "watch.json",
    ]


@pytest.mark.parametrize("command", ["dpkg-query", "modinfo"])
def test_a_watch_that_cannot_see_says_so(machine: Machine, command: str) -> None:
    """It is not told that everything is gone, nor that all is well."""
    machine.broken = (command,)
    assert machine.look() == 4
    assert "CANNOT BE READ" in machine.text(watch_read.MOTD) and f"{command}: " in machine.text(watch_read.MOTD)


def test_without_sysfs_it_says_so(machine: Machine) -> None:
    """No card can be looked for."""
    (machine.folder / "sys/bus/pci/devices").rename(machine.folder / "gone")
    assert machine.look() == 4


def test_a_disk_that_takes_nothing_is_told(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the journal, with an exit status of its own; the finding before it counts more."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watch_run.files, "write_whole", full)
    assert machine.look() == 4
    assert "state/watch.json cannot be written: No space left on device" in capsys.readouterr().out
    machine.held.clear()
    assert machine.look() == 1


def test_it_waits_for_a_dpkg_that_works_and_does_not_stand_in_its_way(machine: Machine) -> None:
    """A lock that another process holds is seen, by asking only."""
    lock = machine.folder / "var/lib/dpkg/lock-frontend"
    machine.put("/var/lib/dpkg/lock-frontend", "")
    assert not watch_run.is_locked(lock)
    program = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        holder.stdout.readline()
        assert watch_run.is_locked(lock)
        holder.stdin.close()
    assert not watch_run.is_locked(lock)
    with lock.open("w") as handle:  # what apt does: it must get the lock at once
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_packages_that_change_while_it_looks_are_looked_at_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run of apt, while the first one's is being judged, asks systemd in vain."""
    turns: List[int] = []

    def run(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        if argv[0] == "dpkg-query" and not turns:
            turns.append(1)
            answer = machine.run(argv, timeout)
            machine.packages.update(NEWER)
            status = machine.folder / "var/lib/dpkg/status"
            os.utime(str(status), (1, 1))
            return answer
        return machine.run(argv, timeout)

    assert watch_run.main(["--patience", "0"], Edges(str(machine.folder), run)) == 1


#: Starts the program's own main over a machine of files; what commands would say stands in a file.
START = """
import json, sys
sys.path.insert(0, sys.argv[1])
from gpuhost.host.watch import run as watch_run
from gpuhost.host.edges import Edges
said = json.load(open(sys.argv[3]))
sys.exit(watch_run.main(["--patience", "0"], Edges(sys.argv[2], lambda argv, timeout: tuple(said[argv[0]]))))
"""


def test_the_program_runs_by_itself(machine: Machine, tmp_path: Path) -> None:
    """As the tree that the role puts into the store, under 3.6 where there is one."""
    made = tree.watch()
    folder = tmp_path / "program"
    said = {name: machine.run([name], 0) for name in ("dpkg", "dpkg-query", "modinfo", "apt-cache")}
    for name, text in made["files"].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    pythons = [sys.executable] + [p for p in [os.environ.get("GPUHOST_OLD_PYTHON")] if p]
    for python in pythons:
        argv = [python, "-I", "-B", str(folder / "gpuhost-watch.py"), "--help"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "") and "--patience" in done.stdout
        words = [str(folder), str(machine.folder), str(tmp_path / "said.json")]
        for word, code in (("hold", 0), ("install", 1)):
            (tmp_path / "said.json").write_text(json.dumps(said).replace("hold", word), encoding="utf-8")
            argv = [python, "-I", "-B", "-c", START, *words]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (code, "")
        assert "guard.holds: not on hold" in done.stdout
    assert not [name for name in made["files"] if "__pycache__" in name]
    assert not list(folder.rglob("__pycache__"))
