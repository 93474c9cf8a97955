"""Debian packages and archive indices, written byte for byte: same description, same file, no tool needed."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple, Union


class File(NamedTuple):
    """A file's content and permissions."""

    data: bytes
    mode: int = 0o644


class Link(NamedTuple):
    """A symbolic link's target."""

    target: str


Content = Mapping[str, Union[File, Link]]


class Package(NamedTuple):
    """One binary package: what its control file says and what it brings."""

    name: str
    version: str
    source: str
    section: str = "misc"
    component: str = "main"
    architecture: str = "amd64"
    # More control fields: Depends, Provides, …
    fields: Mapping[str, str] = MappingProxyType({})
    # Absolute path to content.
    content: Content = MappingProxyType({})
    # preinst, postinst, prerm, postrm, triggers, conffiles.
    scripts: Mapping[str, str] = MappingProxyType({})
    # The pockets it is in: "" is the release itself, "updates", "security".
    pockets: Tuple[str, ...] = ("",)

    @property
    def file(self) -> str:
        """Where the archive keeps it."""
        folder = self.source[:4] if self.source.startswith("lib") else self.source[0]
        plain = self.version.split(":", 1)[-1]
        return f"pool/{self.component}/{folder}/{self.source}/{self.name}_{plain}_{self.architecture}.deb"

    def control(self) -> str:
        """The control file."""
        rows = {
            "Package": self.name,
            "Source": self.source,
            "Version": self.version,
            "Architecture": self.architecture,
            "Maintainer": "Ubuntu Kernel Team <kernel-team@lists.ubuntu.com>",
            "Installed-Size": str(1 + sum(len(f.data) for f in self.content.values() if isinstance(f, File)) // 1024),
            "Section": self.section if self.component == "main" else f"{self.component}/{self.section}",
            "Priority": "optional",
            **self.fields,
            "Description": f"stand-in for {self.name}",
        }
        return "".join(f"{key}: {value}\n" for key, value in rows.items() if value)


def build(package: Package) -> bytes:
    """The package as a .deb file."""
    control: Dict[str, Union[File, Link]] = {"/control": File(package.control().encode())}
    for name, text in package.scripts.items():
        control["/" + name] = File(text.encode(), 0o755 if text.startswith("#!") else 0o644)
    sums = "".join(
        f"{_md5(item.data)}  {path[1:]}\n" for path, item in sorted(package.content.items()) if isinstance(item, File)
    )
    control["/md5sums"] = File(sums.encode())
    members = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", gzip.compress(tar(control), 1, mtime=0)),
        ("data.tar.gz", gzip.compress(tar(package.content), 1, mtime=0)),
    ]
    out = b"!<arch>\n"
    for name, data in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def tar(content: Content) -> bytes:
    """An uncompressed tar of the content, with the folders above it, owned by root, without dates."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        folders: Dict[str, None] = {}
        for path in sorted(content):
            for parent in reversed(PurePosixPath(path).parents):
                folders.setdefault(str(parent), None)
        for folder in sorted(folders):
            member = tarfile.TarInfo("./" if folder == "/" else "." + folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(_owned(member))
        for path, item in sorted(content.items()):
            member = tarfile.TarInfo("." + path)
            if isinstance(item, Link):
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, item.target, 0o777
                archive.addfile(_owned(member))
            else:
                member.size, member.mode = len(item.data), item.mode
                archive.addfile(_owned(member), io.BytesIO(item.data))
    return out.getvalue()


def stanza(package: Package, deb: bytes) -> str:
    """The package's entry in a Packages index."""
    return (
        package.control().rstrip("\n")
        + f"\nFilename: {package.file}\nSize: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\n"
    )


def release(
    origin: str,
    suite: str,
    codename: str,
    version: str,
    components: Sequence[str],
    files: Mapping[str, bytes],
    date: str,
) -> str:
    """The text of a Release file of one of Ubuntu's archives."""
    lines: List[str] = [
        f"Origin: {origin}",
        f"Label: {origin}",
        f"Suite: {suite}",
        f"Version: {version}",
        f"Codename: {codename}",
        f"Date: {date}",
        "Architectures: amd64",
        f"Components: {' '.join(components)}",
        f"Description: Ubuntu {suite.capitalize()} {version}",
        "Acquire-By-Hash: no",
        "SHA256:",
    ]
    lines += [f" {hashlib.sha256(data).hexdigest()} {len(data):>16} {name}" for name, data in sorted(files.items())]
    return "\n".join(lines) + "\n"


def newest(packages: Iterable[Package]) -> List[Package]:
    """The last package of each name: an archive keeps one version of a name in a pocket."""
    found: Dict[str, Package] = {}
    for package in packages:
        found[package.name] = package
    return list(found.values())


def _md5(data: bytes) -> str:
    """The sum that a package's md5sums file holds."""
    return hashlib.md5(data).hexdigest()  # noqa: S324 - the file's own form, no safety rests on it


def _owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The member, owned by root."""
    member.uname = member.gname = "root"
    return member
