"""VirtualBox on a host whose programs are played: what is read, judged, refused and undone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest

from gpuhost.errors import ArtifactError, EnvironmentProblem, RefusedError
from gpuhost.host.driver import key as module_key
from gpuhost.host.driver.packages import Change
from gpuhost.host.driver.set import ExactSet, Machine
from gpuhost.host.edges import Edges
from gpuhost.host.guard import rules
from gpuhost.host.probe import virtualbox as probe
from gpuhost.host.virtualbox import judge, packages
from gpuhost.host.virtualbox import setup as vbox_setup
from gpuhost.host.virtualbox import users as vbox_users
from gpuhost.host.virtualbox.setup import Setup
from gpuhost.host.virtualbox.users import OFF, Users
from gpuhost.host.work import Work

Json = Dict[str, Any]
KERNEL = "6.12.9-amd64"
V = "7.2.22-dfsg-2"
SUM = {name: letter * 64 for name, letter in zip(("virtualbox", "virtualbox-dkms", "virtualbox-qt"), "abc")}
HELD: Json = {
    "asked": "",
    "version": "7.2.22",
    "source": "archive",
    "package_version": V,
    "component": "contrib",
    "packages": [
        {"name": name, "version": V, "sha256": digest, "size": 1, "file": f"{name}_{V}_amd64.deb", "snapshot": None}
        for name, digest in SUM.items()
    ],
    "extension_pack": None,
    "unverified": [],
}
RUN: Json = {"asked": "6.0.24", "version": "6.0.24", "source": "runfile", "build": "139119", "extension_pack": None}
RUN.update(file={"name": "VirtualBox-6.0.24-139119-Linux_amd64.run", "url": "", "sha256": "d" * 64}, unverified=[])
#: As Debian's package and Oracle's program print it; the last with what is before it where nothing is loaded.
SAID = {
    "7.2.22_Debianr174877\n": "7.2.22",
    "6.0.24r139119\n": "6.0.24",
    "7.0.16_Ubuntur162802\n": "7.0.16",
    "WARNING: The vboxdrv kernel module is not loaded. Either there is no module\n"
    "         available for the current kernel (6.5.0-18-generic) or it failed to\n"
    "         load. Please recompile the kernel module and install it by\n\n"
    "           sudo /sbin/vboxconfig\n\n"
    "         You will not be able to start VMs until this problem is fixed.\n7.0.14r161095\n": "7.0.14",
    "VBoxManage: error: Failed to create the VirtualBox object!\n": "",
}


@pytest.mark.parametrize("said", SAID)
def test_the_program_says_its_release(said: str) -> None:
    """Behind the warning, too: that one names a kernel, which is not a release of VirtualBox."""
    assert packages.program_version(said) == SAID[said]


def test_a_module_says_its_release() -> None:
    """As modinfo prints the field `version`."""
    assert packages.release_of("7.0.16_Ubuntu r162802 (0x00330004)") == "7.0.16"
    assert packages.release_of("") == ""


def test_what_apt_is_asked_for_is_exact() -> None:
    """Each package at its version, the headers of the kernel that will boot, and windows where wanted."""
    words = [f"virtualbox={V}", f"virtualbox-dkms={V}", f"linux-headers-{KERNEL}"]
    assert packages.wanted_names(HELD, KERNEL, False) == words
    assert packages.wanted_names(HELD, KERNEL, True) == [*words[:2], f"virtualbox-qt={V}", words[2]]
    assert {"bzip2", "dkms", f"linux-headers-{KERNEL}"} <= set(packages.wanted_names(RUN, KERNEL, True))


@pytest.mark.parametrize(
    ("install", "remove", "words"),
    [
        ([Change("virtualbox", "7.2.24-dfsg-1", "", ("Debian",))], [], "(D04)"),
        ([Change("virtualbox", V, "", ("Oracle Corporation",))], [], "(D06)"),
        ([Change("virtualbox", V, "", ())], [], "no archive"),
        ([Change("linux-image-6.19.1-amd64", "6.19.1-1", "", ("Debian",))], [], "another kernel"),
        ([Change("libnvidia-compute-525", "525", "", ("Debian",))], [], "a driver"),
        ([], [Change("nvidia-driver", "", "535", ())], "would remove nvidia-driver"),
        ([], [Change("desktop", "", "1", ())], "would remove desktop"),
    ],
)
def test_what_is_not_the_locked_one_is_refused(install: Any, remove: Any, words: str) -> None:
    """Another version or origin, a kernel, a driver, and whatever would go for it."""
    assert any(words in text for text in packages.refusals(install, remove, HELD, "debian"))


def test_the_locked_one_is_not_refused() -> None:
    """With a library that it needs, of the distribution's own archive."""
    install = [Change(n, V, "", ("Debian",)) for n in SUM] + [Change("liblzf1", "3.6-4", "", ("Debian",))]
    assert packages.refusals(install, [], HELD, "debian") == []
    assert packages.wrong_sums({("virtualbox", V): {"sha256": "e" * 64, "file": "v.deb"}}, HELD)
    assert not packages.wrong_sums({("virtualbox", V): {"sha256": "a" * 64, "file": "v.deb"}}, HELD)


