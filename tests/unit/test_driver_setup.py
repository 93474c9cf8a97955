"""What is decided before a driver is installed, on a host whose apt and dpkg are played."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest
from rich.console import Console

from gpuhost.errors import ArtifactError, EnvironmentProblem, RefusedError
from gpuhost.host.commands import CommandFailed
from gpuhost.host.driver import apt as apt_set
from gpuhost.host.driver import set as driver_set
from gpuhost.host.driver import setup as driver_setup
from gpuhost.host.driver.apt import Apt, held_by_others
from gpuhost.host.driver.offer import ADDED, RELOCK, component_lines, component_step
from gpuhost.host.driver.packages import Change
from gpuhost.host.driver.set import Machine
from gpuhost.host.driver.setup import Setup
from gpuhost.host.guard import rules
from gpuhost.host.room import short_of_space
from gpuhost.host.work import Work
from gpuhost.report.terminal import show_error

VERSION = "525.105.17-0ubuntu0.18.04.1"
KERNEL = "5.4.0-150-generic"
DEB = b"the driver's .deb"
DRIVER: Dict[str, Any] = {
    "version": "525.105.17",
    "source": "archive",
    "branch": "525",
    "kernel_modules": "proprietary",
    "modules_from": "signed",
    "secure_boot": None,
    "package": "nvidia-driver-525",
    "package_version": VERSION,
    "component": "restricted",
    "modules_package": "linux-modules-nvidia-525",
    "sha256": hashlib.sha256(DEB).hexdigest(),
    "modules": {
        "package": "linux-modules-nvidia-525-generic-hwe-18.04",
        "package_version": "5.4.0-150.167",
        "kernel": KERNEL,
    },
}
POLICY = """Package files:
 100 /var/lib/dpkg/status
     release a=now
 500 http://archive.example/ubuntu bionic-updates/{component} amd64 Packages
     release v=18.04,o=Ubuntu,a=bionic-updates,n=bionic,l=Ubuntu,c={component},b=amd64
     origin archive.example
 500 http://ppa.example/ubuntu bionic/main amd64 Packages
     release v=18.04,o=LP-PPA-graphics,a=bionic,n=bionic,l=Proprietary GPU Drivers,c=main,b=amd64
     origin ppa.example
