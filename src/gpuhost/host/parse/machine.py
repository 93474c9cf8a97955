"""Text to values: what the files and tools of a Debian or Ubuntu host say about the machine itself.

Every function here is pure and total: any text gives a value, and None (or an empty value) says that the text
does not hold the answer. Only `parse_os_release` raises, because nothing can be planned without a platform.
Runs on the target, so Python 3.6 and the standard library only.
"""

import re
import shlex
from typing import Any, Dict, List, Optional, Set, Tuple

from ...errors import UnreadableError

# The stack's own packages, by the names that the distributions and NVIDIA's repositories give them.
STACK_PACKAGE = re.compile(
    r"^(nvidia-|libnvidia-|cuda|libcuda|libcudnn|libnccl|linux-modules-nvidia|linux-objects-nvidia|"
    r"linux-signatures-nvidia|(linux|proxmox|pve)-(image|kernel|headers)|xserver-xorg-video-nvidia|tensorrt|libnvinfer)"
)
# What lends cards to containers. It follows the driver, whichever that is, and is nowhere counted as of the stack.
CONTAINER_PACKAGE = re.compile(r"^(lib)?nvidia-(container|docker)")
# What else is worth knowing of the installed packages: the kernel the stack was built for, what builds
# modules, the Pythons, and what updates the machine by itself. Debian puts "nvidia" inside many names.
_OBSERVED_PACKAGE = re.compile(
    r"nvidia|^(linux-modules-|linux-generic|proxmox-default-|python3|gcc$|dkms$|unattended-upgrades$)"
)

_DPKG_FIELDS = 5


#: A derivative of either says UBUNTU_CODENAME or DEBIAN_CODENAME.
DISTRIBUTIONS = ("ubuntu", "debian")


def parse_os_release(text: str) -> Dict[str, str]:
    """The platform from the text of os-release: id, distribution, version, codename, pretty_name.

    `id` joins ID and VERSION_ID as in "ubuntu-18.04"; a rolling release has no VERSION_ID and is ID alone. Of a
    derivative that names the release it is made from, distribution and codename are that release's.
    Format: os-release(5), shell-like assignments. Raises UnreadableError when there is no ID, or one that
    os-release(5) does not allow.
    """
    fields = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and re.match(r"[A-Z][A-Z0-9_]*$", name):
            fields[name] = _shell_value(value)
    distribution = fields.get("ID", "").lower()
    if not distribution:
        raise UnreadableError(
            "The file os-release of this machine names no distribution (it has no ID line).",
            next_step="Restore /etc/os-release: apt-get install --reinstall base-files.",
        )
    version = fields.get("VERSION_ID", "")
    # The last resort is the first word in brackets, as in "18.04.6 LTS (Bionic Beaver)".
    named = re.search(r"\(\s*(\w+)", fields.get("VERSION", ""))
    codename = fields.get("VERSION_CODENAME") or fields.get("UBUNTU_CODENAME") or ""
    if not codename and named:
        codename = named.group(1).lower()
    identity = f"{distribution}-{version}" if version else distribution
    if not re.match(r"[a-z0-9._-]+\Z", identity):
        raise UnreadableError(
            "The file os-release of this machine names no distribution: its ID or VERSION_ID holds other characters "
            "than letters, digits, . _ and -.",
            next_step="Restore /etc/os-release: apt-get install --reinstall base-files.",
        )
    for name in () if distribution in DISTRIBUTIONS else DISTRIBUTIONS:
        made_from = fields.get(name.upper() + "_CODENAME")
        if made_from:
            distribution, codename = name, made_from
            break
    return {
        "id": identity,
        "distribution": distribution,
        "version": version,
        "codename": codename,
        "pretty_name": fields.get("PRETTY_NAME") or f"{fields['ID']} {version}".strip(),
    }


def _shell_value(value: str) -> str:
    """One value of os-release without its quotes; as it stands when the quotes do not close."""
    try:
        words = shlex.split(value)
    except ValueError:
        return value.strip("'\"")
    return words[0] if words else ""


def parse_cpuinfo(text: str) -> Dict[str, Any]:
    """Logical processors (count), model name and whether AVX is there, from the text of /proc/cpuinfo."""
    count = 0
    model = ""
    flags: Set[str] = set()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        name = name.strip()
        if name == "processor":
            count += 1
        elif name == "model name" and not model:
            model = value.strip()
        elif name == "flags" and not flags:
            flags = set(value.split())
    return {"count": count, "model": model, "avx": "avx" in flags}


def parse_meminfo(text: str) -> Optional[int]:
    """Installed memory in MiB from the text of /proc/meminfo (which counts in KiB and writes kB)."""
    found = re.search(r"^MemTotal:\s*([0-9]{1,18})\s*kB\s*$", text, re.MULTILINE)
    return int(found.group(1)) // 1024 if found else None


