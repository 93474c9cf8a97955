"""What the driver's module needs beside itself: a file that keeps nouveau out, and a key under Secure Boot.

Pure. Runs on the target: Python 3.6, standard library.
"""

from typing import Optional

from ...types import Json

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


def asks_for_signature(secure_boot: str, planned: Optional[str]) -> bool:
    """Return whether the kernel refuses a module without a signature that it accepts.

    `secure_boot` is the probe's word. Where it is unknown, the lock's word counts (`planned`): a state that could not
    be read is never taken as off.
    """
    return secure_boot in ("enabled", "lockdown") or (secure_boot == "unknown" and planned is not None)


def owns_key(driver: Json, secure_boot: str) -> bool:
    """Return whether this driver needs a key of the machine's owner, as modules built here under Secure Boot do."""
    return driver["modules_from"] == "dkms" and asks_for_signature(secure_boot, driver.get("secure_boot"))


#: How the name of a key that was made here ends.
OWN_SUBJECT = " gpuhost module signing"


def key_subject(hostname: str) -> str:
    """The name that MokManager shows; a certificate's common name has at most 64 characters."""
    return (hostname[:36] or "host") + OWN_SUBJECT


def enrolment_guide(certificate: str, modules: str = "NVIDIA module") -> str:
    """What a person does to have the own key accepted (D12: the blue screen that is missed)."""
    return (
        f"Secure Boot is on and the key that signs this host's {modules} is not enrolled yet (D12). At the console, "
        f"type: mokutil --import {certificate} (it asks twice for a password of your choice, used once), then reboot. "
        f"At the next start: {MOK_MANAGER}. After that the same command again."
    )