Pinned packages:
"""


class Played(Work):
    """Long commands that are only written down."""

    def __init__(self, folder: Path) -> None:
        """No command was run yet."""
        super().__init__(folder / "log", lambda text: None)
        self.done: List[List[str]] = []

    def run(self, argv: Sequence[str], stdin: Optional[bytes] = None, cwd: str = "/") -> None:
        """Note the command."""
        self.done.append(list(argv))


class Host:
    """A host with Ubuntu's archive; each part can be changed before it is asked."""

    def __init__(self, folder: Path) -> None:
        """The driver is offered and nothing of it is installed."""
        self.root = folder / "opt"
        self.work = Played(folder)
        self.component, self.driver = "restricted", DRIVER
        self.offers = {
            "nvidia-driver-525": [VERSION],
            "linux-modules-nvidia-525-generic-hwe-18.04": ["5.4.0-150.167"],
            "linux-modules-nvidia-525-5.4.0-150-generic": ["5.4.0-150.167"],
        }
        self.dpkg: Dict[str, Tuple[str, str]] = {}
        #: The lines of `dpkg --verify` for a package.
        self.damage: Dict[str, str] = {}
        self.sources: Dict[str, str] = {}
        self.simulated = f"Inst nvidia-driver-525 ({VERSION} Ubuntu:18.04/bionic-updates [amd64])\n"
        self.sha256 = DRIVER["sha256"]
        self.asked: List[List[str]] = []

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """Answer as apt and dpkg do."""
        words = list(argv)
        self.asked.append(words)
        if words[:2] == ["dpkg", "--verify"]:
            return 0, "".join(self.damage.get(name, "") for name in words[2:]), ""
        if words == ["dpkg", "--print-architecture"]:
            return 0, "amd64\n", ""
        if words[-1] == "-f=" + rules.FORMAT:
            sources = {n: self.sources.get(n, "nvidia-graphics-drivers-525") for n in self.dpkg}
            cells = {
                n: [n, "amd64", sources[n], v, *state.replace(" ok", "").split(), ", "]
                for n, (v, state) in self.dpkg.items()
            }
            return 0, "".join("\t".join(row) + "\n" for row in cells.values()), ""
        if words[0] == "dpkg-query":
            sources = {n: self.sources.get(n, "nvidia-graphics-drivers-525") for n in self.dpkg}
            rows = [f"{n}\t{v}\t{sources[n]}\t{state}\n" for n, (v, state) in self.dpkg.items()]
            return 0, "".join(rows), ""
        if "policy" in words:
            return 0, POLICY.format(component=self.component), ""
        if "madison" in words:
            index = f"http://archive.example/ubuntu bionic-updates/{self.component} amd64 Packages"
            foreign = "http://ppa.example/ubuntu bionic/main amd64 Packages"
            said = ""
            for name in words[words.index("madison") + 1 :]:
                said += f" {name} | 999.1 | {foreign}\n"
                said += "".join(f" {name} | {version} | {index}\n" for version in self.offers.get(name, []))
            return 0, said, ""
        if "pkgnames" in words or "indextargets" in words:
            return 0, "", ""
        if "--simulate" in words:
            return (100, "", self.simulated) if self.simulated.startswith("E:") else (0, self.simulated, "")
        if "show" in words:
            text = "Package: {}\nVersion: {}\nSource: {}\nArchitecture: amd64\nSHA256: {}\n\n"
            pairs = [word.split("=") for word in words if "=" in word and "::" not in word]
            sources = {n: "linux" if n.startswith("linux-image-") else "nvidia-graphics-drivers-525" for n, _ in pairs}
            return 0, "".join(text.format(n, v, sources[n], self.sha256) for n, v in pairs), ""
        raise AssertionError(words)

    def setup(self, **asked: Any) -> Setup:
        """What is asked of this host; `boots` is the kernel that it will boot."""
        machine = Machine("bed", asked.pop("boots", KERNEL), "ubuntu", "disabled", asked.pop("running", KERNEL))
        return Setup({"root": str(self.root), "driver": self.driver, **asked}, machine, self.work, self.run)

    def keep(self, *members: Dict[str, Any]) -> None:
        """Put .debs of the set into the host's cache."""
        apt = self.setup().apt
        for member in members:
            apt.place(member).parent.mkdir(parents=True)
            apt.place(member).write_bytes(DEB)
        apt.write_manifest(self.setup().set.key(), list(members))


