"""What would end an installation halfway, looked for before it begins: too little space, servers that do not answer.

Runs on the target: Python 3.6, standard library. What is needed was computed on the controller (`planning.needs`); for
the archive's packages apt is asked. Nothing is changed.
"""

import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import GpuhostError
from ..types import Json
from . import https, pip_index, reach
from .commands import Run, run_command
from .driver.apt import Apt
from .driver.set import this_machine
from .guard.prove import LOOKING
from .room import UNPACKED, boot_bytes, room_taken, short_of_space
from .work import Work

ARCHIVES = "/var/cache/apt/archives"
_READ_S = 60.0
# 'http://deb.example/debian/pool/main/g/gcc/g++_12_amd64.deb' g++_12_amd64.deb 1234 SHA256:...
_FILE = re.compile(r"^'([^']+)' \S+ ([0-9]{1,15})(?: |$)", re.MULTILINE)
_PROXY = re.compile(
    r'^Acquire::(https?)::(Proxy(?:-?Auto-?Detect)?(?:::[^ ]+)?) "([^"]*)";$', re.MULTILINE | re.IGNORECASE
)


class Wanted(NamedTuple):
    """What the archive's packages come to: (path, bytes) of room, and what is asked for, as in `reach.problems`."""

    room: List[Tuple[str, int]]
    asked: List[Json]


def looked(root: Path, needs: Json, run: Run = run_command) -> Json:
    """Return the `problems` that would stop an installation that needs this, and what is `told` of its room."""
    packages = archive(root, needs["packages"], needs["archive"], run)
    room = [(row["path"], row["bytes"]) for row in needs["room"]] + packages.room
    if needs["boot"]:
        kernel = this_machine(run).boots
        room += [("/boot", boot_bytes(kernel))] if kernel else []
    asked = [*packages.asked, *apt_asked("the driver's packages", needs["debs"], run)]
    if needs["index"]:
        asked.append({"what": needs["index"], "urls": pip_index.places(), **pip_proxies()})
    asked += [{"what": file["name"], "urls": [file["url"]]} for file in needs["files"]]
    short = short_of_space(room)
    step = "Make room there, or mount a larger disk."
    found = [*([f"There is too little space: {'; '.join(short)}. {step}"] if short else []), *reach.problems(asked)]
    return {"problems": found, "told": room_taken(room)}


def archive(root: Path, names: Sequence[str], own: Sequence[str], run: Run) -> Wanted:
    """Return what the packages that are not installed need; `own` are the addresses of the distribution's archive."""
    apt = Apt(root, "", Work(root / "log" / "packages.log", lambda _: None), run)
    try:
        installed = set(apt.names_installed())
    except GpuhostError:
        return Wanted([], [])  # the observation has said what is wrong with dpkg
    lacking = sorted(set(names) - installed)
    if not lacking:
        return Wanted([], [])
    what, files = "packages of the archive", to_fetch(lacking, run)
    if files is None:  # apt has no lists yet: they are fetched first
        return Wanted([], apt_asked(what, own, run))
    total = sum(size for _, size in files)
    asked = [row for url in origins(files) for row in apt_asked(what, [url], run)]
    return Wanted([(ARCHIVES, total), ("/usr", UNPACKED * total)], asked)


def to_fetch(names: Sequence[str], run: Run) -> Optional[List[Tuple[str, int]]]:
    """Return the address and the size of each file that apt would fetch; None where it cannot say."""
    argv = ["apt-get", *LOOKING, "-qq", "--print-uris", "--no-install-recommends", "install", *names]
    code, out, _ = run(argv, _READ_S)
    return None if code != 0 else [(url, int(size)) for url, size in _FILE.findall(out)]


def origins(files: Sequence[Tuple[str, int]]) -> List[str]:
    """Return the address of one file for each server."""
    found: Dict[str, str] = {}
    for url, _ in files:
        found.setdefault("/".join(url.split("/")[:3]), url)
    return list(found.values())


def apt_asked(what: str, urls: Sequence[str], run: Run) -> List[Json]:
    """Return how addresses are reached by apt; nothing where apt chooses a proxy for each of them."""
    if not urls:
        return []
    code, out, _ = run(["apt-config", "dump"], _READ_S)
    rows = _PROXY.findall(out) if code == 0 else []
    proxies = https.proxies()
    for scheme, name, value in rows:
        if name.lower() != "proxy":
            return []
        if value:
            proxies[scheme.lower()] = value
    if any(value.upper() == "DIRECT" for value in proxies.values()):
        proxies = {}
    proxies.setdefault("https", proxies.get("http", ""))
    return [{"what": what, "urls": list(urls), "proxies": proxies}]


def pip_proxies() -> Json:
    """Return the proxy that pip was given of its own, as `reach.problems` takes it."""
    said = pip_index.setting("proxy")
    return {"proxies": {"http": said, "https": said}} if said else {}
