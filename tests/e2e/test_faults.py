"""Faults on one imitation Ubuntu 18.04 host with the stack installed: verify/ names each, and its remedy heals it.

The host is read and judged as `pytest verify/` does, and the remedy is typed as printed. The results stand in
faults.json, from which docs/reference/diagnoses.md is made; GPUHOST_WRITE_FAULTS=1 writes that file again.

Imitated is what README.md says of these hosts. D01 and D09 are staged in what the kernel shows, as none is booted.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Set

import pytest

from gpuhost.checks.base import FAIL, SKIP, Result
from gpuhost.diagnoses import verdict as checks
from gpuhost.host.guard import rules as guard
from gpuhost.verification.collect import Host, Options

from . import healed
from .beds.archive import next_month
from .beds.commands import host as outside
from .beds.releases import BIONIC
from .beds.standins import elf
from .beds.ubuntu import UbuntuBed
from .fleet import GA, HWE, Kind, World

RECORD = Path(__file__).resolve().parent / "faults.json"
SITE = ("site.yml", "--skip-tags", "verify,opencv,yolo")
NAME = "box"
NEXT_HWE = BIONIC.next_kernels[1]
KINDS = {NAME: Kind("1c30", HWE, True, "525.105.17", "archive")}
#: What cannot pass here: nvcc's stand-in builds no OpenCV, and the libraries' stand-ins compute nothing.
LEFT_OUT = ["opencv.installed", "tensorflow.gpu"]
CUDA = "/usr/lib/x86_64-linux-gnu/libcuda"
MODULE = f"/lib/modules/{HWE}/kernel/nvidia-525/nvidia.ko"


class Fault(NamedTuple):
    """One fault: its diagnosis, the check that fails, what happened in words, and how it is done."""

    identity: str
    check: str
    what: str
    inject: Callable[[World, UbuntuBed], Any]


def shell(command: str) -> Callable[[World, UbuntuBed], Any]:
    """A fault that a shell command on the host makes."""
    return lambda world, bed: bed.run(["sh", "-c", command])


def old_release(world: World, bed: UbuntuBed) -> None:
    """16.04 beside 18.04."""
    line = f"deb {world.archive.url} xenial main"
    bed.run(["sh", "-c", f"echo '{line}' > /etc/apt/sources.list.d/xenial.list"])


def old_module_loaded(world: World, bed: UbuntuBed) -> None:
    """The kernel shows the module of the release before."""
    shown = bed.firmware.folder / "kernel/driver/nvidia/version"
    shown.write_text(shown.read_text().replace("525.105.17", "525.85.12"))


def nothing_loaded(world: World, bed: UbuntuBed) -> None:
    """The kernel shows no NVIDIA module, and nobody has the card."""
    kernel = bed.firmware.folder / "kernel"
    outside(["rm", "-r", str(kernel / "driver/nvidia"), str(kernel / "module/nvidia")])
    rows = [line for line in (kernel / "modules").read_text().splitlines(keepends=True) if "nvidia" not in line]
    (kernel / "modules").write_text("".join(rows))
    for card in bed.firmware.cards:
        (bed.firmware.folder / "pci" / card.address / "driver").unlink()


def newer_kernel(world: World, bed: UbuntuBed) -> None:
    """Somebody installs the archive's next kernel."""
    world.archive.add(next_month())
    bed.run(["apt-get", "update"])
    names = [f"linux-{part}-{NEXT_HWE.release}" for part in ("image", "modules")]
    bed.run(["apt-get", "install", "-y", "--no-install-recommends", *names], timeout=600)


def older_cudnn(world: World, bed: UbuntuBed) -> None:
    """The folder of an older cuDNN comes first in the linker's list, as NVIDIA's packages put theirs."""
    folder = bed.copy.root / "usr/local/cuda-11.2/lib64"
    folder.mkdir(parents=True)
    (folder / "libcudnn.so.8").write_bytes(elf.library("libcudnn.so.8", {"cudnnGetVersion": elf.answer(8100)}))
    bed.run(["sh", "-c", "echo /usr/local/cuda-11.2/lib64 > /etc/ld.so.conf.d/000_cuda.conf && ldconfig"])


def unsigned_module(world: World, bed: UbuntuBed) -> None:
    """The module in place has lost its signature."""
    path = bed.copy.root / MODULE.lstrip("/")
    path.write_bytes(elf.split_signature(path.read_bytes())[0])


