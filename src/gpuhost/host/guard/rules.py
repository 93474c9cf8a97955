"""What the update guard holds, and the two files it writes: computed from what dpkg says is installed.

The hold set is not a list of names. It is every installed package of the driver, the kernel that it was built for,
and the packages that would bring a newer kernel. Pure. Runs on the target: Python 3.6, standard library.
"""

import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from ...types import Json
from ..parse.kernels import is_kernel_package

PREFERENCES = "/etc/apt/preferences.d/gpuhost"
UNATTENDED = "/etc/apt/apt.conf.d/52gpuhost-unattended-upgrades"
RECORD = "state/guard.json"
SCHEMA = 1

#: One line a package, tabs between. The version of dpkg on Ubuntu 18.04 knows all of these.
FORMAT = (
    "${Package}\\t${Architecture}\\t${source:Package}\\t${Version}\\t${db:Status-Want}\\t${db:Status-Status}\\t"
    "${Pre-Depends}, ${Depends}\\n"
)
_FIELDS = 7
_ABSENT = ("not-installed", "config-files")

# The source packages that NVIDIA's driver is built from, on Ubuntu and on Debian. A container toolkit or a CUDA toolkit
# is not among them: it follows the driver, and its updates are welcome.
_SOURCE = re.compile(
    r"^(nvidia-graphics-drivers|nvidia-open-gpu-kernel-modules|linux-restricted-(modules|signatures)|"
    r"nvidia-(settings|prime|support|modprobe|persistenced|xconfig)|glx-alternatives)(-|$)"
)
#: The driver's packages by name, as extended regular expressions that apt and Python read alike. They also keep out
#: what is not installed: a transitional package brings another branch by its new dependencies (D04).
FAMILY = (
    "^(lib)?nvidia-([a-z0-9-]+-)?[0-9][0-9][0-9](-server)?(-open)?$",
    "^libcuda1-[0-9][0-9][0-9]$",
    "^xserver-xorg-video-nvidia",
    "^linux-(modules|objects|signatures)-nvidia-",
    "^nvidia-(driver|kernel|open|tesla|legacy)(-|$)",
)
_FAMILY = re.compile("|".join(FAMILY))
#: VirtualBox's packages, the distribution's and those of Oracle's own repository, where gpuhost has installed it.
BESIDE = ("^virtualbox(-[a-z0-9.-]+)?$",)
_BESIDE = re.compile("|".join(BESIDE))
_KERNEL_PART = re.compile(
    r"^linux-(image|modules|objects|signatures|headers|[a-z0-9.-]+-headers)-|^(proxmox|pve)-(kernel|headers)-"
)
# What an image is called that comes with a signature, or with none, beside the plain one.
_SIGNING = re.compile(r"-(un)?signed$")

_PREFERENCES_HEAD = """\
# Written by gpuhost, role apt_guard. The driver, and the kernel it was built for, stay at these versions.
# A deliberate upgrade: ./run ansible-playbook playbooks/guard.yml --tags release
"""
_UNATTENDED_HEAD = """\
// Written by gpuhost, role apt_guard. unattended-upgrades leaves these packages alone.
// A deliberate upgrade: ./run ansible-playbook playbooks/guard.yml --tags release
"""


class Package(NamedTuple):
    """An installed package; `name` is "name:arch" for one of another architecture than the machine's."""

    name: str
    source: str
    version: str
    held: bool
    depends: str


def parse_listing(text: str, architecture: str) -> Tuple[Dict[str, Package], List[str]]:
    """The installed packages by name, from dpkg-query's answer in `FORMAT`, and the lines that cannot be read."""
    found = {}
    unread = []
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) != _FIELDS:
            unread.append(line)
            continue
        short, arch, source, version, want, state, depends = fields
        if state in _ABSENT:
            continue
        name = short if arch in (architecture, "all") else f"{short}:{arch}"
        found[name] = Package(name, source, version, want == "hold", depends)
    return found, unread


def is_driver(package: Package) -> bool:
    """Return whether the package belongs to NVIDIA's driver."""
    return bool(_SOURCE.search(package.source) or is_family(package.name))


def is_family(name: str) -> bool:
    """Return whether it is the name of a driver package, installed or not."""
    return bool(_FAMILY.search(name.partition(":")[0]))


def is_beside(name: str) -> bool:
    """Return whether it is the name of one of VirtualBox's packages, installed or not."""
    return bool(_BESIDE.search(name.partition(":")[0]))


def is_of_kernel(name: str, kernel: str) -> bool:
    """Return whether it is a package of this very kernel: image, modules, headers (also those its flavours share)."""
    short = _SIGNING.sub("", name.partition(":")[0])
    shared = re.match(r"[0-9.]+-[0-9]+(?=-)", kernel)
    ends = [kernel] + ([shared.group(0), shared.group(0) + "-common"] if shared else [])
    return bool(_KERNEL_PART.search(short)) and any(short.endswith("-" + end) for end in ends)


