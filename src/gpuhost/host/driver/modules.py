"""Is the driver's module ready for the kernel that will boot? And what Secure Boot asks of it.

Pure: what `probe_driver` has read against what the lock wants. Runs on the target: Python 3.6, standard library.
"""

from typing import Any, Dict, List, NamedTuple, Optional

from ..parse.kernels import headers_package

Json = Dict[str, Any]

CANONICAL = "Canonical"  # in the name of the signer of Ubuntu's own modules
NOUVEAU_FILE = "/etc/modprobe.d/gpuhost-nouveau.conf"
NOUVEAU_TEXT = (
    "# Written by gpuhost: the NVIDIA driver and nouveau cannot share a card.\n"
    "blacklist nouveau\noptions nouveau modeset=0\n"
)
# Object identifiers of a certificate that may sign kernel modules and nothing else.
KEY_CONFIG = """\
[ req ]
distinguished_name = name
x509_extensions = v3
string_mask = utf8only
prompt = no

[ name ]
CN = {subject}

[ v3 ]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always,issuer
basicConstraints = critical,CA:FALSE
extendedKeyUsage = codeSigning,1.3.6.1.4.1.2312.16.1.2
"""


MOK_MANAGER = (
    'the blue screen "Perform MOK management" waits ten seconds: choose "Enroll MOK", "Continue", "Yes", type the '
    'one-time password, then "Reboot"'
)


class Need(NamedTuple):
    """One thing that keeps the module from loading at the next boot: the diagnosis, the sentence, the command."""

    diagnosis: str
    what: str
    remedy: str


def asks_for_signature(secure_boot: str, planned: Optional[str]) -> bool:
    """Return whether the kernel refuses a module without a signature that it accepts.

    `secure_boot` is the probe's word. Where it is unknown, the lock's word counts (`planned`): a state that could not
    be read is never taken as off.
    """
    return secure_boot in ("enabled", "lockdown") or (secure_boot == "unknown" and planned is not None)


def owns_key(driver: Json, secure_boot: str) -> bool:
    """Does this driver need a key of the machine's owner? Only modules built here under Secure Boot do."""
    return driver["modules_from"] == "dkms" and asks_for_signature(secure_boot, driver.get("secure_boot"))


#: How the name of a key that was made here ends.
OWN_SUBJECT = " gpuhost module signing"


def key_subject(hostname: str) -> str:
    """The name that MokManager shows; a certificate's common name has at most 64 characters."""
    return (hostname[:36] or "host") + OWN_SUBJECT


def unready(state: Json, driver: Json, secure_boot: str, subject: str = "") -> List[Need]:
    """What is not in place for `state["kernel"]`, in causal order; empty when the next boot will load the driver.

    `state` is what `probe_driver.driver` gives. `subject` is the name of the own key where one is needed. Whether the
    firmware knows that key yet is not asked here: only a person at the console can answer it.
    """
    kernel, module = state["kernel"], state["module"]
    if module is None:
        return [missing(state, driver)]
    found = []
    if module["version"] != driver["version"]:
        what = f"the module that kernel {kernel} would load is {module['version']}, the lock has {driver['version']}"
        found.append(Need("D08", f"{what} ({module['path']})", f"depmod {kernel}; dkms autoinstall -k {kernel}"))
    if module["open"] != (driver["kernel_modules"] == "open"):
        is_open = "open" if module["open"] else "proprietary"
        what = f"the module for kernel {kernel} is of the {is_open} kind, the lock has {driver['kernel_modules']}"
        found.append(Need("D13", what, "run the same command again"))
    found += signature(module, kernel, driver, secure_boot, subject)
    if state["library"] != driver["version"]:
        what = f"the driver's library is {state['library'] or 'not there'}, the lock has {driver['version']}"
        found.append(Need("D01", what, "run the same command again"))
    found += nouveau(state)
    return found


def missing(state: Json, driver: Json) -> Need:
    """No module for the kernel that will boot: why, as far as it can be told, and what builds or brings it."""
    kernel = state["kernel"]
    what = f"there is no NVIDIA module for kernel {kernel}, the one that will boot"
    if driver["modules_from"] == "signed":
        return Need("D08", what, f"apt-get install {driver['modules_package']}-{kernel}")
    if not state["headers"]:
        return Need("D08", f"{what}, and its headers are missing", f"apt-get install {headers_package(kernel)}")
    return Need(
        "D08", what, f"dkms autoinstall -k {kernel}; what went wrong is in /var/lib/dkms/nvidia*/*/build/make.log"
    )


def signature(module: Json, kernel: str, driver: Json, secure_boot: str, subject: str) -> List[Need]:
    """What Secure Boot would object to in a module."""
    if not asks_for_signature(secure_boot, driver.get("secure_boot")):
        return []
    # A module whose signer this modinfo does not tell, and that cannot be read either, is taken as what was installed.
    told = bool(module["signer"]) or module["signed"] is False
    signer = module["signer"] or "nobody"
    if not told:
        return []
    if driver["modules_from"] == "signed":
        if CANONICAL in module["signer"]:
            return []
        what = f"Secure Boot is on and the module for kernel {kernel} is signed by {signer}, not by Canonical"
        return [Need("D11", what, f"apt-get install --reinstall {driver['modules_package']}-{kernel}")]
    if subject and module["signer"] == subject:
        return []
    what = f"Secure Boot is on and the module for kernel {kernel} is signed by {signer}, not by this machine's own key"
    return [Need("D11", what, "run the same command again")]


def nouveau(state: Json) -> List[Need]:
    """What would let nouveau take the card first."""
    if not state["nouveau"]["blacklisted"]:
        return [Need("D10", "nouveau is not kept from loading", "run the same command again")]
    if state["nouveau"]["in_initramfs"]:
        what = f"the initramfs of kernel {state['kernel']} still loads nouveau"
        return [Need("D10", what, f"update-initramfs -u -k {state['kernel']}")]
    return []


def told(needs: List[Need]) -> str:
    """The needs as one text: each with its diagnosis, and what to type."""
    return " ".join(f"{n.diagnosis}: {n.what}. Type: {n.remedy}." for n in needs)


def boot_needed(loaded: Optional[str], nouveau_loaded: bool, driver: Json) -> str:
    """Why the host must be rebooted before the locked driver is in use; "" when it is."""
    if nouveau_loaded:
        return "nouveau is loaded"
    if loaded is None:
        return "no NVIDIA module is loaded"
    if loaded != driver["version"]:
        return f"module {loaded} is loaded, the locked one is {driver['version']}"
    return ""


def enrolment_guide(certificate: str) -> str:
    """What a person does to have the own key accepted (D12: the blue screen that is missed)."""
    return (
        "Secure Boot is on and the key that signs this host's NVIDIA module is not enrolled yet (D12). At the console, "
        f"type: mokutil --import {certificate} (it asks twice for a password of your choice, used once), then reboot. "
        f"At the next start: {MOK_MANAGER}. After that the same command again."
    )