# What is judged


def module(release: str = "7.2.22", signer: str = "", signed: Optional[bool] = False) -> Json:
    """A module as the probe reads it."""
    return {"path": f"/lib/modules/{KERNEL}/updates/dkms/x.ko", "release": release, "signed": signed, "signer": signer}


def state(**changes: Any) -> Json:
    """A host where all is as it should be."""
    found: Json = {
        "record": {"version": "7.2.22", "packages": dict.fromkeys(SUM, V), "joined": []},
        "kernel": KERNEL,
        "modules": {name: module() for name in packages.MODULES},
        "headers": True,
        "loaded": "7.2.22",
        "program": "7.2.22",
        "packagings": [f"virtualbox {V}", f"virtualbox-dkms {V}"],
        "dkms": [],
        "device": {"mode": 0o600, "uid": 0, "gid": 0},
        "members": [],
        "kvm": {"loaded": [], "at_load": None},
        "key": {"made": False, "enrolled": None},
    }
    return {**found, **changes}


@pytest.mark.parametrize(
    ("changes", "secure_boot", "diagnosis", "words"),
    [
        ({}, "disabled", None, ""),
        ({"modules": {n: None for n in packages.MODULES}}, "disabled", "D52", "dkms autoinstall -k"),
        ({"modules": {n: None for n in packages.MODULES}, "headers": False}, "disabled", "D52", "linux-headers-6.12.9"),
        (
            {"modules": {n: None for n in packages.MODULES}, "dkms": [f"vboxhost/6.0.24, {KERNEL}, x86_64: installed"]},
            "disabled",
            "D52",
            f"  dkms install --force vboxhost/6.0.24 -k {KERNEL}\n",
        ),
        ({"modules": {n: module("7.2.20") for n in packages.MODULES}}, "disabled", "D54", "vboxdrv is 7.2.20"),
        ({"program": "7.1.0"}, "disabled", "D54", "VBoxManage is 7.1.0"),
        ({"program": None}, "disabled", "D54", "VBoxManage is not there"),
        ({}, "enabled", "D53", "signed by nobody"),
        ({"modules": {n: module(signer="us", signed=True) for n in packages.MODULES}}, "enabled", None, ""),
        ({"modules": {n: module(signer="DKMS", signed=True) for n in packages.MODULES}}, "lockdown", "D53", "DKMS"),
        ({"packagings": [f"virtualbox {V}", "virtualbox-7.2 7.2.20-1"]}, "disabled", "D56", "in two ways"),
        ({"packagings": [f"virtualbox {V}", "Oracle's installer in /opt/VirtualBox"]}, "disabled", "D56", "Oracle's"),
    ],
)
def test_one_defect_is_one_need(changes: Json, secure_boot: str, diagnosis: Optional[str], words: str) -> None:
    """In causal order: what is missing is not also of another release, or unsigned."""
    needs = judge.unready(state(**changes), HELD, secure_boot, "us" if secure_boot != "disabled" else "")
    assert [need.diagnosis for need in needs] == ([diagnosis] if diagnosis else [])
    assert words in judge.told(needs)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (f"virtualbox/7.2.22, {KERNEL}, x86_64: installed", "dkms install --force virtualbox/7.2.22 -k"),
        (f"virtualbox/7.2.22, {KERNEL}, x86_64: installed (Differences between built", "dkms install --force"),
        (f"virtualbox, 5.2.42, {KERNEL}, x86_64: installed", "dkms install --force virtualbox/5.2.42 -k"),
        ("virtualbox/7.2.22, 6.13.1-amd64, x86_64: installed", "dkms autoinstall -k"),
        (f"virtualbox/7.2.22, {KERNEL}, x86_64: built", "dkms autoinstall -k"),
        ("virtualbox/7.2.22: added", "dkms autoinstall -k"),
    ],
)
def test_what_dkms_holds_for_installed_is_installed_again_by_name(line: str, command: str) -> None:
    """`autoinstall` passes it over, though its files are gone; the role runs the command that is printed."""
    assert " ".join(judge.building([line], KERNEL)).startswith(command)


