"""The exact set of a driver's packages: what apt would do, read from its simulation, and whether that is allowed.

Pure: text in, value out. Runs on the target: Python 3.6, standard library.
"""

import hashlib
import json
import re
from typing import Any, Container, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ...types import Json
from ..parse.control import stanzas
from ..parse.kernels import headers_package

# The driver's own packages by name, in every branch, as Ubuntu and Debian call them.
FAMILY = re.compile(
    r"nvidia|^(libcuda1|libcuda[0-9]*-[0-9]|libcudadebugger1|libnvcuvid1|libnvoptix1|libnvoptix|libxnvctrl0)$"
)
# Tools beside the driver, with versions and a life of their own; they serve every branch. And what only has the name.
BESIDE = re.compile(
    r"^(nvidia-(prime|settings.*|modprobe|persistenced|support|kernel-common|installer-cleanup|xconfig|egl-wayland.*)"
    r"|libnvidia-egl-wayland.*|glx-alternative-nvidia|libxnvctrl.*"
    r"|(lib)?nvidia-(container|docker|cuda|cudnn|ml-dev|nsight|visual-profiler|profiler|cg|openjdk).*)$"
)
# The source packages that driver packages are built from.
SOURCES = re.compile(r"^(nvidia-(graphics-drivers|open-gpu-kernel)|linux-restricted-(modules|signatures))")
KERNEL = re.compile(r"^(linux-image|(proxmox|pve)-(default-)?kernel)(-|$)")
DKMS = re.compile(r"^(nvidia-dkms-|nvidia-kernel-dkms$|nvidia-open-kernel-dkms$|nvidia-kernel-open-dkms$)")
# How apt's simulation calls the distribution's own archives ("Label" of a Release file).
LABELS = {
    "ubuntu": ("Ubuntu", "UbuntuESM", "UbuntuESMApps"),
    "debian": ("Debian", "Debian-Security", "Debian Backports"),
}

_INSTALL = re.compile(r"^(Inst|Conf) (\S+) (?:\[([^\]]*)\] )?\((\S+)(?: (.*?))? \[([^\]]+)\]\)")
_SHOWN = frozenset(("package", "version", "architecture", "source", "sha256", "size", "installed-size"))
_REMOVE = re.compile(r"^(Remv|Purg) (\S+)(?: \[([^\]]*)\])?")


class Change(NamedTuple):
    """One package that apt would install or remove; `old` is what is installed now, "" for nothing."""

    name: str
    new: str
    old: str
    origins: Tuple[str, ...]


def parse_simulation(text: str) -> Tuple[List[Change], List[Change]]:
    """The packages that `apt-get --simulate` would install (in its order), and those that it would remove."""
    install: List[Change] = []
    remove: List[Change] = []
    for line in text.splitlines():
        found = _INSTALL.match(line)
        if found and found.group(1) == "Inst":
            origins: Tuple[str, ...] = tuple(
                part.partition(":")[0] for part in str(found.group(5) or "").split(", ") if part
            )
            install.append(Change(bare(found.group(2)), found.group(4), found.group(3) or "", origins))
            continue
        found = _REMOVE.match(line)
        if found:
            remove.append(Change(bare(found.group(2)), "", found.group(3) or "", ()))
    return install, remove


def bare(name: str) -> str:
    """A package's name without the machine's own architecture."""
    return name[: -len(":amd64")] if name.endswith(":amd64") else name


def parse_show(text: str) -> Dict[Tuple[str, str], Json]:
    """What `apt-cache show NAME=VERSION...` says, by name and version.

    Each has source (package), arch, sha256, size (bytes of the .deb), unpacked (bytes) and file (the .deb's name
    without an epoch).
    """
    found: Dict[Tuple[str, str], Json] = {}
    for fields in stanzas(text, _SHOWN):
        if "package" not in fields or "version" not in fields:
            continue
        name, version, arch = fields["package"], fields["version"], fields.get("architecture", "")
        key = (name + ("" if arch in ("", "all", "amd64") else ":" + arch), version)
        if "sha256" not in fields and key in found:
            continue  # dpkg's own record of what is installed knows no file
        found[key] = {
            "source": (fields.get("source") or name).split(" ")[0],
            "sha256": fields.get("sha256", ""),
            "arch": arch,
            "size": int(fields.get("size") or 0),
            "unpacked": int(fields.get("installed-size") or 0) * 1024,
            "file": "{}_{}_{}.deb".format(name, version.partition(":")[2] or version, arch),
        }
    return found


def is_family(name: str) -> bool:
    """Return whether a package is one of the driver's, of whatever branch. Tools that serve every branch are not."""
    plain = name.partition(":")[0]
    return bool(FAMILY.search(plain)) and not BESIDE.match(plain)


