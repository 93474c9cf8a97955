"""Secure Boot with a real firmware, shim, GRUB and kernel: which modules are let in, in each state, and the role's way.

    ./run pytest -m full tests/e2e/secureboot -s

The tests stand in the order in which a machine goes through the states. Its card says who it is and answers nothing
else: the driver is loaded for it, and cannot start it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import pytest

from ..beds.bed import Bed
from ..controller import Controller, with_status
from . import disk, guest, mok_manager, root
from .guest import Guest
from .states import Record, record

pytestmark = pytest.mark.full

#: The kernel that the machine begins with is the archive's newest but one of 6.1; the later one is Debian 13's.
FIRST, LATER = r"6\.1\.0-\d+-amd64", r"6\.12\.\d+\+deb12-amd64"
PASSWORD = "four-words"  # noqa: S105 - typed at a machine that is gone afterwards
#: What does not need a card that answers.
GREEN = ("kernel.boots", "driver.module", "driver.signed", "driver.nouveau", "driver.loaded", "driver.match")
OWN = root.KEYS["own"] + ".der"
REJECTED = "Key was rejected by service"
DRIVER = "playbooks/driver.yml"
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
}
SSH = "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o IdentitiesOnly=yes"


class Prepared(NamedTuple):
    """What was made outside: the disk, root's key, the controller that has the lock, the two kernels."""

    folder: Path
    key: Path
    controller: Controller
    first: str
    later: str

    def reach(self, **variables: Any) -> None:
        """Tell the controller where the host is now."""
        common = {"ansible_user": "root", "ansible_ssh_private_key_file": str(self.key)}
        common.update(ansible_python_interpreter="/usr/bin/python3", ansible_ssh_common_args=SSH)
        self.controller.add("debian", {**common, **variables})


@pytest.fixture(scope="module")
def emulation(bed_tools: None) -> None:
    """Skip with the packages that are missing; under CI that is a failure."""
    missing = sorted(package for command, package in TOOLS.items() if shutil.which(command) is None)
    missing += [] if guest.CODE.exists() else ["ovmf"]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"CI has to run it: apt-get install {' '.join(missing)}")
    if missing:
        pytest.skip(f"apt-get install {' '.join(missing)}")


@pytest.fixture(scope="module")
def table() -> Iterator[List[str]]:
    """The table of states, shown when all is over."""
    rows: List[str] = []
    begun = time.monotonic()
    yield rows
    print("\n" + "\n".join(rows))
    print(f"{(time.monotonic() - begun) / 60:.0f} minutes in all")