@pytest.mark.parametrize(
    ("program", "kernel", "kvm", "stands"),
    [
        ("6.0.24", "5.4.0-150-generic", {"loaded": ["kvm_intel"], "at_load": None}, False),
        ("7.0.16", "6.14.0-24-generic", {"loaded": ["kvm_amd"], "at_load": True}, True),
        ("7.0.16", "6.14.0-24-generic", {"loaded": ["kvm_amd"], "at_load": False}, False),
        ("7.0.16", "6.14.0-24-generic", {"loaded": [], "at_load": True}, False),
        ("7.2.22", "6.12.9-amd64", {"loaded": ["kvm_intel"], "at_load": True}, True),
        ("7.2.22", "7.0.0-31-generic", {"loaded": ["kvm_intel"], "at_load": True}, False),
        ("7.1.12", "6.16.3-arch1-1", {"loaded": ["kvm_intel"], "at_load": True}, True),
    ],
)
def test_kvm_stands_in_the_way_where_it_keeps_the_processor(program: str, kernel: str, kvm: Json, stands: bool) -> None:
    """From 6.12 on, unless the setting says no, or this release asks KVM for it on a kernel that lets it."""
    found = judge.in_the_way(state(program=program, kvm=kvm), kernel)
    assert (found is not None) == stands
    assert found is None or (found.diagnosis == "D55" and "modprobe -r kvm_" in found.remedy)


def test_why_a_reboot_is_needed() -> None:
    """Another kernel runs, nothing is loaded, or an older module is."""
    assert judge.boot_needed(state(), HELD, KERNEL) == ""
    assert "6.1.0 runs" in judge.boot_needed(state(), HELD, "6.1.0")
    assert "not loaded" in judge.boot_needed(state(loaded=None), HELD, KERNEL)
    assert "7.2.20 is loaded" in judge.boot_needed(state(loaded="7.2.20"), HELD, KERNEL)


# What is read


class Host:
    """A host whose files lie in a folder and whose programs answer from a table."""

    def __init__(self, folder: Path) -> None:
        """Nothing is there."""
        self.folder = folder
        self.answers: Dict[str, Tuple[int, str, str]] = {"dpkg --print-architecture": (0, "amd64\n", "")}
        (folder / "proc").mkdir(parents=True)
        (folder / "proc/modules").write_text("vboxdrv 700000 2 - Live 0x0\nkvm_intel 400000 0 - Live 0x0\n")

    def put(self, name: str, text: str) -> None:
        """Write a file."""
        path = self.folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """Answer by the program's name, or with what comes after it."""
        for words in (" ".join(argv), Path(argv[0]).name):
            for known, answer in self.answers.items():
                if words.startswith(known):
                    return answer
        return 127, "", "not found"