def names_in(relations: str) -> List[str]:
    """The package names in the text of a Depends field, alternatives included."""
    parts = (part.strip() for part in re.split(r"[,|]", relations))
    return [re.split(r"[\s:(]", part)[0] for part in parts if part]


def stack(packages: Dict[str, Package], kernel: Optional[str], beside: bool = False) -> Dict[str, str]:
    """The hold set with its versions: the driver, its kernel, and what would bring a newer kernel.

    `beside`: VirtualBox is gpuhost's as well.

    The last are the metapackages that lead to that kernel (linux-generic to linux-image-generic to the image). Other
    kernels, and what leads only to them, are nobody's concern here.
    """
    held = {name for name, package in packages.items() if is_driver(package) or (beside and is_beside(name))}
    if kernel:
        of_kernel = {name for name in packages if is_of_kernel(name, kernel)}
        held |= of_kernel | leading_to(of_kernel, packages)
    return {name: packages[name].version for name in sorted(held)}


def beside_only(packages: Dict[str, Package]) -> Dict[str, str]:
    """The hold set where gpuhost has installed VirtualBox and no driver; the kernel is then updated as any other's."""
    return {name: package.version for name, package in sorted(packages.items()) if is_beside(name)}


def leading_to(targets: Set[str], packages: Dict[str, Package]) -> Set[str]:
    """The installed packages of the kernel family that depend on one of the targets, also by way of one another."""
    kernels = {name: set(names_in(p.depends)) for name, p in packages.items() if is_kernel_package(name)}
    found: Set[str] = set()
    more = set(targets)
    while more:
        wanted = {name.partition(":")[0] for name in more}
        more = {name for name, needs in kernels.items() if needs & wanted} - found - targets
        found |= more
    return found


def preferences(pins: Dict[str, str], families: Iterable[str] = FAMILY) -> str:
    """apt's preferences: each package at its version, no other version of it, and no other package of the `families`.

    apt takes the first record that speaks of a version, so the order is the rule (apt_preferences(5)).
    """
    records = [
        f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n" for name, version in sorted(pins.items())
    ]
    others = [*sorted(pins), *(f"/{pattern}/" for pattern in families)]
    records += [f"Package: {name}\nPin: version *\nPin-Priority: -1\n" for name in others]
    return "\n".join([_PREFERENCES_HEAD, *records])


def parse_preferences(text: str) -> Dict[str, str]:
    """The versions that the text of our preferences pins, by package."""
    pins = {}
    for record in re.split(r"\n\s*\n", text):
        fields = {}
        for line in record.splitlines():
            name, colon, value = line.partition(":")
            if colon and not line.startswith("#"):
                fields[name.strip()] = value.strip()
        version = re.match(r"version (\S+)$", fields.get("Pin", ""))
        if version and fields.get("Pin-Priority") == "1001":
            pins[fields.get("Package", "")] = version.group(1)
    return pins


def unattended(names: Iterable[str]) -> str:
    """The blacklist for unattended-upgrades. It matches from the start of a name, so only the end has to be said."""
    # A class of one character needs no backslash, which apt's own configuration reader might take.
    entries = [re.sub(r"([.+])", r"[\1]", name) for name in sorted(names)]
    lines = ["Unattended-Upgrade::Package-Blacklist {", *(f'    "{entry}$";' for entry in entries), "};"]
    return _UNATTENDED_HEAD + "\n".join(lines) + "\n"


def parse_unattended(text: str) -> List[str]:
    """The package names that the text of our blacklist holds."""
    return [re.sub(r"\[([.+])\]", r"\1", entry) for entry in re.findall(r'^\s*"(\S+)\$";$', text, re.MULTILINE)]


def record(
    packages: Dict[str, Package],
    kernel: Optional[str],
    before: Optional[Json],
    beside: bool = False,
    kept: Iterable[str] = (),
) -> Json:
    """What the guard has to be, as its record says it. `kept` are other kernels that must stay: the way back.

    `held` are the holds that are ours: those that the record `before` names, and those still to be set. A hold that
    somebody else has set stays theirs. Without a `kernel` there is no driver, and only VirtualBox is kept.
    """
    wanted = stack(packages, kernel, beside) if kernel else beside_only(packages)
    for other in kept:
        wanted.update((name, one.version) for name, one in packages.items() if is_of_kernel(name, other))
    ours = set((before or {}).get("held", []))
    return {
        "schema": SCHEMA,
        "held": [name for name in sorted(wanted) if name in ours or not packages[name].held],
        "pins": wanted,
        "blacklist": sorted(wanted),
        "kernel": kernel,
    }


def to_hold(packages: Dict[str, Package], wanted: Json) -> List[str]:
    """The packages that lack their hold."""
    return [name for name in wanted["held"] if not packages[name].held]


def to_unhold(packages: Dict[str, Package], before: Optional[Json], wanted: Optional[Json]) -> List[str]:
    """The packages whose hold is ours (`before`) and no longer wanted; what was removed since has none."""
    keep = set() if wanted is None else set(wanted["pins"])
    return [n for n in (before or {}).get("held", []) if n not in keep and n in packages and packages[n].held]
