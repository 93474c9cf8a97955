"""Whether the locked driver is in place: the one judgement that the role, verify and the watch share.

The role asks for all of it (`lacking`). verify and the watch, which find one fault at a time, ask for its parts.
Pure: what was read against what is wanted. Runs on the target: Python 3.6, standard library.
"""

import re
import shlex
from typing import Any, Container, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ...types import Json
from ..guard.rules import is_family
from ..parse.kernels import headers_package
from .modules import asks_for_signature

#: The remedy of what the role itself sets right.
AGAIN = "run the same command again"
CANONICAL = "Canonical"  # in the name of the signer of Ubuntu's own modules


class Need(NamedTuple):
    """One thing that keeps the module from loading at the next boot: the diagnosis, the sentence, the command."""

    diagnosis: str
    what: str
    remedy: str


# The packages


class Packages(NamedTuple):
    """What dpkg has: `guarded`, the driver and its kernel with their versions, as the guard's rules compute them,
    `names`, whatever is installed (None where only the former was read), and `damaged`, the driver's files that are
    missing or changed, as sentences (empty where they were not looked at).
    """

    guarded: Dict[str, str]
    names: Optional[Container[str]] = None
    damaged: Sequence[str] = ()


def replaced(record: Mapping[str, Any], there: Packages) -> List[str]:
    """Return the recorded packages that are no longer as they were installed, each as a sentence.

    What came along with the driver, such as a library or a compiler, may be updated; where all names are known it must
    still be there.
    """
    told = []
    for name, version in sorted(record["packages"].items()):
        is_gone = is_family(name) if there.names is None else name not in there.names
        if there.guarded.get(name, version) != version:
            told.append(f"{name} is {there.guarded[name]}, installed was {version}")
        elif name not in there.guarded and is_gone:
            told.append(f"{name} {version} is gone")
    return told


def other_branches(record: Mapping[str, Any], there: Packages) -> List[str]:
    """Return the installed driver packages of another branch, without transitional names that lead to this one."""
    return [
        name
        for name, version in sorted(there.guarded.items())
        if re.match(r"nvidia-driver-\d", name) and not version.startswith(f"{record['version']}-")
        if name not in record["packages"]
    ]


def altered(record: Mapping[str, Any], there: Packages) -> List[str]:
    """Return what has changed about the recorded packages, another branch beside them included, as sentences."""
    beside = [f"{name} {there.guarded[name]} came beside it" for name in other_branches(record, there)]
    return replaced(record, there) + beside + list(there.damaged)


def mismatch(loaded: Optional[str], library: Optional[str]) -> str:
    """Return what a library of another version than the loaded module means, as the end of a sentence; "" where both
    are of one version, or one is not there.
    """
    if not loaded or library in (None, loaded):
        return ""
    return f"so nvidia-smi and CUDA fail (D01: loaded is {loaded}, the library is {library})"


# The module, and what lets it load


def is_module(module: Optional[Mapping[str, Any]], version: str, flavour: Optional[str] = None) -> bool:
    """Return whether a module is there and the wanted one; `flavour` is "open" or "proprietary" where it matters."""
    if module is None or module["version"] != version:
        return False
    return flavour is None or module["open"] == (flavour == "open")


def unready(state: Json, driver: Json, secure_boot: str, subject: str = "") -> List[Need]:
    """Return what is not in place for `state["kernel"]`, in causal order; nothing when the next boot loads the driver.

    `state` is what `probe.driver.driver` gives. `subject` is the name of the own key where one is needed. Whether the
    firmware knows that key yet is not asked here: only a person at the console can answer it.
    """
    kernel, module = state["kernel"], state["module"]
    word = shlex.quote(str(kernel))
    if module is None:
        return [missing(state, driver)]
    found = []
    if module["version"] != driver["version"]:
        what = f"the module that kernel {kernel} would load is {module['version']}, the lock has {driver['version']}"
        found.append(Need("D08", f"{what} ({module['path']})", f"depmod {word} && dkms autoinstall -k {word}"))
    if module["open"] != (driver["kernel_modules"] == "open"):
        is_open = "open" if module["open"] else "proprietary"
        what = f"the module for kernel {kernel} is of the {is_open} kind, the lock has {driver['kernel_modules']}"
        found.append(Need("D13", what, AGAIN))
    found += signature(module, kernel, driver, secure_boot, subject)
    if state["library"] != driver["version"]:
        what = f"the driver's library is {state['library'] or 'not there'}, the lock has {driver['version']}"
        found.append(Need("D01", what, AGAIN))
    found += nouveau(state)
    return found