MEMBER: Dict[str, Any] = {
    "name": "nvidia-driver-525",
    "version": VERSION,
    "sha256": DRIVER["sha256"],
    "arch": "amd64",
    "size": 17,
    "unpacked": 0,
    "file": "nvidia-driver-525.deb",
    "source": "nvidia-graphics-drivers-525",
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host in order."""
    return Host(tmp_path)


def test_a_host_in_order_gets_exactly_the_set(host: Host) -> None:
    """The member has the archive's own checksum, and nothing is run that changes the host."""
    members, install, remove = host.setup().set.exact_set()
    assert [(m["name"], m["version"], m["sha256"]) for m in members] == [
        ("nvidia-driver-525", VERSION, DRIVER["sha256"])
    ]
    assert [c.name for c in install] == ["nvidia-driver-525"] and remove == []
    assert host.work.done == []


def test_a_version_that_only_a_foreign_archive_has_is_not_offered(host: Host) -> None:
    """D05: the lists are read again first; the cache has no set; the refusal says what the archive has."""
    host.offers["nvidia-driver-525"] = ["525.125.06-0ubuntu0.18.04.1"]
    with pytest.raises(RefusedError) as refused:
        host.setup().set.exact_set()
    assert "(D05)" in str(refused.value) and "it has 525.125.06-0ubuntu0.18.04.1" in str(refused.value)
    assert "999.1" not in str(refused.value)
    assert ["update" in words for words in host.work.done] == [True]


def test_the_cache_stands_in_for_an_archive_that_moved_on(host: Host) -> None:
    """From the .debs alone, without any archive; not when one of them is damaged."""
    host.offers["nvidia-driver-525"] = []
    host.keep(MEMBER)
    host.simulated = f"Inst nvidia-driver-525 ({VERSION} local-deb [amd64])\n"
    assert host.setup().set.exact_set()[0] == [MEMBER]
    simulated = next(words for words in host.asked if "--simulate" in words)
    assert "Dir::Etc::SourceParts=/dev/null" in simulated
    place = host.setup().apt.place(MEMBER)
    assert str(place) in simulated
    place.write_bytes(DEB + b"!")
    with pytest.raises(RefusedError, match=r"\(D05\)"):
        host.setup().set.exact_set()
    assert not place.exists(), "a damaged file stayed"


def test_a_missing_component_is_named_with_the_line(host: Host) -> None:
    """The role does not edit sources."""
    host.component, host.offers = "main", {}
    with pytest.raises(RefusedError, match="in the component restricted of the archive"):
        host.setup().set.exact_set()


def test_another_checksum_than_the_locks_stops_before_anything(host: Host) -> None:
    """The archive's index names a file that is not the locked one."""
    host.sha256 = "b" * 64
    with pytest.raises(ArtifactError, match="Nothing was changed"):
        host.setup().set.exact_set()


def test_what_apt_cannot_do_is_told_in_its_words(host: Host) -> None:
    """D06, with the command to look at."""
    host.simulated = "E: Unable to correct problems, you have held broken packages."
    with pytest.raises(RefusedError, match=r"held broken packages.*\(D06\)"):
        host.setup().set.exact_set()


def test_a_component_that_a_dependency_is_in_is_named_and_nothing_is_said_to_be_mixed(host: Host) -> None:
    """Debian's driver needs packages of contrib: apt says of them what it says of mixed sources."""
    host.component, host.driver = "non-free", {**DRIVER, "component": "non-free"}
    host.simulated = "E: Unable to correct problems, you have held broken packages."
    with pytest.raises(RefusedError, match="components contrib, non-free-firmware of the archive") as refused:
        host.setup().set.exact_set()
    assert "D06" not in str(refused.value)


def test_a_hold_of_somebody_else_is_respected(host: Host) -> None:
    """A hold of our own guard is not: it exists for this very lock."""
    host.dpkg["nvidia-driver-525"] = ("525.1", "hold ok installed")
    with pytest.raises(RefusedError, match="apt-mark unhold nvidia-driver-525"):
        host.setup().set.exact_set()
    (host.root / "state").mkdir(parents=True)
    (host.root / "state" / "guard.json").write_text(json.dumps({"held": ["nvidia-driver-525"]}), encoding="utf-8")
    assert host.setup().set.exact_set()[0]


def test_installed_packages_of_the_driver_belong_to_the_set(host: Host) -> None:
    """An administrator installed the very version before: it is recorded and kept as well."""
    host.dpkg["nvidia-driver-525"] = (VERSION, "install ok installed")
    host.simulated = ""
    members, install, _ = host.setup().set.exact_set()
    assert [m["name"] for m in members] == ["nvidia-driver-525"] and install == []


def test_packages_of_another_branch_are_taken_down_in_the_same_step(host: Host) -> None:
    """Two branches' modules for one kernel hide one another; configuration files that stay are not packages."""
    host.dpkg = {
        "nvidia-tool-470": ("1.14", "install ok installed"),
        "nvidia-driver-470": ("470.1", "install ok installed"),
        "nvidia-driver-390": ("390.1", "deinstall ok config-files"),
    }
    host.sources["nvidia-tool-470"] = "somebodys-tool"
    host.setup().set.exact_set()
    simulated = next(words for words in host.asked if "--simulate" in words)
    assert "nvidia-driver-470-" in simulated and "nvidia-driver-390-" not in simulated
    assert not [word for word in simulated if word.startswith("nvidia-tool")]


def test_what_leads_to_the_newest_kernel_goes_where_the_lock_stays_with_another(host: Host) -> None:
    """It needs the old version of the modules; apt would upgrade it, and bring a kernel that nobody has asked for."""
    leads, exact = "linux-modules-nvidia-525-generic-hwe-18.04", f"linux-modules-nvidia-525-{KERNEL}"
    for name in (leads, exact):
        host.dpkg[name] = ("5.4.0-150.167", "install ok installed")
        host.sources[name] = "linux-restricted-modules-hwe-5.4"
    version = "5.4.0-150.167+1"
    host.offers.update({leads: ["5.4.0-152.169"], exact: [version]})
    modules = {"package": exact, "package_version": version, "kernel": KERNEL}
    host.setup(driver=dict(DRIVER, modules=modules)).set.exact_set()
    simulated = next(words for words in host.asked if "--simulate" in words)
    assert f"{leads}-" in simulated and f"{exact}={version}" in simulated and f"{exact}-" not in simulated


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"boots": None}, "No kernel with an image in /boot"),
        ({"boots": "5.4.0-152-generic"}, "this host will boot 5.4.0-152-generic. (D08)"),
        ({"driver": dict(DRIVER, modules=None)}, "names no package of signed modules"),
    ],
)
def test_a_kernel_that_the_lock_does_not_serve(host: Host, asked: Dict[str, Any], words: str) -> None:
    """Refused before apt is asked anything."""
    with pytest.raises((RefusedError, EnvironmentProblem)) as refused:
        host.setup(**asked).set.preflight()
    assert words in str(refused.value)
    assert host.asked == []


