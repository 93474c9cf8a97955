"""Reading VirtualBox as the kernel that will boot is going to find it: modules, program, device, group, KVM, record.

Runs on the target: Python 3.6, standard library. Reads only.
"""

import re
import stat
from typing import Dict, List, Optional

from ...types import Json
from ..commands import NOT_FOUND
from ..edges import Edges
from ..virtualbox.packages import ARCHIVE, DKMS, MODULES, ORACLE, program_version, release_of
from .driver import leads_to, modinfo, own_key, parse_modinfo, with_signer
from .gpu import loaded_modules
from .guard import BESIDE_RECORD, installed_packages

RECORD = BESIDE_RECORD
DEVICE = "/dev/vboxdrv"
#: Where Oracle's own installer puts the program.
ORACLES = "/opt/VirtualBox"
PROGRAM = "/usr/bin/VBoxManage"
GROUP = "vboxusers"
#: What the loaded module says of its release.
LOADED_RELEASE = "/sys/module/vboxdrv/version"
#: Whether KVM takes the CPU's virtualisation when it is loaded; kernels before 6.12 have no such setting.
AT_LOAD = "/sys/module/kvm/parameters/enable_virt_at_load"
_TIMEOUT_S = 60.0


def virtualbox(edges: Edges, boots: Optional[str], root: str) -> Json:
    """VirtualBox's state for the kernel `boots`, the one that will boot (None where it is not known).

    `program` is what VBoxManage says of itself.
    """
    return {
        **in_place(edges, boots, root),
        "program": program(edges),
        "dkms": dkms_lines(edges),
        "device": device(edges),
        "members": members(edges),
        "kvm": kvm(edges),
        "key": own_key(edges),
    }


def in_place(edges: Edges, boots: Optional[str], root: str) -> Json:
    """The part of that state for which neither VirtualBox nor DKMS is asked.

    `modules` are what modprobe would load for that kernel (None: nothing), `loaded` the release of the module that is,
    and `packagings` every way in which VirtualBox is there.
    """
    return {
        "record": edges.record(f"{root}/{RECORD}"),
        "kernel": boots,
        "modules": {name: module(edges, boots, name) if boots else None for name in MODULES},
        "headers": bool(boots) and leads_to(edges, f"/lib/modules/{boots}/build") is not None,
        "loaded": loaded(edges),
        "packagings": packagings(edges),
    }


def module(edges: Edges, kernel: str, name: str) -> Optional[Json]:
    """What modprobe would load for a kernel; None when there is nothing, or when that cannot be determined."""
    found = modinfo(edges, ["-k", kernel, name])
    if not found:
        return None
    read = with_signer(edges, parse_modinfo(found))
    return {
        "path": read["path"],
        "release": release_of(read["version"]),
        "signed": read["signed"],
        "signer": read["signer"],
    }


def loaded(edges: Edges) -> Optional[str]:
    """The release of the module that is loaded; None for none."""
    if "vboxdrv" not in loaded_modules(edges):
        return None
    return release_of(edges.text(LOADED_RELEASE) or "") if edges.exists(LOADED_RELEASE) else ""


def program(edges: Edges) -> Optional[str]:
    """The release of the program; None where there is none. Asked for its version alone, it makes no settings."""
    if not edges.exists(PROGRAM):
        return None
    code, out, err = edges.run([PROGRAM, "--version"], _TIMEOUT_S)
    found = program_version(out + "\n" + err)
    if code == NOT_FOUND:
        return None
    if not found:
        said = " ".join((err or out).split()) or f"It printed nothing and ended with status {code}."
        edges.problem("VBoxManage --version", said)
    return found


def packagings(edges: Edges) -> List[str]:
    """Every way in which VirtualBox is there: the distribution's packages, Oracle's package, Oracle's installer."""
    found = sorted(
        f"{name} {package.version}"
        for name, package in installed_packages(edges).items()
        if ORACLE.match(name) or (ARCHIVE.match(name) and name in ("virtualbox", "virtualbox-dkms"))
    )
    if edges.exists(f"{ORACLES}/VBoxManage") and not any(ORACLE.match(row.split(" ")[0]) for row in found):
        found.append(f"Oracle's installer in {ORACLES}")
    return found


def dkms_lines(edges: Edges) -> List[str]:
    """The lines of `dkms status` about VirtualBox's modules; none where there is no dkms."""
    code, out, err = edges.run(["dkms", "status"], _TIMEOUT_S)
    if code == NOT_FOUND:
        return []
    if code != 0:
        edges.problem("dkms status", " ".join(err.split()) or f"It ended with status {code}.")
    return [line.strip() for line in out.splitlines() if re.split(r"[/,]", line)[0] in DKMS]


def device(edges: Edges) -> Optional[Json]:
    """Owner, group and rights of the device by which programs reach the module; None where it is not there."""
    try:
        found = edges.path(DEVICE).stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        edges.problem(DEVICE, f"It cannot be read: {error.strerror}.")
        return None
    return {"mode": stat.S_IMODE(found.st_mode), "uid": found.st_uid, "gid": found.st_gid}


def members(edges: Edges) -> Optional[List[str]]:
    """The users in the group that may use USB devices; None where there is no such group."""
    for line in (edges.text("/etc/group") or "").splitlines():
        cells = line.split(":")
        if len(cells) == 4 and cells[0] == GROUP:
            return sorted(name for name in cells[3].split(",") if name)
    return None


def kvm(edges: Edges) -> Json:
    """KVM's modules that are loaded, and whether they take the CPU's virtualisation as soon as they are."""
    there = loaded_modules(edges)
    setting: Dict[str, Optional[bool]] = {"Y": True, "N": False}
    text = edges.text(AT_LOAD)
    if text is not None and text.strip() not in setting:
        edges.problem(AT_LOAD, f"It holds {text.strip()[:20]!r}, which is neither Y nor N.")
    at_load = setting.get((text or "").strip())
    return {"loaded": sorted(name for name in ("kvm_amd", "kvm_intel") if name in there), "at_load": at_load}
