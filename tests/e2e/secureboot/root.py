"""The machines' roots: Debian beds in which kernels, loaders and tools are installed and modules are built.

Compiling under emulation takes hours, so all of it is done here, at the speed of the outer machine.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Set

from ..beds import Bed
from ..beds.base import PACKAGES, write_card
from ..beds.bed import ROOT_ENVIRONMENT
from ..beds.commands import host
from ..beds.firmware import VARIABLE
from ..beds.settings import CODENAME, COMPONENTS

#: Loaders, tools, and what builds modules; the kernels come later, or are named beside it.
TOOLS = (
    *PACKAGES, "dkms", "gcc", "grub-efi-amd64-signed", "initramfs-tools", "iproute2", "kmod", "lz4", "make", "mokutil",
    "openssh-server", "openssl", "pciutils", "python3", "shim-signed", "udev",
)  # fmt: skip
#: The release after, with its own kernel.
NEXT, NEXT_KERNEL = "trixie", ("linux-headers-amd64", "linux-image-amd64")
SOURCES = "/etc/apt/sources.list.d/debian.sources"
ADDRESS = "0000:01:00.0"
KEYS = {"own": "/var/lib/shim-signed/mok/MOK", "strange": "/root/strange/key"}
FOLDER = "/root/modules"
LATER = "/root/later"
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
#: A module that does nothing but say that it was loaded.
SOURCE = """#include <linux/module.h>
static int __init hello(void) { pr_info("NAME: loaded\\n"); return 0; }
static void __exit bye(void) {}
module_init(hello);
module_exit(bye);
MODULE_LICENSE("GPL");
MODULE_VERSION("1.0");
"""
#: Signed by nobody, by a key that nobody enrols, by the machine's own key, and by that but changed afterwards.
MODULES = ("hello_unsigned", "hello_strange", "hello_own", "hello_changed")
# What makes the machine's own key and finds the program that signs: the role's code.
MAKE_KEY = """import sys
sys.path.insert(0, "/root/src")
from pathlib import Path
from gpuhost.host.driver import key
from gpuhost.host.work import Work
key.make("debian", Work(Path("/root/key.log"), print))
key.tell_dkms()
print(key.sign_tool(sys.argv[1]))
"""
NETWORK = "[Match]\nName=e*\n[Network]\nDHCP=yes\n"
# Unpacking is emulated too.
FASTER = "MODULES=list\nCOMPRESS=lz4\n"
PATIENT = "[Manager]\nDefaultTimeoutStartSec=900s\n"
DRIVERS = "virtio_pci\nvirtio_blk\nvirtio_net\next4\n"
SRC = Path(__file__).resolve().parents[3] / "src"


class DriverBed(Bed):
    """A bed that shows a card and, so that the role takes the way of Secure Boot, the variable that says it is on."""

    def _hardware(self, work: Path) -> List[str]:
        """The card, and a firmware with nothing else in it: mokutil finds no variables here."""
        variables = work / "firmware/efi/efivars"
        variables.mkdir(parents=True)
        write_card(work / "pci" / ADDRESS)
        (variables / VARIABLE).write_bytes(bytes([6, 0, 0, 0, 1]))
        return [f"--bind-ro={work / 'pci'}:/sys/bus/pci/devices", f"--bind-ro={work / 'firmware'}:/sys/firmware"]


def open_archive(bed: Bed, public_key: str) -> Dict[str, Any]:
    """Let the controller in by ssh, and the archive's component with the driver; how Ansible reaches the bed."""
    root = bed.copy.root
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    (root / "root/.ssh/authorized_keys").write_text(public_key)
    # What a login by ssh gets.
    variables = {key: value for key, value in bed._environment().items() if key not in ROOT_ENVIRONMENT}
    rows = {"PATH": ROOT_ENVIRONMENT["PATH"], **variables}
    (root / "etc/environment").write_text("".join(f'{key}="{value}"\n' for key, value in rows.items()))
    bed.run(["sed", "-i", f"s/^Components:.*/Components: {' '.join(COMPONENTS)}/", SOURCES])
    bed.run(["systemctl", "start", "ssh"])
    return {"ansible_host": bed.network.address}