def test_a_newer_kernel_is_removed_only_while_another_one_runs(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its package asks before the running kernel goes, and recommends that it stays."""
    newer = "5.4.0-152-generic"
    (tmp_path / f"vmlinuz-{KERNEL}").touch()
    monkeypatch.setattr(driver_set, "BOOT", str(tmp_path))
    host.dpkg[f"linux-image-{newer}"] = ("5.4.0-152.169", "install ok installed")
    told = {}
    for running in (KERNEL, newer):
        with pytest.raises(RefusedError) as refused:
            host.setup(boots=newer, running=running).set.preflight()
        told[running] = refused.value.next_step
    assert told[KERNEL] == f"On the host, as root:\napt-get purge linux-image-{newer}\nOr here:\n{RELOCK}"
    assert told[newer] == RELOCK


def test_a_kernel_that_comes_with_the_driver(host: Host) -> None:
    """One step of apt for both: the kernel is asked for by name and version, and no other one may come along."""
    newer = "5.4.0-152-generic"
    image, modules = f"linux-image-{newer}", f"linux-modules-nvidia-525-{newer}"
    driver = dict(DRIVER, modules=dict(DRIVER["modules"], kernel=newer))
    kernel = {"release": newer, "packages": {image: "5.4.0-152.169", f"linux-headers-{newer}": "5.4.0-152.169"}}
    host.offers.update(
        {name: [version] for name, version in kernel["packages"].items()}, **{modules: ["5.4.0-152.169"]}
    )
    host.simulated += f"Inst {image} (5.4.0-152.169 Ubuntu:18.04/bionic-updates [amd64])\n"
    there = driver_set.booting(Machine("bed", KERNEL, "ubuntu", "disabled", KERNEL), kernel)
    assert there.boots == newer
    found = host.setup(driver=driver, kernel=kernel, boots=newer).set.preflight()
    assert image in [member["name"] for member in found.members]
    simulated = next(words for words in host.asked if "--simulate" in words)
    assert {f"{image}=5.4.0-152.169", f"linux-headers-{newer}=5.4.0-152.169", modules} <= set(simulated)
    with pytest.raises(RefusedError, match="apt would bring another kernel"):
        host.setup(driver=driver, boots=newer).set.preflight()


def test_headers_that_nobody_has(host: Host) -> None:
    """D08 before it happens: nothing could build the module for the kernel that will boot."""
    built = dict(DRIVER, modules_from="dkms", modules=None)
    host.offers["nvidia-dkms-525"] = [VERSION]
    with pytest.raises(RefusedError, match=r"linux-headers-5.4.0-150-generic|\(D08\)") as refused:
        host.setup(driver=built).set.exact_set()
    assert "(D08)" in str(refused.value)
    host.dpkg["linux-headers-" + KERNEL] = ("5.4", "install ok installed")
    assert host.setup(driver=built).set.exact_set()[0]


def test_too_little_space_is_found_before_anything_is_changed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file system with what it needs and has."""
    monkeypatch.setattr(driver_set, "short_of_space", lambda needs: [needs[0][0]])
    with pytest.raises(EnvironmentProblem, match="too little space"):
        host.setup().set.preflight()


def test_needs_on_one_file_system_add_up(tmp_path: Path) -> None:
    """Two paths of 60 on a disk with 100 free do not fit, though each alone would."""
    needs = [(str(tmp_path / "a"), 60), (str(tmp_path / "b" / "not-there"), 60)]
    assert short_of_space(needs, lambda path: 120) == []
    (short,) = short_of_space(needs, lambda path: 100)
    assert str(tmp_path / "a") in short and "not-there" in short


def test_a_fetched_file_with_another_checksum_is_refused(host: Host, tmp_path: Path) -> None:
    """What apt delivered is not what its index named; nothing of it gets into the cache."""
    (tmp_path / "bad.deb").write_bytes(b"swapped")
    with pytest.raises(ArtifactError, match="Nothing was installed"):
        host.setup().apt.keep(MEMBER, {f"nvidia-driver-525_{VERSION}_amd64.deb": tmp_path / "bad.deb"})
    assert not host.setup().apt.place(MEMBER).exists()
    with pytest.raises(ArtifactError, match="apt did not deliver"):
        host.setup().apt.keep(MEMBER, {})


def test_what_an_earlier_run_of_the_set_installed_belongs_to_it(host: Host) -> None:
    """A killed run has installed a library; apt need not bring it any more, and it is still ours."""
    library = dict(MEMBER, name="libx", version="1", sha256="c" * 64)
    gone = dict(MEMBER, name="liby", version="1", sha256="d" * 64)
    apt = host.setup().apt
    apt.write_manifest("k", [library, gone])
    host.dpkg["libx"] = ("1", "install ok installed")
    apt.write_manifest("k", [MEMBER])
    assert sorted(m["name"] for m in apt.members("k")) == ["libx", "nvidia-driver-525"]


def test_the_record_goes_before_anything_else_and_comes_last(host: Host) -> None:
    """Between the two stands the marker, by which the next run knows that dpkg's state is its own doing."""
    setup = host.setup()
    host.keep(MEMBER)
    host.dpkg["nvidia-driver-525"] = (VERSION, "install ok installed")
    setup.record()
    path = host.root / "state/driver.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["packages"] == {"nvidia-driver-525": VERSION} and found["debs"] == {
        "nvidia-driver-525": DRIVER["sha256"]
    }
    assert (found["kernel"], found["plan"]) == (KERNEL, setup.set.key())
    setup.begin()
    assert not path.exists() and (host.root / driver_setup.PENDING).exists()
    assert setup.differences() == ["an earlier run was interrupted"]
    setup.record()
    assert path.exists() and not (host.root / driver_setup.PENDING).exists()


