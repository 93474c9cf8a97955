"""The host's side of an update that a boot proves: boot loader, modprobe, systemd, the verdict and the record."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import pytest

from gpuhost.errors import EnvironmentProblem, RefusedError
from gpuhost.host import commands
from gpuhost.host.driver.apt import Apt
from gpuhost.host.driver.set import Machine
from gpuhost.host.edges import Edges
from gpuhost.host.pairs import ask, blocking, install, judge, keep, loader, look, restart, run
from gpuhost.host.probe.machine import read_kernel
from gpuhost.host.work import Work
from gpuhost.shipping import tree

Json = Dict[str, Any]
ROOT = "/opt/gpuhost"
OLD, NEW = "6.1.0-30-amd64", "6.1.0-31-amd64"
DISK = "5e0b1c3e-ffff"
EDITENV = Path(__file__).parents[1] / "e2e/beds/standins/grub-editenv"
DRIVER = {"source": "archive", "version": "550.1", "package_version": "550.1-1", "branch": "550"}


def menu(default: str, kernels: Sequence[str], submenu: bool = True) -> str:
    """A grub.cfg in the form of Debian's 10_linux: the newest kernel at the top, all below, each with its recovery."""
    rows = [
        'if [ "${next_entry}" ] ; then',
        '   set default="${next_entry}"',
        "else",
        f'   set default="{default}"',
        "fi",
    ]
    entry = "menuentry '{}' --class debian $menuentry_id_option '{}' {{\n\tlinux\t/boot/vmlinuz-{} root=UUID=x ro\n}}"
    inner = []
    for kernel in kernels:
        title = f"Debian GNU/Linux, with Linux {kernel}"
        inner.append(entry.format(title, f"gnulinux-{kernel}-advanced-{DISK}", kernel))
        inner.append(entry.format(f"{title} (recovery mode)", f"gnulinux-{kernel}-recovery-{DISK}", kernel))
    if submenu:
        rows.append(entry.format("Debian GNU/Linux", f"gnulinux-simple-{DISK}", kernels[0]))
        rows.append(f"submenu 'Advanced options > all' $menuentry_id_option 'gnulinux-advanced-{DISK}' {{")
        inner.append("}")
    return "\n".join([*rows, *inner]) + "\n"


