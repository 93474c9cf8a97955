"""No check passes by what could not be read: every source of the probe is broken in every way, one at a time.

The sources are not listed by hand: a machine's commands are those that the probe was seen to run, its files those that
it was seen to look for. What a check rests on is not taken from its own declaration either: for each source there is
an answer that makes the checks fail that rest on it (`SICK`), so these may not pass when it gives no answer at all.
"""

from __future__ import annotations

import os
import shutil
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

import pytest

from gpuhost.checks.base import FAIL, PASS, SKIP
from gpuhost.diagnoses import verdict as checks
from gpuhost.host.commands import NOT_FOUND, TIMED_OUT
from gpuhost.host.edges import Edges
from gpuhost.report import report

from .collected import BESIDE, judged
from .whole import EDITOR, VARIABLE, Answer, Whole

Json = Dict[str, Any]
OWN = "http://ubuntu-archive.example/ubuntu"
KINDS = ("cpu", "signed", "own key", "unsigned", "beside")
K = "4.15.0-213-generic"


def swap(old: str, new: str) -> Callable[[str], str]:
    """A change of a text, which must hold what is changed."""

    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def instead(new: str) -> Callable[[str], str]:
    """Another text."""
    return lambda text: new


Sick = Optional[Callable[[str], str]]
#: A command (as one line) or a file, by a pattern; what it would say on a sick machine; the checks that fail by that.
#: Without a change: nothing can be said there that fails these checks by itself, and yet they rest on it.
SICK: List[Tuple[str, Sick, Tuple[str, ...]]] = [
    ("uname -m", instead("aarch64\n"), ("host.platform",)),
    ("dpkg --print-architecture", instead("arm64\n"), ("driver.installed",)),
    ("dpkg --audit", instead("The following packages are half configured:\n x\n"), ("host.dpkg",)),
    (
        "dpkg --verify *",
        instead("missing     /usr/lib/x86_64-linux-gnu/libcuda.so.525.105.17\n"),
        ("driver.installed",),
    ),
    ("dpkg-query *Want}\\t${db:Status-Status}\\n", swap("install\tinstalled", "install\tunpacked"), ("host.dpkg",)),
    ("dpkg-query *Depends}\\n", swap("\thold\t", "\tinstall\t"), ("guard.holds",)),
    ("dpkg-query *Depends}\\n", swap(f"\t{BESIDE}\thold", f"\t{BESIDE}\tinstall"), ("virtualbox.kept",)),
    ("dpkg-query *Depends}\\n", swap(f"\t{BESIDE}\t", "\t6.0.24\t"), ("virtualbox.one",)),
    ("apt-cache * policy", swap("o=Ubuntu", "o=Other"), ("host.sources-foreign",)),
    ("apt-cache * policy", None, ("kernel.fixes",)),
    ("apt-cache * madison linux-generic *", None, ("kernel.fixes",)),
    ("dpkg-query *Depends}\\n", None, ("kernel.fixes",)),
    ("/proc/sys/kernel/osrelease", None, ("kernel.fixes",)),
    ("apt-get indextargets *", swap("\tbionic\tbionic\n", "\tjammy\tbionic\n"), ("host.sources-release",)),
    ("apt-cache * pkgnames", instead("nvidia-driver-999\n"), ("host.sources-foreign",)),
    (
        "apt-cache * madison linux-image-generic*",
        swap(f"{OWN} bionic/main", f"{EDITOR} stable/main"),
        ("host.sources-foreign",),
    ),
    ("nvidia-smi *compute_cap*", swap("NVIDIA GeForce GTX 750 Ti", "[Unknown Error]"), ("driver.cards",)),
    ("mokutil --sb-state", instead("SecureBoot enabled\n"), ("driver.signed",)),
    ("mokutil --sb-state", None, ("virtualbox.signed",)),
    ("mokutil --test-key *", swap("is already enrolled", "is not enrolled"), ("driver.signed",)),
    ("mokutil --test-key *", swap("is already enrolled", "is not enrolled"), ("virtualbox.signed",)),
    (f"modinfo -k {K} nvidia", swap("525.105.17", "470.182.03"), ("driver.module",)),
    (f"modinfo -k {K} -F filename nvidia-uvm", None, ("driver.nodes",)),
    (f"modinfo -k {K} vbox*", swap("5.2.42", "5.2.40"), ("virtualbox.release",)),
    (f"modinfo -k {K} vbox*", None, ("virtualbox.modules",)),
    ("/usr/bin/VBoxManage --version", swap("5.2.42", "6.0.24"), ("virtualbox.release",)),
    ("lsinitramfs *", instead("lib/modules/K/nouveau.ko\n"), ("driver.nouveau",)),
    ("*/nvcc --version", swap("release 11.8", "release 10.0"), ("cuda.toolkit",)),
    ("/etc/os-release", swap("VERSION_ID", "XVERSION_ID"), ("host.platform",)),
    ("/etc/apt/sources.list", instead("dep x\n"), ("host.sources-readable",)),
    ("/etc/apt/sources.list.d/*", instead("dep x\n"), ("host.sources-readable",)),
    ("/etc/apt/sources.list.d", None, ("host.sources-readable", "host.sources-release", "host.sources-foreign")),
    ("/proc/modules", swap("nvidia", "nouveau 1 0 - Live 0x0\nnvidia"), ("driver.nouveau",)),
    ("/proc/modules", swap("vboxdrv ", "vboxguest "), ("virtualbox.loaded",)),
    ("/proc/modules", None, ("virtualbox.processor",)),
    ("/proc/driver/nvidia/version", swap("525", "470"), ("driver.loaded", "cuda.driver")),
    ("/proc/sys/kernel/osrelease", swap(K, "4.15.0-1-generic"), ("driver.loaded",)),
    ("/sys/bus/pci/devices", None, ("lock.cards", "gpu.present")),
    ("/sys/bus/pci/devices/0000:01:00.0/device", instead("0x1c30\n"), ("lock.cards",)),
    ("/sys/bus/pci/devices/0000:01:00.0/vendor", instead("0x8086\n"), ("lock.cards",)),
    ("/sys/bus/pci/devices/0000:01:00.0/class", instead("0x020000\n"), ("lock.cards",)),
    ("/sys/bus/pci/devices/*/vendor", None, ("lock.cards",)),
    ("/sys/bus/pci/devices/*/class", None, ("lock.cards",)),
    ("/sys/bus/pci/devices/*:*", None, ("lock.cards",)),
    ("/sys/module/nvidia_uvm", None, ("driver.nodes",)),
    ("/sys/module/vboxdrv/version", swap("5.2.42", "5.2.40"), ("virtualbox.release",)),
    ("/sys/module/kvm/parameters/enable_virt_at_load", swap("N", "Y"), ("virtualbox.processor",)),
    ("/dev/vboxdrv", None, ("virtualbox.loaded",)),
    ("/usr/bin/VBoxManage", None, ("virtualbox.release",)),
    ("/etc/group", swap("vboxusers", "vboxsf"), ("virtualbox.group",)),
    (VARIABLE, None, ("driver.signed",)),
    ("/sys/firmware/efi*", None, ("driver.signed",)),
    ("/lib/modules", None, ("kernel.boots",)),
    (f"/lib/modules/{K}", None, ("kernel.boots",)),
    (f"/lib/modules/{K}/modules.dep", None, ("kernel.boots",)),
    (f"/boot/vmlinuz-{K}", None, ("kernel.boots",)),
    (f"/boot/initrd.img-{K}", None, ("driver.nouveau",)),
    ("/etc/modprobe.d", None, ("driver.nouveau",)),
    ("/etc/modprobe.d/*", instead("\n"), ("driver.nouveau",)),
    ("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.*", None, ("driver.match",)),
    ("/dev", None, ("driver.nodes",)),
    ("/opt/gpuhost/current", None, ("lock.provisioned", "lock.generation", "opencv.installed")),
    ("/opt/gpuhost/generations/1/stack.json", swap('"host": "box"', '"host": "other"'), ("lock.generation",)),
    ("/opt/gpuhost/store/cuda-*/.gpuhost.json", swap("0", "1"), ("cuda.installed",)),
    ("/opt/gpuhost/store/cudnn-*/.gpuhost.json", swap("0", "1"), ("cudnn.installed",)),
    ("/opt/gpuhost/store/opencv_cuda-*/.gpuhost.json", instead('{"digest": "1"}'), ("opencv.installed",)),
    ("/opt/gpuhost/store/dl4cv-*/.gpuhost.json", instead('{"digest": "1"}'), ("tensorflow.installed",)),
    ("/opt/gpuhost/store/yolo-*/.gpuhost.json", swap("0", "1"), ("detector.installed",)),
    ("/opt/gpuhost/generations/1/cuda/version.json", swap("11.8", "10.0"), ("cuda.toolkit",)),
    ("/opt/gpuhost/generations/1/cudnn/include/cudnn_version.h", swap("MAJOR 8", "MAJOR 7"), ("cudnn.version",)),
    ("/opt/gpuhost/state/driver.json", swap("525", "470"), ("driver.installed",)),
    ("/opt/gpuhost/state/virtualbox.json", swap('"version": "5.2.42"', '"version": "6.0.24"'), ("virtualbox.release",)),
    ("/opt/gpuhost/state/virtualbox.json", swap(BESIDE, "6.0.24"), ("virtualbox.one", "virtualbox.kept")),
    ("/opt/gpuhost/state/virtualbox.json", swap('"ann"', '"bob"'), ("virtualbox.group",)),
    (
        "/opt/gpuhost/state/virtualbox.json",
        None,
        ("virtualbox.modules", "virtualbox.signed", "virtualbox.loaded", "virtualbox.processor"),
    ),
    ("/opt/gpuhost/state/guard.json", None, ("guard.holds",)),
    ("/etc/apt/preferences.d/gpuhost", swap("525", "470"), ("guard.pins",)),
    ("/etc/apt/preferences.d/gpuhost", swap(BESIDE, "6.0.24"), ("virtualbox.kept",)),
    ("/etc/apt/apt.conf.d/52gpuhost-unattended-upgrades", swap("nvidia", "x"), ("guard.blacklist",)),
]
#: What no check passes by, so that a machine on which it cannot be read is incomplete, and that is all.
TOLD_ONLY = (
    "df *",
    "/etc/prime-discrete",
    "/proc/acpi/bbswitch",
    "/usr/bin/python3* --version",
    "/proc/sys/kernel/hostname",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/opt/gpuhost/state/pair.json",
    # Absent on these machines: test_fixes has them in every form.
    "/opt/gpuhost/state/automatic.json",
    "/opt/gpuhost/state/kernel_offer.json",
)
#: What only explains a failure, or is asked whether it is there and nothing else, and may be absent.
ONLY_EXPLAINS = (
    "dmesg",
    "/dev/nvidia*",
    "dkms status",
    "nvidia-smi *memory.free*",
    "nvidia-smi *mig.mode.current*",
    "nvidia-smi -L",
    "*/subsystem_vendor",
    "*/subsystem_device",
    "/sys/bus/pci/devices/*/driver",
    "/run/reboot-required",
    "/var/run/reboot-required",
    "/usr/bin",
    "/usr/bin/lsinitr*",
    "/usr/bin/nvidia-modprobe",
    "/opt",
    "/opt/gpuhost",
    "/opt/gpuhost/state/driver.pending",
    "/opt/gpuhost/state/virtualbox.pending",
    "/var/lib/apt/lists/*",
    "/opt/gpuhost/generations/1/cuda/bin/nvcc",
    f"/lib/modules/{K}/build",
    "/var/lib/shim-signed/mok/MOK.der",
    # Where a host without a lock runs, which chooses the words for it (tests of the doctor).
    "/.dockerenv",
    "/run/.containerenv",
    "/run/systemd/container",
    "/proc/self/cgroup",
    "/dev/dxg",
    "/etc/cdi",
    "/var/run/cdi",
    # A form of D44 is read there: test_driver_probe tries it.
    "/proc/cmdline",
)
#: Ways in which a source is another machine's honest state and not one that could not be read.
HONEST: List[Tuple[str, str, str]] = [
    ("dpkg --audit", "empty", "an audit that finds nothing says nothing"),
    ("apt-cache * madison linux-generic *", "empty", "an archive may have dropped what leads to newer kernels"),
    ("dpkg --verify *", "empty", "no file is missing or changed"),
    ("dkms status", "missing", "a host need not have DKMS"),
    ("modinfo * nvidia-uvm", "fail", "modinfo says that there is no such module"),
    ("nvidia-smi *", "missing", "a host need not have a driver"),
    ("dmesg", "empty", "the kernel's log was cleared"),
    ("/etc/apt/sources.list*", "drop", "there is no such source"),
    ("/etc/apt/sources.list*", "empty", "there is no such source"),
    ("/etc/apt/sources.list.d/*", "fifo", "apt passes over what is not a regular file"),
    ("/etc/apt/sources.list.d/*", "loop", "apt passes over what is not a regular file"),
    ("/sys/bus/pci/devices", "empty", "a machine may have no PCI devices: it has no card then"),
    ("/sys/bus/pci/devices/*:*", "drop", "the device is not in the machine"),
    ("/sys/module/nvidia_uvm", "*", "a folder that is only asked whether it is there"),
    ("/sys/module/kvm/parameters/enable_virt_at_load", "drop", "a kernel before 6.12 has no such setting"),
    ("/usr/bin/VBoxManage", "*", "only asked whether it is there; when dropped, the check fails"),
    ("/opt/gpuhost/state/virtualbox.json", "drop", "gpuhost has not installed VirtualBox then"),
    (VARIABLE, "*", "mokutil is asked then"),
    ("/sys/firmware/efi*", "drop", "the machine has a BIOS"),
    ("/sys/firmware/efi*", "*", "mokutil is asked then"),
    (f"/boot/initrd.img-{K}", "drop", "a kernel can boot without an initramfs"),
    (f"/boot/initrd.img-{K}", "*", "lsinitramfs reads it, and is made to fail above"),
    (f"/boot/vmlinuz-{K}", "*", "only asked whether it is there; when dropped, the check fails"),
    (f"/lib/modules/{K}/modules.dep", "*", "only asked whether it is there; when dropped, the check fails"),
    (f"/lib/modules/{K}", "*", "only asked whether it is there; when dropped, the check fails"),
    ("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.*", "empty", "only the name that it leads to is read"),
    ("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.*", "fifo", "only the name that it leads to is read"),
]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of machine."""
    return str(request.param)


@pytest.fixture
def looked_for(monkeypatch: pytest.MonkeyPatch) -> Set[str]:
    """Every name that the probe looks for from now on."""
    names: Set[str] = set()
    path = Edges.path

    def recording(self: Edges, name: str) -> Path:
        names.add(name)
        return path(self, name)

    monkeypatch.setattr(Edges, "path", recording)
    return names


def machine_results(seen: Json) -> Dict[str, str]:
    """The statuses of all checks."""
    return {name: found.status for name, found in judged(seen).items()}


def verdict(seen: Json) -> str:
    """The verdict over what was collected."""
    whole = "error" not in seen["machine"] and checks.is_whole(seen)
    return checks.verdict(judged(seen).values(), checks.is_provisioned(seen), whole)


def resting(source: str) -> Set[str]:
    """The checks that rest on a source."""
    return {name for pattern, _, names in SICK if fnmatchcase(source, pattern) for name in names}


def is_honest(source: str, way: str) -> bool:
    """Return whether a source that is broken in this way is an honest state."""
    return any(fnmatchcase(source, pattern) and named in (way, "*") for pattern, named, _ in HONEST)


def known(source: str, patterns: Tuple[str, ...]) -> bool:
    """Return whether it is one of these."""
    return any(fnmatchcase(source, pattern) for pattern in patterns)


def held_to(source: str, way: str, seen: Json, applicable: Set[str]) -> None:
    """Hold what was collected with one source broken in one way against the rule of this file."""
    statuses = machine_results(seen)
    passed = {name for name in resting(source) & applicable if statuses[name] == PASS}
    assert not passed, f"{source} ({way}): {passed} pass all the same"
    if not known(source, ONLY_EXPLAINS):
        assert verdict(seen) != "ok", f"{source} ({way}): the verdict is ok"
        told = FAIL in statuses.values() or checks.problems(seen)
        assert told, f"{source} ({way}): nobody is told"


def test_a_whole_machine_passes_every_check(tmp_path: Path, kind: str) -> None:
    """The control, and nothing is unread."""
    seen = Whole(tmp_path / "fs", kind).collect()
    assert "error" not in seen["machine"], seen["machine"]
    assert checks.problems(seen) == []
    results = judged(seen)
    assert {n: r.actual for n, r in results.items() if r.status == FAIL} == {}
    unasked = {name for name, check in checks.BY_ID.items() if check.gpu or check.part == "service"}
    unasked |= {name for name in checks.BY_ID if name.startswith("virtualbox.") and kind != "beside"}
    assert all(n in unasked or n == "gpu.present" for n, r in results.items() if r.status == SKIP)
    if kind != "cpu":
        assert verdict(seen) == "ok"


COMMAND_WAYS: Dict[str, Answer] = {
    "fail": (1, "", "it broke"),
    "damaged": (2, "", "it broke"),
    "timeout": (TIMED_OUT, "", "it gave no answer"),
    "empty": (0, "", ""),
    "missing": (NOT_FOUND, "", "it is not installed"),
}
WARNS = "dpkg-query: warning: parsing file '/var/lib/dpkg/status' near line 9 package 'adduser':\n missing field\n"


def line(argv: Tuple[str, ...]) -> str:
    """A command as one line."""
    return " ".join(argv)


def test_a_command_without_an_answer_is_never_green(tmp_path: Path, kind: str) -> None:
    """It fails, does not end, says nothing, or is not there."""
    whole = Whole(tmp_path / "fs", kind)
    healthy = machine_results(whole.collect())
    applicable = {name for name, status in healthy.items() if status == PASS}
    for argv in sorted(set(whole.asked)):
        kept = whole.run(argv, 0)
        if kept[0] == NOT_FOUND or (argv[0] == "modinfo" and kept[0] == 1):
            continue  # there is none on this machine
        for way, answer in COMMAND_WAYS.items():
            whole.answers[argv] = answer
            if not is_honest(line(argv), way):
                held_to(line(argv), way, whole.collect(), applicable)
        if argv[0] in ("dpkg", "dpkg-query"):
            whole.answers[argv] = (0, kept[1], WARNS.replace("dpkg-query", argv[0]))
            held_to(line(argv), "warns", whole.collect(), applicable)
        whole.answers[argv] = kept


def ways(path: Path) -> Iterator[Tuple[str, Callable[[], object]]]:
    """The ways to break a file, a link or a folder."""
    yield "drop", lambda: None
    yield "loop", lambda: path.symlink_to(path.name)  # nobody can read that, root neither
    if path.is_dir() and not path.is_symlink():
        yield "empty", path.mkdir
        yield "file", path.touch
    else:
        yield "empty", path.touch
        yield "fifo", lambda: os.mkfifo(str(path))


def test_a_file_that_cannot_be_read_is_never_green(tmp_path: Path, kind: str, looked_for: Set[str]) -> None:
    """It is gone, empty, a pipe, a link to itself; the same with folders."""
    whole = Whole(tmp_path / "fs", kind)
    healthy = machine_results(whole.collect())
    applicable = {name for name, status in healthy.items() if status == PASS}
    aside = tmp_path / "aside"
    names = sorted(name for name in looked_for if os.path.lexists(str(whole.folder / name.lstrip("/"))) and name != "/")
    assert len(names) > 20
    for name in names:
        path = whole.folder / name.lstrip("/")
        for way, break_it in list(ways(path)):
            if is_honest(name, way) or known(name, ONLY_EXPLAINS):
                continue
            if (kind, name, way) == ("cpu", "/proc/modules", "empty"):
                continue  # with no driver at work, a kernel may have loaded nothing
            path.rename(aside)
            try:
                break_it()
                held_to(name, way, whole.collect(), applicable)
            finally:
                remove(path)
                aside.rename(path)
    assert machine_results(whole.collect()) == healthy


def remove(path: Path) -> None:
    """Take away whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(str(path))
    elif os.path.lexists(str(path)):
        path.unlink()