def wanted_names(driver: Mapping[str, Any], kernel: str, distribution: str) -> List[str]:
    """What to ask apt for, as name=version where the lock names one: the driver and what gives its module.

    Signed modules come as one package for the kernel; the package for exactly this kernel is named as well, so that
    apt sees the module as provided before it looks for one to build. Else the module is built by DKMS with the headers
    of the kernel that will boot.
    """
    version = driver["package_version"]
    names = ["{}={}".format(driver["package"], version)]
    if driver["modules_from"] == "signed":
        modules = driver["modules"]
        exact = "{}-{}".format(driver["modules_package"], kernel)
        names.append("{}={}".format(modules["package"], modules["package_version"]))
        if modules["package"] != exact:
            names.append(exact)
    else:
        names += [f"{dkms_package(driver, distribution)}={version}", headers_package(kernel)]
    if distribution == "debian":
        names += [f"{name}={version}" for name in debian_beside(driver)]
    return names


def locked_names(driver: Mapping[str, Any], kernel: str, distribution: str) -> List[str]:
    """What to ask apt for: as `wanted_names`, and each package that the lock names at the lock's version."""
    words = {word.partition("=")[0]: word for word in wanted_names(driver, kernel, distribution)}
    for deb in driver.get("packages", ()):
        words[deb["name"]] = "{name}={version}".format(**deb)
    return list(words.values())


def debian_beside(driver: Mapping[str, Any]) -> List[str]:
    """What CUDA needs of Debian's driver beyond its meta package: the library, its compiler of PTX, and nvidia-smi."""
    stem = driver["package"][: -len("-driver")]
    if stem == "nvidia":
        return ["libcuda1", "libnvidia-ptxjitcompiler1", "nvidia-smi"]
    return [f"lib{stem}-cuda1", f"lib{stem}-ptxjitcompiler1", f"{stem}-smi"]


def dkms_package(driver: Mapping[str, Any], distribution: str) -> str:
    """The package that builds the module."""
    if distribution == "debian":
        stem = driver["package"][: -len("-driver")]
        return "nvidia-open-kernel-dkms" if driver["kernel_modules"] == "open" else f"{stem}-kernel-dkms"
    return str(driver["package"]).replace("nvidia-driver-", "nvidia-dkms-", 1)


def build_names(kernel: str) -> List[str]:
    """What a `.run` needs of the archive to build its module."""
    return ["dkms", "gcc", "make", "libc6-dev", headers_package(kernel)]


def runfile_options(driver: Mapping[str, Any], kernel: str, known: str) -> List[str]:
    """The options of NVIDIA's installer; `known` is what it prints for --advanced-options.

    The module is built for the kernel that will boot, which need not be the one that runs. It is not loaded for a
    test, where the installer can leave that out: nouveau may still have the card until the reboot.
    """
    options = ["--silent", "--no-questions", "--dkms", "--no-x-check", "--no-nouveau-check"]
    options += [f"--kernel-name={kernel}", f"--kernel-source-path=/lib/modules/{kernel}/build"]
    if "--skip-module-load" in known:
        options.append("--skip-module-load")
    branch, is_open = int(driver["branch"]), driver["kernel_modules"] == "open"
    # From 560 on the open kind is the installer's own choice, so the other one must be asked for as well.
    if branch >= 570:
        options.append("--kernel-module-type=" + ("open" if is_open else "proprietary"))
    elif is_open or branch >= 560:
        options.append("-m=" + ("kernel-open" if is_open else "kernel"))
    return options


def refusals(
    install: Sequence[Change],
    remove: Sequence[Change],
    shows: Dict[Tuple[str, str], Json],
    driver: Mapping[str, Any],
    own: str,
    kept: Container[str] = (),
    kernel: Container[str] = (),
) -> List[str]:
    """Why what apt would do must not be done; empty when it is exactly the locked driver and nothing is lost.

    `own` is the distribution, whose archives alone may be used; "" for files of our own cache, which `kept` names where
    only some packages are. `kernel` are the packages of a kernel that is to come with the driver.
    """
    archive = driver["source"] == "archive"
    locked = {deb["name"] for deb in driver.get("packages", ())}
    source = source_of(driver, shows) if archive else ""
    found = lost(remove)
    for change in install:
        strange = [label for label in change.origins if label not in LABELS.get(own, ())] if own else []
        if own and change.name not in kept and (strange or not change.origins):
            found.append(
                f"{change.name} {change.new} comes from {', '.join(strange) or 'no archive'}, not from {own}. (D06)"
            )
        if KERNEL.match(change.name) and change.name not in kernel:
            found.append(f"apt would bring another kernel, {change.name} {change.new}.")
        if not archive:
            if is_family(change.name):
                found.append(f"apt would install {change.name} beside the .run.")
            continue
        if DKMS.match(change.name) and driver["modules_from"] == "signed":
            found.append(f"apt would build the module itself ({change.name}), and the lock names signed modules.")
        if locked and is_family(change.name) and change.name not in locked:
            found.append(f"apt would install {change.name} {change.new}, which the lock does not name. (D04)")
        named = shows.get((change.name, change.new), {}).get("source", "")
        if source and named == source and change.new != driver["package_version"]:
            found.append(f"{change.name} would come as {change.new}, the lock has {driver['package_version']}. (D04)")
        elif is_family(change.name) and named.startswith("nvidia-graphics-drivers") and source and named != source:
            found.append(f"{change.name} {change.new} is of another branch ({named}). (D04)")
    return found