def test_a_host_is_read_as_it_is(tmp_path: Path) -> None:
    """Modules of the kernel that will boot, not of the one that runs; two packagings; the group; KVM's setting."""
    host = Host(tmp_path)
    listing = "\n".join(
        f"{name}\tamd64\tvirtualbox\t{version}\tinstall\tinstalled\t, "
        for name, version in (
            ("virtualbox", V),
            ("virtualbox-dkms", V),
            ("virtualbox-7.0", "7.0.16-162802~Ubuntu~jammy"),
        )
    )
    host.answers["dpkg-query"] = (0, listing + "\n", "")
    found = f"filename: /x/vboxdrv.ko.xz\nversion: 7.2.22_Debian r174877 (0x00360000)\nsigner: us\nvermagic: {KERNEL}\n"
    host.answers[f"modinfo -k {KERNEL} vboxdrv"] = (0, found, "")
    host.answers["modinfo"] = (1, "", "not found")
    host.answers["VBoxManage"] = (0, "7.2.22_Debianr174877\n", "")
    host.answers["dkms status"] = (0, f"virtualbox/7.2.22, {KERNEL}, x86_64: installed\nnvidia/1, 2: added\n", "")
    host.put("/usr/bin/VBoxManage", "")
    host.put("/sys/module/vboxdrv/version", "7.2.20_Debian r1 (0x0)\n")
    host.put("/sys/module/kvm/parameters/enable_virt_at_load", "Y\n")
    host.put("/etc/group", "root:x:0:\nvboxusers:x:120:ann,bob\n")
    edges = Edges(str(tmp_path), host.run)
    read = probe.virtualbox(edges, KERNEL, "/opt/gpuhost")
    assert read["modules"]["vboxdrv"] == {
        "path": "/x/vboxdrv.ko.xz",
        "release": "7.2.22",
        "signed": True,
        "signer": "us",
    }
    assert read["modules"]["vboxnetflt"] is None and read["loaded"] == "7.2.20" and read["program"] == "7.2.22"
    assert read["packagings"] == [
        "virtualbox " + V,
        "virtualbox-7.0 7.0.16-162802~Ubuntu~jammy",
        "virtualbox-dkms " + V,
    ]
    assert read["dkms"] == [f"virtualbox/7.2.22, {KERNEL}, x86_64: installed"]
    assert read["kvm"] == {"loaded": ["kvm_intel"], "at_load": True} and read["members"] == ["ann", "bob"]
    assert read["device"] is None and read["record"] is None and edges.problems == []


def test_a_program_that_says_nothing_useful_is_a_problem(tmp_path: Path) -> None:
    """Never a release that nobody has read."""
    host = Host(tmp_path)
    host.put("/usr/bin/VBoxManage", "")
    host.answers["VBoxManage"] = (1, "", "Segmentation fault")
    edges = Edges(str(tmp_path), host.run)
    assert probe.program(edges) == "" and edges.problems[0]["what"] == "VBoxManage --version"


# The guard


def test_the_guard_holds_it_where_it_is_gpuhosts() -> None:
    """And leaves a VirtualBox alone that a user has installed; without a driver its kernel is nobody's concern."""
    names = {"virtualbox": V, "virtualbox-dkms": V, "linux-image-6.12.9-amd64": "6.12.9-1", "nano": "1"}
    there = {n: rules.Package(n, n.split("-")[0], v, False, "") for n, v in names.items()}
    assert set(rules.stack(there, KERNEL)) == {"linux-image-6.12.9-amd64"}
    assert set(rules.stack(there, KERNEL, True)) == {"linux-image-6.12.9-amd64", "virtualbox", "virtualbox-dkms"}
    wanted = rules.record(there, None, None, True)
    assert wanted["held"] == ["virtualbox", "virtualbox-dkms"]
    text = rules.preferences(wanted["pins"], rules.BESIDE)
    assert "nvidia" not in text and f"Package: virtualbox\nPin: version {V}\n" in text
    assert rules.is_beside("virtualbox-7.2") and not rules.is_beside("virtualboxen")


