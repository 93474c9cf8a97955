"""The support bundle: what verify/ saw of a host, redacted, in one archive that a user can attach to an issue."""

from __future__ import annotations

import calendar
import getpass
import io
import json
import os
import platform
import re
import socket
import sys
import tarfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Optional, Sequence, Set

from .. import __version__
from ..errors import EnvironmentProblem
from ..host import files
from ..planning.catalog import shipped
from ..redact import Redactor
from ..shapes.report import KeptReport, Report
from ..verification.collect import Host
from . import history

README = "README.txt"
ABOUT = {
    "report.json": "the checks as verify/ reports them",
    "machine.json": "what the probe read: cards, driver, kernel, packages of the stack, apt sources, store, records",
    "lock.json": "the lock of the host",
    "environments.json": "packages of both Python environments, and what OpenCV and TensorFlow computed",
    "benchmark.json": "the benchmark's own reports",
    "history.json": "since when each check says what it says",
    "controller.json": "the machine that verified: its Python, its gpuhost, its ansible-core",
}


def versions(value: Any) -> Iterator[str]:
    """Every text of a JSON value that is a version of four figures, and so looks like an address."""
    inside: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for inner in inside:
        yield from versions(inner)
    if isinstance(value, str):
        yield from re.findall(r"(?<![0-9.])[0-9]+(?:\.[0-9]+){3}(?![0-9.])", value)


def controller() -> Dict[str, Optional[str]]:
    """The machine that verifies, without its name."""
    try:
        ansible = metadata.version("ansible-core")
    except metadata.PackageNotFoundError:
        ansible = None
    return {
        "gpuhost": __version__,
        "python": sys.version.split()[0],
        "ansible_core": ansible,
        "platform": platform.platform(),
    }


def user() -> str:
    """Who runs this; "" where that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def contents(
    host: Host,
    report: Report,
    kept: Sequence[KeptReport],
) -> Dict[str, Any]:  # Json: the content of each file
    """The files of a bundle by name, not yet redacted."""
    seen = host.seen
    since = [
        {"check": row.check, "now": row.now._asdict(), "since": row.first._asdict(), "told": history.told(row)}
        for row in history.since(kept)
    ]
    return {
        "report.json": report,
        "machine.json": seen.get("machine"),
        "lock.json": seen["lock"],
        "environments.json": seen["environments"],
        "benchmark.json": seen["benchmark"],
        "history.json": since,
        "controller.json": controller(),
    }


def redactor(host: Host) -> Redactor:
    """One that knows the names of this host, of this machine and of its user."""
    observation = (host.seen.get("machine") or {}).get("observation") or {}
    hosts = [host.name, str(observation.get("hostname") or ""), socket.gethostname()]
    return Redactor(hosts, [user(), os.environ.get("SUDO_USER", "")], public_versions())


def public_versions() -> Set[str]:
    """Return the versions of the catalog that look like addresses; one in a host's own words alone might be one."""
    catalog = shipped()
    tables = (catalog.cuda, catalog.cudnn, catalog.drivers, catalog.opencv)
    return {text for table in tables for text in versions(table)}


def readme(counts: Dict[str, int]) -> str:
    """What is in it, and what was taken out."""
    rows = [f"  {name:<18}{what}" for name, what in ABOUT.items()]
    taken = [f"  {number} x {kind}" for kind, number in counts.items()] or ["  nothing was found"]
    return "\n".join(
        [
            "What gpuhost's verify/ saw of one host. Look through it before you pass it on.",
            "",
            *rows,
            "",
            "Taken out, the same thing by the same stand-in:",
            *taken,
            "Keys, passwords, tokens and serial numbers are taken out without a stand-in.",
            "",
        ]
    )


def archive(found: Dict[str, str], when: int) -> bytes:
    """A tar.gz of texts that tells nothing of the machine that made it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, text in found.items():
            data = text.encode("utf-8", "replace")
            member = tarfile.TarInfo(f"gpuhost-support/{name}")
            member.size, member.mtime, member.mode = len(data), when, 0o644
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def texts(host: Host, report: Report, kept: Sequence[KeptReport]) -> Dict[str, str]:
    """The bundle's files, redacted."""
    clean, found = redactor(host), contents(host, report, kept)
    # Twice: a name that is learned in the last file is taken out of the first one as well.
    clean.value(found)
    made = {name: json.dumps(clean.value(value), indent=1, sort_keys=True) + "\n" for name, value in found.items()}
    return {README: readme(clean.counts), **made}


def write(host: Host, report: Report, target: Path) -> Path:
    """Write the bundle of a host into its folder of reports, readable by its owner only; its path."""
    when = time.strptime(report["when"], "%Y-%m-%dT%H:%M:%SZ")
    path = target / f"support-{re.sub(r'[-:]', '', report['when'])}.tar.gz"
    found = texts(host, report, history.read(target).reports)
    try:
        files.write_whole(path, archive(found, calendar.timegm(when)), files.PRIVATE)
    except OSError as error:
        raise EnvironmentProblem(
            f"The bundle cannot be written to {path}: {error.strerror}.",
            "Make room, or name another folder: --gpuhost-reports DIR",
        ) from error
    return path
