"""The fabricated archive of Ubuntu 18.04: signed, served over http, and able to become next month's."""

from __future__ import annotations

import gzip
import hashlib
import time
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Dict, Iterable, List, NamedTuple, Optional, Type

from . import bionic, bionic_driver, debs, signing
from .debs import Package
from .network import ServiceAddress
from .server import FileServer

CODENAME = "bionic"
COMPONENTS = ("main", "restricted", "universe", "multiverse")
HOST, PRO_HOST = "archive.ubuntu.example", "esm.ubuntu.com"
FIELD = Path(__file__).resolve().parents[2] / "field"


class Pocket(NamedTuple):
    """One suite: the folder of the server that it is in, its name, and whose it is."""

    top: str
    suite: str
    origin: str


POCKETS = {
    "": Pocket("ubuntu", CODENAME, "Ubuntu"),
    "updates": Pocket("ubuntu", CODENAME + "-updates", "Ubuntu"),
    "security": Pocket("ubuntu", CODENAME + "-security", "Ubuntu"),
    "infra-security": Pocket("infra/ubuntu", CODENAME + "-infra-security", "UbuntuESM"),
    "infra-updates": Pocket("infra/ubuntu", CODENAME + "-infra-updates", "UbuntuESM"),
    "apps-security": Pocket("apps/ubuntu", CODENAME + "-apps-security", "UbuntuESMApps"),
}


class Archive:
    """A folder in an archive's layout and, in a `with` block, its http server."""

    def __init__(self, folder: Path, pythons: Optional[Dict[str, str]] = None) -> None:
        """Fill `folder` with the archive as it stood when 18.04 ended; `pythons` as in bionic.others()."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._packages: List[Package] = as_it_ended(pythons or {})
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

    def sources_list(self) -> str:
        """The text of a sources.list that names this archive and no other."""
        own = [pocket.suite for pocket in POCKETS.values() if pocket.origin == "Ubuntu"]
        return "".join(f"deb {self.url} {suite} {' '.join(COMPONENTS)}\n" for suite in own)

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
            folder = tops[pocket.top] / "dists" / pocket.suite
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
            releases.append(debs.release(pocket.origin, pocket.suite, CODENAME, COMPONENTS, files, date))
            places.append(folder / "InRelease")
        for place, signed in zip(places, signing.clearsign(releases)):
            place.write_bytes(signed)


def as_it_ended(pythons: Dict[str, str]) -> List[Package]:
    """The archive's packages on the last day of 18.04's support."""
    lines = bionic_driver.branches()
    rows = bionic.others(pythons)
    for kernel in (bionic.GA, bionic.HWE):
        rows += bionic.kernel_packages(kernel)
        rows.append(bionic_driver.signatures(kernel, kernel.version))
        for branch in lines:
            rows += bionic_driver.signed_packages(branch, kernel, kernel.version)
    for branch in lines:
        rows += bionic_driver.driver_packages(branch)
    rows += [bionic_driver.transitional(name, lines) for name in bionic_driver.TRANSITIONAL]
    return rows + esm(lines)


def esm(lines: List[bionic_driver.Branch]) -> List[Package]:
    """What Ubuntu Pro has beside it, after the end of support: a library that the stack takes, and a driver line that
    it does not. The driver's version is made up.
    """
    old = next(line for line in lines if line.name == "390")
    newer = old._replace(upstream="390.157.99", version="390.157.99-0ubuntu0.18.04.1~esm1")
    # Its suites have the one component main.
    there = {"component": "main", "pockets": ("infra-security",)}
    rows = [package._replace(**there) for package in bionic_driver.driver_packages(newer)]
    libxml2 = bionic.library("libxml2", "2.9.4+dfsg1-6.1ubuntu1.9+esm1", "libxml2", "libxml2.so.2")[0]
    return [*rows, libxml2._replace(pockets=("infra-security", "infra-updates"))]


def next_month() -> List[Package]:
    """What the accident brings: a newer 525 with its modules, newer kernels, and unrelated upgrades.

    As Canonical does, the modules of the new driver are also built again for the kernels of before.
    """
    lines = bionic_driver.branches()
    fresh = bionic_driver.newer(next(line for line in lines if line.name == "525"))
    rows = bionic.next_month_others() + bionic_driver.driver_packages(fresh)
    for old, kernel in ((bionic.GA, bionic.NEXT_GA), (bionic.HWE, bionic.NEXT_HWE)):
        again = old.version + "+1"
        rows += bionic.kernel_packages(kernel)
        rows += [bionic_driver.signatures(old, again), bionic_driver.signatures(kernel, kernel.version)]
        for branch in lines:
            made = fresh if branch.name == "525" else branch
            rows += bionic_driver.signed_packages(made, old, again)[:2]
            rows += bionic_driver.signed_packages(made, kernel, kernel.version)
    return rows


def branch_jump() -> List[Package]:
    """The 525 line's package becomes a transitional one that pulls 530 (D04), as older lines' did."""
    lines = bionic_driver.branches()
    return [bionic_driver.transitional("525", [line for line in lines if line.name != "525"], "530")]


__all__ = ["HOST", "Archive", "as_it_ended", "branch_jump", "next_month"]