def test_what_a_sick_source_says_is_seen(tmp_path: Path) -> None:
    """Else the table would prove nothing: every answer in it fails its checks, on one kind of machine at least."""
    left = {(pattern, change, names) for pattern, change, names in SICK if change is not None}
    for kind in KINDS:
        whole = Whole(tmp_path / kind, kind)
        whole.collect()
        for row in sorted(left, key=lambda row: row[0]):
            pattern, change, names = row
            assert change is not None
            for argv in [a for a in sorted(set(whole.asked)) if fnmatchcase(line(a), pattern)]:
                kept = whole.run(argv, 0)
                if kept[0] == NOT_FOUND:
                    continue
                try:
                    whole.answers[argv] = (0, change(kept[1]), "")
                except AssertionError:
                    continue
                if set(names) & failed(whole):
                    left.discard(row)
                whole.answers[argv] = kept
            for path in sorted(whole.folder.glob(pattern.lstrip("/"))) if pattern.startswith("/") else []:
                text = path.read_text(encoding="utf-8", errors="replace")
                try:
                    path.write_text(change(text), encoding="utf-8")
                except AssertionError:
                    continue
                if set(names) & failed(whole):
                    left.discard(row)
                path.write_text(text, encoding="utf-8")
    assert left == set()


def failed(whole: Whole) -> Set[str]:
    """The checks that fail on a machine as it is."""
    return {name for name, status in machine_results(whole.collect()).items() if status == FAIL}