def missing(state: Json, driver: Json) -> Need:
    """No module for the kernel that will boot: why, as far as that can be determined, and what builds or brings it."""
    kernel = state["kernel"]
    word = shlex.quote(str(kernel))
    what = f"there is no NVIDIA module for kernel {kernel}, the one that will boot"
    if driver["modules_from"] == "signed":
        return Need("D08", what, f"apt-get install {driver['modules_package']}-{word}")
    if not state["headers"]:
        return Need(
            "D08", f"{what}, and its headers are missing", f"apt-get install {shlex.quote(headers_package(kernel))}"
        )
    log = "/var/lib/dkms/nvidia*/*/build/make.log"
    return Need("D08", what, f"dkms autoinstall -k {word}  # what went wrong is in {log}")


def signature(module: Json, kernel: str, driver: Json, secure_boot: str, subject: str) -> List[Need]:
    """What Secure Boot would object to in a module."""
    if not asks_for_signature(secure_boot, driver.get("secure_boot")):
        return []
    # A module whose signer this modinfo does not tell, and that cannot be read either, is taken as what was installed.
    if not module["signer"] and module["signed"] is not False:
        return []
    signer = module["signer"] or "nobody"
    if driver["modules_from"] == "signed":
        if CANONICAL in module["signer"]:
            return []
        what = f"Secure Boot is on and the module for kernel {kernel} is signed by {signer}, not by Canonical"
        return [
            Need("D11", what, f"apt-get install --reinstall {driver['modules_package']}-{shlex.quote(str(kernel))}")
        ]
    if subject and module["signer"] == subject:
        return []
    what = f"Secure Boot is on and the module for kernel {kernel} is signed by {signer}, not by this machine's own key"
    return [Need("D11", what, AGAIN)]


def nouveau(state: Json) -> List[Need]:
    """What would let nouveau take the card first."""
    if not state["nouveau"]["blacklisted"]:
        return [Need("D10", "nouveau is not kept from loading", AGAIN)]
    if state["nouveau"]["in_initramfs"]:
        what = f"the initramfs of kernel {state['kernel']} still loads nouveau"
        return [Need("D10", what, f"update-initramfs -u -k {shlex.quote(str(state['kernel']))}")]
    return []


def told(needs: List[Need]) -> str:
    """Return the needs as lines: each with its diagnosis, and what to type on a line of its own."""
    rows = [(n, f". {AGAIN[0].upper()}{AGAIN[1:]}." if n.remedy == AGAIN else f":\n  {n.remedy}") for n in needs]
    return "\n".join(f"{n.diagnosis}: {n.what}{rest}" for n, rest in rows) + "\n"


def another_kernel(running: str, made: str) -> str:
    """Why the kernel that runs is not the one that the driver was made for; "" when it is."""
    if running == made:
        return ""
    return f"{'kernel ' + running if running else 'an unknown kernel'} runs, the driver was made for {made}"


def boot_needed(loaded: Optional[str], nouveau_loaded: bool, driver: Json, running: str, boots: str) -> str:
    """Why the host must be rebooted before the locked driver is in use; "" when it is.

    Its version alone does not tell: each kernel has a module of its own, and an update may bring only a kernel.
    """
    if nouveau_loaded:
        return "nouveau is loaded"
    if loaded is None:
        return "no NVIDIA module is loaded"
    if loaded != driver["version"]:
        return f"module {loaded} is loaded, the locked one is {driver['version']}"
    return another_kernel(running, boots)


# All of it


def lacking(driver: Json, plan: str, packages: Packages, state: Json, secure_boot: str, subject: str = "") -> List[str]:
    """Return why the locked driver is not in place for the next boot; nothing when it is.

    `plan` is the digest of the lock and of the kernel that will boot; the rest is as for `unready`.
    """
    record = state["record"]
    if record is None or record.get("plan") != plan:
        return ["it was not installed by this lock for this kernel"]
    return altered(record, packages) + [need.what for need in unready(state, driver, secure_boot, subject)]