# Its users


class Accounts:
    """Users and groups that are played; `home` has their settings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        """One user, and no group."""
        self.home, self.group, self.done = home, None, []  # type: Path, Optional[List[str]], List[List[str]]
        monkeypatch.setattr(vbox_users.pwd, "getpwnam", self.user)
        monkeypatch.setattr(vbox_users.grp, "getgrnam", self.members)

    def user(self, name: str) -> Any:
        """The one user."""
        if name != "ann":
            raise KeyError(name)
        return type("User", (), {"pw_dir": str(self.home)})()

    def members(self, name: str) -> Any:
        """The group's."""
        if self.group is None:
            raise KeyError(name)
        return type("Group", (), {"gr_mem": self.group})()

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """Do what the programs do."""
        words = list(argv)
        self.done.append(words)
        settings = self.home / ".config/VirtualBox/VirtualBox.xml"
        if words[0] == "usermod":
            self.group = [*(self.group or []), words[-1]]
        elif words[0] == "gpasswd":
            self.group = [n for n in self.group or [] if n != words[2]]
        elif words[0] == "groupdel":
            self.group = None
        elif "setextradata" in words:
            settings.parent.mkdir(parents=True, exist_ok=True)
            kept = settings.read_text() if settings.exists() else ""
            settings.write_text(kept.replace(OFF, "") + (OFF if words[-1] == "never" else ""))
        return 0, "", ""


def test_users_are_let_in_told_no_more_and_given_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings that were not there before go again; a second time nothing is done."""
    host = Accounts(monkeypatch, tmp_path)
    users = Users(["ann"], host.run)
    assert len(users.lacking()) == 2 and not users.group_is_there()
    host.group = []
    record = {"group": False, **users.present({})}
    assert record["joined"] == ["ann"] and record["silenced"] == [{"name": "ann", "fresh": True}]
    assert users.lacking() == []
    host.done.clear()
    assert users.present(record) == {key: record[key] for key in ("joined", "silenced")}
    assert all("setextradata" not in words and words[0] != "usermod" for words in host.done)
    users.give_back(record)
    users.drop_group(record)
    assert host.group is None and not (tmp_path / ".config/VirtualBox").exists()


def test_a_user_with_machines_keeps_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whose registry of machines the file is; and who was in the group before stays in it."""
    host = Accounts(monkeypatch, tmp_path)
    host.group = ["ann", "bob"]
    users = Users(["ann"], host.run)
    record = {"group": True, **users.present({})}
    assert record["joined"] == []
    settings = tmp_path / ".config/VirtualBox/VirtualBox.xml"
    settings.write_text(f'<MachineEntry uuid="{{x}}"/>{OFF}')
    users.give_back(record)
    users.drop_group(record)
    assert "<MachineEntry" in settings.read_text() and "never" not in settings.read_text()
    assert host.group == ["ann", "bob"]