def test_nothing_is_recorded_that_is_not_installed(host: Host) -> None:
    """A record that lies is worse than none."""
    host.keep(MEMBER)
    with pytest.raises(EnvironmentProblem, match="nvidia-driver-525 is not installed after all"):
        host.setup().record()


def test_holds_of_others(host: Host) -> None:
    """Only packages that would change count."""
    rows = {"a": {"held": True}, "b": {"held": True}, "c": {"held": False}}
    changes = [Change(name, "1", "", ()) for name in "abcd"]
    assert held_by_others(changes, rows, ["b"]) == ["a"]


def test_the_lines_that_add_a_component() -> None:
    """The archives that the host uses, with their key; foreign ones and disabled ones are left out."""
    own = {"uris": ["http://deb.example/debian"], "suites": ["bookworm", "bookworm-updates"], "signed_by": "/k.gpg"}
    base = {"enabled": True, "types": ["deb"], "signed_by": None}
    sources = [
        {**base, **own},
        {**base, "uris": ["http://ppa.example"], "suites": ["x"]},
        {**base, **own, "enabled": False},
    ]
    assert component_lines(sources, "contrib non-free", ["deb.example"]) == [
        "deb [signed-by=/k.gpg] http://deb.example/debian bookworm contrib non-free",
        "deb [signed-by=/k.gpg] http://deb.example/debian bookworm-updates contrib non-free",
    ]


