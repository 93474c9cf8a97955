"""The Debian root that beds are copies of: built once a week, cached, and never changed."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import os
import shutil
import time
from pathlib import Path
from types import MappingProxyType
from typing import Dict, Iterator, List, Mapping, Sequence

from . import settings
from .commands import BedError, host, wait_until

# A bare Debian 12 of the smallest variant with what booting (systemd, dbus) and fetching (apt, git,
# ca-certificates) need. No Python: the toolkit has to bring its own.
PACKAGES = ("apt", "ca-certificates", "dbus", "git", "systemd", "systemd-sysv")
# Packing as small as can be took half of a kernel's installation (measured: 100 s against 48).
QUICK_INITRAMFS = "COMPRESS=gzip\nCOMPRESSLEVEL=1\n"
#: A Quadro P2000, by its PCI device id.
P2000 = "0x1c30"
# Part of the cache key: raise it when what _build() does to a root changes.
RECIPE = "1"
BUILD_SECONDS = 1800
# Tests with other package lists have roots of their own, so one that was used lately is kept.
KEEP_SECONDS = 24 * 3600
# What the name of a root that is being built ends in.
UNFINISHED = ".unfinished"


def cache_root() -> Path:
    """The folder that holds base roots and logs, following the XDG base directory specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuhost-e2e"


def apt_files() -> Dict[str, str]:
    """The outer machine's apt source files, name to text."""
    folder = Path("/etc/apt")
    found = [
        folder / "sources.list",
        *folder.glob("sources.list.d/*.list"),
        *folder.glob("sources.list.d/*.sources"),
    ]
    return {str(path): path.read_text() for path in found if path.is_file()}


class BaseRoot:
    """One base root: the recipe it is made by and, from that, the name it is cached under."""

    def __init__(self, packages: Sequence[str] = PACKAGES, codename: str = settings.CODENAME) -> None:
        """Read this machine's apt sources, apt settings and certificates; BedError when they cannot serve.

        Another release of Debian is taken from where this machine has its own.
        """
        self.packages, self.codename = tuple(sorted(packages)), codename
        sources = settings.debian_sources(apt_files(), lambda path: Path(path).read_text())
        self.sources = settings.render_sources(settings.of_release(sources, codename))
        self.apt_settings = settings.apt_settings(host(["apt-config", "dump"]).stdout.decode())
        if codename == settings.UNSTABLE:
            self.apt_settings.append(settings.LATE)
        paths = [Path(name) for name in settings.certificate_files(os.environ)]
        self.certificates = [path.read_text() for path in paths if path.is_file()]
        year, week, _ = datetime.datetime.now(datetime.timezone.utc).isocalendar()
        parts: List[str] = [RECIPE, *self.packages, self.sources, *self.apt_settings, *self.certificates]
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
        self.key = f"{codename}-{year}-w{week:02}-{digest}"
        self.path = cache_root() / "bases" / self.key
        self.built_in_seconds = 0.0

    @contextlib.contextmanager
    def lease(self) -> Iterator[Path]:
        """The root's folder, built if it is not cached; it stays until the block ends. Never written to."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _lock_file(self.path).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            while not self.path.is_dir():
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Another bed may have built it while this one waited for the lock.
                if not self.path.is_dir():
                    started = time.monotonic()
                    self._build()
                    self.built_in_seconds = time.monotonic() - started
                fcntl.flock(lock, fcntl.LOCK_SH)
            # The lock's time of change says when the root was used last.
            os.utime(lock.fileno())
            _prune(self.path)
            yield self.path

    def _build(self) -> None:
        """Make the root beside its place and rename it there, so that a killed build leaves no half root."""
        unfinished = self.path.with_name(self.path.name + UNFINISHED)
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir()
        try:
            root = unfinished / "root"
            self._make(root)
            root.rename(self.path)
        finally:
            shutil.rmtree(unfinished)

    def _make(self, root: Path) -> None:
        """Fill the folder `root`."""
        sources = root.with_name("debian.sources")
        sources.write_text(self.sources)
        # In namespaces of its own, so that a build that is killed leaves neither processes nor mounts behind: what is
        # half-made is deleted, and must not be deleted through a mount.
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        argv += ["mmdebstrap", "--mode=root", "--variant=minbase", "--include=" + ",".join(self.packages)]
        argv += ["--keyring=" + settings.KEYRING, *("--aptopt=" + line for line in self.apt_settings)]
        host([*argv, self.codename, str(root), str(sources)], timeout=BUILD_SECONDS)
        self._finish(root)

    def _finish(self, root: Path) -> None:
        """Give the root its sources file and certificates, and take away what tied it to this machine."""
        for made in root.glob("etc/apt/sources.list.d/*"):
            made.unlink()
        (root / "etc/apt/sources.list.d/debian.sources").write_text(self.sources)
        known = (root / settings.BUNDLE.lstrip("/")).read_text()
        extra = settings.extra_certificates(self.certificates, known)
        for number, pem in enumerate(extra, start=1):
            (root / f"usr/local/share/ca-certificates/outer-{number:03}.crt").write_text(pem)
        if extra:
            # A folder of the caller's for temporary files is not in there.
            host(["chroot", str(root), "env", "-u", "TMPDIR", "update-ca-certificates"], timeout=BUILD_SECONDS)
        # mmdebstrap copies these from the outer machine; each bed gets its own.
        for name in ("hostname", "resolv.conf"):
            (root / "etc" / name).unlink(missing_ok=True)
        # An empty file: each boot gets an identity of its own and systemd does not take it for a first boot.
        (root / "etc/machine-id").write_text("")


class Copy:
    """A writable copy of a base root: an overlay where the kernel can, else real files."""

    def __init__(self, base: Path, work: Path) -> None:
        """Make the copy under `work`, an empty folder; `kind` says which way it went."""
        self.work = work
        self.root = work / "root"
        self.root.mkdir()
        upper, scratch = work / "upper", work / "scratch"
        upper.mkdir()
        scratch.mkdir()
        shutil.copymode(base, upper)
        self._lower = str(base)
        self._kept: Dict[str, str] = {}
        self.kind = "overlay" if self._mount(self._lower) else "copy"
        if self.kind == "copy":
            host(["cp", "--archive", "--reflink=auto", f"{base}/.", str(self.root)], timeout=BUILD_SECONDS)

    def keep(self, name: str) -> None:
        """Put what has changed so far aside under a name, to begin there again; nothing may run in it meanwhile."""
        assert self.kind == "overlay", "only an overlay can be kept"
        self._unmount()
        (self.work / "upper").rename(self.work / f"kept-{name}")
        self._kept = {**self._kept, name: f"{self.work / f'kept-{name}'}:{self._lower}"}
        self.begin(name)

    def begin(self, name: str) -> None:
        """Forget all that has changed, and begin where `keep` was called with that name."""
        self._unmount()
        self._lower = self._kept[name]
        for folder in (self.work / "upper", self.work / "scratch"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        shutil.copymode(self._lower.partition(":")[0], self.work / "upper")
        assert self._mount(self._lower), f"{self.root} cannot be mounted again"

    def _mount(self, lower: str) -> bool:
        """Mount the overlay, what changes above what stays; False where this kernel cannot."""
        options = f"lowerdir={lower},upperdir={self.work / 'upper'},workdir={self.work / 'scratch'}"
        return host(["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)], check=False).returncode == 0

    def _unmount(self) -> None:
        """Unmount it, with what is mounted below; a dead machine's mount namespace goes away a moment later."""
        if self.root.is_mount():
            wait_until(
                lambda: host(["umount", "--recursive", str(self.root)], check=False).returncode == 0, 20, "umount"
            )

    def remove(self) -> None:
        """Unmount and delete the copy; nothing may run in it any more."""
        remove_work(self.work)