def test_an_unknown_user_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anything is changed."""
    host = Accounts(monkeypatch, tmp_path)
    with pytest.raises(RefusedError, match="no user eve"):
        Users(["ann", "eve"], host.run).refuse_unknown()


# Installing it


class Played(Work):
    """Long commands that are written down, and fail where they are told to."""

    def __init__(self, folder: Path) -> None:
        """No command was run yet."""
        super().__init__(folder / "log", lambda text: None)
        self.done: List[List[str]] = []

    def run(self, argv: Sequence[str], stdin: Optional[bytes] = None, own_tmp: bool = False) -> None:
        """Note the command."""
        self.done.append(list(argv))


def setup(tmp_path: Path, held: Json = HELD, **asked: Any) -> Tuple[Setup, Played]:
    """A host where nothing is installed."""
    work = Played(tmp_path)
    machine = Machine("box", KERNEL, "debian", asked.pop("secure_boot", "disabled"), "6.1.0")
    given = {"root": str(tmp_path / "opt"), "virtualbox": held, "users": [], **asked}
    return Setup(given, machine, work, lambda argv, timeout: (127, "", "not found")), work


def test_a_virtualbox_of_others_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D56: one beside another is what broke the machines; what a killed run of ours left is ours."""
    made, _ = setup(tmp_path)
    theirs = ["virtualbox-7.0 7.0.16-162802~Ubuntu~jammy"]
    monkeypatch.setattr(made, "state", lambda: state(packagings=theirs, record=None))
    with pytest.raises(RefusedError, match="D56") as refused:
        made.preflight()
    assert "apt-get purge virtualbox-7.0" in str(refused.value)
    assert made.is_ours(f"virtualbox {V}", {"coming": ["virtualbox"]})
    assert not made.is_ours("Oracle's installer in /opt/VirtualBox", {"source": "archive"})


def test_a_build_that_fails_is_taken_away_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is as it was, and the failure names what to do."""
    made, _ = setup(tmp_path)
    purged: List[List[str]] = []
    monkeypatch.setattr(made, "differences", lambda: ["it was not installed"])
    found = ExactSet([], [Change("virtualbox", V, "", ()), Change("liblzf1", "1", "", ())], [])
    monkeypatch.setattr(made, "preflight", lambda: found)
    monkeypatch.setattr(made, "packages", lambda found: None)
    monkeypatch.setattr(made.users, "group_is_there", lambda: False)
    monkeypatch.setattr(made.users, "members", lambda: None)
    monkeypatch.setattr(made, "state", lambda: state(modules=dict.fromkeys(packages.MODULES), record=None))
    monkeypatch.setattr(made.apt, "purge", purged.append)
    with pytest.raises(EnvironmentProblem, match="taken away again") as failed:
        made.present()
    assert "D52" in str(failed.value) and purged == [["virtualbox"]]
    assert not (made.root / vbox_setup.PENDING).exists() and not (made.root / probe.RECORD).exists()


def test_an_update_that_fails_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For another kernel: what was installed before is not taken from the host."""
    made, _ = setup(tmp_path)
    (made.root / "state").mkdir(parents=True)
    (made.root / probe.RECORD).write_text(
        json.dumps({"packages": {"virtualbox": V}, "source": "archive", "group": True})
    )
    monkeypatch.setattr(made, "differences", lambda: ["another kernel"])
    monkeypatch.setattr(made, "preflight", lambda: ExactSet([], [], []))
    monkeypatch.setattr(made, "packages", lambda found: None)
    monkeypatch.setattr(made, "state", lambda: state(modules=dict.fromkeys(packages.MODULES)))
    with pytest.raises(EnvironmentProblem) as failed:
        made.present()
    assert "taken away" not in str(failed.value) and made.recorded()["packages"] == {"virtualbox": V}


@pytest.mark.parametrize(("program", "again"), [("7.2.22", []), (None, ["virtualbox"]), ("6.0.24", ["virtualbox"])])
def test_a_program_that_another_packaging_took_is_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Optional[str], again: List[str]
) -> None:
    """D56: dpkg holds the package for installed, and nothing of it would be installed."""
    made, _ = setup(tmp_path)
    members = [{"name": name, "version": V, "sha256": digest} for name, digest in SUM.items()]
    for name, answer in (("repair", None), ("names_installed", []), ("write_manifest", None), ("fetch", None)):
        monkeypatch.setattr(made.apt, name, lambda *given, answer=answer: answer)
    monkeypatch.setattr(made.apt, "lacking", lambda members: [])
    brought: List[str] = []
    monkeypatch.setattr(made.apt, "unpack_again", lambda members: brought.extend(m["name"] for m in members))
    monkeypatch.setattr(made, "state", lambda: state(program=program))
    made.packages(ExactSet(members, [], []))
    assert brought == again