def lost(remove: Sequence[Change], also: Sequence[str] = ()) -> List[str]:
    """The packages that would go although they are neither a driver nor among `also`."""
    gone = [change for change in remove if not is_family(change.name) and change.name not in also]
    return [f"apt would remove {change.name} {change.old}, which is not a driver." for change in gone]


_BRANCH = re.compile(r"nvidia(?:-[a-z]+[0-9]?)*?-([0-9]{3}(?:-server)?)(-open)?(?:-|$)")
# Ubuntu's packages that there are two of in a branch, one for each kind of module. The others serve both.
_OF_ONE_KIND = re.compile(r"^(nvidia-(driver|dkms|kernel-source|headless(-no-dkms)?)|linux-(modules|objects)-nvidia)-")
_DEBIAN_BRANCH = re.compile(r"nvidia.*-(legacy-[0-9]+xx|tesla(?:-[0-9]{3})?)(-|$)")


def other_branch(name: str, driver: Mapping[str, Any], distribution: str) -> bool:
    """Return whether a package is of another branch than the lock's, whose modules would hide the locked ones."""
    if not is_family(name):
        return False
    if driver["source"] != "archive":
        return True
    if distribution == "debian":
        named = _DEBIAN_BRANCH.search(name)
        return named is not None and f"nvidia-{named.group(1)}-driver" != driver["package"]
    found, own = _BRANCH.search(name.partition(":")[0]), _BRANCH.search(driver["package"])
    if found is None or own is None:
        return False
    return found.group(1) != own.group(1) or bool(_OF_ONE_KIND.match(name) and found.group(2) != own.group(2))


def leads_elsewhere(name: str, driver: Mapping[str, Any]) -> bool:
    """Return whether a package leads to prebuilt modules of the lock's branch, though the lock takes none that does so.

    It needs one exact version of them. As soon as the locked version differs, apt would upgrade it, and with it would
    come the newest kernel.
    """
    prefix = driver.get("modules_package") or ""
    if not prefix or not name.startswith(f"{prefix}-"):
        return False
    locked = (driver.get("modules") or {}).get("package", "")
    return not _ends_with_kernel(name, prefix) and (not locked or _ends_with_kernel(locked, prefix))


def _ends_with_kernel(name: str, prefix: str) -> bool:
    """Return whether a package of prebuilt modules is for one kernel; the others' names end with a flavour."""
    return name[len(prefix) + 1 :][:1].isdigit()


def source_of(driver: Mapping[str, Any], shows: Dict[Tuple[str, str], Json]) -> str:
    """The source package that the locked driver is built from; "" where it is not known."""
    return str(shows.get((driver["package"], driver["package_version"]), {}).get("source", ""))


def digest(driver: Mapping[str, Any], kernel: str) -> str:
    """What tells one locked driver on one kernel from another; where its files are kept makes no other one of it."""
    debs = [[deb["name"], deb["version"], deb["sha256"]] for deb in driver.get("packages", ())]
    same = {**driver, "packages": debs} if debs else driver
    text = json.dumps({"driver": same, "kernel": kernel}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def preferences(names: Iterable[str], version: str) -> str:
    """apt's preferences for one call: these packages (name or glob) at this version and no other."""
    return f"Package: {' '.join(names)}\nPin: version {version}\nPin-Priority: 1001\n"


def parse_installed(text: str) -> Dict[str, Json]:
    """dpkg's rows "name\\tversion\\tsource\\tselection error state", as `dpkg-query` prints them in `apt_set.ROW`.

    By name: version, source, held, state ("installed", "half-configured", …) and broken (must be installed again).
    """
    rows = {}
    for line in text.splitlines():
        cells = line.split("\t")
        words = cells[3].split() if len(cells) == 4 else []
        if len(words) == 3:
            rows[bare(cells[0])] = {
                "version": cells[1],
                "source": cells[2],
                "held": words[0] == "hold",
                "broken": words[1] != "ok",
                "state": words[2],
            }
    return rows


def installed_version(rows: Dict[str, Json], name: str) -> Optional[str]:
    """The version of a package that is wholly installed, or None."""
    row = rows.get(name)
    return row["version"] if row is not None and row["state"] == "installed" and not row["broken"] else None


def named(words: Sequence[str]) -> List[Tuple[str, str]]:
    """The words "name" and "name=version", each with its name."""
    return [(word.partition("=")[0], word) for word in words]


def members_of(pairs: Dict[str, str], shows: Dict[Tuple[str, str], Json]) -> List[Json]:
    """The members of a set by name and version, each with what is shown of its file, in the order of their names."""
    empty = {"sha256": "", "arch": "", "size": 0, "unpacked": 0, "file": ""}
    return [{**empty, **shows.get(pair, {}), "name": pair[0], "version": pair[1]} for pair in sorted(pairs.items())]


def listing(install: Sequence[Change], remove: Sequence[Change]) -> Tuple[str, str]:
    """What is there before and after, a package a line, for Ansible's diff."""
    changes = sorted([*install, *remove])
    before = "".join(f"{c.name} {c.old}\n" for c in changes if c.old)
    after = "".join(f"{c.name} {c.new}\n" for c in changes if c.new)
    return before, after
