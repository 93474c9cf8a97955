"""Text to values: what the distribution's archive offers, as the stanzas of its package indexes say it.

Every function is pure and total: a stanza with a broken field gives no package and one sentence. Formats:
deb-control(5), the Release file of a repository (wiki.debian.org/DebianRepository/Format), and Ubuntu's own fields
Modaliases (the devices that a driver claims) and Support. Runs on the target, so Python 3.6 and the standard library
only.
"""

import re
from typing import Any, Dict, Iterable, List, Optional, Tuple

from .control import stanzas

Package = Dict[str, Any]

# The driver's packages by name, in every branch, as Ubuntu and Debian call them; not CUDA's, nor those of programs.
_FAMILY = re.compile(
    r"^((lib)?nvidia-|lib(egl|gl1|gles|glx)-nvidia|xserver-xorg-video-nvidia|firmware-nvidia-"
    r"|(libcuda|libcudadebugger|libnvcuvid|libnvoptix)1?(-[0-9]+)?$|libxnvctrl[0-9]+$|glx-alternative-nvidia$)"
)
_BESIDE = re.compile(
    r"^(lib)?nvidia-(container[0-9]*|docker|cuda|cudnn|nsight|visual-profiler|profiler|cg|openjdk|fs|vaapi|ml-dev)(-|$)|-dev$|-doc$"
)
_MODULES = re.compile(r"^linux-(modules|objects|signatures)-nvidia-")
_RELEASE = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+-[0-9]+-")
#: VirtualBox, which stands beside a driver: the program, its modules, its windows.
_VIRTUALBOX = re.compile(r"^virtualbox(-dkms|-qt)?$")
_TOOL = re.compile(r"^(python3(\.[0-9]{1,2})?(-venv)?|g\+\+(-[0-9]{1,2})?|dkms)$")

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,99}\Z")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~:-]{0,99}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_SIZE = re.compile(r"[0-9]{1,10}\Z")
_POOL = re.compile(r"pool(/[A-Za-z0-9_+~][A-Za-z0-9._+~-]*)*/[A-Za-z0-9][A-Za-z0-9._+~-]{0,199}\Z")
_WORD = re.compile(r"[A-Za-z]{1,20}\Z")
_DEVICE = re.compile(r"pci:v000010DEd0000([0-9A-F]{4})sv")
#: Characters of a field that lists packages; those of drivers have some hundred, of a whole desktop some thousand.
_LONGEST_LIST = 10000
#: The fields that are read of a stanza.
_FIELDS = frozenset(
    ("package", "version", "architecture", "source", "size", "sha256", "filename", "support", "modaliases", "depends",
     "pre-depends", "provides")
)  # fmt: skip

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(
    r"^Date: *[A-Z][a-z]{2}, +([0-9]{1,2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) "
    r"(?:UTC|GMT|\+0000)\s*$",
    re.MULTILINE,
)


def is_of_driver(name: str, kernels: Iterable[str]) -> bool:
    """Return whether a package of this name is of a driver, or brings its modules to one of these kernels.

    An archive has modules for every kernel that it ever had. Those of a kernel that is not installed are passed over;
    what leads to the newest one of a flavour has no release in its name.
    """
    if not _MODULES.match(name):
        return bool(_FAMILY.match(name)) and not _BESIDE.search(name)
    for kernel in kernels:
        flavour = _RELEASE.sub("", kernel)
        if name.endswith("-" + kernel):
            return True
        if not _RELEASE.search(name) and re.search(f"-{re.escape(flavour)}(-|$)", name):
            return True
    return False


def is_virtualbox(name: str) -> bool:
    """Return whether a package of this name is VirtualBox of the archive."""
    return bool(_VIRTUALBOX.match(name))


def is_tool(name: str, kernels: Iterable[str]) -> bool:
    """Return whether a package is a Python, a compiler, DKMS, or the headers of one of these kernels."""
    return bool(_TOOL.match(name)) or any(name == f"linux-headers-{kernel}" for kernel in kernels)


def parse_offered(text: str) -> Tuple[List[Package], List[str]]:
    """The packages of `apt-cache show`, and what is wrong with those that cannot be read.

    A stanza without a file is dpkg's own record of what is installed; no archive offers that.
    """
    found: List[Package] = []
    wrong: List[str] = []
    for fields in stanzas(text, _FIELDS):
        if "filename" not in fields:
            continue
        package, error = _package(fields)
        if package is None:
            wrong.append(error)
        else:
            found.append(package)
    return found, wrong


def _package(fields: Dict[str, str]) -> Tuple[Optional[Package], str]:
    """One stanza as a package, or None and a sentence about the field that is broken."""
    listed = ", ".join(fields[name] for name in ("pre-depends", "depends") if fields.get(name))
    checks = (
        ("Package", _NAME.match(fields.get("package", ""))),
        ("Version", _VERSION.match(fields.get("version", ""))),
        ("Architecture", fields.get("architecture") in ("amd64", "all")),
        ("Size", _SIZE.match(fields.get("size", "")) and int(fields["size"]) > 0),
        ("SHA256", _SHA256.match(fields.get("sha256", ""))),
        ("Filename", len(fields["filename"]) <= 300 and _POOL.match(fields["filename"])),
        ("Depends", len(listed) <= _LONGEST_LIST),
        ("Provides", len(fields.get("provides", "")) <= _LONGEST_LIST),
    )
    broken = [name for name, good in checks if not good]
    source = (fields.get("source") or fields.get("package", "")).split(" ")[0]
    if not broken and not _NAME.match(source):
        broken = ["Source"]
    if broken:
        label = "{} {}".format(fields.get("package", "")[:100], fields.get("version", "")[:100]).strip()
        return None, f"The field {broken[0]} of {label or 'a package'} is missing or broken."
    package = {
        "package": fields["package"],
        "version": fields["version"],
        "architecture": fields["architecture"],
        "source": source,
        "size": int(fields["size"]),
        "sha256": fields["sha256"],
        "file": fields["filename"],
        "depends": " ".join(listed.split()),
        "provides": " ".join(fields.get("provides", "").split()),
    }
    if "modaliases" in fields:
        package["devices"] = sorted({device.lower() for device in _DEVICE.findall(fields["modaliases"])})
    if _WORD.match(fields.get("support", "")):
        package["support"] = fields["support"]
    return package, ""


def parse_release_date(text: str) -> str:
    """The date of a Release file as the snapshot services write it, such as 20261126T210335Z; "" where it has none."""
    found = _DATE.search(text)
    if found is None or found.group(2) not in _MONTHS:
        return ""
    day, month, year, hour, minute, second = found.groups()
    return f"{year}{_MONTHS.index(month) + 1:02d}{int(day):02d}T{hour}{minute}{second}Z"