def furnish(bed: Bed, public_key: str) -> None:
    """What the emulated machine needs and a bed does not: a network, ssh for root, an initramfs that loads quickly.

    The archive is not reached from the bed any more.
    """
    root = bed.copy.root
    files = {
        "etc/systemd/network/wired.network": NETWORK,
        "etc/systemd/system.conf.d/emulated.conf": PATIENT,
        "etc/initramfs-tools/conf.d/emulated": FASTER,
        "root/.ssh/authorized_keys": public_key,
        "etc/hostname": "debian\n",
        "etc/resolv.conf": "nameserver 10.0.2.3\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with (root / "etc/initramfs-tools/modules").open("a") as modules:
        modules.write(DRIVERS)
    (root / "root/.ssh").chmod(0o700)
    bed.run(["systemctl", "enable", "systemd-networkd", "ssh"])
    bed.run(["update-initramfs", "-u", "-k", "all"], timeout=600)


def fewer_lists(bed: Bed) -> None:
    """apt reads its lists again each time it is asked, and those of all of Debian take it minutes in the machine."""
    bed.run(["sed", "-E", "-i", f"s/^(Suites:.*) {CODENAME}( |$)/\\1\\2/", SOURCES])
    bed.run(["apt-get", "update"])


def newest(bed: Bed) -> str:
    """The release of the newest kernel that is installed."""
    return max((path.name[len("vmlinuz-") :] for path in (bed.copy.root / "boot").glob("vmlinuz-*")), key=_numbers)


def take_keys(bed: Bed, other: Bed) -> None:
    """Take over the keys of another machine, so that one firmware knows both."""
    for name in KEYS.values():
        for end in (".priv", ".der"):
            bed.push(other.copy.root / (name + end).lstrip("/"), name + end)


def offered(bed: Bed, pattern: str) -> List[str]:
    """The releases of the archive's kernels that match, oldest first."""
    names = bed.run(["apt-cache", "pkgnames", "linux-image-"]).stdout.split()
    found = [name[len("linux-image-") :] for name in names]
    return sorted((name for name in found if re.fullmatch(pattern, name)), key=_numbers)


def _numbers(release: str) -> List[int]:
    """A release as its numbers, to be sorted by."""
    return [int(number) for number in re.findall(r"\d+", release)]


def later_kernel(bed: Bed, kernel: str) -> None:
    """Get a kernel ready that comes later: its package and the module that DKMS will have built, both set aside.

    The module is built here, as the headers come, and hidden with them: in the machine the headers are missing until
    the remedy brings them, and DKMS then finds its build done.
    """
    bed.run(["mkdir", "-p", LATER])
    headers = f"linux-headers-{kernel}"
    before = _installed(bed)
    bed.run(["apt-get", "install", "--yes", "--no-install-recommends", headers], timeout=7200, env=QUIET)
    small_modules(bed, kernel, FOLDER + "-later")
    (built,) = (bed.copy.root / "var/lib/dkms/nvidia-current").glob(f"*/{kernel}")
    bed.run(["dkms", "uninstall", f"nvidia-current/{built.parent.name}", "-k", kernel], timeout=600)
    bed.run(["mv", f"/{built.relative_to(bed.copy.root)}", f"{LATER}/built"])
    bed.run(["apt-get", "purge", "--yes", *sorted(_installed(bed) - before)], timeout=900, env=QUIET)
    bed.run(["rm", "-rf", f"/lib/modules/{kernel}"])
    bed.run(["apt-get", "download", f"linux-image-{kernel}"], cwd=LATER, timeout=900)


def update(bed: Bed, kernel: str) -> None:
    """The update that brings the later kernel, without its headers; the next boot of the machine is into it."""
    # Where there is a menu, the package's hook makes a new one, and asks the running system for its disks.
    (bed.copy.root / "boot/grub/grub.cfg").unlink()
    bed.run(["sh", "-c", f"dpkg --install {LATER}/linux-image-{kernel}_*.deb"], timeout=900, env=QUIET)


def _installed(bed: Bed) -> Set[str]:
    """The names of the installed packages."""
    return set(bed.run(["dpkg-query", "-W", "-f=${Package}\\n"]).stdout.split())


def small_modules(bed: Bed, kernel: str, place: str = FOLDER) -> None:
    """Build the small modules for a kernel, each signed by whom its name says, into the folder `place`."""
    folder = bed.copy.root / place.lstrip("/")
    folder.mkdir(exist_ok=True)
    for name in MODULES:
        (folder / f"{name}.c").write_text(SOURCE.replace("NAME", name))
    (folder / "Makefile").write_text("".join(f"obj-m += {name}.o\n" for name in MODULES))
    bed.run(["make", "-C", f"/lib/modules/{kernel}/build", f"M={place}", "modules"], timeout=600)
    bed.push(SRC, "/root/src")
    tool = bed.run(["python3", "-c", MAKE_KEY, kernel]).stdout.split()[-1]
    _strange_key(bed)
    for name, owner in (("hello_strange", "strange"), ("hello_own", "own"), ("hello_changed", "own")):
        key = KEYS[owner]
        bed.run([tool, "sha256", f"{key}.priv", f"{key}.der", f"{place}/{name}.ko"])
    changed = folder / "hello_changed.ko"
    changed.write_bytes(changed.read_bytes().replace(b"hello_changed: loaded", b"hello_changed: LOADED"))


def _strange_key(bed: Bed) -> None:
    """A key that nobody enrols."""
    name = KEYS["strange"]
    bed.run(["mkdir", "-p", str(Path(name).parent)])
    request = ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "3650"]
    request += ["-subj", "/CN=a stranger", "-outform", "DER", "-keyout", f"{name}.priv", "-out", f"{name}.der"]
    if not (bed.copy.root / f"{name.lstrip('/')}.der").exists():
        bed.run(request)


def ssh_key(folder: Path) -> Path:
    """A new key for root's ssh; its public half stands beside it."""
    key = folder / "key"
    host(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    return key
