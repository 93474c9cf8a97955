"""Secure Boot with a real firmware, shim, GRUB and kernel: which modules are let in, in each state, and the role's way.

    ./run pytest -m full tests/e2e/secureboot -s

The tests stand in the order in which a machine goes through the states. Its card says who it is and answers nothing
else: the driver is loaded for it, and cannot start it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import pytest

from gpuhost.checks.base import DRIVER

from ..beds.bed import Bed
from ..controller import Controller, with_status
from . import disk, guest, mok_manager, root
from .guest import Guest
from .states import Record, record

pytestmark = pytest.mark.full

#: The machine begins with the archive's newest kernel but one; the newest comes later.
KERNELS = r"6\.1\.0-\d+-amd64"
PASSWORD = "four-words"  # noqa: S105 - typed at a machine that is gone afterwards
#: What does not need a card that answers.
GREEN = ("kernel.boots", "driver.module", "driver.signed", "driver.nouveau", "driver.loaded", "driver.match")
OWN = root.KEYS["own"] + ".der"
REJECTED = "Key was rejected by service"
DRIVER_PLAYBOOK = "playbooks/driver.yml"
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
    """What was made outside: root's key, the controller that has the lock, the disks' kernels, the disks themselves.

    `first` is the machine's disk as the role left it, `later` the same after an update, `next` that of a Debian 13.
    """

    folder: Path
    key: Path
    controller: Controller
    kernels: Dict[str, str]

    def disk(self, name: str) -> Path:
        """The image of a disk."""
        return self.folder / f"{name}.raw"

    def machine(self, name: str, disk_name: str, variables: Path) -> Guest:
        """A machine that is off: a new layer over a disk, a copy of the firmware's variables."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return Guest(self.folder / name, self.disk(disk_name), variables, self.key)

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
    """The disks; on that of Debian 12 the role was run until it asks for the person at the console.

    GPUHOST_SECURE_BOOT_WORK names a folder that keeps them for the next time.
    """
    named = os.environ.get("GPUHOST_SECURE_BOOT_WORK")
    folder = Path(named) if named else tmp_path_factory.mktemp("secure-boot")
    done = folder / "kernels.json"
    if not done.exists():
        # What an attempt that was cut off has left.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        done.write_text(json.dumps(prepare(folder)))
    shutil.rmtree(folder / "controller/inventory", ignore_errors=True)
    return Prepared(folder, folder / "key", Controller(folder / "controller", {}), json.loads(done.read_text()))


def prepare(folder: Path) -> Dict[str, str]:
    """Make the disks in `folder`; the release of each one's kernel."""
    begun = time.monotonic()
    key = root.ssh_key(folder)
    public = key.with_suffix(".pub").read_text()

    def say(what: str) -> None:
        """How long it has taken so far."""
        print(f"{what} after {(time.monotonic() - begun) / 60:.1f} minutes", flush=True)

    with root.DriverBed(packages=root.TOOLS, logs=folder / "logs") as bed:
        reach = root.open_archive(bed, public)
        bed.run(["apt-get", "update"])
        first, later = root.offered(bed, KERNELS)[-2:]
        kernels = {"first": first, "later": later}
        say("a bed")
        names = [f"linux-image-{first}", f"linux-headers-{first}"]
        bed.run(["apt-get", "install", "--yes", "--no-install-recommends", *names], timeout=1800, env=root.QUIET)
        controller = Controller(folder / "controller", {})
        made = Prepared(folder, key, controller, kernels)
        made.reach(**reach)
        played = controller.run(DRIVER_PLAYBOOK, timeout=3600)
        # The bed has no firmware to ask, and no driver to load.
        assert "the key that signs this host's NVIDIA module is not enrolled yet (D12)" in played.failure("debian")
        in_force(bed, controller.lock("debian"))
        controller.ok("playbooks/watch.yml")
        say("the role")
        root.small_modules(bed, first)
        root.later_kernel(bed, later)
        say("the module for the later kernel")
        root.fewer_lists(bed)
        root.furnish(bed, public)
        bed.kill()
        disk.make(bed.copy.root, made.disk("first"), first, 10240)
        bed.boot()
        root.update(bed, later)
        bed.kill()
        disk.make(bed.copy.root, made.disk("later"), later, 10240)
        say("both disks")
        with Bed((*root.TOOLS, *root.NEXT_KERNEL), logs=folder / "logs/next", codename=root.NEXT) as other:
            kernels["next"] = root.newest(other)
            root.take_keys(other, bed)
            root.small_modules(other, kernels["next"])
            root.furnish(other, public)
            other.kill()
            disk.make(other.copy.root, made.disk("next"), kernels["next"], 6144)
    say("all disks")
    return kernels


def in_force(bed: Bed, lock: Dict[str, Any]) -> None:
    """A generation that is in force and holds nothing but its lock: the driver alone makes none."""
    folder = bed.copy.root / "opt/gpuhost/generations/1"
    folder.mkdir(parents=True)
    (folder / "stack.json").write_text(json.dumps(lock))
    (bed.copy.root / "opt/gpuhost/current").symlink_to("generations/1")


@pytest.fixture(scope="module")
def machine(prepared: Prepared) -> Iterator[Guest]:
    """The machine with Microsoft's keys in its firmware, and with a card."""
    with prepared.machine("machine", "first", guest.WITH_KEYS) as made:
        made.has_card = True
        yield made