#: Files without which the probe looks in a second place.
FIRST_PLACES = ("/etc/os-release", "/proc/modules", "/opt/gpuhost/generations/1/cuda/version.json")


def asked_of_all(tmp_path: Path) -> Iterator[Whole]:
    """Every kind of machine, collected; also without what has a second place."""
    for kind in KINDS:
        whole = Whole(tmp_path / kind, kind)
        whole.collect()
        kept = list(whole.asked)
        for name in FIRST_PLACES:
            path = whole.folder / name.lstrip("/")
            if path.exists():
                path.rename(tmp_path / "aside")
                whole.collect()
                (tmp_path / "aside").rename(path)
        whole.asked = kept
        yield whole


def test_no_source_is_forgotten(tmp_path: Path, looked_for: Set[str]) -> None:
    """A source that is new stands in none of the tables above, and this fails until it does."""
    asked = {line(argv) for whole in asked_of_all(tmp_path) for argv in whole.asked}
    tables = (*(pattern for pattern, _, _ in SICK), *TOLD_ONLY, *ONLY_EXPLAINS, *ELSEWHERE)
    names = asked | {name for name in looked_for if not name.startswith(str(tmp_path))}
    assert sorted(name for name in names if not known(name, tables)) == []


#: Other places of what is tried above, where one machine has only one of them.
ELSEWHERE = (
    "/",
    "/usr/lib/os-release",
    "/run/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
    "/usr/lib64/libnvidia-ml.so.1",
    "/usr/lib/libnvidia-ml.so.1",
    "/lib64/libnvidia-ml.so.1",
    "/sys/module",
    "modinfo *nvidia-current*",
    "/opt/gpuhost/generations/1/cuda/version.txt",
    "/opt/gpuhost/generations/1/cudnn/include/cudnn.h",
    "/lib/modules/*/kernel",
    # Oracle's installer, which stands beside the distribution's packages on no whole machine: a fault of D56 has it.
    "/opt/VirtualBox/VBoxManage",
    # What a boot loader or a locked down kernel has: test_parsers_boot and test_field try them.
    "/boot/grub*/grub.cfg",
    "/etc/default/grub*",
    "/sys/kernel/security/lockdown",
    "/sys/module/module/parameters/sig_enforce",
    # What a folder of the store holds: test_store_tree changes each kind of it.
    "/opt/gpuhost/store/*",
)


