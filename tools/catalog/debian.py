"""Debian's archive: its indices, checked against its keys, and what they say of platforms, drivers and cards."""

from __future__ import annotations

import datetime
import email.utils
import hashlib
import lzma
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional

from gpuhost.errors import ArtifactError, EnvironmentProblem
from gpuhost.host.parse.control import stanzas
from gpuhost.text import printable

from .fetch import Fetch
from .rows import Finding, Json, Missing, Person, Place, Says, row

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ARCHIVE = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
SECONDS = 60
#: A driver of the archive, by the name of its package.
DRIVER = re.compile(r"nvidia(?:-tesla-[0-9]{3})?-driver")
#: The fields that are read of a Release file and of a package.
RELEASE = frozenset(("suite", "codename", "valid-until"))
PACKAGE = frozenset(("package", "version", "depends", "filename", "sha256"))
Stanza = Dict[str, str]


class Signed(NamedTuple):
    """A suite's Release file whose signature was good."""

    base: str
    suite: str
    fields: Stanza
    files: Mapping[str, str]


def signed_text(data: bytes, keyring: Path) -> str:
    """Return the text that one of Debian's keys has signed; `ArtifactError` where none has, or one signature is bad."""
    with tempfile.TemporaryDirectory() as work:
        text = Path(work) / "Release"
        command = ["gpgv", "--keyring", str(keyring), "--status-fd", "1", "--output", str(text), "-"]
        try:
            done = subprocess.run(  # noqa: S603 - a list; the keyring is the maintainer's
                command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EnvironmentProblem(
                f"gpgv cannot be run: {printable(error, 200)}.",
                "Install it: apt-get install gpgv debian-archive-keyring",
            ) from None
        said = done.stdout.decode("ascii", "replace")
        if "[GNUPG:] VALIDSIG " not in said or "[GNUPG:] BADSIG " in said or not text.is_file():
            raise ArtifactError(
                f"The index carries no good signature of a key in {keyring}.",
                "Install debian-archive-keyring; if it is there, somebody changes files on the way.",
            )
        return text.read_text(encoding="utf-8")


def release(fetch: Fetch, base: str, suite: str, keyring: Path) -> Signed:
    """Read the Release file of a suite; one of another suite or one that has expired is an `ArtifactError`."""
    text = signed_text(fetch.get(f"{base}/dists/{suite}/InRelease"), keyring)
    fields = next(stanzas(text, RELEASE), {})
    if suite not in (fields.get("suite"), fields.get("codename")):
        raise ArtifactError(f"The index of {suite} says that it is {printable(fields.get('codename'), 40)}.")
    until = fields.get("valid-until")
    if until and email.utils.parsedate_to_datetime(until) < datetime.datetime.now(datetime.timezone.utc):
        raise ArtifactError(f"The index of {suite} was valid until {printable(until, 40)}.", "Look for an old mirror.")
    listed = re.findall(r"^ ([0-9a-f]{64}) +[0-9]+ (\S+)$", text, re.MULTILINE)
    return Signed(base, suite, fields, {file: digest for digest, file in listed})


def checked(data: bytes, sha256: str, what: str) -> bytes:
    """Return data that has the checksum that was promised."""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ArtifactError(f"{printable(what, 120)} is not the file that its index names.", "Try again in an hour.")
    return data


def packages(fetch: Fetch, signed: Signed, component: str, wanted: re.Pattern[str]) -> Dict[str, Stanza]:
    """Return the packages of a component by name, as far as their names fit; of two versions the later listed."""
    name = f"{component}/binary-amd64/Packages.xz"
    if name not in signed.files:
        raise ArtifactError(f"The index of {signed.suite} does not name {name}.", "Look what became of it.")
    data = checked(
        fetch.get(f"{signed.base}/dists/{signed.suite}/{name}"), signed.files[name], f"{signed.suite} {name}"
    )
    text = lzma.decompress(data).decode("utf-8")
    found = (one for one in stanzas(text, PACKAGE) if wanted.fullmatch(one.get("package", "")))
    return {one["package"]: {**one, "base": signed.base, "component": component} for one in found}


def members(fetch: Fetch, stanza: Stanza, folder: str) -> Dict[str, str]:
    """Return the texts of the files in a folder of a package, by name; the package is checked against its index."""
    data = checked(fetch.get(f"{stanza['base']}/{stanza['filename']}"), stanza["sha256"], stanza["filename"])
    with tempfile.TemporaryDirectory() as work:
        deb, unpacked = Path(work) / "it.deb", Path(work) / "it.tar"
        deb.write_bytes(data)
        with unpacked.open("wb") as out:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=out, timeout=SECONDS, check=True)  # noqa: S603, S607 - dpkg's own
        found = {}
        with tarfile.open(str(unpacked)) as tar:
            for member in tar:
                parent, _, name = member.name.lstrip("./").rpartition("/")
                file = tar.extractfile(member) if member.isfile() and parent == folder else None
                if file is not None:
                    found[name] = file.read().decode("utf-8", "replace")
        return found