class Host:
    """A root of files with GRUB's programs; what else is asked for is noted, and answered by `said`."""

    def __init__(self, folder: Path) -> None:
        """GRUB with two kernels, of which the newest is the default."""
        self.folder, self.calls = folder, []  # type: ignore[var-annotated]
        self.said: Dict[str, Tuple[int, str, str]] = {}
        self.fs, self.abstraction, self.kernels, self.submenu = "ext2", "", [NEW, OLD], True
        self.edges = Edges(str(folder), self.run)
        self.put("/proc/sys/kernel/osrelease", OLD + "\n")
        self.put("/proc/sys/kernel/random/boot_id", "1\n")
        self.put("/etc/default/grub", 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX="quiet"\n')
        for kernel in (OLD, NEW):
            self.put(f"/lib/modules/{kernel}/modules.dep", "")
            for name in ("vmlinuz", "initrd.img"):
                self.put(f"/boot/{name}-{kernel}", "x")
        self.make_menu()

    def put(self, name: str, text: str) -> None:
        """Write a file."""
        path = self.folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def text(self, name: str) -> str:
        """Read one."""
        return (self.folder / name.lstrip("/")).read_text()

    def make_menu(self) -> None:
        """update-grub."""
        saved = "GRUB_DEFAULT=saved" in (self.edges.text(loader.SETTINGS) or "")
        self.put(loader.MENU, menu("${saved_entry}" if saved else "0", self.kernels, self.submenu))

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """A command."""
        if argv[0] == "grub-editenv":
            return commands.run_command([sys.executable, str(EDITENV), *argv[1:]], timeout)
        if argv[0] == "grub-probe":
            return 0, (self.fs if argv[1].endswith("=fs") else self.abstraction) + "\n", ""
        self.calls.append(" ".join(argv))
        if argv[0] == "update-grub":
            self.make_menu()
        return next((said for start, said in self.said.items() if " ".join(argv).startswith(start)), (0, "", ""))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that nothing was done on."""
    return Host(tmp_path)


@pytest.fixture
def grub(host: Host) -> loader.Grub:
    """Its boot loader."""
    found = loader.loader(host.edges)
    assert isinstance(found, loader.Grub)
    return found


class TestGrub:
    """The default entry and the one for one boot, in the environment block."""

    def test_the_menu_is_made_to_obey_the_block(self, host: Host, grub: loader.Grub) -> None:
        """Once, with a kernel that panics restarting; the second time nothing is written."""
        assert grub.chosen() == loader.Choice(NEW, None)
        grub.set_up(OLD)
        assert grub.chosen() == loader.Choice(OLD, None)
        assert grub.obeys() and "panic=30" in host.text(loader.SETTINGS)
        grub.set_up(OLD)
        assert host.calls == ["update-grub"]

    def test_a_host_that_says_itself_what_a_panic_does(self, host: Host, grub: loader.Grub) -> None:
        """Keeps its own word, and the word of this file is not taken for the host's own."""
        host.put("/etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet panic=5"\n')
        assert "panic=30" not in grub.settings()
        host.put("/etc/default/grub", 'GRUB_CMDLINE_LINUX="kernel.panic=5"\n')
        host.put(loader.SETTINGS, grub.settings())
        assert "panic=30" in grub.settings()

    @pytest.mark.parametrize("submenu", [True, False], ids=["submenu", "flat"])
    def test_both_choices_and_one_after_the_other(self, host: Host, grub: loader.Grub, submenu: bool) -> None:
        """By ids that name the kernel, never by the top entry, which is any kernel's; recovery is nobody's choice."""
        host.submenu = submenu
        grub.set_up(OLD)
        grub.choose(OLD, NEW)
        assert grub.chosen() == loader.Choice(OLD, NEW)
        block = host.text(loader.BLOCK)
        assert len(block) == 1024 and f"gnulinux-{OLD}-advanced" in block and "recovery" not in block
        assert ("all>" in block or "advanced-5e0b1c3e-ffff>" in block) == submenu
        grub.choose(NEW)
        assert grub.chosen() == loader.Choice(NEW, None)

    def test_a_block_that_a_power_cut_has_damaged_is_made_again(self, host: Host, grub: loader.Grub) -> None:
        """grub-editenv empties the file first; GRUB takes the newest kernel then."""
        host.put(loader.BLOCK, "# GRUB")
        grub.choose(OLD)
        assert grub.chosen() == loader.Choice(OLD, None)

    def test_a_write_that_fails_leaves_the_block_as_it_was(
        self, host: Host, grub: loader.Grub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The two choices are one file, which takes its name when it is whole."""
        grub.choose(OLD)
        before = host.text(loader.BLOCK)
        monkeypatch.setattr(loader.files, "write_whole", raising(loader.files.write_whole, host.folder))
        with pytest.raises(OSError, match="power"):
            grub.choose(NEW, OLD)
        assert host.text(loader.BLOCK) == before

    def test_other_variables_of_the_block_stay(self, host: Host, grub: loader.Grub) -> None:
        """Such as recordfail."""
        grub.choose(OLD)
        host.run(["grub-editenv", str(host.folder / loader.BLOCK[1:]), "set", "recordfail=1"], 9.0)
        grub.choose(NEW)
        assert "recordfail=1" in host.text(loader.BLOCK)

    @pytest.mark.parametrize(
        ("fs", "abstraction", "timeout", "why"),
        [
            ("btrfs", "", "5", "btrfs"),
            ("zfs", "", "5", "zfs"),
            ("squash4", "", "5", "squash4"),
            ("ext2", "lvm", "5", "cannot write to lvm"),
            ("ext2", "diskfilter mdraid1x", "5", "diskfilter and mdraid1x"),
            ("ext2", "cryptodisk luks", "5", "cryptodisk and luks"),
            ("ext2", "", "-1", "waits for a key"),
            ("ext2", "", "5", ""),
            ("fat", "", "0", ""),
            ("xfs", "", "5", ""),
        ],
    )
    def test_where_an_entry_cannot_be_started_once(
        self, host: Host, grub: loader.Grub, fs: str, abstraction: str, timeout: str, why: str
    ) -> None:
        """By the words of grub-probe, as Debian's and Ubuntu's own scripts ask it."""
        host.fs, host.abstraction = fs, abstraction
        host.put("/etc/default/grub", f"GRUB_TIMEOUT={timeout}\n")
        said = grub.refusal()
        assert bool(said) == bool(why) and why in said

    def test_a_menu_that_does_not_obey_is_left_as_it_was(self, host: Host, grub: loader.Grub) -> None:
        """Settings of a later name, or a menu by hand."""
        host.make_menu = lambda: None  # type: ignore[method-assign]
        with pytest.raises(RefusedError, match="Nothing was changed"):
            grub.set_up(OLD)
        assert not host.edges.exists(loader.SETTINGS)

    def test_taken_down_the_newest_boots_again(self, host: Host, grub: loader.Grub) -> None:
        """Without a trace in the settings and the block."""
        grub.set_up(OLD)
        grub.choose(OLD, NEW)
        grub.take_down()
        assert grub.chosen() == loader.Choice(NEW, None) and "entry" not in host.text(loader.BLOCK)

    def test_a_kernel_without_an_entry(self, grub: loader.Grub) -> None:
        """Is not chosen."""
        with pytest.raises(EnvironmentProblem, match="no entry for kernel 5"):
            grub.choose(OLD, "5.10.0-1-amd64")


def raising(write: Callable[..., None], below: Path) -> Callable[..., None]:
    """files.write_whole, for which the power goes below a folder."""

    def cut(path: Path, *args: Any) -> None:
        """Write elsewhere."""
        if below in path.parents:
            raise OSError("the power went")
        write(path, *args)

    return cut


class TestSystemdBoot:
    """The same by bootctl, whose variables stand in the firmware."""

    @pytest.fixture
    def boot(self, host: Host) -> loader.SystemdBoot:
        """A host that it has started."""
        self.set(host, "LoaderInfo", "systemd-boot 252")
        for kernel in (OLD, NEW):
            host.put(f"/boot/loader/entries/abc-{kernel}.conf", f"title Debian\nversion {kernel}\nlinux /abc/linux\n")
        found = loader.loader(host.edges)
        assert isinstance(found, loader.SystemdBoot)
        return found

    def set(self, host: Host, name: str, value: str) -> None:
        """Set a variable."""
        path = host.folder / loader.variable.__globals__["variable_path"](name)[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x06\0\0\0" + (value + "\0").encode("utf-16-le"))

    def test_the_default_is_set_before_what_boots_once(self, host: Host, boot: loader.SystemdBoot) -> None:
        """A power cut in between leaves the old kernel to boot."""
        boot.choose(OLD, NEW)
        boot.choose(NEW)
        assert host.calls == [
            f"bootctl set-default abc-{OLD}.conf",
            f"bootctl set-oneshot abc-{NEW}.conf",
            f"bootctl set-default abc-{NEW}.conf",
            "bootctl set-oneshot ",
        ]

    def test_what_is_chosen(self, host: Host, boot: loader.SystemdBoot) -> None:
        """By the variables, else by the settings."""
        assert boot.chosen() == loader.Choice(None, None)
        host.put("/boot/loader/loader.conf", "default *30-amd64.conf\n")
        assert boot.chosen() == loader.Choice(OLD, None)
        self.set(host, "LoaderEntryDefault", f"abc-{NEW}.conf")
        self.set(host, "LoaderEntryOneShot", f"abc-{OLD}.conf")
        assert boot.chosen() == loader.Choice(NEW, OLD)

    def test_an_older_bootctl(self, host: Host, boot: loader.SystemdBoot) -> None:
        """Ubuntu 18.04's has no such word."""
        host.said["bootctl --help"] = 0, "install update remove", ""
        assert "cannot set an entry for one boot" in boot.refusal()
        host.said["bootctl --help"] = 0, "set-default set-oneshot", ""
        assert boot.refusal() == ""


def test_no_boot_loader_that_is_known(host: Host) -> None:
    """Is none."""
    (host.folder / loader.MENU[1:]).unlink()
    assert loader.loader(host.edges) is None


class TestBlocking:
    """A new driver is loaded by the judge, and by nothing before it."""

    def test_the_file_says_no_to_each_name_of_the_driver(self, host: Host) -> None:
        """Debian's, which redirects from the one to the other, and Ubuntu's."""
        blocking.block(host.edges)
        assert blocking.is_blocked(host.edges)
        assert {"install nvidia /bin/false", "install nvidia-current /bin/false"} <= set(
            host.text(blocking.BLOCK).split("\n")
        )
        blocking.unblock(host.edges)
        assert not blocking.is_blocked(host.edges)

    def test_the_judge_loads_it_past_the_file(self, host: Host) -> None:
        """With every other word of modprobe's configuration."""
        seen: List[Dict[str, str]] = []

        def told(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
            """modprobe."""
            seen.append({path.name: path.read_text() for path in Path(argv[2]).iterdir()})
            return 1, "", "modprobe: ERROR: could not insert 'nvidia': No such device"

        blocking.block(host.edges)
        host.put("/etc/modprobe.d/b.conf", "options nvidia a=1\n")
        host.put("/lib/modprobe.d/a.conf", "blacklist nouveau\n")
        assert "No such device" in blocking.load(Edges(str(host.folder), told))
        assert [text for _, text in sorted(seen[0].items())] == ["blacklist nouveau\n", "options nvidia a=1\n"]

    def test_modprobe_itself_takes_the_first_of_two(self, tmp_path: Path) -> None:
        """The real one: a redirection of the distribution's comes after this file's name and does not count."""
        (tmp_path / Path(blocking.BLOCK).name).write_text(blocking.text())
        (tmp_path / "nvidia.conf").write_text("install nvidia modprobe -i nvidia-current\n")
        argv = ["modprobe", "-C", str(tmp_path), "--show-config"]
        try:
            shown = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        except FileNotFoundError:
            pytest.skip("there is no modprobe")
        lines = [line for line in shown.splitlines() if line.startswith("install nvidia ")]
        assert lines and lines[0] == "install nvidia /bin/false"


CARD = {"name": "P2000", "capability": "6.1", "error": None}
COMPUTES: Json = {
    "library": "/usr/lib/libcuda.so.1", "error": None, "ended": None, "version": "12.4", "count": 1,
    "init": {"code": 0, "name": "CUDA_SUCCESS", "text": ""}, "counted": {"code": 0, "name": "", "text": ""},
    "devices": [CARD],
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ({}, ""),
        (
            {"init": {"code": 999, "name": "CUDA_ERROR_UNKNOWN", "text": ""}, "counted": None, "count": None},
            "cuInit gave 999",
        ),
        ({"counted": {"code": 100, "name": "", "text": "no CUDA-capable device"}, "count": None}, "no CUDA-capable"),
        (
            {"library": None, "error": "libcuda.so.1: cannot open", "init": None, "counted": None, "count": None},
            "cannot open",
        ),
        ({"ended": "CUDA gave no answer within 60 s", "counted": None, "count": None}, "no answer"),
        ({"count": 1, "cards": 2}, "sees 1 of 2 cards"),
        ({"count": 1, "cards": 2, "mig": True}, ""),
        ({"count": 0, "devices": [], "cards": 2, "mig": True}, "sees none of 2 cards"),
        ({"devices": [{**CARD, "error": "cuMemAlloc_v2: 2"}]}, "P2000: cuMemAlloc"),
    ],
)
def test_what_cuda_says(more: Json, wrong: str) -> None:
    """Nothing but an answer that each card has computed is right."""
    answer = {**COMPUTES, **{name: value for name, value in more.items() if name not in ("cards", "mig")}}
    said = look.cuda(answer, more.get("cards", 1), more.get("mig", False))
    assert bool(said) == bool(wrong) and wrong in said


def test_two_cards_with_mig_enabled(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program sees one instance of all that there are: a right update of such a host is kept."""
    uuids = {"00000000:01:00.0": "GPU-1", "00000000:02:00.0": "GPU-2"}
    rows = "".join(f"{address}, {uuid}, Enabled\n" for address, uuid in uuids.items())
    lines = "".join(f"GPU 0: A100 (UUID: {uuid})\n  MIG 1g.5gb Device 0: (UUID: MIG-1)\n" for uuid in uuids.values())
    monkeypatch.setattr(look.probe_cuda, "cuda", lambda _: COMPUTES)
    host.said["nvidia-smi"] = (9, "", "no such field")
    assert "sees 1 of 2 cards" in look.answered(host.edges, ROOT, 2, 0.0)
    monkeypatch.setattr(host, "run", lambda argv, _: (0, lines if argv == ["nvidia-smi", "-L"] else rows, ""))
    assert look.answered(Edges(str(host.folder), host.run), ROOT, 2, 0.0) == ""


def test_an_environment_that_sees_no_card(host: Host) -> None:
    """Is told with its last word; one that is not there is not asked."""
    python = f"{ROOT}/current/venvs/opencv_cuda/bin/python"
    assert look.environments(host.edges, ROOT, 0.0) == ""
    host.put(python, "")
    for said, wrong in (
        ((0, "1\n", ""), ""),
        ((0, "0\n", ""), "(0)"),
        ((1, "", "a\nImportError: libcublas\n"), "libcublas"),
    ):
        host.said[str(host.folder / python[1:])] = said
        assert wrong in look.environments(host.edges, ROOT, 0.0)
        assert bool(look.environments(host.edges, ROOT, 0.0)) == bool(wrong)


def test_the_verdict_takes_the_running_kernel_for_the_one_that_boots(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a pair is on trial the default is another; and what the guard and the service lack is not its matter."""
    seen = {"generation": 1, "running": NEW, "driver": {"kernel": OLD, "module": None}}
    monkeypatch.setattr(look, "read", lambda edges, root, with_service: dict(seen))
    monkeypatch.setattr(look, "module_for", lambda edges, kernel: {"of": kernel})
    assert look.as_it_runs(host.edges, ROOT)["driver"] == {"kernel": NEW, "module": {"of": NEW}}
    found = [look.watch.Finding("guard.holds", "a"), look.watch.Finding("driver.match", "b")]
    monkeypatch.setattr(look.watch, "look", lambda *_: look.watch.State("broken", found))
    monkeypatch.setattr(look, "cards_of", lambda *_: 0)
    assert look.verdict(host.edges, ROOT, 0.0) == "driver.match: b"
    monkeypatch.setattr(look.watch, "look", lambda *_: look.watch.State("broken", found[:1]))
    assert look.verdict(host.edges, ROOT, 0.0) == ""


def test_cuda_makes_the_device_nodes_before_they_are_looked_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host without a display nothing else has by then; what it answers counts only when all else is right."""
    asked: List[str] = []
    answers = iter([{**COMPUTES, "count": 0}, COMPUTES])
    monkeypatch.setattr(look, "cards_of", lambda *_: 1)
    monkeypatch.setattr(look.probe_cuda, "cuda", lambda _: asked.append("cuda") or next(answers))
    monkeypatch.setattr(look, "seen", lambda *_: asked.append("seen") or "")
    assert look.verdict(host.edges, ROOT, 0.0) == ""
    assert asked == ["cuda", "seen", "cuda"]


def test_cuda_that_finds_its_instances_later(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """MIG's instances are made by a service of the boot, which may come after the judgement has begun."""
    answers = [{**COMPUTES, "count": 0}, COMPUTES]
    monkeypatch.setattr(look.probe_cuda, "cuda", lambda _: answers.pop(0))
    monkeypatch.setattr(look, "_PAUSE_S", 0.01)
    assert look.answered(host.edges, ROOT, 1, 30.0) == "" and answers == []
    answers[:] = [{**COMPUTES, "count": 0}]
    assert "sees none of 1 cards" in look.answered(host.edges, ROOT, 1, 0.0)


class TestInstall:
    """Service, deadline and watchdog."""

    def test_it_is_put_on_once_and_taken_away(self, host: Host) -> None:
        """With its programs of before; what hangs is told."""
        for name in ("pairs-1-a", "pairs-1-b"):
            (host.folder / "opt/gpuhost/store" / name).mkdir(parents=True)
        host.said["systemctl is-enabled"] = 1, "", ""
        done = install.present(host.edges, ROOT, "pairs-1-b", False)
        assert done.changed and "waits for a hand" in done.told
        assert not (host.folder / "opt/gpuhost/store/pairs-1-a").exists()
        unit = host.text(f"/etc/systemd/system/{install.SERVICE}")
        assert f"{ROOT}/store/pairs-1-b/{install.LAUNCHER} --root {ROOT}" in unit
        assert re.search("^Before=.* gpuhost-detect.service$", unit, re.MULTILINE)
        host.said["systemctl is-enabled"] = 0, "", ""
        assert not install.present(host.edges, ROOT, "pairs-1-b", False).changed
        host.put(install.WATCHDOG, "")
        assert "watchdog" in install.present(host.edges, ROOT, "pairs-1-b", False).told
        assert "RuntimeWatchdogSec" in host.text(install.MANAGER)
        keep.write(host.edges, ROOT, judge.fresh(pair(OLD), pair(NEW), "1"))
        assert install.absent(host.edges, ROOT, False).changed
        assert not install.absent(host.edges, ROOT, False).changed
        assert not any("pair" in path.name for path in (host.folder / "etc").rglob("*"))

    @pytest.mark.parametrize(
        ("state", "boot", "restarts"),
        [
            ("armed", "this", False),
            ("armed", "before", True),
            ("trying", "this", True),
            ("proved", "this", False),
            ("undone", "before", False),
            ("prepared", "before", False),
        ],
    )
    def test_the_deadline_restarts_what_nobody_has_judged(
        self, tmp_path: Path, state: str, boot: str, restarts: bool
    ) -> None:
        """And nothing else: an update that waits for its reboot, or is settled, is left alone."""
        this = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        record = {**judge.fresh(pair(OLD), pair(NEW), this if boot == "this" else "0"), "state": state}
        (tmp_path / "pair.json").write_text(json.dumps(record, indent=1, sort_keys=True))
        (tmp_path / "systemctl").write_text(f"#!/bin/sh\necho $@ >{tmp_path}/asked\n")
        (tmp_path / "systemctl").chmod(0o755)
        (tmp_path / "script").write_text(install.SCRIPT_TEXT)
        argv = ["sh", str(tmp_path / "script"), str(tmp_path / "pair.json")]
        subprocess.run(argv, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True, stdout=subprocess.DEVNULL)
        assert (tmp_path / "asked").exists() == restarts


def pair(kernel: str, driver: Optional[Json] = None) -> Json:
    """A pair as a record has it."""
    return {"kernel": kernel, "version": "550.1-1", **({"driver": driver} if driver else {})}


class TestAsked:
    """What the module answers."""

    @pytest.fixture(autouse=True)
    def machine(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """A host in order, with its driver in force."""
        stack = {"plan": {"driver": DRIVER, "gpus": []}}
        host.put(f"{ROOT}/generations/1/stack.json", json.dumps(stack))
        (host.folder / "opt/gpuhost/current").symlink_to("generations/1")
        boots = Machine("box", OLD, "debian", "disabled", OLD)
        for module in (ask, run):
            monkeypatch.setattr(module, "this_machine", lambda *_: boots)
        monkeypatch.setattr(look, "verdict", lambda *_: "")
        monkeypatch.setattr(ask.Setup, "differences", lambda _: [])

    def asked(self, host: Host, check: bool = False, **more: Any) -> ask.Asked:
        """One call; its root is the host's."""
        params = {
            "root": ROOT, "name": "pairs-1-a", "driver": DRIVER, "again": False, "window": "",
            "kernel": {"release": NEW, "packages": {}},
        }  # fmt: skip
        found = ask.Asked({**params, **more}, host.edges, check)
        return found

    def test_prepared_then_armed(self, host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The old kernel is the default before anything else; the new one boots once; each may be asked again."""
        monkeypatch.setattr(ask.store, "changing", lambda *_: noop())
        grub = loader.Grub(host.edges)
        assert self.asked(host, check=True).prepared()["changed"] and not host.edges.exists(loader.SETTINGS)
        assert self.asked(host).prepared()["state"] == "prepared"
        assert grub.chosen() == loader.Choice(OLD, None)
        assert self.asked(host).armed()["state"] == "armed"
        assert grub.chosen() == loader.Choice(OLD, NEW)
        assert self.asked(host).prepared()["state"] == self.asked(host).armed()["state"] == "armed"
        assert self.asked(host).settled() == {"changed": False, "told": "", "state": "armed"}

    def test_refused_before_anything_is_changed(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """A boot loader that cannot, a present pair that is not right, a driver that could not be put back."""
        host.abstraction = "lvm"
        with pytest.raises(RefusedError, match=r"cannot write to lvm.*\n?.*without update_once"):
            self.asked(host).prepared()
        host.abstraction = ""
        monkeypatch.setattr(ask.look, "verdict", lambda *_: "driver.match: no")
        with pytest.raises(EnvironmentProblem, match="not right itself: driver"):
            self.asked(host).prepared()
        monkeypatch.setattr(ask.look, "verdict", lambda *_: "")
        monkeypatch.setattr(ask.Asked, "lacking", lambda *_: ["nvidia-driver"])
        with pytest.raises(RefusedError, match=r"nvidia-driver is not kept.*D05"):
            self.asked(host, driver={**DRIVER, "package_version": "550.2-1"}).prepared()
        assert self.asked(host).settled()["state"] == "" and not host.edges.exists(loader.SETTINGS)

    def test_a_new_pair_that_is_not_whole_is_not_armed(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """The module, its signature, the initramfs: before the reboot."""
        monkeypatch.setattr(ask.store, "changing", lambda *_: noop())
        self.asked(host).prepared()
        (host.folder / f"boot/initrd.img-{NEW}").write_text("")
        with pytest.raises(EnvironmentProblem, match=f"initrd.img-{NEW} is not there"):
            self.asked(host).armed()
        monkeypatch.setattr(ask.Setup, "differences", lambda _: ["D08: there is no NVIDIA module"])
        with pytest.raises(EnvironmentProblem, match="so it is not booted: D08"):
            self.asked(host).armed()
        assert loader.Grub(host.edges).chosen() == loader.Choice(OLD, None)

    def test_outside_the_hours_nothing_is_begun_and_nothing_is_tried(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was installed meanwhile is taken back, and it is no failed trial."""
        monkeypatch.setattr(ask.store, "changing", lambda *_: noop())
        said = {"why": "it is 14:00"}
        monkeypatch.setattr(ask.quiet, "outside", lambda *_: said["why"])
        monkeypatch.setattr(ask.quiet, "busy", lambda *_: [])
        with pytest.raises(EnvironmentProblem, match=r"14:00.*Nothing was changed"):
            self.asked(host, window="02:00-05:00").prepared()
        assert self.asked(host).settled()["state"] == ""
        said["why"] = ""
        assert self.asked(host, window="02:00-05:00").prepared()["state"] == "prepared"
        monkeypatch.setattr(ask.quiet, "busy", lambda *_: ["train computes on a card"])
        with pytest.raises(EnvironmentProblem, match=r"was not tried: train computes.*taken back"):
            self.asked(host, window="02:00-05:00").armed()
        record = keep.read(host.edges, ROOT) or {}
        assert (record["state"], record["armed"], record["recovered"]) == ("undone", False, True)
        assert loader.Grub(host.edges).chosen() == loader.Choice(OLD, None)
        assert self.asked(host).prepared()["state"] == "prepared"

    def test_a_controller_restarts_itself(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only what is armed, a minute later, with a mark for the next boot; without a way to restart, without it."""
        monkeypatch.setattr(ask.store, "changing", lambda *_: noop())
        monkeypatch.setattr(ask.Asked, "unquiet", lambda *_: "")
        mark = host.edges.path(f"{ROOT}/{restart.MARK}")
        self.asked(host).prepared()
        assert not self.asked(host).restarting()["changed"] and not mark.exists()
        self.asked(host).armed()
        assert self.asked(host, check=True).restarting()["changed"] and not mark.exists()
        host.said["shutdown"] = (1, "", "Failed to talk to init daemon.")
        with pytest.raises(EnvironmentProblem, match=r"shutdown -r failed: Failed to talk.*\n?.*Reboot this host"):
            self.asked(host).restarting()
        assert not mark.exists()
        host.said["shutdown"] = (0, "", "")
        assert "restarts in a minute" in self.asked(host).restarting()["told"] and mark.exists()
        assert host.calls[-1].startswith("shutdown -r +1 ")

    def test_a_controller_that_is_in_use_by_then_is_not_restarted(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is armed is taken back, and may be tried the next night."""
        monkeypatch.setattr(ask.store, "changing", lambda *_: noop())
        monkeypatch.setattr(ask.quiet, "outside", lambda *_: "")
        monkeypatch.setattr(ask.quiet, "busy", lambda *_: [])
        self.asked(host).prepared()
        self.asked(host).armed()
        monkeypatch.setattr(ask.quiet, "busy", lambda *_: ["train computes on a card"])
        with pytest.raises(EnvironmentProblem, match=r"was not tried: train computes.*taken back"):
            self.asked(host, window="02:00-05:00").restarting()
        assert loader.Grub(host.edges).chosen() == loader.Choice(OLD, None)
        assert self.asked(host).prepared()["state"] == "prepared"

    def test_what_a_power_cut_left_unpacked_of_the_new_set_comes_first(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """apt, without an archive, does nothing beside a package that is half there."""
        done: List[Any] = []
        monkeypatch.setattr(run.store, "changing", lambda *_: noop())
        monkeypatch.setattr(run.hold, "hold", lambda *_: done.append("hold"))
        monkeypatch.setattr(run.Setup, "present", lambda _: done.append("present"))
        sets = {"abc": ["linux-image-2", "libc6", "linux-modules-nvidia-2", "nvidia-driver"]}
        monkeypatch.setattr(
            "gpuhost.host.driver.apt.Apt.members",
            lambda _, key: [{"name": name} for name in sets.get(key, ["libc6", "nvidia-driver"])],
        )
        for name in ("complete", "repair"):
            monkeypatch.setattr(f"gpuhost.host.driver.apt.Apt.{name}", lambda _, m: done.append([o["name"] for o in m]))
        machine = run.Machine(host.edges, str(tmp_path / "opt"), lambda _: None)
        record = judge.fresh(pair(OLD, DRIVER), {**pair(NEW), "set": "abc"}, "1")
        machine.restore(record)
        host.put("/opt/state/driver.pending", "{}")
        machine.restore(record)
        assert done == ["present", "hold", ["linux-image-2"], sets["abc"], "present", "hold"]

    def test_a_kernel_that_was_half_unpacked_is_unpacked_whole(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """All that is lacking at once, and nothing where none of it has come."""
        rows = {
            "linux-generic": {"version": "2", "state": "unpacked"},
            "linux-image-2": {"version": "2", "state": "half-installed"},
            "linux-headers-generic": {"version": "1", "state": "installed"},
        }
        done: List[Any] = []
        apt = Apt(tmp_path, "ubuntu", Work(tmp_path / "log", lambda _: None))
        monkeypatch.setattr(apt, "installed", lambda: rows)
        monkeypatch.setattr(apt, "cached", lambda _: tmp_path)
        monkeypatch.setattr(apt, "change", lambda argv, _: done.append([Path(word).name for word in argv]))
        members = [{"name": n, "version": "2", "sha256": n, "file": f"{n}.deb"} for n in (*rows, "linux-modules-2")]
        apt.complete(members)
        assert done == [["dpkg", "--unpack", *(f"{name}.deb" for name in (*list(rows)[1:], "linux-modules-2"))]]
        rows["linux-generic"]["version"] = "1"
        apt.complete(members)
        assert len(done) == 1

    def test_nothing_to_prove(self, host: Host) -> None:
        """Neither kernel nor driver changes: there is no record."""
        assert self.asked(host, kernel={"release": OLD, "packages": {}}).prepared()["state"] == ""
        with pytest.raises(EnvironmentProblem, match="was not prepared"):
            self.asked(host).armed()


class noop:
    """Nothing to wait for."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, *_: Any) -> None:
        """End."""


@pytest.mark.parametrize(
    "damaged", ["", "[]", "{}", json.dumps({**judge.fresh(pair(OLD), pair(NEW), "1"), "tries": "x"})]
)
def test_a_damaged_record_is_refused(host: Host, damaged: str) -> None:
    """With what to do; the program at boot says so and ends."""
    host.put(f"{ROOT}/{keep.RECORD}", damaged)
    with pytest.raises(EnvironmentProblem, match="is damaged"):
        keep.read(host.edges, ROOT)
    assert run.main(["--root", ROOT], host.edges) == install.UNKNOWN


def test_a_fault_of_the_program_is_not_taken_for_its_answer() -> None:
    """Python's own status, 1, is a service that failed."""
    unit = install.own_files(Edges("/nowhere", lambda *_: (1, "", "")), ROOT, "/x")[
        f"{install.UNITS}/{install.SERVICE}"
    ]
    line = next(one for one in unit.splitlines() if one.startswith("SuccessExitStatus="))
    assert line.partition("=")[2].split() == [str(install.UNDONE), str(install.UNKNOWN)] and "1" not in line


def test_the_probe_names_the_kernel_on_trial(host: Host) -> None:
    """And what became of it; a proved one is the kernel that boots, and a damaged record is a problem."""
    record = judge.fresh(pair(OLD), pair(NEW), "1")
    undone = judge.noted(record, judge.Step(judge.UNDO, "it hung"), "2")
    for content, told in ((record, ""), (undone, judge.told(undone))):
        keep.write(host.edges, ROOT, content)
        assert read_kernel(host.edges)["tried"] == {"kernel": NEW, "told": told}
    keep.write(host.edges, ROOT, judge.noted(record, judge.Step(judge.PROVE), "2"))
    assert "tried" not in read_kernel(host.edges) and host.edges.problems == []
    host.put(f"{ROOT}/{keep.RECORD}", "{}")
    assert "tried" not in read_kernel(host.edges) and "is damaged" in host.edges.problems[0]["error"]


def test_the_program_travels_whole(tmp_path: Path) -> None:
    """It starts from the store, isolated, with nothing beside it, and has nothing to do on a host without a record."""
    for name, text in tree.program("pairs")["files"].items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    argv = [sys.executable, "-I", "-B", str(tmp_path / install.LAUNCHER), "--root", str(tmp_path / "nothing")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