def test_what_adds_a_component_is_typed_line_by_line(tmp_path: Path) -> None:
    """Each line is one whole command that a shell takes, whatever the host calls its sources, and no terminal's width
    breaks it.
    """
    lines = [f"deb http://deb.example/{'long/' * 20} bookworm contrib", "deb http://e/; touch x bookworm contrib"]
    step = component_step("contrib", lines)
    told, first, second, *rest = step.split("\n")
    assert (told, second, rest) == ("On the host, as root:", "apt-get update", [])
    at = tmp_path / "added.list"
    subprocess.run(["sh", "-c", first.replace(ADDED, str(at))], check=True, cwd=tmp_path)
    assert at.read_text(encoding="utf-8").splitlines() == lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["added.list"]
    shown = io.StringIO()
    show_error(Console(width=80, file=shown), "Refused.", step)
    assert [line.strip() for line in shown.getvalue().splitlines()[-2:]] == [first, second]
    assert component_step("contrib", []).endswith("\napt-get update")


def test_our_guards_pins_do_not_stop_our_own_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The administrator's own preferences stay in force."""
    real = Path
    (tmp_path / "etc/apt/preferences.d").mkdir(parents=True)
    monkeypatch.setattr(apt_set, "Path", lambda *parts: real(str(tmp_path) + real(*parts).as_posix()))
    apt = Apt(tmp_path, "ubuntu", Played(tmp_path))
    (tmp_path / "etc/apt/preferences.d/theirs").write_text("x", encoding="utf-8")
    assert apt.preferences() == tmp_path / "etc/apt/preferences.d"
    (tmp_path / "etc/apt/preferences.d/gpuhost").write_text("x", encoding="utf-8")
    assert [path.name for path in apt.preferences().iterdir()] == ["theirs"]


def test_a_command_that_fails_shows_its_end(tmp_path: Path) -> None:
    """The last lines, not the log's name alone; steps are told while it runs; a password is not in the log."""
    said: List[str] = []
    work = Work(tmp_path / "log" / "driver.log", said.append)
    with pytest.raises(CommandFailed, match="no such card"):
        work.run(["sh", "-c", "echo 'Setting up x (1)'; echo chatter; echo no such card >&2; exit 3"])
    assert said == ["Setting up x (1)"]
    work.run(["sh", "-c", 'read x; test "$x" = secret'], stdin=b"secret\n")
    assert "secret\n" not in work.log.read_text(encoding="utf-8").replace('"$x" = secret', "")


def test_another_process_is_waited_for_as_long_as_allowed(tmp_path: Path) -> None:
    """apt says that it could not get the lock; the third attempt gets it. Any other failure is one at once."""
    work = Work(tmp_path / "driver.log", lambda text: None)
    script = f"echo x >> {tmp_path}/n; test $(wc -l < {tmp_path}/n) = 3 || {{ echo Could not get lock; exit 100; }}"
    work.patiently(["sh", "-c", script], apt_set.BUSY, 0)
    (tmp_path / "n").unlink()
    with pytest.raises(CommandFailed, match="Could not get lock"):
        Work(tmp_path / "driver.log", lambda text: None, wait_s=0).patiently(["sh", "-c", script], apt_set.BUSY, 0)
    with pytest.raises(CommandFailed, match="broken"):
        work.patiently(["sh", "-c", "echo broken; exit 100"], apt_set.BUSY, 0)