@pytest.fixture(scope="module")
def prepared(emulation: None, table: List[str], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A Debian 12 with its kernel and loaders, on which the role was run until it asks for the person at the console.

    GPUHOST_SECURE_BOOT_WORK names a folder that keeps it for the next time.
    """
    named = os.environ.get("GPUHOST_SECURE_BOOT_WORK")
    folder = Path(named) if named else tmp_path_factory.mktemp("secure-boot")
    done = folder / "kernels.json"
    if not done.exists():
        # What an attempt that was cut off has left.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        done.write_text(json.dumps(prepare(folder)))
    first, later = json.loads(done.read_text())
    shutil.rmtree(folder / "controller/inventory", ignore_errors=True)
    return Prepared(folder, folder / "key", Controller(folder / "controller", {}), first, later)


def prepare(folder: Path) -> List[str]:
    """Make the disk in `folder`; the releases of the first kernel and of the later one."""
    begun = time.monotonic()
    key = root.ssh_key(folder)
    with root.DriverBed(packages=root.TOOLS, logs=folder / "logs") as bed:
        reach = root.open_archive(bed, key.with_suffix(".pub").read_text())
        bed.run(["apt-get", "update"])
        first, later = root.offered(bed, FIRST)[-2], root.offered(bed, LATER)[-1]
        names = [f"linux-image-{first}", f"linux-headers-{first}"]
        bed.run(["apt-get", "install", "--yes", "--no-install-recommends", *names], timeout=1800, env=root.QUIET)
        controller = Controller(folder / "controller", {})
        made = Prepared(folder, key, controller, first, later)
        made.reach(**reach)
        played = controller.run(DRIVER, timeout=3600)
        # The bed has no firmware to ask, and no driver to load.
        assert "the key that signs this host's NVIDIA module is not enrolled yet (D12)" in played.failure("debian")
        in_force(bed, controller.lock("debian"))
        controller.ok("playbooks/watch.yml")
        root.small_modules(bed, first)
        root.later_kernel(bed, later)
        root.furnish(bed, key.with_suffix(".pub").read_text())
        bed.kill()
        disk.make(bed.copy.root, folder / "disk.raw", first, 10240)
    print(f"prepared in {(time.monotonic() - begun) / 60:.0f} minutes")
    return [first, later]


def in_force(bed: Bed, lock: Dict[str, Any]) -> None:
    """A generation that is in force and holds nothing but its lock: the driver alone makes none."""
    folder = bed.copy.root / "opt/gpuhost/generations/1"
    folder.mkdir(parents=True)
    (folder / "stack.json").write_text(json.dumps(lock))
    (bed.copy.root / "opt/gpuhost/current").symlink_to("generations/1")


@pytest.fixture(scope="module")
def machine(prepared: Prepared) -> Iterator[Guest]:
    """The machine with Microsoft's keys in its firmware, and with a card."""
    shutil.rmtree(prepared.folder / "machine", ignore_errors=True)
    with Guest(prepared.folder / "machine", prepared.folder / "disk.raw", guest.WITH_KEYS, prepared.key) as made:
        made.has_card = True
        yield made


def state(machine: Guest, table: List[str], name: str, folder: str = root.FOLDER) -> Record:
    """Record a state of the machine, with GPUHOST_WRITE_RECORDS=1 into the project, and put it into the table."""
    found = record(machine, folder)
    (machine.work / f"{name}.json").write_text(json.dumps(found.content, indent=1) + "\n")
    if os.environ.get("GPUHOST_WRITE_RECORDS") == "1":
        found.write(name)
    verdicts = [f"{module[6:]} {verdict(found, 'insmod', f'{root.FOLDER}/{module}.ko')}" for module in root.MODULES]
    verdicts.append(f"nvidia {verdict(found, 'modprobe', 'nvidia')}")
    bits = [f"{key}={found.variable(key)[4:].hex() or '-'}" for key in ("SecureBoot", "SetupMode", "MokSBStateRT")]
    lockdown = found.files["/sys/kernel/security/lockdown"].split("[")[1].split("]")[0]
    row = f"{name}: {found.said('uname', '-r').out.strip()}, {' '.join(bits)}, lockdown {lockdown}: "
    table.append(f"{row}{'; '.join(verdicts)} (boot {machine.boots[-1]:.0f} s)")
    print(table[-1])
    return found


def verdict(found: Record, *argv: str) -> str:
    """What became of a module, in the tool's words; for the driver modprobe runs itself and complains twice."""
    said = found.said(*argv)
    first = said.err.strip().splitlines()[:1]
    return "loaded" if said.rc == 0 else "".join(first).rpartition(": ")[2]


def refused(found: Record, module: str) -> bool:
    """Whether the kernel refused one of the small modules for its signature."""
    said = found.said("insmod", f"{root.FOLDER}/{module}.ko")
    return said.rc != 0 and REJECTED in said.err


def verify(prepared: Prepared, machine: Guest) -> Dict[str, Any]:
    """Hold the machine against its lock; ssh's port is another one since its last start."""
    prepared.reach(ansible_host="127.0.0.1", ansible_port=machine.port)
    group = {"gpu_hosts": {"hosts": prepared.controller.hosts, "vars": {}}}
    (prepared.controller.inventory / "hosts.json").write_text(json.dumps(group))
    report = prepared.controller.verify(only="debian", timeout=2400)["debian"]
    print(prepared.controller.verified[-3000:])
    return report


def play(prepared: Prepared, machine: Guest, playbook: str = DRIVER) -> Any:
    """Run a playbook of the project over the machine; under emulation a task takes ten seconds and more."""
    prepared.reach(ansible_host="127.0.0.1", ansible_port=machine.port)
    begun = time.monotonic()
    done = prepared.controller.run(playbook, timeout=3600)
    print(f"{playbook}: {done.recap}, {(time.monotonic() - begun) / 60:.1f} minutes")
    return done


def test_before_the_enrolment_nothing_of_ours_is_let_in(machine: Guest, table: List[str]) -> None:
    """Unsigned, signed by a stranger and signed by the own key: the kernel trusts none of them."""
    machine.boot()
    found = state(machine, table, "not-enrolled")
    assert all(refused(found, module) for module in root.MODULES)
    assert REJECTED in found.said("modprobe", "nvidia").err
    assert "is not enrolled" in found.said("mokutil", "--test-key", OWN).out
    log = found.said("dmesg").out
    assert "Loading of unsigned module is rejected" in log
    assert "Loading of module with unavailable key is rejected" in log


def test_the_role_stops_at_the_console(prepared: Prepared, machine: Guest) -> None:
    """It says what the person has to do, and that is what the person does."""
    done = play(prepared, machine)
    assert done.changed("debian") == 0
    said = done.failure("debian")
    assert f"type: mokutil --import {OWN}" in said and "Perform MOK management" in said
    ask(machine, "--import", OWN)


def ask(machine: Guest, *argv: str) -> None:
    """Ask for a change of shim's settings at the next boot; mokutil asks twice for a password."""
    machine.run(["mokutil", *argv], stdin=f"{PASSWORD}\n{PASSWORD}\n".encode())


def at_the_console(machine: Guest, act: Callable[..., None], *words: str) -> None:
    """Start the machine anew, do something at MokManager's screen, and wait until it is up."""
    machine.off()
    machine.start()
    assert machine.console is not None
    act(machine.console, *words)
    machine.wait_up()


def test_a_missed_screen_leaves_the_key_unknown(machine: Guest, table: List[str]) -> None:
    """Asked for, the key is pending; after a boot that nobody attended it is not even that."""
    pending = state(machine, table, "pending")
    assert "gpuhost module signing" in pending.said("mokutil", "--list-new").out
    assert "is already in the enrollment request" in pending.said("mokutil", "--test-key", OWN).out
    at_the_console(machine, mok_manager.miss)
    missed = state(machine, table, "missed")
    assert missed.said("mokutil", "--list-new").out == ""
    assert refused(missed, "hello_own")
    ask(machine, "--import", OWN)


def test_the_same_modules_are_let_in_after_the_enrolment(machine: Guest, table: List[str]) -> None:
    """The own key's modules load, NVIDIA's among them; the others are refused as before."""
    at_the_console(machine, mok_manager.enrol, PASSWORD)
    found = state(machine, table, "enrolled")
    assert found.said("insmod", f"{root.FOLDER}/hello_own.ko").rc == 0
    assert all(refused(found, module) for module in root.MODULES if module != "hello_own")
    assert "is already enrolled" in found.said("mokutil", "--test-key", OWN).out
    assert found.said("modprobe", "nvidia").rc == 0
    assert "Kernel driver in use: nvidia" in found.said("lspci", "-nnk", "-d", "10de:").out


def test_the_role_goes_on_and_its_checks_are_green(prepared: Prepared, machine: Guest) -> None:
    """What stood before the person does not stand any more; verify/ sees the signature accepted."""
    done = play(prepared, machine)
    assert (done.changed("debian"), done.failure("debian")) == (0, "")
    passed = with_status(verify(prepared, machine), "pass")
    assert set(GREEN) <= set(passed)


def test_a_later_kernel_has_no_module_until_the_remedy(prepared: Prepared, machine: Guest, table: List[str]) -> None:
    """An update brings a kernel without its headers: the module is missing, the watch says so, the remedy heals it."""
    kernel = prepared.later
    install = f"DEBIAN_FRONTEND=noninteractive apt-get install -y {root.LATER}"
    machine.run(["sh", "-c", f"{install}/linux-image-{kernel}_*.deb"], timeout=2400)
    machine.run(["update-grub"], timeout=900)
    machine.off()
    machine.boot()
    found = state(machine, table, "later-kernel", root.FOLDER + "-later")
    assert found.said("uname", "-r").out.strip() == kernel
    assert found.said("modprobe", "nvidia").rc != 0
    assert found.said("insmod", f"{root.FOLDER}/hello_own.ko").rc == 0
    machine.run(["systemctl", "start", "gpuhost-watch"], check=False)
    watch = json.loads(machine.run(["cat", "/opt/gpuhost/state/watch.json"])[1])
    assert "kernel.boots" in json.dumps(watch)
    assert "D08" in json.dumps(verify(prepared, machine))
    # DKMS finds its build done, as the headers come: it was made outside, where compiling takes minutes.
    machine.run(["sh", "-c", f"cd /var/lib/dkms/nvidia-current/*/ && mv {root.LATER}/built {kernel}"])
    done = play(prepared, machine)
    assert "D08" not in done.out, done.out[-3000:]
    assert machine.run(["modprobe", "nvidia"], check=False)[0] == 0


def test_validation_is_switched_off(machine: Guest, table: List[str]) -> None:
    """The firmware says that Secure Boot is on, and the kernel takes anything: shim's own setting rules."""
    ask(machine, "--disable-validation")
    at_the_console(machine, mok_manager.switch_validation_off, PASSWORD)
    found = state(machine, table, "validation-off")
    assert found.variable("SecureBoot")[4:] == b"\1" and found.variable("MokSBStateRT")[4:] == b"\1"
    assert found.said("insmod", f"{root.FOLDER}/hello_unsigned.ko").rc == 0


def test_setup_mode_and_lockdown(prepared: Prepared, table: List[str]) -> None:
    """A firmware without keys lets anything in, until the kernel is locked down by hand: no variable shows that."""
    shutil.rmtree(prepared.folder / "setup", ignore_errors=True)
    with Guest(prepared.folder / "setup", prepared.folder / "disk.raw", guest.SETUP_MODE, prepared.key) as machine:
        machine.has_card = True
        machine.boot()
        found = state(machine, table, "setup-mode")
        assert found.variable("SetupMode")[4:] == b"\1"
        assert found.said("insmod", f"{root.FOLDER}/hello_unsigned.ko").rc == 0
        machine.run(["sh", "-c", "rmmod nvidia_modeset nvidia; echo integrity >/sys/kernel/security/lockdown"])
        locked = state(machine, table, "lockdown-alone")
        said = locked.said("insmod", f"{root.FOLDER}/hello_unsigned.ko")
        assert said.rc != 0 and "Operation not permitted" in said.err
        assert "unsigned module loading is restricted" in locked.said("dmesg").out
