"""Write the `fs/` and `commands.json` of the synthetic hosts. README.md here says what is made up.

The tests call it through `example_hosts`. `python tests/hosts/make_hosts.py FOLDER` writes them for a look.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

GA = "4.15.0-213-generic"
HWE = "5.4.0-150-generic"
DRIVER = "525.105.17"
DEB = "525.105.17-0ubuntu0.18.04.1"
ARCHIVE = "http://ubuntu-archive.example/ubuntu"

#: A real firmware with Secure Boot on.
SECURE = Path(__file__).resolve().parents[1] / "data/secureboot/not-enrolled.json"

OS_RELEASE = """\
NAME="Ubuntu"
VERSION="18.04.6 LTS (Bionic Beaver)"
ID=ubuntu
ID_LIKE=debian
PRETTY_NAME="Ubuntu 18.04.6 LTS"
VERSION_ID="18.04"
VERSION_CODENAME=bionic
UBUNTU_CODENAME=bionic
"""

# name -> device id, PCI class, what nvidia-smi calls it, MiB it reports, compute capability
CARDS: dict[str, tuple[str, str, str, int, str]] = {
    "gtx750ti": ("1380", "0x030000", "NVIDIA GeForce GTX 750 Ti", 2048, "5.0"),
    "p2000": ("1c30", "0x030000", "Quadro P2000", 5120, "6.1"),
    "rtx3090": ("2204", "0x030000", "NVIDIA GeForce RTX 3090", 24576, "8.6"),
    "h200": ("2335", "0x030200", "NVIDIA H200", 143771, "9.0"),
    "unknown": ("3fff", "0x030000", "", 0, ""),
}
SUBSYSTEM_DEVICE = "0x11b3"

POCKETS = ("bionic", "bionic-updates", "bionic-security")
COMMUNICATE = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n\n"
)


class Host:
    """One made host: a plain Ubuntu 18.04 workstation that the recipes below change."""

    def __init__(self, folder: Path) -> None:
        """Write what every one of them has; there is no such folder yet."""
        self.folder = folder
        self.fs = self.folder / "fs"
        self.commands: list[dict[str, Any]] = []
        self.cards: list[tuple[str, str]] = []
        self.packages: list[tuple[str, str, str, str, str]] = [
            ("gcc", "amd64", "4:7.4.0-1ubuntu2.3", "install", "installed"),
            ("python3", "amd64", "3.6.7-1~18.04", "install", "installed"),
            ("python3.6", "amd64", "3.6.9-1~18.04ubuntu1.12", "install", "installed"),
            ("unattended-upgrades", "all", "1.1ubuntu1.18.04.14", "install", "installed"),
            ("zlib1g", "amd64", "1:1.2.11.dfsg-0ubuntu2.2", "install", "installed"),
        ]
        self.policy = [
            (
                ARCHIVE,
                f"{pocket}/{component} amd64",
                "Ubuntu",
                pocket,
                "bionic",
                "Ubuntu",
                "ubuntu-archive.example",
            )
            for pocket in POCKETS
            for component in ("main", "restricted", "universe")
        ]
        self.file("etc/os-release", OS_RELEASE)
        self.file(
            "etc/apt/sources.list",
            "".join(
                f"deb {ARCHIVE} {pocket} main restricted universe\n# deb-src {ARCHIVE} {pocket} main\n"
                for pocket in POCKETS
            ),
        )
        for pocket in POCKETS:
            self.file(f"var/lib/apt/lists/ubuntu-archive.example_ubuntu_dists_{pocket}_InRelease", "")
        self.file("proc/sys/kernel/hostname", "workstation\n")
        self.file("proc/meminfo", "MemTotal:       32823012 kB\nMemFree:        1200000 kB\n")
        self.file(
            "proc/cpuinfo",
            "".join(
                f"processor\t: {number}\nmodel name\t: Intel(R) Xeon(R) W-2123 CPU @ 3.60GHz\n"
                "flags\t\t: fpu vme sse sse2 avx avx2 fma\n\n"
                for number in range(8)
            ),
        )
        self.file("usr/bin/python3", "")
        self.file("usr/bin/python3.6", "")
        self.file("opt/.keep", "")
        self.pci("0000:00:00.0", "0x8086", "0x2020", "0x060000")
        self.pci("0000:00:02.0", "0x8086", "0x3e92", "0x030000", driver="i915")
        self.command(["uname", "-m"], "x86_64\n")
        self.command(["dpkg", "--print-architecture"], "amd64\n")
        for place in ("/", "/opt"):
            self.command(
                ["df", "-P", "-k", place],
                "Filesystem     1024-blocks     Used Available Capacity Mounted on\n"
                "/dev/nvme0n1p2   479152840 61440000 393300000      14% /\n",
            )
        for python in ("/usr/bin/python3", "/usr/bin/python3.6"):
            self.command([python, "--version"], "Python 3.6.9\n")

    def file(self, name: str, text: str) -> None:
        """Write one file below the host's root."""
        path = self.fs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def command(self, argv: list[str], out: str = "", rc: int = 0, err: str = "") -> None:
        """Set what one command answers."""
        self.commands.append({"argv": argv, "rc": rc, "out": out, "err": err})

    def pci(self, address: str, vendor: str, device: str, pci_class: str, driver: str = "") -> None:
        """Put one device into sysfs, with the link to its driver when one is bound."""
        folder = f"sys/bus/pci/devices/{address}"
        for name, value in (
            ("vendor", vendor),
            ("device", device),
            ("class", pci_class),
            ("subsystem_vendor", vendor),
            ("subsystem_device", SUBSYSTEM_DEVICE),
        ):
            self.file(f"{folder}/{name}", value + "\n")
        if driver:
            (self.fs / folder / "driver").symlink_to(f"../../drivers/{driver}")

    def card(self, kind: str, address: str = "0000:01:00.0", driver: str = "") -> None:
        """Put an NVIDIA card and its sound function into sysfs."""
        device, pci_class = CARDS[kind][:2]
        self.pci(address, "0x10de", "0x" + device, pci_class, driver)
        if pci_class == "0x030000":
            self.pci(address[:-1] + "1", "0x10de", "0x10f1", "0x040300", "snd_hda_intel")
        self.cards.append((kind, address))

    def kernel(self, running: str, installed: tuple[str, ...], images: tuple[str, ...]) -> None:
        """Set the running kernel, those with modules, and those with an image in /boot."""
        self.file("proc/sys/kernel/osrelease", running + "\n")
        self.file("proc/modules", "ext4 655360 1 - Live 0x0000000000000000\n")
        for version in installed:
            self.file(f"lib/modules/{version}/modules.dep", "")
        for version in images:
            self.file(f"boot/vmlinuz-{version}", "")
            self.packages.append((f"linux-image-{version}", "amd64", version.rsplit("-", 1)[0], "install", "installed"))

    def firmware(self, secure_boot: bool) -> None:
        """Give the host UEFI firmware with this Secure Boot state; without the call it has a BIOS."""
        folder = self.fs / "sys/firmware/efi/efivars"
        folder.mkdir(parents=True)
        if not secure_boot:
            # With the firmware's keys in it: nobody has recorded that.
            (folder / "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c").write_bytes(bytes([6, 0, 0, 0, 0]))
            return
        for path, text in json.loads(SECURE.read_text(encoding="utf-8"))["files"].items():
            if "/efivars/" in path:
                (folder / Path(path).name).write_bytes(bytes.fromhex(text[len("hex:") :]))

    def driver_packages(self, branch: str = "525", version: str = DEB, hold: bool = True) -> None:
        """Install the archive's driver of this branch, held."""
        want = "hold" if hold else "install"
        for name, arch in (
            (f"nvidia-driver-{branch}", "amd64"),
            (f"libnvidia-compute-{branch}", "amd64"),
            (f"libnvidia-compute-{branch}", "i386"),
            (f"nvidia-utils-{branch}", "amd64"),
            (f"linux-modules-nvidia-{branch}-{HWE}", "amd64"),
        ):
            self.packages.append((name, arch, version, want, "installed"))

    def loaded_driver(self, version: str = DRIVER) -> None:
        """Load the kernel module."""
        self.file(
            "proc/modules",
            "nvidia_uvm 1376256 0 - Live 0x0000000000000000\n"
            "nvidia 56299520 60 nvidia_uvm, Live 0x0000000000000000 (POE)\n",
        )
        self.file(
            "proc/driver/nvidia/version",
            f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue Mar 28 18:02:59 UTC 2023\n"
            "GCC version:  gcc version 7.5.0 (Ubuntu 7.5.0-3ubuntu1~18.04)\n",
        )

    def smi_lists_cards(self, knows_capability: bool = True) -> None:
        """Let nvidia-smi list every card; drivers up to 470 do not know the column compute_cap."""
        rows = []
        for number, (kind, address) in enumerate(self.cards):
            name, mib, capability = CARDS[kind][2:]
            row = f"0000{address.upper()}, GPU-00000000-0000-4000-8000-{number:012d}, {name}, {mib}"
            rows.append(row + (f", {capability}" if knows_capability else "") + "\n")
        if not knows_capability:
            self.smi('Field "compute_cap" is not a valid field to query.\n\n', rc=2)
        self.smi("".join(rows), capability=knows_capability)

    def smi(self, out: str = "", rc: int = 0, err: str = "", capability: bool = True) -> None:
        """Set one answer of nvidia-smi."""
        fields = "pci.bus_id,uuid,name,memory.total" + (",compute_cap" if capability else "")
        self.command(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"], out, rc, err)

    def no_smi(self) -> None:
        """There is no nvidia-smi, as on a host without a driver."""
        self.smi(rc=127, err="nvidia-smi is not installed")

    def write(self, audit: str = "") -> None:
        """Set what dpkg and apt answer as they now stand, and write commands.json."""
        self.command(
            [
                "dpkg-query",
                "-W",
                "-f=${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Want}\\t${db:Status-Status}\\n",
            ],
            "".join("\t".join(row) + "\n" for row in self.packages),
        )
        self.command(["dpkg", "--audit"], audit)
        lines = ["Package files:", " 100 /var/lib/dpkg/status", "     release a=now"]
        for uri, place, origin, suite, codename, label, site in self.policy:
            component = place.rpartition("/")[2].split(" ")[0] if place else ""
            keys = (
                ("v", "18.04" if origin == "Ubuntu" else ""),
                ("o", origin),
                ("a", suite),
                ("n", codename),
                ("l", label),
            )
            values = ",".join(f"{key}={value}" for key, value in keys if value)
            lines += [
                f" 500 {uri} {place} Packages",
                f"     release {values},c={component}",
                f"     origin {site}",
            ]
        self.apt_cache(["policy"], "\n".join([*lines, "Pinned packages:", ""]))
        self.index_targets()
        (self.folder / "commands.json").write_text(json.dumps(self.commands, indent=1) + "\n", encoding="utf-8")

    def index_targets(self) -> None:
        """Record what apt-get says of the indexes that it has."""
        fields = ("REPO_URI", "RELEASE", "ORIGIN", "LABEL", "CODENAME", "SUITE")
        rows = []
        for uri, place, origin, suite, codename, label, _ in self.policy:
            release = place.split(" ")[0].rpartition("/")[0]
            rows.append("\t".join((f"{uri}/", release, origin, label, codename, suite)))
        asked = "\t".join(f"$({name})" for name in fields)
        self.command(["apt-get", "indextargets", "--format", asked], "".join(row + "\n" for row in rows))

    def apt_cache(self, arguments: list[str], out: str) -> None:
        """Set one answer of apt-cache."""
        self.command(["apt-cache", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", *arguments], out)


def fresh(folder: Path, kind: str, driver: str = "") -> Host:
    """Make a host with one card and no NVIDIA driver."""
    host = Host(folder)
    host.card(kind, driver=driver)
    host.kernel(HWE, (GA, HWE), (GA, HWE))
    host.no_smi()
    return host


def served(folder: Path, cards: tuple[tuple[str, str], ...]) -> Host:
    """Make a host whose cards the archive's driver 525 serves."""
    host = Host(folder)
    for kind, address in cards:
        host.card(kind, address, driver="nvidia")
    host.kernel(HWE, (GA, HWE), (GA, HWE))
    host.firmware(secure_boot=False)
    host.driver_packages()
    host.loaded_driver()
    host.smi_lists_cards()
    return host


def foreign_sources(host: Host) -> None:
    """Add a source of Ubuntu 16.04, NVIDIA's repository for 16.04, an editor's, and lines that are broken."""
    nvidia, editor = (
        "http://cuda-repository.example/repos/ubuntu1604/x86_64",
        "https://editor.example/repos/code",
    )
    host.file("etc/apt/sources.list.d/cuda.list", f"# added after a tutorial\ndeb {nvidia} /\n")
    host.file(
        "etc/apt/sources.list.d/editor.sources",
        f"Types: deb\nURIs: {editor}\nSuites: stable\nComponents: main\nArchitectures: amd64\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n AAAA\n"
        " -----END PGP PUBLIC KEY BLOCK-----\n",
    )
    host.file("etc/apt/sources.list.d/xenial.list", f"deb {ARCHIVE} xenial main\n")
    host.file(
        "etc/apt/sources.list.d/private.list",
        "deb [arch=amd64 signed-by=/usr/share/p.gpg] https://robot:hunter2@private.example/apt x main\n"
        "deb https://robot:hunter2@private.example/apt\n",
    )
    host.file("etc/apt/sources.list.d/cuda.list.save", "deb http://passed-over.example/ubuntu bionic main\n")
    lists = "var/lib/apt/lists/"
    host.file(lists + "cuda-repository.example_repos_ubuntu1604_x86%5f64_Release", "")
    host.file(lists + "editor.example_repos_code_dists_stable_InRelease", "")
    host.file(lists + "ubuntu-archive.example_ubuntu_dists_xenial_InRelease", "")
    host.policy += [
        (ARCHIVE, "xenial/main amd64", "Ubuntu", "xenial", "xenial", "Ubuntu", "ubuntu-archive.example"),
        (nvidia, "", "NVIDIA", "", "", "NVIDIA CUDA", "cuda-repository.example"),
        (editor, "stable/main amd64", "code stable", "stable", "stable", "code stable", "editor.example"),
    ]
    host.apt_cache(["pkgnames"], "zlib1g\ncuda\ncode\nnvidia-driver-525\ncuda-drivers\nlibcudnn7\n")
    rows = (
        ("cuda", "12.2.0-1", f"{nvidia}  "),
        ("cuda", "10.2.89-1", f"{nvidia}  "),
        ("cuda-drivers", "535.54.03-1", f"{nvidia}  "),
        ("nvidia-driver-525", DEB, f"{ARCHIVE} bionic-updates/restricted amd64 "),
    )
    host.apt_cache(
        ["madison", "cuda", "cuda-drivers", "libcudnn7", "nvidia-driver-525"],
        "".join(f"{name:>17} | {version:>10} | {place}Packages\n" for name, version, place in rows),
    )


def make_all(folder: Path) -> None:
    """Write every made host into a folder that has none of them."""
    host = fresh(folder / "ubuntu1804-gtx750ti", "gtx750ti")
    host.write()

    host = Host(folder / "ubuntu1804-gtx750ti-driver470")
    host.card("gtx750ti", driver="nvidia")
    host.kernel(GA, (GA,), (GA,))
    host.driver_packages("470", "470.182.03-0ubuntu0.18.04.1", hold=False)
    host.loaded_driver("470.182.03")
    host.smi_lists_cards(knows_capability=False)
    host.write()

    served(folder / "ubuntu1804-quadro-p2000", (("p2000", "0000:01:00.0"),)).write()
    served(folder / "ubuntu1804-mixed-p2000-rtx3090", (("p2000", "0000:01:00.0"), ("rtx3090", "0000:65:00.0"))).write()

    host = fresh(folder / "ubuntu1804-rtx3090-secureboot", "rtx3090")
    host.firmware(secure_boot=True)
    host.write()

    host = fresh(folder / "ubuntu1804-h200", "h200")
    host.firmware(secure_boot=False)
    host.write()

    host = Host(folder / "ubuntu1804-quadro-p2000-dead")
    host.card("p2000")
    host.kernel(HWE, (GA, HWE), (GA, HWE))
    host.firmware(secure_boot=False)
    host.driver_packages()
    host.smi(COMMUNICATE, rc=9)
    host.write()

    host = fresh(folder / "ubuntu1804-quadro-p2000-nouveau", "p2000", driver="nouveau")
    host.file("proc/modules", "nouveau 1716224 1 - Live 0x0000000000000000\n")
    host.write()

    host = served(folder / "ubuntu1804-foreign-sources", (("p2000", "0000:01:00.0"),))
    foreign_sources(host)
    host.write()

    fresh(folder / "ubuntu1804-unknown-card", "unknown").write()

    host = fresh(folder / "ubuntu1804-half-configured", "p2000")
    host.packages += [
        ("nvidia-dkms-525", "amd64", DEB, "install", "half-configured"),
        ("nvidia-driver-525", "amd64", DEB, "install", "unpacked"),
        ("nvidia-driver-515", "amd64", "515.105.01-0ubuntu0.18.04.1", "deinstall", "config-files"),
        ("dkms", "all", "2.3-3ubuntu9.7", "install", "installed"),
    ]
    # An image without modules, and what is left of removed kernels: modules without an image, and what DKMS built.
    host.kernel(GA, ("5.4.0-152-generic",), ("5.4.0-149-generic",))
    host.file("lib/modules/5.4.0-151-generic/updates/dkms/nvidia.ko", "")
    host.file("run/reboot-required", "*** System restart required ***\n")
    host.write(
        "The following packages are only half configured, probably due to problems\n"
        "configuring them the first time.  The configuration should be retried using\n"
        "dpkg --configure <package> or the configure menu option in dselect:\n"
        " nvidia-dkms-525      NVIDIA DKMS package\n\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the synthetic hosts into a new folder.")
    parser.add_argument("folder", type=Path)
    make_all(parser.parse_args().folder)
