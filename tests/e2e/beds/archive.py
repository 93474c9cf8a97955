"""The fabricated archive of an Ubuntu release: signed, served over http, and able to become next month's."""

from __future__ import annotations

import gzip
import hashlib
import time
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Dict, Iterable, List, NamedTuple, Optional, Type

from . import debs, driver_packages, packages, signing
from .debs import Package
from .network import ServiceAddress
from .releases import BIONIC, Kernel, Release
from .server import FileServer

COMPONENTS = ("main", "restricted", "universe", "multiverse")
HOST, PRO_HOST = "archive.ubuntu.example", "esm.ubuntu.com"
#: Where a host keeps the archive's key, from the root folder on.
KEYRING = "usr/share/keyrings/ubuntu-archive-keyring.gpg"
FIELD = Path(__file__).resolve().parents[2] / "field"


class Pocket(NamedTuple):
    """One suite: the folder of the server that it is in, what its name has after the codename, and whose it is."""

    top: str
    end: str
    origin: str


POCKETS = {
    "": Pocket("ubuntu", "", "Ubuntu"),
    "updates": Pocket("ubuntu", "-updates", "Ubuntu"),
    "security": Pocket("ubuntu", "-security", "Ubuntu"),
    "infra-security": Pocket("infra/ubuntu", "-infra-security", "UbuntuESM"),
    "infra-updates": Pocket("infra/ubuntu", "-infra-updates", "UbuntuESM"),
    "apps-security": Pocket("apps/ubuntu", "-apps-security", "UbuntuESMApps"),
}


class Archive:
    """A folder in an archive's layout and, in a `with` block, its http server."""

    def __init__(self, folder: Path, pythons: Optional[Dict[str, str]] = None, release: Release = BIONIC) -> None:
        """Fill `folder` with a release's archive as the catalog knows it; `pythons` as in `packages.others`."""
        self.folder, self.release = folder, release
        folder.mkdir(parents=True, exist_ok=True)
        self._packages: List[Package] = as_it_ended(release, pythons or {})
        self._sums: Dict[str, str] = {}
        self._server: Optional[FileServer] = None
        self._address: Optional[ServiceAddress] = None
        self.publish()

    def __enter__(self) -> Archive:
        """Serve it, at an address that the test machine and all beds reach."""
        self._address = ServiceAddress()
        self._server = FileServer(self.folder, self._address.address)
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """End the server and give the address back."""
        if self._server is not None and self._address is not None:
            self._server.close()
            self._address.close()
        self._server = self._address = None

    @property
    def address(self) -> str:
        """The server's address, which a bed's /etc/hosts gives to HOST."""
        assert self._address is not None, "the archive is not served: use it in a with block"
        return self._address.address

    @property
    def url(self) -> str:
        """What a sources.list names."""
        assert self._server is not None, "the archive is not served: use it in a with block"
        return f"http://{HOST}:{self._server.port}/ubuntu"

    @property
    def requests(self) -> List[str]:
        """The paths asked for so far."""
        assert self._server is not None, "the archive is not served: use it in a with block"
        return self._server.requests

    def sources(self) -> Dict[str, str]:
        """The files below /etc/apt that name this archive and no other, as the release's installer writes them."""
        own = [self.suite(pocket) for pocket in POCKETS.values() if pocket.origin == "Ubuntu"]
        if not self.release.deb822:
            text = "".join(f"deb {self.url} {suite} {' '.join(COMPONENTS)}\n" for suite in own)
            return {"sources.list": text}
        stanza = "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\nSigned-By: {}\n"
        parts = [[suite for suite in own if not suite.endswith("-security")], [own[-1]]]
        rows = (stanza.format(self.url, " ".join(suites), " ".join(COMPONENTS), f"/{KEYRING}") for suites in parts)
        moved = "# Ubuntu sources have moved to /etc/apt/sources.list.d/ubuntu.sources\n"
        return {"sources.list": moved, "sources.list.d/ubuntu.sources": "\n".join(rows)}

    def suite(self, pocket: Pocket) -> str:
        """The name of a suite."""
        return self.release.codename + pocket.end

    def pro_sources(self) -> Dict[str, str]:
        """The source lists of an Ubuntu Pro host, by their files' names, as tests/field has them; they lead to here."""
        assert self._server is not None, "the archive is not served: use it in a with block"
        here = f"http://{PRO_HOST}:{self._server.port}"
        lists = sorted((FIELD / "kind-04-ubuntu-pro-esm").glob("*.list"))
        return {path.name: path.read_text().replace(f"https://{PRO_HOST}", here) for path in lists}

    def add(self, newer: Iterable[Package]) -> None:
        """Take these packages in; of each name a pocket keeps the newest alone, so the old one's file goes."""
        fresh = list(newer)
        replaced = {(package.name, pocket) for package in fresh for pocket in package.pockets}
        kept = []
        for package in self._packages:
            pockets = tuple(pocket for pocket in package.pockets if (package.name, pocket) not in replaced)
            if pockets:
                kept.append(package._replace(pockets=pockets))
        self._packages = kept + fresh
        self.publish()

    def replace(self, package: Package) -> None:
        """Serve other content of a package, at the version that is served already."""
        self.debs([package.name])[0].unlink()
        self.add([package])

    def sha256(self, name: str) -> str:
        """The checksum of the newest .deb of that name."""
        return self._sums[name]

    def version(self, name: str) -> str:
        """The newest version of that name."""
        return next(package.version for package in reversed(self._packages) if package.name == name)

    def package(self, name: str) -> Package:
        """The newest package of that name."""
        return next(package for package in reversed(self._packages) if package.name == name)

    def debs(self, names: Iterable[str]) -> List[Path]:
        """The files of these packages."""
        return [self.folder / "ubuntu" / self.package(name).file for name in names]

    def publish(self) -> None:
        """Write the packages' files and the signed indices of all pockets; what is in none is deleted."""
        tops = {pocket.top: self.folder / pocket.top for pocket in POCKETS.values()}
        stanzas: Dict[str, Dict[str, List[str]]] = {name: {c: [] for c in COMPONENTS} for name in POCKETS}
        there = set()
        for package in self._packages:
            for top in {POCKETS[pocket].top for pocket in package.pockets}:
                path = tops[top] / package.file
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(debs.build(package))
                there.add(path)
                data = path.read_bytes()
            self._sums[package.name] = hashlib.sha256(data).hexdigest()
            for pocket in package.pockets:
                stanzas[pocket][package.component].append(debs.stanza(package, data))
        for top in tops.values():
            for path in (top / "pool").rglob("*.deb"):
                if path not in there:
                    path.unlink()
        releases, places = [], []
        for name, components in stanzas.items():
            pocket = POCKETS[name]
            folder = tops[pocket.top] / "dists" / self.suite(pocket)
            files: Dict[str, bytes] = {}
            for component, rows in components.items():
                text = "\n".join(rows).encode()
                for file, body in (("Packages", text), ("Packages.gz", gzip.compress(text, 1, mtime=0))):
                    files[f"{component}/binary-amd64/{file}"] = body
            for file, body in files.items():
                place = folder / file
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(body)
            date = formatdate(time.time(), usegmt=True)
            named = (pocket.origin, self.suite(pocket), self.release.codename, self.release.version)
            releases.append(debs.release(*named, COMPONENTS, files, date))
            places.append(folder / "InRelease")
        for place, signed in zip(places, signing.clearsign(releases)):
            place.write_bytes(signed)