@pytest.fixture(scope="module")
def knowing(prepared: Prepared) -> Path:
    """The variables of a firmware that knows the own key, once it was enrolled: for machines with another disk."""
    return prepared.folder / "knowing"


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


def play(prepared: Prepared, machine: Guest, *words: str) -> Any:
    """Run the driver's playbook over the machine, or what else is typed; under emulation a task takes ten seconds."""
    prepared.reach(ansible_host="127.0.0.1", ansible_port=machine.port)
    begun = time.monotonic()
    done = prepared.controller.run(*(words or (DRIVER_PLAYBOOK,)), timeout=3600)
    print(f"{' '.join(words) or DRIVER_PLAYBOOK}: {done.recap}, {(time.monotonic() - begun) / 60:.1f} minutes")
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
    """Start the machine again, do something at MokManager's screen, and wait until it is up."""
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


def test_the_same_modules_are_let_in_after_the_enrolment(machine: Guest, knowing: Path, table: List[str]) -> None:
    """The own key's modules load, NVIDIA's among them; the others are refused as before."""
    at_the_console(machine, mok_manager.enrol, PASSWORD)
    shutil.copyfile(machine.variables, knowing)
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


def test_validation_is_switched_off(machine: Guest, table: List[str]) -> None:
    """The firmware says that Secure Boot is on, and the kernel takes anything: shim's own setting rules."""
    ask(machine, "--disable-validation")
    at_the_console(machine, mok_manager.switch_validation_off, PASSWORD)
    found = state(machine, table, "validation-off")
    assert found.variable("SecureBoot")[4:] == b"\1" and found.variable("MokSBStateRT")[4:] == b"\1"
    assert found.said("insmod", f"{root.FOLDER}/hello_unsigned.ko").rc == 0
    assert found.said("modprobe", "nvidia").rc == 0
    machine.off()


def test_a_later_kernel_has_no_module_until_the_remedy(prepared: Prepared, knowing: Path, table: List[str]) -> None:
    """An update brought a kernel without its headers: the module is missing, the watch says so, the remedy heals it."""
    kernel = prepared.kernels["later"]
    with prepared.machine("updated", "later", knowing) as machine:
        machine.has_card = True
        machine.boot()
        found = state(machine, table, "later-kernel", root.FOLDER + "-later")
        assert found.said("uname", "-r").out.strip() == kernel
        assert "Module nvidia-current not found in directory" in found.said("modprobe", "nvidia").err
        assert found.said("insmod", f"{root.FOLDER}/hello_own.ko").rc == 0
        assert refused(found, "hello_unsigned") and refused(found, "hello_strange")
        machine.run(["systemctl", "start", "gpuhost-watch"], check=False)
        watch = json.loads(machine.run(["cat", "/opt/gpuhost/state/watch.json"])[1])
        print(json.dumps(watch))
        assert watch["status"] == "broken" and "kernel.boots" in [one["id"] for one in watch["findings"]]
        broken = next(one for one in verify(prepared, machine)["checks"] if one["id"] == "kernel.boots")
        assert (broken["status"], broken["diagnosis"]) == ("fail", "D08")
        # The running kernel is not purged: its package asks first, and recommends to leave it.
        assert machine.run(["linux-check-removal", kernel], check=False)[0] != 0
        own = f"-i {prepared.controller.inventory}/hosts.json --limit debian "
        assert broken["remediation"] == DRIVER.replace("playbooks/", own + "playbooks/")
        # DKMS finds its build done, as the headers come: it was made outside, where compiling takes minutes.
        machine.run(["sh", "-c", f"cd /var/lib/dkms/nvidia-current/*/ && mv {root.LATER}/built {kernel}"])
        *own_words, playbook = shlex.split(broken["remediation"])[2:]
        done = play(prepared, machine, playbook, *own_words)
        # What is left to do is said in its last sentence.
        assert "Reboot this host, then type the same command again" in done.failure("debian"), done.out[-3000:]
        machine.off()
        machine.boot()
        healed = state(machine, table, "later-kernel-healed", root.FOLDER + "-later")
        assert healed.said("modprobe", "nvidia").rc == 0
        assert set(GREEN) <= set(with_status(verify(prepared, machine), "pass"))
        watch = json.loads(machine.run(["cat", "/opt/gpuhost/state/watch.json"])[1])
        print(json.dumps(watch))


def test_debian_13s_kernel_says_the_same(prepared: Prepared, knowing: Path, table: List[str]) -> None:
    """Its own kernel, kmod and mokutil, on a firmware that knows the own key already; without a driver."""
    with prepared.machine("next", "next", knowing) as machine:
        machine.boot()
        found = state(machine, table, "debian-13")
        assert found.said("uname", "-r").out.strip() == prepared.kernels["next"]
        assert found.said("insmod", f"{root.FOLDER}/hello_own.ko").rc == 0
        assert all(refused(found, module) for module in root.MODULES if module != "hello_own")
        assert "is already enrolled" in found.said("mokutil", "--test-key", OWN).out
        assert "is not enrolled" in found.said("mokutil", "--test-key", root.KEYS["strange"] + ".der").out


def test_setup_mode_and_lockdown(prepared: Prepared, table: List[str]) -> None:
    """A firmware without keys lets anything in, until the kernel is locked down by hand: no variable shows that."""
    with prepared.machine("setup", "first", guest.SETUP_MODE) as machine:
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
