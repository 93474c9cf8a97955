"""What makes up a locked VirtualBox, and whether apt may go there. Pure. Python 3.6 and the standard library."""

import hashlib
import json
import re
from typing import Container, Dict, List, Sequence, Tuple

from ...types import Json
from ..driver.packages import KERNEL, LABELS, Change, is_family
from ..parse.kernels import headers_package

#: The program and what builds its modules, as Debian and Ubuntu call them; its windows are a package of their own.
PACKAGES = ("virtualbox", "virtualbox-dkms")
GUI = "virtualbox-qt"
#: The modules that a host of machines needs. Older releases have a fourth one (vboxpci), which nothing needs.
MODULES = ("vboxdrv", "vboxnetflt", "vboxnetadp")
#: How DKMS calls them: the distribution's, and Oracle's.
DKMS = ("virtualbox", "vboxhost")
#: The packages of Oracle's own repository, as virtualbox-7.2, and the distribution's by name.
ORACLE = re.compile(r"^virtualbox-[0-9]+\.[0-9]+$")
ARCHIVE = re.compile(r"^virtualbox(-dkms|-qt|-ext-pack|-source)?$")
_VERSION = re.compile(r"^([0-9]+\.[0-9]+\.[0-9]+)")
_PROGRAM = re.compile(r"^([0-9]+\.[0-9]+\.[0-9]+)(_[A-Za-z]+)?r[0-9]+$", re.MULTILINE)


def wanted_names(held: Json, kernel: str, gui: bool) -> List[str]:
    """What to ask apt for: exactly the locked packages, and what builds modules for a kernel."""
    if held["source"] == "runfile":
        return ["bzip2", "dkms", "gcc", "make", "perl", "libc6-dev", headers_package(kernel)]
    versions = {deb["name"]: deb["version"] for deb in held["packages"]}
    names = [*PACKAGES, GUI] if gui else list(PACKAGES)
    names += [name for name in versions if name not in (*PACKAGES, GUI)]
    words = [f"{name}={versions.get(name, held['package_version'])}" for name in names]
    return [*words, headers_package(kernel)]


def refusals(
    install: Sequence[Change], remove: Sequence[Change], held: Json, own: str, kernel: Container[str] = ()
) -> List[str]:
    """Why what apt would do must not be done; empty when it is exactly the locked VirtualBox and nothing is lost.

    `own` is the distribution, whose archives alone may be used; "" for files of our own cache.
    """
    locked = {deb["name"]: deb["version"] for deb in held.get("packages", ())}
    found = [f"apt would remove {change.name} {change.old}." for change in remove if not ARCHIVE.match(change.name)]
    for change in install:
        strange = [label for label in change.origins if label not in LABELS.get(own, ())] if own else []
        if own and (strange or not change.origins):
            origin = ", ".join(strange) or "no archive"
            found.append(f"{change.name} {change.new} comes from {origin}, not from {own}. (D06)")
        if KERNEL.match(change.name) and change.name not in kernel:
            found.append(f"apt would bring another kernel, {change.name} {change.new}.")
        if is_family(change.name):
            found.append(f"apt would install {change.name} {change.new}, which is a driver.")
        if change.name in locked and change.new != locked[change.name]:
            found.append(f"{change.name} would come as {change.new}, the lock has {locked[change.name]}. (D04)")
    return found


def wrong_sums(shows: Dict[Tuple[str, str], Json], held: Json) -> List[str]:
    """The packages that the archive has with another content than the lock's."""
    found = []
    for deb in held.get("packages", ()):
        shown = shows.get((deb["name"], deb["version"]))
        if shown is not None and shown["sha256"] and shown["sha256"] != deb["sha256"]:
            found.append(f"{shown['file']} has the checksum {shown['sha256']}, the lock has {deb['sha256']}")
    return found


def digest(held: Json, kernel: str) -> str:
    """What tells one locked VirtualBox on one kernel from another; how it was asked for makes no other one of it."""
    debs = [[deb["name"], deb["version"], deb["sha256"]] for deb in held.get("packages", ())]
    same = {key: held.get(key) for key in ("source", "version", "package_version", "file")}
    text = json.dumps({"virtualbox": {**same, "packages": debs}, "kernel": kernel}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def release_of(text: str) -> str:
    """The release in what a module or a package says of its version: 7.2.22 of "7.2.22_Debian r170000 (0x00360000)"."""
    found = _VERSION.match(text.strip())
    return found.group(1) if found else ""


def program_version(text: str) -> str:
    """The release that `VBoxManage --version` prints, behind the warning about modules that it may begin with."""
    found = _PROGRAM.search(text)
    return found.group(1) if found else ""