def test_every_check_names_its_sources_and_the_probe_has_them(tmp_path: Path, looked_for: Set[str]) -> None:
    """By the names under which the probe tells that it could not read them."""
    there: Set[str] = set()
    for whole in asked_of_all(tmp_path):
        for argv in sorted(set(whole.asked)):
            kept = whole.answers.get(argv)
            whole.answers[argv] = COMMAND_WAYS["damaged"]
            seen = whole.collect()
            there |= {problem["what"] for problem in checks.problems(seen)} | {argv[0]}
            whole.answers.pop(argv)
            whole.answers.update({} if kept is None else {argv: kept})
    there |= looked_for
    for check in checks.CHECKS:
        alone = check.part != "machine" or check.id in ("host.observed", "lock.present")
        assert bool(check.sources) != alone, check.id
        for source in check.sources:
            pattern = source.replace("{root}", "/opt/gpuhost")
            assert any(fnmatchcase(name, pattern) for name in there), f"{check.id}: {source}"


def test_one_source_that_cannot_be_read_is_one_failure(tmp_path: Path) -> None:
    """A damaged database of dpkg fails the check of dpkg; what else rests on it is skipped and names that check."""
    whole = Whole(tmp_path / "fs", "signed")
    whole.collect()
    damaged = (
        "dpkg-query: error: parsing file '/var/lib/dpkg/status' near line 5 package 'x':\n missing 'Version' field"
    )
    for argv in {argv for argv in whole.asked if argv[0] in ("dpkg", "dpkg-query")}:
        whole.answers[argv] = (2, "", damaged)
    results = judged(whole.collect())
    assert [name for name, found in results.items() if found.status == FAIL] == ["host.dpkg"]
    assert "dpkg-query could not be read: dpkg-query: error: parsing file" in results["host.dpkg"].actual
    for name in ("driver.installed", "guard.holds", "driver.loaded"):
        assert results[name].actual.startswith("not reached because of"), results[name]
    assert "host.dpkg" in results["driver.installed"].actual


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/opt/gpuhost/state/virtualbox.json", "virtualbox.one"),
        ("/sys/module/vboxdrv/version", "virtualbox.release"),
        ("/dev/vboxdrv", "virtualbox.loaded"),
        ("/sys/module/kvm/parameters/enable_virt_at_load", "virtualbox.processor"),
        ("/etc/group", "virtualbox.group"),
    ],
)
def test_what_is_unread_of_virtualbox_fails_its_own_check(tmp_path: Path, file: str, name: str) -> None:
    """And none of the driver's. A record that cannot be read does not say that VirtualBox was never installed."""
    whole = Whole(tmp_path / "fs", "beside")
    path = whole.folder / file.lstrip("/")
    path.unlink()
    path.symlink_to(path.name)
    results = judged(whole.collect())
    assert [check for check, found in results.items() if found.status == FAIL] == [name]
    assert f"{file} could not be read" in results[name].actual


def test_what_no_check_rests_on_is_told_and_makes_a_host_incomplete(tmp_path: Path) -> None:
    """What only explains failures is told, and no more."""
    whole = Whole(tmp_path / "fs", "signed")
    whole.answers["dmesg",] = (1, "", "dmesg: read kernel buffer failed: Operation not permitted")
    seen = whole.collect()
    assert [problem["what"] for problem in checks.problems(seen)] == ["dmesg"]
    assert verdict(seen) == "ok"
    df = next(argv for argv in whole.asked if argv[0] == "df")
    whole.answers[df] = COMMAND_WAYS["timeout"]
    seen = whole.collect()
    assert verdict(seen) == "incomplete"
    assert "df / could not be read: it gave no answer" in report.notes(seen)
