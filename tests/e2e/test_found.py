"""Faults on hosts that gpuhost has never touched: the doctor, as its one file, names each, and its remedy, typed as
printed, heals it.

Imitated is what README.md says of the Ubuntu hosts, and here also `ubuntu-drivers` and `nvidia-ctk`, which Debian does
not have, and a libcuda that fills memory by itself: no card computes. Real are apt, dpkg, the linker and the shell that
the remedies are typed into. The results stand in found.json, from which docs/reference/diagnoses.md is made;
GPUHOST_WRITE_FAULTS=1 writes that file again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import doctor_pyz
import pytest

from . import healed
from .beds import debs
from .beds.archive import Archive
from .beds.debs import File, Package
from .beds.driver_packages import computing
from .beds.packages import LIBRARIES, STANDINS
from .beds.standins import elf
from .beds.ubuntu import UbuntuBed, own_pythons

RECORD = Path(__file__).resolve().parent / "found.json"
PROGRAM = "/usr/local/share/gpuhost-doctor.pyz"
CUDA = "libnvidia-compute-530"
VERSION = "530.41.03"
COMPAT = "/usr/local/cuda-12.4/compat"
#: Beside the driver's own, the folder by which most people name the toolkit.
LINK = "/usr/local/cuda"
LINKER_FILE = "/etc/ld.so.conf.d/000_by_hand.conf"
#: Stands between what a remedy prints and what the doctor says after it.
CUT = "=== typed ==="


class Fault(NamedTuple):
    """One fault: its diagnosis, the check, what happened in words, how it is done, and the person's LD_LIBRARY_PATH."""

    identity: str
    check: str
    what: str
    inject: Callable[[UbuntuBed], Any]
    path: str = ""

    @property
    def setting(self) -> str:
        """What sets the variable in a shell, or a line that does nothing."""
        return f"export LD_LIBRARY_PATH={self.path}" if self.path else ":"


def compat(code: int) -> bytes:
    """The toolkit's own libcuda, on a card or beside a driver that it does not serve."""
    return elf.library("libcuda.so.1", {"cuInit": elf.answer(code), "cuDriverGetVersion": elf.store(12040)})


def in_folder(bed: UbuntuBed) -> None:
    """The toolkit was unpacked, not installed."""
    folder = bed.copy.root / COMPAT.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "libcuda.so.1").write_bytes(compat(804))
    link = bed.copy.root / LINK.lstrip("/")
    if not link.is_symlink():
        link.symlink_to("cuda-12.4")


def linked(file: str, line: str) -> Callable[[UbuntuBed], Any]:
    """Somebody adds a line to the linker's configuration, before the distribution's own."""

    def inject(bed: UbuntuBed) -> None:
        in_folder(bed)
        path = bed.copy.root / file.lstrip("/")
        path.write_text(line + "\n" + (path.read_text() if path.exists() else ""))
        bed.run(["ldconfig"])

    return inject


def packaged(bed: UbuntuBed) -> None:
    """NVIDIA's package of it is installed from a file, and the linker told."""
    content = {
        f"{COMPAT}/libcuda.so.1": File(compat(803)),
        "/etc/ld.so.conf.d/000_compat.conf": File(b"%s\n" % COMPAT.encode()),
    }
    made = Package("cuda-compat-12-4", "550.54.15-1", "cuda-compat", content=content)
    (bed.copy.root / "root/compat.deb").write_bytes(debs.build(made))
    bed.run(["dpkg", "--install", "/root/compat.deb"])
    bed.run(["ldconfig"])


def stale(name: str) -> Callable[[UbuntuBed], Any]:
    """The specification is of the driver before an upgrade."""

    def inject(bed: UbuntuBed) -> None:
        bed.run(["nvidia-ctk", "cdi", "generate", f"--output={name}"])
        bed.run(["sed", "-i", f"s/{VERSION}/530.30.02/", name])

    return inject


def nothing(bed: UbuntuBed) -> None:
    """A fresh host."""


def nouveau_first(bed: UbuntuBed) -> None:
    """The initramfs is an old one, and the machine has started with it."""
    healed.old_initramfs(bed, "all")
    bed.reboot()


def no_file(bed: UbuntuBed) -> None:
    """Somebody deletes the library, which dpkg does not notice."""
    bed.run(["sh", "-c", f"rm {LIBRARIES}/libcuda.so* && ldconfig"])