def as_it_ended(release: Release, pythons: Dict[str, str]) -> List[Package]:
    """The archive's packages: of 18.04 those of the last day of its support."""
    lines = driver_packages.branches(release)
    rows = packages.others(release, pythons)
    for kernel in release.kernels:
        rows += packages.kernel_packages(kernel)
        rows.append(driver_packages.signatures(kernel, kernel.version))
        for branch in with_modules(release, lines, kernel):
            rows += driver_packages.signed_packages(branch, kernel, kernel.version)
    for branch in lines:
        rows += driver_packages.driver_packages(branch)
    rows += [driver_packages.transitional(release, name, lines) for name in release.transitional]
    return rows + (esm(release, lines) if release == BIONIC else [])


def with_modules(release: Release, lines: List[driver_packages.Branch], kernel: Kernel) -> List[driver_packages.Branch]:
    """The lines that the archive has signed modules of for a kernel."""
    return [line for line in lines if not kernel.suffix or line.name not in release.unsigned]


def esm(release: Release, lines: List[driver_packages.Branch]) -> List[Package]:
    """What Ubuntu Pro has beside it, after the end of support: a library that the stack takes, and a driver line that
    it does not. The driver's version is made up.
    """
    old = next(line for line in lines if line.name == "390")
    newer = old._replace(upstream="390.157.99", version=f"390.157.99-{release.tail}~esm1")
    # Its suites have the one component main.
    there = {"component": "main", "pockets": ("infra-security",)}
    rows = [package._replace(**there) for package in driver_packages.driver_packages(newer)]
    soname, version = release.libraries["libxml2"]
    libxml2 = packages.library("libxml2", f"{version}+esm1", "libxml2", soname)[0]
    return [*rows, libxml2._replace(pockets=("infra-security", "infra-updates"))]


def next_month(release: Release = BIONIC) -> List[Package]:
    """What the accident brings: a newer version of a driver line, its modules, newer kernels, and unrelated upgrades.

    As Canonical does, the modules of the new driver are also built again for the kernels of before.
    """
    lines = driver_packages.branches(release)
    fresh = {line.name: driver_packages.newer(line, release) for line in lines if line.line == release.updated}
    rows = packages.next_month_others(release)
    for branch in fresh.values():
        rows += driver_packages.driver_packages(branch)
    for old, kernel in zip(release.kernels, release.next_kernels):
        again = old.version + "+1"
        rows += packages.kernel_packages(kernel)
        rows += [driver_packages.signatures(old, again), driver_packages.signatures(kernel, kernel.version)]
        for branch in with_modules(release, lines, kernel):
            made = fresh.get(branch.name, branch)
            # All packages but those that lead to the newest kernel.
            rows += driver_packages.signed_packages(made, old, again)[:2]
            rows += driver_packages.signed_packages(made, kernel, kernel.version)
    return rows


def branch_jump() -> List[Package]:
    """The 525 line's package becomes a transitional one that pulls 530 (D04), as older lines' did."""
    lines = [line for line in driver_packages.branches(BIONIC) if line.name != "525"]
    return [driver_packages.transitional(BIONIC, "525", lines, "530")]


__all__ = ["HOST", "KEYRING", "Archive", "as_it_ended", "branch_jump", "next_month"]