def newest(found: List[Dict[str, Stanza]]) -> Dict[str, Stanza]:
    """Return of each package its newest version among several suites, by dpkg's order."""
    best: Dict[str, Stanza] = {}
    for suite in found:
        for name, stanza in suite.items():
            if name not in best or later(stanza["version"], best[name]["version"]):
                best[name] = stanza
    return best


def later(one: str, other: str) -> bool:
    """Return whether a version of a package is later than another."""
    command = ["dpkg", "--compare-versions", one, "gt", other]
    return subprocess.run(command, timeout=SECONDS, check=False).returncode == 0  # noqa: S603 - a list


BASE = re.compile(r"libc6|python3(\.[0-9]+)?|gcc|g\+\+-[0-9]+|libgl1|libglib2\.0-0(t64)?")


def read(fetch: Fetch, tables: Mapping[str, Json], keyring: Path = KEYRING) -> Iterator[Finding]:
    """Yield what Debian's indices say of each Debian of the catalog."""
    for platform, known in tables["platforms"]["platforms"].items():
        if known["distribution"] != "debian":
            continue
        codename = known["codename"]
        suites = [
            release(fetch, ARCHIVE, codename, keyring),
            release(fetch, SECURITY, f"{codename}-security", keyring),
        ]
        base = newest([packages(fetch, one, "main", BASE) for one in suites])
        yield Says(
            "platforms", ("platforms", platform), platform_facts(base), f"signed package indices of {known['name']}"
        )
        drivers = re.compile(f"{DRIVER.pattern}|nvidia-detect")
        found = newest([packages(fetch, one, "non-free", drivers) for one in suites])
        yield from driver_findings(fetch, tables, platform, found)


def platform_facts(base: Mapping[str, Stanza]) -> Json:
    """Return what a platform's packages say of it."""

    def numbered(name: str) -> List[str]:
        found = [re.fullmatch(name, package) for package in base]
        return sorted((one.group(1) for one in found if one), key=lambda text: [int(n) for n in text.split(".")])

    own = need(base, "python3", r"\bpython(3\.[0-9]+)\b")
    return {
        "glibc": base["libc6"]["version"].partition("-")[0],
        "pythons": [own, *(one for one in numbered(r"python(3\.[0-9]+)") if one != own)],
        "gcc": {"default": need(base, "gcc", r"\bgcc-([0-9]+)\b"), "available": numbered(r"g\+\+-([0-9]+)")},
        "opencv_wheel_libraries": [one for one in ("libgl1", "libglib2.0-0", "libglib2.0-0t64") if one in base],
    }


def need(base: Mapping[str, Stanza], package: str, wanted: str) -> str:
    """Return what the dependencies of a package name."""
    said = re.search(wanted, base.get(package, {}).get("depends", ""))
    if said is None:
        raise ArtifactError(f"Debian's index does not say what {package} depends on.", "Look what became of it.")
    return said.group(1)


def driver_findings(
    fetch: Fetch, tables: Mapping[str, Json], platform: str, found: Mapping[str, Stanza]
) -> Iterator[Finding]:
    """Yield what the archive of a platform has of drivers, against the rows that there are."""
    row_of = {one["package"]: one for one in tables["drivers"]["archives"][platform]}
    known = tables["platforms"]["platforms"][platform]
    suites = f"{known['codename']} and {known['codename']}-security"
    ids = members(fetch, found["nvidia-detect"], "usr/share/nvidia")
    source = f"signed package indices of {known['name']} ({suites})"
    for name in sorted(set(row_of) - set(found)):
        yield Missing("drivers", ("archives", platform, row(package=name)), source)
    for name, stanza in sorted(found.items()):
        if not DRIVER.fullmatch(name):
            continue
        version = stanza["version"]
        upstream = version.partition("-")[0]
        if name not in row_of or upstream.partition(".")[0] not in tables["drivers"]["branches"]:
            yield Person("drivers", f"{platform} has {name} {version}, of which the catalog has no row or no branch")
            continue
        place: Place = ("archives", platform, row(package=name))
        claims = claimed(ids.get(f"{name[: -len('-driver')]}.ids"), name)
        facts: Json = {
            "version": upstream,
            "package_version": version,
            "branch": upstream.partition(".")[0],
            "component": stanza["component"],
            "sha256": stanza["sha256"],
            "file": stanza["filename"],
            "claims": claims,
        }
        yield Says("drivers", place, facts, f"{source}; ids: nvidia-detect {found['nvidia-detect']['version']}")


def claimed(text: Optional[str], name: str) -> List[str]:
    """Return the device ids in a list of nvidia-detect."""
    found = sorted(
        {one.lower() for one in re.findall(r"^10DE([0-9A-F]{4})$", text or "", re.MULTILINE | re.IGNORECASE)}
    )
    if not found:
        raise ArtifactError(f"nvidia-detect has no list of the cards of {name}.", "Look what became of it.")
    return found