def kept_out(world: World, bed: UbuntuBed) -> None:
    """Somebody blacklists the driver as prime-select does, and the next start is without it."""
    lines = "blacklist nvidia\nblacklist nvidia-drm\nblacklist nvidia-modeset\n"
    bed.run(["sh", "-c", f"printf '{lines}' > /etc/modprobe.d/blacklist-nvidia.conf"])
    bed.reboot()


def newer_library(world: World, bed: UbuntuBed) -> None:
    """Somebody takes one hold off and installs a newer file by hand; the other packages' dependencies are unmet."""
    kept = "/opt/gpuhost/cache/debs/*/libnvidia-compute-525_*.deb"
    edit = "sed -i 's/^Version: .*/Version: 525.147.05-0ubuntu0.18.04.1/' /root/newer/DEBIAN/control"
    made = f"dpkg-deb -R {kept} /root/newer && {edit} && dpkg-deb -b /root/newer /root/newer.deb"
    bed.run(["sh", "-c", f"apt-mark unhold libnvidia-compute-525 && {made} && dpkg -i /root/newer.deb"])


def pinned_kernel(world: World, bed: UbuntuBed) -> None:
    """Somebody installs the release's first kernel, names it in GRUB's settings, and starts it."""
    names = [f"linux-{part}-{GA}" for part in ("image", "modules")]
    bed.run(["apt-get", "install", "-y", "--no-install-recommends", *names], timeout=600)
    entry = f"Advanced options for Ubuntu>Ubuntu, with Linux {GA}"
    bed.run(["sh", "-c", f"sed -i 's/^GRUB_DEFAULT=.*/GRUB_DEFAULT=\"{entry}\"/' /etc/default/grub && update-grub"])
    bed.reboot()
    assert bed.read("/proc/sys/kernel/osrelease").strip() == GA


FAULTS = (
    Fault("D02", "guard.holds", "a package is no longer on hold", shell("apt-mark unhold libnvidia-compute-525")),
    Fault("D04", "guard.pins", "the pins are gone", shell(f"rm {guard.PREFERENCES}")),
    Fault("D03", "guard.blacklist", "the blacklist is gone", shell(f"rm {guard.UNATTENDED}")),
    Fault("D06", "host.sources-release", "a source of Ubuntu 16.04", old_release),
    Fault(
        "D07",
        "host.sources-foreign",
        "NVIDIA's repository, which apt cannot read",
        shell(
            "echo 'deb https://developer.download.nvidia.com/compute/cuda/repos/ubuntu1804/x86_64 /'"
            " > /etc/apt/sources.list.d/cuda.list"
        ),
    ),
    Fault("D02", "driver.installed", "a newer package of one library was installed past its hold", newer_library),
    Fault("D40", "driver.installed", "a file of the driver is gone", shell(f"mv {CUDA}.so.525.105.17 /root/")),
    Fault("D14", "driver.nodes", "CUDA's device node is gone", shell("rm /dev/nvidia-uvm")),
    Fault("D01", "driver.loaded", "an older module is loaded than the library's", old_module_loaded),
    Fault(
        "D01",
        "driver.match",
        "a library of another version is in the place of the driver's",
        shell("cd /usr/lib/x86_64-linux-gnu; new=libnvidia-ml.so.470.1; touch $new; ln -sf $new libnvidia-ml.so.1"),
    ),
    Fault("D09", "driver.loaded", "the module is not loaded", nothing_loaded),
    Fault(
        "D30",
        "tensorflow.libraries",
        "the linker does not know the toolkit's folder",
        shell("rm /etc/ld.so.conf.d/gpuhost.conf && ldconfig"),
    ),
    Fault("D31", "tensorflow.cudnn", "an older cuDNN comes first for the linker", older_cudnn),
    Fault("D11", "driver.signed", "the module is not signed, under Secure Boot", unsigned_module),
    Fault(
        "D10",
        "driver.nouveau",
        "the initramfs was made before nouveau was blacklisted",
        lambda world, bed: healed.old_initramfs(bed, HWE),
    ),
    Fault("D10", "driver.nouveau", "nouveau is not blacklisted", shell(f"{healed.BLACKLISTS} | xargs rm")),
    Fault("D08", "driver.module", "the module's file is gone", shell(f"rm {MODULE} && depmod {HWE}")),
    Fault("D44", "driver.loaded", "a file blacklists the driver itself", kept_out),
    Fault("D50", "kernel.boots", "GRUB's settings name an older kernel", pinned_kernel),
    # The last one: the archive's packages of that kernel leave depmod's files behind.
    Fault("D08", "kernel.boots", "a newer kernel is installed", newer_kernel),
)