def test_the_same_key_signs_as_for_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where Secure Boot asks, and only these modules."""
    asked: List[Any] = []
    for name in ("make", "tell_dkms"):
        monkeypatch.setattr(vbox_setup.module_key, name, lambda *given: True)
    monkeypatch.setattr(vbox_setup.module_key, "sign", lambda *given: asked.append(given))
    made, work = setup(tmp_path, secure_boot="enabled")
    assert made.owns_key() and not setup(tmp_path)[0].owns_key()
    made.sign()
    assert asked == [(KERNEL, work, made.run, "vbox*")]


def test_only_the_modules_of_a_name_are_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the driver have a signature of their own."""
    folder = tmp_path / "updates"
    folder.mkdir()
    for name in ("vboxdrv.ko", "vboxnetflt.ko.xz", "nvidia.ko"):
        (folder / name).write_text("")
    monkeypatch.setattr(module_key, "Path", lambda text: folder if "updates" in str(text) else Path(text))

    def run(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """Say nothing."""
        return 0, "", ""

    assert [path.name for path in module_key.unsigned("k", "us", run, "vbox*")] == ["vboxdrv.ko", "vboxnetflt.ko.xz"]
    assert [path.name for path in module_key.unsigned("k", "us", run)] == ["nvidia.ko"]


def test_the_extension_pack_needs_a_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock without one is refused, whatever was accepted."""
    made, _ = setup(tmp_path, extension_pack=True)
    with pytest.raises(RefusedError, match="no extension pack"):
        made.preflight()


def test_the_licence_that_is_accepted_is_the_packs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sha256 of its text, as VBoxManage asks for it."""
    pack = {"name": "p.vbox-extpack", "url": "", "sha256": "f" * 64}
    made, work = setup(tmp_path, {**HELD, "extension_pack": pack}, extension_pack=True)
    made.run = lambda argv, timeout: (0, "You may\n", "") if argv[0] == "tar" else (0, "Extension Packs: 0\n", "")
    made.install_pack()
    (line,) = [words for words in work.done if "extpack" in words]
    assert line[:4] == ["VBoxManage", "extpack", "install", "--replace"]
    assert line[4] == f"--accept-license={hashlib.sha256(b'You may' + bytes([10])).hexdigest()}"
    assert line[5].endswith("/p.vbox-extpack")
    made.run = lambda argv, timeout: (0, "", "")
    with pytest.raises(ArtifactError, match="no licence"):
        made.install_pack()


def test_the_packs_that_are_there_are_read(tmp_path: Path) -> None:
    """As `VBoxManage list extpacks` prints them."""
    made, _ = setup(tmp_path)
    said = "Extension Packs: 2\nPack no. 0:   VNC\nVersion:        7.2.22\n"
    said += "Pack no. 1:   Oracle VirtualBox Extension Pack\nVersion:        7.2.22\nRevision:       1\n"
    made.run = lambda argv, timeout: (0, said, "")
    assert made.packs() == {"name": "Oracle VirtualBox Extension Pack", "version": "7.2.22"}


def test_removal_is_refused_while_machines_run(tmp_path: Path) -> None:
    """Taking the module from under a machine loses what it holds."""
    made, _ = setup(tmp_path)
    made.run = lambda argv, timeout: (0, "4711 VirtualBoxVM\n4712 VBoxSVC\n", "")
    with pytest.raises(RefusedError, match="4711 VirtualBoxVM"):
        made.remove()
    made.run = lambda argv, timeout: (0, "4712 VBoxSVC\n", "")
    made.refuse_running()


def test_the_digest_knows_lock_and_kernel() -> None:
    """How it was asked for makes no other one of it."""
    one = packages.digest(HELD, KERNEL)
    assert packages.digest({**HELD, "asked": "7.2"}, KERNEL) == one
    assert packages.digest(HELD, "6.13.0") != one
    assert packages.digest({**HELD, "package_version": "x"}, KERNEL) != one
