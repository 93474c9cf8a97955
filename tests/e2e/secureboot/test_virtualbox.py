"""VirtualBox's own module under Secure Boot: refused without the machine's key, loaded by the real kernel with it.

    ./run pytest -m full -n 0 tests/e2e/secureboot/test_virtualbox.py -s

The module is that of unstable's package, compiled by DKMS against the headers of Debian 12's kernel, and signed by the
role's code. DKMS itself signs with a key that it makes for itself and that no firmware knows: that is the stranger's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from ..beds import Bed, settings
from ..beds.bed import PROJECT
from . import disk, guest, mok_manager, root
from .guest import Guest
from .test_secure_boot import OWN, PASSWORD, REJECTED, ask, at_the_console
from .test_secure_boot import emulation as emulation

pytestmark = pytest.mark.full

ASIDE = "/root/aside"
STRANGERS = "/root/vboxdrv-strangers.ko"
#: What the role does with what DKMS has built: its own key, and its signature.
SIGN = """import sys
sys.path.insert(0, "/root/src")
from pathlib import Path
from gpuhost.host.driver import key
from gpuhost.host.virtualbox.setup import OURS
from gpuhost.host.work import Work
work = Work(Path("/root/key.log"), print)
key.make("debian", work)
key.tell_dkms()
print(key.sign(sys.argv[1], work, names=OURS), key.subject())
"""


@pytest.fixture(scope="module")
def image(emulation: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk: Debian 12 with the module, signed; its root's ssh key lies beside it."""
    folder = tmp_path_factory.mktemp("secure-virtualbox")
    key = root.ssh_key(folder)
    with Bed(packages=(*root.TOOLS, "linux-image-amd64", "linux-headers-amd64"), logs=folder / "logs") as bed:
        kernel = root.newest(bed)
        fetch(bed)
        bed.run(["sh", "-c", f"dpkg --install {ASIDE}/virtualbox-dkms_*.deb"], timeout=1800, env=root.QUIET)
        bed.run(["dkms", "autoinstall", "-k", kernel], timeout=1800)
        (built,) = (bed.copy.root / f"lib/modules/{kernel}/updates/dkms").glob("vboxdrv.ko*")
        inside = f"/{built.relative_to(bed.copy.root)}"
        bed.run(["cp", inside, STRANGERS])
        bed.push(PROJECT / "src", "/root/src")
        said = bed.run(["python3", "-c", SIGN, kernel]).stdout
        assert "True" in said and "gpuhost module signing" in said
        assert "gpuhost module signing" in bed.run(["modinfo", "-F", "signer", inside]).stdout
        assert "gpuhost module signing" not in bed.run(["modinfo", "-F", "signer", STRANGERS]).stdout
        bed.run(["depmod", kernel])
        root.furnish(bed, key.with_suffix(".pub").read_text())
        bed.kill()
        disk.make(bed.copy.root, folder / "disk.raw", kernel, 8192)
    return folder / "disk.raw"


def fetch(bed: Bed) -> None:
    """Get unstable's package, past the bed's own sources."""
    outer = settings.debian_sources({"a.sources": bed.read(root.SOURCES)}, lambda name: "")
    text = settings.render_sources(settings.of_release(outer, settings.UNSTABLE))
    aside = bed.copy.root / ASIDE.lstrip("/")
    for name in ("parts", "lists/partial"):
        (aside / name).mkdir(parents=True)
    (aside / "parts/sid.sources").write_text(text)
    options = [
        "-oDir::Etc::SourceList=/dev/null",
        f"-oDir::Etc::SourceParts={ASIDE}/parts",
        f"-oDir::State::Lists={ASIDE}/lists",
        "-oAcquire::Check-Valid-Until=false",
        "-oAPT::Sandbox::User=root",
    ]
    bed.run(["apt-get", *options, "update"], timeout=900)
    bed.run(["apt-get", *options, "download", "virtualbox-dkms"], cwd=ASIDE, timeout=900)


@pytest.fixture(scope="module")
def machine(image: Path) -> Iterator[Guest]:
    """The machine, with Microsoft's keys in its firmware."""
    with Guest(image.parent / "machine", image, guest.WITH_KEYS, image.parent / "key") as made:
        yield made


def test_without_the_key_it_is_refused(machine: Guest) -> None:
    """Signed by the own key, which the firmware does not know yet, and by DKMS' own, which it never will."""
    machine.boot()
    for argv in (["modprobe", "vboxdrv"], ["insmod", STRANGERS]):
        code, _, err = machine.run(argv, check=False)
        assert code != 0 and REJECTED in err, err
    assert machine.run(["test", "-e", "/dev/vboxdrv"], check=False)[0] != 0


def test_with_the_key_the_real_kernel_loads_it(machine: Guest) -> None:
    """After the enrolment: module, device, and the modules that stand on it; the stranger's is refused."""
    ask(machine, "--import", OWN)
    at_the_console(machine, mok_manager.enrol, PASSWORD)
    code, _, err = machine.run(["insmod", STRANGERS], check=False)
    assert code != 0 and REJECTED in err, err
    for name in ("vboxdrv", "vboxnetflt", "vboxnetadp"):
        assert machine.run(["modprobe", name], check=False)[0] == 0, machine.run(["dmesg"])[1][-2000:]
    assert "vboxdrv: Successfully loaded version 7." in machine.run(["dmesg"])[1]
    rights = machine.run(["stat", "-c", "%a %U %G", "/dev/vboxdrv"])[1].split()
    assert rights[1:] == ["root", "root"] and rights[0] == "600"