@pytest.fixture(scope="module")
def world(bed_tools: None, ubuntu_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One host, with the whole stack but OpenCV."""
    with World(tmp_path_factory.mktemp("faults"), KINDS, nvidia_driver_reboot=True) as made:
        made.plan()
        made.controller.ok(*SITE)
        yield made


@pytest.fixture(scope="module")
def rows() -> List[Dict[str, str]]:
    """What was seen, to be checked against the record."""
    return []


def verified(world: World, tensorflow: bool = True) -> Dict[str, Result]:
    """The results of all checks, as verify/ makes them; without TensorFlow's own where a fault cannot concern them,
    because it takes long to start.
    """
    bed = world.beds[NAME]

    def run(command: str) -> Any:
        done = bed.run(["sh", "-c", command], check=False)
        return done.returncode, done.stdout, done.stderr

    host = Host(NAME, run, world.controller.lock_file(NAME), Options(benchmark=False))
    for check in checks.CHECKS:
        if tensorflow or check.part != "dl4cv":
            host.result(check.id, lambda text: None)
    return host.results


def failed(results: Dict[str, Result]) -> List[str]:
    """The checks that fail, but for what was left out."""
    return [name for name, found in results.items() if found.status == FAIL and name not in LEFT_OUT]


def obey(world: World, remedy: str) -> None:
    """Type a remedy as it is printed: on the host as root, and then in the project's folder."""
    bed = world.beds[NAME]
    command, here = healed.places(remedy)
    if command:
        before = bed.machine.boots
        bed.run(["sh", "-c", healed.answered(command)], check="reboot" not in command)
        if "reboot" in command:
            bed.machine.wait_for_boot(before)
    for line in here.split(" && ") if here else []:
        words = shlex.split(line)
        assert words[:2] == ["./run", "ansible-playbook"], remedy
        world.controller.ok(*words[2:])


def test_the_host_is_in_order(world: World) -> None:
    """The control."""
    assert failed(verified(world)) == []


#: One for each thing that a remedy here puts right: the guard, the sources, a start of the host, the linker, a module.
#: The others are run with `-m e2e`.
SAMPLE = ("guard.holds", "host.sources-release", "driver.loaded", "tensorflow.libraries", "driver.signed")


def cases() -> Iterator[Any]:
    """Every fault; the first of each check of the sample runs in CI."""
    seen: Set[str] = set()
    for fault in FAULTS:
        marks = () if fault.check in SAMPLE and fault.check not in seen else (pytest.mark.full,)
        seen.add(fault.check)
        yield pytest.param(fault, id=f"{fault.identity}-{fault.what.replace(' ', '-')}", marks=marks)


@pytest.mark.parametrize("fault", list(cases()))
def test_a_fault_is_named_and_healed(world: World, fault: Fault, rows: List[Dict[str, str]]) -> None:
    """Its check, with its diagnosis, and no other; what hangs on it is not reached; the remedy turns it green."""
    tensorflow = checks.BY_ID[fault.check].part == "dl4cv"
    fault.inject(world, world.beds[NAME])
    results = verified(world, tensorflow)
    assert failed(results) == [fault.check], [results[name] for name in failed(results)]
    found = results[fault.check]
    assert found.diagnosis == fault.identity, found
    named = [r for r in results.values() if r.status == SKIP and r.actual.startswith("not reached")]
    assert all(r.actual.rpartition(" ")[2] in (fault.check, *LEFT_OUT) for r in named)
    obey(world, found.remediation)
    assert failed(verified(world, tensorflow)) == []
    # The stand-ins' checksums are other ones on each machine.
    remedy = re.sub("[0-9a-f]{64}", "SHA256", found.remediation)
    rows.append({"diagnosis": fault.identity, "check": fault.check, "fault": fault.what, "remedy": remedy})


def test_after_all_of_them_the_host_is_in_order(world: World) -> None:
    """TensorFlow included."""
    assert failed(verified(world)) == []


def test_the_record_is_what_was_seen(rows: List[Dict[str, str]]) -> None:
    """The page about diagnoses is made from it."""
    if len(rows) < len(FAULTS):
        pytest.skip("not every fault was staged in this run")
    assert healed.kept(RECORD, __file__, rows) == rows