FAULTS = (
    Fault("D37", "driver.installed", "a card, and no driver", nothing),
    Fault("D10", "driver.nouveau", "the initramfs was made before nouveau was blacklisted", nouveau_first),
    Fault("D40", "cuda.library", "the library's files are gone", no_file),
    Fault("D48", "cuda.answers", "a variable leads to cuda-compat", in_folder, f"/opt/x:{COMPAT}/"),
    Fault("D48", "cuda.answers", "a variable leads there by a link", in_folder, f"{LINK}/compat"),
    Fault("D48", "cuda.answers", "one of the linker's files does", linked(LINKER_FILE, f" {LINK}/compat/ # x")),
    Fault("D48", "cuda.answers", "the linker's main file does", linked("/etc/ld.so.conf", COMPAT)),
    Fault("D48", "cuda.answers", "cuda-compat is installed", packaged),
    Fault("D49", "cuda.cdi", "a CDI specification of the driver before", stale("/etc/cdi/nvidia.yaml")),
)  # fmt: skip


@pytest.fixture(scope="module")
def archive(ubuntu_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """The imitated archive with ubuntu-drivers, and a CUDA library that answers."""
    with Archive(tmp_path_factory.mktemp("archive"), own_pythons()) as made:
        made.replace(computing(made.package(CUDA), VERSION))
        tool = {"/usr/bin/ubuntu-drivers": File((STANDINS / "ubuntu-drivers").read_bytes(), 0o755)}
        common = Package("ubuntu-drivers-common", "1:0.5.2.6", "ubuntu-drivers-common", "admin", content=tool)
        made.add([common])
        yield made


@pytest.fixture(scope="module")
def bed(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UbuntuBed]:
    """A fresh host with a card, the doctor, and NVIDIA's tool for containers."""
    folder = tmp_path_factory.mktemp("found")
    with UbuntuBed.fresh(cards=["1c30"], archive=archive, logs=folder / "logs") as made:
        (folder / "doctor.pyz").write_bytes(doctor_pyz.built())
        made.push(folder / "doctor.pyz", PROGRAM)
        made.push(STANDINS / "nvidia-ctk", "/usr/bin/nvidia-ctk")
        made.run(["chmod", "0755", "/usr/bin/nvidia-ctk"])
        yield made


@pytest.fixture(scope="module")
def rows() -> List[Dict[str, str]]:
    """What was seen, to be checked against the record."""
    return []


def examine(bed: UbuntuBed) -> str:
    """The command that runs the doctor. Until the next start the bed does not say that it is a container."""
    python = bed.inventory("host")["host"]["ansible_python_interpreter"]
    return f"rm -f /run/systemd/container; {python} {PROGRAM} --json"


def found(said: str) -> List[Tuple[str, str, str]]:
    """The diagnosis, check and remedy of each finding and of each risk, of a report as JSON."""
    report = json.loads(said)
    told = [(row["diagnosis"], row["check"], row["remedy"]) for row in report["findings"] + report["risks"]]
    assert (report["answer"] == "fine") is not bool(report["findings"]), report
    return told


def typed(bed: UbuntuBed, fault: Fault, remedy: str) -> List[Tuple[str, str, str]]:
    """What the doctor says after a remedy was typed as printed, in the person's shell."""
    before = bed.machine.boots
    # apt asks before it removes, and a person answers. A remedy may end in a comment.
    lines = ["yes | head -n 99 > /tmp/answers", fault.setting]
    lines += [f"{{ {remedy}\n}} < /tmp/answers", f"echo '{CUT}'", examine(bed)]
    done = bed.run(["sh", "-c", "\n".join(lines)], check=False, timeout=900)
    if "&& reboot" in remedy:
        bed.machine.wait_for_boot(before)
        done = bed.run(["sh", "-c", f"echo '{CUT}'\n{examine(bed)}"], check=False)
    return found(done.stdout.rpartition(CUT)[2])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.identity}-{fault.what.replace(' ', '-')}")
def test_a_fault_is_named_and_healed(bed: UbuntuBed, fault: Fault, rows: List[Dict[str, str]]) -> None:
    """Its diagnosis and no other, and nothing after the remedy: driver and CUDA work."""
    fault.inject(bed)
    seen = found(bed.run(["sh", "-c", f"{fault.setting}\n{examine(bed)}"], check=False).stdout)
    assert [row[:2] for row in seen] == [(fault.identity, fault.check)]
    remedy = seen[0][2]
    assert typed(bed, fault, remedy) == []
    rows.append({"diagnosis": fault.identity, "check": fault.check, "fault": fault.what, "remedy": remedy})


def test_the_record_is_what_was_seen(rows: List[Dict[str, str]]) -> None:
    """The page about diagnoses is made from it."""
    if len(rows) < len(FAULTS):
        pytest.skip("not every fault was staged in this run")
    assert healed.kept(RECORD, __file__, rows) == rows