def remove_work(work: Path) -> None:
    """Unmount and delete a bed's folder, also one whose owner was killed."""
    root = work / "root"
    if root.is_mount():
        # The dead machine's mount namespace goes away a moment after its last process.
        wait_until(lambda: host(["umount", str(root)], check=False).returncode == 0, 20, f"unmounting {root}")
    if work.exists():
        shutil.rmtree(work)


def _lock_file(base: Path) -> Path:
    """The lock beside a base root: shared by the beds that use it, exclusive to build or delete it."""
    return base.with_name(base.name + ".lock")


def _prune(current: Path) -> None:
    """Delete the cached roots, finished or not, that were not used for a day and that no bed uses or builds."""
    for path in current.parent.iterdir():
        base = path.with_name(path.name.split(UNFINISHED)[0])
        if not path.is_dir() or base == current:
            continue
        with _lock_file(base).open("a") as lock:
            if time.time() - os.fstat(lock.fileno()).st_mtime < KEEP_SECONDS:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path)


def require_tools(more: Mapping[str, str] = MappingProxyType({})) -> None:
    """BedError naming what this machine lacks for beds: root, or a command; `more` is command -> package."""
    if os.geteuid() != 0:
        raise BedError("beds need root: they mount, make network namespaces and boot machines")
    needed = {
        "mmdebstrap": "mmdebstrap",
        "systemd-nspawn": "systemd-container",
        "nft": "nftables",
        "ip": "iproute2",
        **more,
    }
    missing = sorted(package for command, package in needed.items() if shutil.which(command) is None)
    if missing:
        raise BedError(f"beds need packages that are not installed: apt-get install {' '.join(missing)}")


def write_card(folder: Path, device: str = P2000, vendor: str = "0x10de", pci_class: str = "0x030000") -> None:
    """Write what sysfs shows of one PCI device into its folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"vendor": vendor, "device": device, "class": pci_class}
    rows.update({"subsystem_vendor": vendor, "subsystem_device": "0x11b3"})
    for name, value in rows.items():
        (folder / name).write_text(value + "\n")