def parse_df(text: str) -> Optional[Dict[str, int]]:
    """Free and total MiB of the one file system that `df -P -k PATH` reports.

    "Available" is taken as free, because the blocks that are kept for root are not for us to fill.
    """
    lines = text.splitlines()
    if len(lines) < 2:
        return None
    # Device and mount point may hold blanks, so the figures are found by shape:
    # total, used, available, percent.
    found = re.search(r"\s([0-9]{1,18})\s+([0-9]+)\s+(-?[0-9]{1,18})\s+(?:[0-9]+%|-)\s", lines[1] + " ")
    if not found:
        return None
    return {"free_mib": max(int(found.group(3)), 0) // 1024, "total_mib": int(found.group(1)) // 1024}


def parse_efi_flag(data: bytes) -> Optional[bool]:
    """One of the firmware's yes-or-no variables as efivarfs shows it: four attribute bytes, then 0 or 1."""
    return data[4] == 1 if len(data) == 5 and data[4] in (0, 1) else None


def enforced(secure_boot: Optional[bool], setup_mode: Optional[bool], shim_off: Optional[bool]) -> Optional[str]:
    """Secure Boot's state as the kernel takes it, from SecureBoot, SetupMode and shim's MokSBStateRT; None: not known.

    The kernel takes Secure Boot as off in Setup Mode, and where shim was told not to validate (mokutil
    --disable-validation), whatever the firmware says. The last has a name of its own, because the firmware's own
    screen and most tools call it enabled.
    """
    if secure_boot is None:
        return None
    if not secure_boot or setup_mode:
        return "disabled"
    return "not-enforced" if shim_off else "enabled"


def parse_mokutil(text: str) -> Optional[str]:
    """Secure Boot's state from what `mokutil --sb-state` says on both outputs."""
    lowered = text.lower()
    if "secureboot enabled" in lowered:
        return enforced(True, "in setup mode" in lowered, "validation is disabled in shim" in lowered)
    if "secureboot disabled" in lowered:
        return "disabled"
    return "unsupported" if "doesn't support secure boot" in lowered else None


def parse_lockdown(text: str) -> Optional[bool]:
    """Whether the running kernel is locked down, from /sys/kernel/security/lockdown: "none [integrity] ..."."""
    found = re.search(r"\[([a-z]{1,20})\]", text)
    return found.group(1) != "none" if found else None


def parse_python_version(text: str) -> Optional[str]:
    """The version from what `python3 --version` prints, such as "3.6.9"."""
    found = re.match(r"Python ([0-9]+\.[0-9]+\.[0-9]+\S*)\s*$", text.strip())
    return found.group(1) if found else None


def parse_dpkg_packages(text: str, architecture: str) -> Tuple[Dict[str, Dict[str, Any]], List[str]]:
    """The observed packages by name, and the lines that could not be read.

    `text` has a line a package: name, architecture, version, wanted state, state, with tabs between them. A
    package of another architecture than the machine's own (`architecture`) is keyed "name:architecture", as
    dpkg does.
    The wanted state "hold" is what `apt-mark hold` sets and `apt-mark showhold` lists.
    """
    packages = {}
    unread = []
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) != _DPKG_FIELDS or not fields[0]:
            unread.append(line)
            continue
        name, arch, version, want, state = fields
        if state == "not-installed" or not is_observed_package(name):
            continue
        key = name if arch in (architecture, "all", "") else f"{name}:{arch}"
        packages[key] = {"version": version, "state": state, "hold": want == "hold"}
    return packages, unread


def is_stack_package(name: str) -> bool:
    """Return whether a package of this name is of the driver, CUDA, cuDNN or the kernel."""
    return bool(STACK_PACKAGE.search(name)) and not CONTAINER_PACKAGE.match(name)


def is_observed_package(name: str) -> bool:
    """Whether the observation carries this installed package."""
    return bool(STACK_PACKAGE.search(name) or _OBSERVED_PACKAGE.search(name))


#: A line of `dpkg --verify`: what was compared (5 is the checksum), c for a configuration file, and the path.
_VERIFIED = re.compile(r"^(missing|[?.5]{9}) +(?:(c) )?(/.*)$")
#: Where a driver's programs, libraries and firmware are. A host may leave out documentation (path-exclude); modules and
#: modprobe's files are looked at by other checks, which say more.
_NEEDED = re.compile(r"^/(usr/)?(lib[^/]*|bin|sbin)/(?!modules/|modprobe[.]d/)")


def parse_verify(text: str) -> List[str]:
    """Return the programs and libraries that `dpkg --verify` finds missing or changed, each as a sentence."""
    found = []
    for line in text.splitlines():
        row = _VERIFIED.match(line)
        if row is not None and not row.group(2) and _NEEDED.match(row.group(3)):
            found.append(f"{row.group(3)} is {'missing' if row.group(1) == 'missing' else 'changed'}")
    return found


def parse_audit(text: str) -> List[str]:
    """The lines of `dpkg --audit` that say something; an empty list means that dpkg finds nothing wrong."""
    return [line.strip() for line in text.splitlines() if line.strip()]
