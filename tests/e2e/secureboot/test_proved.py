"""A kernel is booted once by a real GRUB under a real Secure Boot, judged by the host itself, and kept or undone.

    ./run pytest -m full -n 0 tests/e2e/secureboot/test_proved.py -s

Firmware, shim, GRUB, kernels, initramfs, systemd, the watchdog's device and the signatures are real; the module in the
driver's place and libcuda are not (`proved.py`). Each fault is made after the new kernel was armed, where nobody looks
any more before the boot. The host is left to itself then, and the test only waits.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest

from ..beds import Bed
from . import disk, guest, mok_manager, proved, root
from .guest import Guest
from .test_secure_boot import OWN, PASSWORD, ask, at_the_console
from .test_secure_boot import emulation as emulation

pytestmark = pytest.mark.full

KERNELS = r"6\.1\.0-\d+-amd64"
#: Two boots, a judgement of two minutes, and packages put back, all of it emulated.
SETTLES_S = 2400


class Made(NamedTuple):
    """The disk, its kernels (the older one first) and the program's name in the store."""

    folder: Path
    kernels: List[str]
    program: str


@pytest.fixture(scope="module")
def made(emulation: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Debian 12 with two of its own kernels, of which the older one boots.

    GPUHOST_PROVED_WORK names a folder that keeps the disk, and the firmware that knows the key, for the next time.
    """
    named = os.environ.get("GPUHOST_PROVED_WORK")
    folder = Path(named) if named else tmp_path_factory.mktemp("proved")
    done = folder / "made.json"
    if done.exists():
        return Made(folder, *json.loads(done.read_text()))
    folder.mkdir(exist_ok=True)
    key = root.ssh_key(folder)
    with Bed(packages=root.TOOLS, logs=folder / "logs") as bed:
        bed.run(["apt-get", "update"])
        kernels = root.offered(bed, KERNELS)[-2:]
        names = [f"linux-{part}-{kernel}" for kernel in kernels for part in ("image", "headers")]
        argv = ["apt-get", "install", "--yes", "--no-install-recommends", *names]
        bed.run(argv, timeout=3600, env=root.QUIET)
        program = proved.furnish(bed, kernels, key.with_suffix(".pub").read_text())
        bed.kill()
        disk.make(bed.copy.root, folder / "disk.raw", kernels[0], 8192)
    done.write_text(json.dumps([kernels, program]))
    return Made(folder, kernels, program)


@pytest.fixture(scope="module")
def machine(made: Made) -> Iterator[Guest]:
    """The machine, whose firmware knows the own key, with a card and a watchdog."""
    knowing = made.folder / "knowing"
    variables = knowing if knowing.exists() else guest.WITH_KEYS
    shutil.rmtree(made.folder / "machine", ignore_errors=True)
    with Guest(made.folder / "machine", made.folder / "disk.raw", variables, made.folder / "key") as one:
        one.has_card = one.has_watchdog = True
        one.boot()
        if not knowing.exists():
            ask(one, "--import", OWN)
            at_the_console(one, mok_manager.enrol, PASSWORD)
            shutil.copyfile(one.variables, knowing)
        yield one


def asked(machine: Guest, made: Made, state: str, again: str = "again") -> Dict[str, Any]:
    """What the module answers."""
    argv = ["python3", proved.STAGE, state, made.kernels[1], made.program, again]
    code, out, err = machine.run(argv, check=False, timeout=1800)
    assert code == 0, out + err
    return dict(json.loads(out.splitlines()[-1]))


def tried(machine: Guest, made: Made, stage: str) -> Dict[str, Any]:
    """Prepare and arm the new kernel, make a fault, restart; the record once the host has come to an end with it.

    `starts` is how often a kernel was started until then, `minutes` how long that took.
    """
    new = proved.module_of(made.kernels[1])
    right = f"cp {proved.VARIANTS}/{made.kernels[1]}/right/nvidia.ko {new}; rm -f /root/fault"
    machine.run(["sh", "-c", right])
    assert asked(machine, made, "prepared")["state"] == "prepared"
    assert asked(machine, made, "armed")["state"] == "armed"
    machine.run(["sh", "-c", f"{stage or 'true'}; sync"])
    assert machine.console is not None
    machine.console.forget()
    begun = time.monotonic()
    machine.run(["systemctl", "reboot"], check=False)
    machine.hang_up()
    while time.monotonic() < begun + SETTLES_S:
        machine.console.listen(10)
        try:
            code, out, _ = machine.run(["cat", "/opt/gpuhost/state/pair.json"], check=False, timeout=60)
        except subprocess.TimeoutExpired:
            machine.hang_up()
            continue
        if code != 0:
            machine.hang_up()
            continue
        found = dict(json.loads(out))
        if found["state"] == "proved" or found["recovered"]:
            starts = machine.console.said.count("BdsDxe: starting ")
            return {**found, "starts": starts, "minutes": round((time.monotonic() - begun) / 60, 1)}
    raise AssertionError(f"it does not settle:\n{machine.console.said[-3000:]}")


def kept(machine: Guest, kernel: str) -> None:
    """That kernel runs, with its driver loaded, and is what boots next: the environment block says so."""
    assert machine.run(["uname", "-r"])[1].strip() == kernel
    assert proved.VERSION in machine.run(["cat", "/proc/driver/nvidia/version"])[1]
    block = machine.run(["grub-editenv", "/boot/grub/grubenv", "list"])[1]
    # GRUB empties the entry for one boot, and leaves its name.
    assert f"-{kernel}-advanced" in block and "next_entry=g" not in block, block
    record = json.loads(machine.run(["cat", "/opt/gpuhost/state/driver.json"])[1])
    assert record["kernel"] == kernel


#: Each fault: how it is made once the kernel is armed, and what the host says of it afterwards.
FAULTS = {
    "a module that is missing": ("rm {new}", "driver.module"),
    "one of another version": ("cp {variants}/other/nvidia.ko {new}", "driver.module"),
    "an unsigned one": ("cp {variants}/unsigned/nvidia.ko {new}", "driver.loaded"),
    "a driver that refuses the card": ("cp {variants}/refuses/nvidia.ko {new}", "driver.nodes"),
    "a kernel that panics": ("echo panic >/root/fault", "did not come up"),
    "a kernel that hangs": ("echo hang >/root/fault", "did not come up"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_what_is_wrong_is_undone(machine: Guest, made: Made, what: str) -> None:
    """The old kernel is back with its driver after at most two starts, without a hand, and the reason is kept."""
    stage, reason = FAULTS[what]
    old, new = made.kernels
    words = {"new": proved.module_of(new), "variants": f"{proved.VARIANTS}/{new}"}
    found = tried(machine, made, stage.format(**words))
    print(f"{what}: {found['state']}, {found['starts']} starts, {found['minutes']} min: {found['reason']}")
    assert found["state"] == "undone" and reason in found["reason"]
    assert found["starts"] <= 2
    kept(machine, old)


def test_what_is_right_becomes_the_default(machine: Guest, made: Made) -> None:
    """And stays it at the next start."""
    found = tried(machine, made, "")
    print(f"right: {found['state']}, {found['starts']} starts, {found['minutes']} min")
    assert (found["state"], found["starts"]) == ("proved", 1)
    kept(machine, made.kernels[1])
    machine.off()
    machine.boot()
    kept(machine, made.kernels[1])
