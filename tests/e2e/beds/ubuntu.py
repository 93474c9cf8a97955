"""The imitation Ubuntu GPU host: what only the outside world can give is imitated at its outer edge."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from . import signing
from .archive import HOST, KEYRING, PRO_HOST, Archive
from .base import BUILD_SECONDS, QUICK_INITRAMFS, BaseRoot, cache_root, require_tools
from .bed import ROOT_ENVIRONMENT, Bed
from .commands import BedError, host
from .firmware import Firmware
from .mirror import Mirror
from .packages import STANDINS, kernel_packages
from .releases import BIONIC, RELEASES, Release

PACKAGES = (
    "apt", "apt-utils", "ca-certificates", "cpio", "dbus", "dkms", "gcc", "git", "gzip", "initramfs-tools", "iproute2",
    "kmod", "libbz2-1.0", "libc6-dev", "libffi8", "liblzma5", "libreadline8", "libsqlite3-0", "libssl3", "lsb-release",
    "make", "openssh-server", "openssl", "pciutils", "procps", "python3", "python3-apt", "python3-venv", "sbsigntool",
    "sudo", "systemd", "systemd-sysv", "udev", "unattended-upgrades", "wget", "xz-utils",
)  # fmt: skip
# What the installation put there, beside the kernel.
INSTALLED = (
    "grub2-common",
    "mokutil",
    "shim-signed",
    "linux-firmware",
    "libjpeg-turbo8",
    "ubuntu-advantage-tools",
    "snapd",
)
OS_RELEASE = """NAME="Ubuntu"
VERSION="{point} LTS ({name})"
ID=ubuntu
ID_LIKE=debian
PRETTY_NAME="Ubuntu {point} LTS"
VERSION_ID="{version}"
HOME_URL="https://www.ubuntu.com/"
VERSION_CODENAME={codename}
UBUNTU_CODENAME={codename}
"""
LSB_RELEASE = """DISTRIB_ID=Ubuntu
DISTRIB_RELEASE={version}
DISTRIB_CODENAME={codename}
DISTRIB_DESCRIPTION="Ubuntu {point} LTS"
"""
AUTO_UPGRADES = 'APT::Periodic::Update-Package-Lists "1";\nAPT::Periodic::Unattended-Upgrade "1";\n'
# The lines that are in force in the file of unattended-upgrades 1.1ubuntu1.18.04.14.
UNATTENDED = """Unattended-Upgrade::Allowed-Origins {
\t"${distro_id}:${distro_codename}";
\t"${distro_id}:${distro_codename}-security";
\t"${distro_id}ESMApps:${distro_codename}-apps-security";
\t"${distro_id}ESM:${distro_codename}-infra-security";
};
Unattended-Upgrade::Package-Blacklist {
};
Unattended-Upgrade::DevRelease "false";
"""
# 18.04's boot splash puts the drivers of displays into the initramfs, nouveau among them.
SPLASH = """#!/bin/sh
test "$1" != prereqs || exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules drm nouveau
"""
# The real modinfo, behind the one with the words of kmod 24.
MODINFO = "/usr/lib/kmod-of-debian/modinfo"
FILES = {
    # A bed's processes are killed, its power never fails: what the kernel was given is on the disk.
    "etc/dpkg/dpkg.cfg.d/bed": "force-unsafe-io\n",
    "etc/dpkg/origins/ubuntu": "Vendor: Ubuntu\nVendor-URL: http://www.ubuntu.com/\nParent: Debian\n",
    "etc/apt/apt.conf.d/20auto-upgrades": AUTO_UPGRADES,
    "etc/apt/apt.conf.d/50unattended-upgrades": UNATTENDED,
    "etc/initramfs-tools/conf.d/ubuntu": QUICK_INITRAMFS,
    "etc/initramfs-tools/hooks/splash": SPLASH,
}


def files_of(release: Release) -> Dict[str, str]:
    """The files that make a Debian root look like the release."""
    words = release._asdict()
    return {
        **FILES,
        "usr/lib/os-release": OS_RELEASE.format(**words),
        "etc/lsb-release": LSB_RELEASE.format(**words),
        "etc/debian_version": release.debian + "\n",
        "etc/issue": f"Ubuntu {release.point} LTS \\n \\l\n",
    }


# Commands of the outer machine, with their packages, that these beds need beside the plain ones'.
TOOLS = {"gpg": "gpg", "openssl": "openssl", "ssh": "openssh-client"}


class UbuntuRoot(BaseRoot):
    """A Debian root dressed as an Ubuntu release with one of its kernels, cached like the bare one."""

    def __init__(self, release: Release, kernel: str, pythons: Dict[str, str]) -> None:
        """Derive the name from all that goes in."""
        super().__init__(PACKAGES)
        # Kept beside the dressed roots: it is only what they are copied from.
        self.debian = BaseRoot(PACKAGES)
        self.debian.path = cache_root() / "hosts" / self.debian.key
        self.release, self.kernel = release, release.kernel(kernel)
        self._pythons = pythons
        own = Path(__file__).resolve().parent
        sources = [own / name for name in ("packages.py", "releases.py", "debs.py", "ubuntu.py")] + sorted(
            (own / "standins").iterdir()
        )
        parts = [self.debian.key, kernel, repr(sorted(pythons.items())), signing.canonical().certificate.read_text()]
        parts += [path.read_text() for path in sources if path.is_file()]
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
        week = "-".join(self.debian.key.split("-")[1:3])
        self.key = f"ubuntu-{release.version}-{week}-{kernel}-{digest}"
        self.path = cache_root() / "hosts" / self.key

    def _make(self, root: Path) -> None:
        """Copy the Debian root and dress it."""
        with self.debian.lease() as lower:
            host(["cp", "--archive", "--reflink=auto", f"{lower}/.", str(root)], timeout=BUILD_SECONDS)
        for name, text in files_of(self.release).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        (root / "etc/initramfs-tools/hooks/splash").chmod(0o755)
        if self.release.old_kmod:
            real, shown = root / MODINFO.lstrip("/"), root / "usr/sbin/modinfo"
            real.parent.mkdir()
            shown.rename(real)
            shutil.copy(STANDINS / "modinfo", shown)
            shown.chmod(0o755)
        link = root / "etc/dpkg/origins/default"
        link.unlink(missing_ok=True)
        link.symlink_to("ubuntu")
        for path in root.glob("etc/apt/sources.list.d/*"):
            path.unlink()
        for path in root.glob("etc/apt/trusted.gpg.d/*"):
            path.unlink()
        shutil.copy(signing.archive_key(), root / "etc/apt/trusted.gpg.d/ubuntu-keyring-2018-archive.gpg")
        shutil.copy(signing.archive_key(), root / KEYRING)
        authority = root / "usr/local/share/ca-certificates/vendor-mirror.crt"
        authority.write_text(signing.authority().certificate.read_text())
        enter = ["chroot", str(root)]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LANG": "C.UTF-8"}
        host([*enter, "update-ca-certificates"], timeout=BUILD_SECONDS, env=env)
        for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
            host([*enter, "systemctl", "disable", timer], env=env)
        with tempfile.TemporaryDirectory() as folder:
            archive = Archive(Path(folder), self._pythons, self.release)
            suffix = self.kernel.flavour
            release = self.kernel.release
            metas = [f"linux-{suffix}", f"linux-image-{suffix}", f"linux-headers-{suffix}"]
            parts = [f"linux-{part}-{release}" for part in ("image", "modules", "modules-extra", "headers")]
            parts += [p.name for p in kernel_packages(self.kernel) if p.architecture == "all"]
            names = [*INSTALLED, *metas, *parts]
            for path in archive.debs(names):
                shutil.copy(path, root / "var/cache/apt/archives")
            files = [f"/var/cache/apt/archives/{path.name}" for path in archive.debs(names)]
            host([*enter, "dpkg", "--install", *files], timeout=BUILD_SECONDS, env=env)
            host([*enter, "apt-mark", "auto", *parts, *metas[1:], "linux-firmware"], env=env)
        for path in (root / "var/cache/apt/archives").glob("*.deb"):
            path.unlink()


class UbuntuBed(Bed):
    """A booted imitation of an Ubuntu host with these cards; see README.md for what is real in it."""

    def __init__(
        self,
        cards: Sequence[str] = ("1c30",),
        kernel: str = "",
        secure_boot: Optional[bool] = False,
        archive: Optional[Archive] = None,
        mirror: Optional[Mirror] = None,
        logs: Optional[Path] = None,
        release: Release = BIONIC,
    ) -> None:
        """Describe the host; `cards` are PCI device ids, `secure_boot` None means no EFI at all.

        `archive` and `mirror` are in use already (several hosts may share them); without an archive the host gets
        one of its own. The release is the archive's where there is one. `kernel` is by default the newer line's.
        """
        self.pythons = own_pythons()
        self.release = archive.release if archive is not None else release
        known = [one.release for one in self.release.kernels]
        super().__init__(PACKAGES, binds={path: path for path in _folders(self.pythons)}, logs=logs)
        if kernel and kernel not in known:
            raise BedError(f"the kernel is one of {', '.join(known)}, not {kernel}")
        self.kernel = kernel or known[-1]
        self.mirror = mirror
        self._archive = archive
        self._cards, self._secure_boot = tuple(cards), secure_boot

    @classmethod
    def fresh(cls, *args: Any, **more: Any) -> UbuntuBed:
        """A fresh host; see __init__ for the arguments."""
        return cls(*args, **more)

    def __enter__(self) -> UbuntuBed:
        """Boot it, with apt's lists fetched, as on a host that was installed a while ago."""
        require_tools(TOOLS)
        with contextlib.ExitStack() as stack:
            if self._archive is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="archive-")))
                self._archive = stack.enter_context(Archive(folder, self.pythons, self.release))
            self.archive = self._archive
            super().__enter__()
            stack.push(super().__exit__)
            self.run(["apt-get", "update"])
            self._outer = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        """Kill and remove it, and then the archive when it was its own."""
        self._outer.__exit__(*error)

    def swap(self, *cards: str) -> None:
        """Switch the machine off, put these cards in place of those that are in it, and switch it on again.

        `Firmware.insert` says what the words mean; without any the machine has no card.
        """
        self.kill()
        self.firmware.insert(cards)
        self.boot()

    def attach_pro(self) -> None:
        """Make it a host of Ubuntu Pro: its sources, which apt has read."""
        with (self.copy.root / "etc/hosts").open("a") as hosts:
            hosts.write(f"{self.archive.address} {PRO_HOST}\n")
        for name, text in self.archive.pro_sources().items():
            (self.copy.root / "etc/apt/sources.list.d" / name).write_text(text)
        self.run(["apt-get", "update"])

    def enrol_mok(self) -> None:
        """Play the person at the blue screen: at the next boot the pending key is confirmed."""
        self.firmware.person_confirms = True

    def signer(self, kernel: str) -> str:
        """Who signed the nvidia module of a kernel, also where the bed's own modinfo, as 18.04's, does not tell it."""
        program = MODINFO if self.release.old_kmod else "modinfo"
        return self.run([program, "-k", kernel, "-F", "signer", "nvidia"], check=False).stdout.strip()

    def kernel_log(self) -> List[str]:
        """What the kernel would say of modules it did not take at the last boot."""
        return list(self.firmware.said)

    def inventory(self, name: str, **variables: Any) -> Dict[str, Dict[str, Any]]:
        """{name: variables}, to stand under `hosts` of an Ansible inventory: ssh as root with a key of its own."""
        python = self.release.python
        strict = f"-o UserKnownHostsFile={self._ssh / 'known_hosts'} -o StrictHostKeyChecking=yes"
        found = {
            "ansible_host": self.network.address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self._ssh / "id_ed25519"),
            "ansible_ssh_common_args": f"{strict} -o IdentitiesOnly=yes",
            "ansible_python_interpreter": f"/usr/bin/python{python}" if python in self.pythons else "/usr/bin/python3",
        }
        return {name: {**found, **variables}}

    def _base_root(self) -> BaseRoot:
        """The dressed root."""
        return UbuntuRoot(self.release, self.kernel, self.pythons)

    def _hardware(self, work: Path) -> List[str]:
        """The cards and the firmware."""
        self.firmware = Firmware(work / "firmware", self._cards, self._secure_boot)
        return self.firmware.arguments()

    def _power_on(self) -> None:
        """Before each boot: what the kernel will find."""
        self.firmware.power_on(self.copy.root)

    def _started(self, leader: int) -> None:
        """At the start of each boot: show it."""
        self.firmware.mount(leader)

    def _furnish(self, root: Path) -> None:
        """Also: the archive's address and source list, the way in by ssh, the interpreters."""
        super()._furnish(root)
        with (root / "etc/hosts").open("a") as hosts:
            hosts.write(f"{self.archive.address} {HOST}\n")
        for name, text in self.archive.sources().items():
            (root / "etc/apt" / name).write_text(text)
        # What a login by ssh gets.
        variables = {key: value for key, value in self._environment().items() if key not in ROOT_ENVIRONMENT}
        rows = {"PATH": ROOT_ENVIRONMENT["PATH"], **variables}
        (root / "etc/environment").write_text("".join(f'{key}="{value}"\n' for key, value in rows.items()))
        if self.release.python in self.pythons:
            (root / f"usr/bin/python{self.release.python}").symlink_to(self.pythons[self.release.python])
        self._ssh = self.copy.work / "ssh"
        self._ssh.mkdir(mode=0o700)
        for path in root.glob("etc/ssh/ssh_host_*"):
            path.unlink()
        key, host_key = self._ssh / "id_ed25519", root / "etc/ssh/ssh_host_ed25519_key"
        for path in (key, host_key):
            host(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(path)])
        authorized = root / "root/.ssh/authorized_keys"
        authorized.parent.mkdir(mode=0o700, exist_ok=True)
        authorized.write_text(key.with_suffix(".pub").read_text())
        public = host_key.with_suffix(".pub").read_text().split()
        (self._ssh / "known_hosts").write_text(f"{self.network.address} {' '.join(public[:2])}\n")


def own_pythons() -> Dict[str, str]:
    """The machine's pyenv Pythons of the versions that a release has: "3.6" to its program. Empty without pyenv.

    In the place of one that is newer than all of these stands the newest.
    """
    top = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    there = {}
    for path in sorted(top.glob("3.*/bin/python3.*")):
        short = re.fullmatch(r"python3\.([0-9]+)", path.name)
        if short:
            there[int(short.group(1))] = str(path)
    wanted = {short for release in RELEASES.values() for short in (release.python, *release.pythons)}
    found = {}
    for minor in (int(short.partition(".")[2]) for short in sorted(wanted) if there):
        known = minor if minor <= max(there) else max(there)
        if known in there:
            found[f"3.{minor}"] = there[known]
    return found


def _folders(pythons: Dict[str, str]) -> List[str]:
    """The installation folders of these Pythons."""
    return [str(Path(path).parent.parent) for path in pythons.values()]


__all__ = ["TOOLS", "UbuntuBed", "own_pythons"]
