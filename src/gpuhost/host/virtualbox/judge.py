"""Whether the locked VirtualBox is in place: the one judgement that the role and verify share.

Pure: what was read against what is wanted. Runs on the target: Python 3.6, standard library.
"""

import re
import shlex
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from ...versions import release
from ..driver.judge import AGAIN, another_kernel
from ..driver.modules import asks_for_signature
from ..parse.kernels import headers_package
from ..parse.versions import compare_versions
from .packages import DKMS, MODULES, PACKAGES

#: From this release on VirtualBox asks KVM for the CPU's virtualisation, on kernels from this one on.
SHARES, SHARING_KERNEL = "7.2.2", (6, 16)
#: A line of `dkms status` about what it holds for installed: dkms 2 writes a comma behind the name, dkms 3 a slash.
_INSTALLED = re.compile(rf"({'|'.join(DKMS)})[/,] ?([^,/ ]+), ([^, ]+), [^:]+: installed")


class Need(NamedTuple):
    """One thing that keeps machines from starting after the next boot: the diagnosis, the sentence, the command."""

    diagnosis: str
    what: str
    remedy: str


def unready(state: Mapping[str, Any], held: Mapping[str, Any], secure_boot: str, subject: str = "") -> List[Need]:
    """Return what is not in place for `state["kernel"]`, in causal order; nothing when the next boot loads it all.

    `state` is what `probe.virtualbox.virtualbox` gives; `subject` the name of the own key where one is needed.
    """
    found = together(state) + missing(state) + other_release(state, held)
    return found or unsigned(state, secure_boot, subject)


def together(state: Mapping[str, Any]) -> List[Need]:
    """Two packagings at once, which take each other's program and modules away."""
    ways = {way.split(" ")[0].replace("virtualbox-dkms", "virtualbox") for way in state["packagings"]}
    if len(ways) < 2:
        return []
    return [Need("D56", f"VirtualBox is there in two ways: {', '.join(state['packagings'])}", "")]


def missing(state: Mapping[str, Any]) -> List[Need]:
    """Modules that the kernel which will boot does not have."""
    absent = [name for name in MODULES if state["modules"][name] is None]
    if not absent:
        return []
    kernel = state["kernel"]
    what = f"there is no {', '.join(absent)} for kernel {kernel}, the one that will boot"
    if not state["headers"]:
        step = f"apt-get install {shlex.quote(headers_package(str(kernel)))}"
        return [Need("D52", f"{what}, and its headers are missing", step)]
    known = state.get("dkms", [])
    built = f" (dkms status: {'; '.join(known[:2])})" if known else ""
    return [Need("D52", what + built, " ".join(map(shlex.quote, building(known, str(kernel)))))]


def building(known: List[str], kernel: str) -> List[str]:
    """Return the command by which DKMS makes the modules for a kernel; `known` are its lines about them.

    What it holds for installed it passes over, though the files are gone: that is installed again by name.
    """
    for line in known:
        found = _INSTALLED.match(line)
        if found and found.group(3) == kernel:
            return ["dkms", "install", "--force", f"{found.group(1)}/{found.group(2)}", "-k", kernel]
    return ["dkms", "autoinstall", "-k", kernel]


def other_release(state: Mapping[str, Any], held: Mapping[str, Any]) -> List[Need]:
    """A module or a program of another release than the locked one; a program that was not asked is not judged."""
    wanted = held["version"]
    found = {name: module["release"] for name, module in state["modules"].items() if module is not None}
    if "program" in state:
        found["VBoxManage"] = state["program"] or "not there"
    others = [f"{name} is {text or 'of unknown release'}" for name, text in found.items() if text != wanted]
    return [Need("D54", f"the lock has VirtualBox {wanted}, and {', '.join(others)}", AGAIN)] if others else []


def unsigned(state: Mapping[str, Any], secure_boot: str, subject: str) -> List[Need]:
    """Modules that Secure Boot would refuse."""
    if not asks_for_signature(secure_boot, "own-key" if subject else None):
        return []
    others = {}
    for name, module in state["modules"].items():
        if module is not None and (module["signed"] is False or (module["signer"] and module["signer"] != subject)):
            others[name] = module["signer"] or "nobody"
    if not others:
        return []
    told = ", ".join(f"{name} is signed by {signer}" for name, signer in others.items())
    return [Need("D53", f"Secure Boot is on and {told}, not by this machine's own key", AGAIN)]


def in_the_way(state: Mapping[str, Any], running: str) -> Optional[Need]:
    """KVM's modules where they keep the CPU's virtualisation from VirtualBox; None where they do not.

    Kernels before 6.12 have no such setting, and let both have it in turn.
    """
    kvm = state["kvm"]
    if not kvm["loaded"] or kvm["at_load"] is not True:
        return None
    if compare_versions(state["program"] or "0", SHARES) >= 0 and release(running)[:2] >= SHARING_KERNEL:
        return None
    what = f"{', '.join(kvm['loaded'])} is loaded and keeps the CPU's virtualisation (kernel {running})"
    return Need("D55", what, f"modprobe -r {' '.join(kvm['loaded'])}")


def boot_needed(state: Mapping[str, Any], held: Mapping[str, Any], running: str) -> str:
    """Why the host must be rebooted before the locked VirtualBox is in use; "" when it is."""
    if state["loaded"] is None:
        return another_kernel(running, str(state["kernel"])) or "vboxdrv is not loaded"
    if state["loaded"] != held["version"]:
        return f"vboxdrv {state['loaded'] or 'of unknown release'} is loaded, the locked one is {held['version']}"
    return another_kernel(running, str(state["kernel"]))


def replaced(state: Mapping[str, Any]) -> List[str]:
    """Return the recorded packages that are no longer as they were installed, by the packagings that are there."""
    versions = {row.split(" ")[0]: row.split(" ")[1] for row in state["packagings"] if row.startswith("virtualbox")}
    recorded = state["record"]["packages"]
    return altered({"packages": {name: recorded[name] for name in PACKAGES if name in recorded}}, versions)


def altered(record: Mapping[str, Any], versions: Dict[str, str]) -> List[str]:
    """Return the recorded packages of VirtualBox that are no longer as they were installed, as sentences."""
    return [
        f"{name} is {versions.get(name, 'gone')}, installed was {version}"
        for name, version in sorted(record["packages"].items())
        if name.startswith("virtualbox") and versions.get(name) != version
    ]


def told(needs: List[Need]) -> str:
    """Return the needs as lines: each with its diagnosis, and what to type."""
    rows = [(n, f". {AGAIN[0].upper()}{AGAIN[1:]}." if n.remedy in ("", AGAIN) else f":\n  {n.remedy}") for n in needs]
    return "\n".join(f"{n.diagnosis}: {n.what}{rest}" for n, rest in rows) + "\n"
