"""Reading the driver as the kernel that will boot is going to find it: module, library, nouveau, keys, record.

Not what is loaded now, but what the next boot will load: that is what an update breaks. Runs on the target:
Python 3.6, standard library. Reads only.
"""

import os
import posixpath
import re
from typing import Dict, List, Mapping, Optional

from ...types import Json
from ..commands import NOT_FOUND
from ..edges import Edges
from ..guard.rules import is_family
from ..parse.machine import parse_verify
from ..parse.signature import END, at_the_end
from .boot import grub_files
from .gpu import loaded_modules

ROOT = "/opt/gpuhost"
RECORD = "state/driver.json"
KEY_FOLDER = "/var/lib/shim-signed/mok"  # where Ubuntu's own tools make and look for the machine owner's key
CERTIFICATE = KEY_FOLDER + "/MOK.der"
# Debian builds the module under a name of its own for each series and lets modprobe redirect `nvidia` to it.
MODULE_NAMES = (
    "nvidia",
    "nvidia-current",
    "nvidia-current-open",
    *(f"nvidia-tesla-{series}" for series in ("535", "510", "470", "460", "450", "418")),
    *(f"nvidia-legacy-{series}xx" for series in ("390", "340")),
)
# In the order of precedence: a file of the same name in a later folder is not read (modprobe.d(5)).
MODPROBE_FOLDERS = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
#: How the running kernel was started.
COMMAND_LINE = "/proc/cmdline"
LIBRARIES = tuple(
    folder + "/libnvidia-ml.so.1" for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib64")
)

_BLACKLIST = re.compile(r"^\s*blacklist\s+nouveau\s*(#.*)?$", re.MULTILINE)
_KEEPS_OUT = re.compile(
    r"\s*(?:blacklist\s+([\w-]+)|alias\s+([\w-]+)\s+off|install\s+([\w-]+)\s+(?:/usr)?/bin/(?:true|false))\s*(?:#.*)?$"
)
# Words of the kernel's command line: modprobe(8) obeys the first, the kernel itself the second.
_KEEPS_OUT_AT_BOOT = re.compile(r"(?<![\w.-])(?:modprobe\.blacklist|module_blacklist)=([\w,-]*)")
_NOUVEAU_FILE = re.compile(r"(^|/)nouveau\.ko(\.(xz|zst|gz))?$")
_TIMEOUT_S = 60.0
_LONGEST_LINE = 200
_LINKS = 20  # more than any chain of alternatives has


def driver(edges: Edges, boots: Optional[str], root: str = ROOT) -> Json:
    """The driver's state for the kernel `boots`, the one that will boot (None where it is not known).

    `module` is what modprobe would load for that kernel (None: nothing), `library` the version of the user space,
    `nouveau.in_initramfs` whether the initramfs of that kernel would load nouveau: it has the module and no blacklist
    of it; None where there is no initramfs to look into. `key.enrolled` is None where that cannot be asked.
    """
    return {
        "kernel": boots,
        "module": module_for(edges, boots) if boots else None,
        "library": library_version(edges),
        "headers": bool(boots) and leads_to(edges, f"/lib/modules/{boots}/build") is not None,
        "nouveau": nouveau(edges, boots),
        "kept_out": kept_out(edges),
        "dkms": dkms_lines(edges),
        "key": own_key(edges),
        "record": record(edges, root),
    }


def module_for(edges: Edges, kernel: str) -> Optional[Json]:
    """What `modprobe nvidia` would load for a kernel, as modinfo describes it; None when there is nothing."""
    for name in MODULE_NAMES:
        found = modinfo(edges, ["-k", kernel, name])
        if found:
            return with_signer(edges, parse_modinfo(found))
        if found is None:
            return None
    return None


def modinfo(edges: Edges, words: List[str]) -> Optional[str]:
    """Return what modinfo says of a module: "" when there is no such module, None and a problem when it fails."""
    code, out, err = edges.run(["modinfo", *words], _TIMEOUT_S)
    if code == 0 and out.strip():
        return out
    if code == 1:
        return ""
    edges.problem("modinfo", " ".join(err.split()) or f"It printed nothing and ended with status {code}.")
    return None


#: modinfo's fields of a signature; before kmod 26 the first one was called signat. All of them are left out for a
#: module without one.
SIGNATURE_FIELDS = ("sig_id", "signat", "signer", "sig_key", "sig_hashalgo", "signature")


def parse_modinfo(text: str) -> Json:
    """Path, version, signature and flavour of the module that modinfo describes.

    `signed` is whether it has a signature, None where this is not what modinfo prints of a whole module. `signer` is ""
    also where a module is signed and this modinfo cannot tell by whom, as before kmod 26.
    """
    fields: Dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == name:
            fields.setdefault(name, value.strip())
    signed = any(name in fields for name in SIGNATURE_FIELDS)
    return {
        "path": fields.get("filename", ""),
        "version": fields.get("version", ""),
        "signed": signed or (False if "vermagic" in fields else None),
        "signer": fields.get("signer", ""),
        # NVIDIA's own license stands in the closed module; the open one is "Dual MIT/GPL".
        "open": "GPL" in fields.get("license", ""),
    }


def with_signer(edges: Edges, module: Json) -> Json:
    """The module with its signer from the file itself, where modinfo does not tell it and the file is plain."""
    if module["signer"] or module["signed"] is False or not module["path"].endswith(".ko"):
        return module
    end = edges.end(module["path"], END)
    if end is None:
        return module
    found = at_the_end(end)
    return {**module, "signed": found.there, "signer": found.signer}


def leads_to(edges: Edges, name: str) -> Optional[str]:
    """The path that a chain of symbolic links ends at, or None when nothing is there."""
    for _ in range(_LINKS):
        path = edges.path(name)
        try:
            if not path.is_symlink():
                return name if path.exists() else None
            # An absolute target counts from the machine's root, not from the one this process has.
            name = posixpath.normpath(posixpath.join(posixpath.dirname(name), os.readlink(str(path))))
        except OSError as error:
            edges.problem(name, f"It cannot be followed: {error.strerror}.")
            return None
    return None


def library_version(edges: Edges) -> Optional[str]:
    """The version of the driver's user space: the suffix of the file that libnvidia-ml.so.1 leads to."""
    for name in LIBRARIES:
        end = leads_to(edges, name)
        if end is not None:
            found = re.search(r"\.so\.([0-9]+(?:\.[0-9]+)+)$", end)
            return found.group(1) if found else None
    return None


def modprobe_files(edges: Edges) -> Dict[str, str]:
    """The text of each modprobe configuration file in force, by its path."""
    files: Dict[str, str] = {}
    for folder in MODPROBE_FOLDERS:
        above = {posixpath.basename(path) for path in files}
        for name in edges.names(folder) or []:
            if name.endswith(".conf") and name not in above:
                files[f"{folder}/{name}"] = edges.text(f"{folder}/{name}") or ""
    return files


def kept_out(edges: Edges) -> List[Dict[str, str]]:
    """What keeps the driver itself out, each with its file: lines of modprobe's configuration, and words of the
    kernel's command line, which stand in GRUB's settings too where it comes from there.
    """
    lines = [
        {"file": path, "line": " ".join(line.split())[:_LONGEST_LINE]}
        for path, text in sorted(modprobe_files(edges).items())
        for line in text.splitlines()
        if keeps_out(line)
    ]
    started = kept_out_at_boot(edges, COMMAND_LINE)
    settings = [row for name in grub_files(edges) for row in kept_out_at_boot(edges, name)] if started else []
    return [*lines, *started, *settings]


def kept_out_at_boot(edges: Edges, name: str) -> List[Dict[str, str]]:
    """The words in a file by which the driver is kept out from the start of the kernel on."""
    text = (edges.text(name) or "") if edges.exists(name) else ""
    return [
        {"file": name, "line": found.group(0)[:_LONGEST_LINE]}
        for line in text.splitlines()
        if not line.lstrip().startswith("#")
        for found in _KEEPS_OUT_AT_BOOT.finditer(line)
        if any(is_driver(module) for module in found.group(1).split(","))
    ]


def keeps_out(line: str) -> bool:
    """Return whether a line of modprobe's configuration keeps the driver out. To modprobe, - and _ are the same."""
    found = _KEEPS_OUT.match(line)
    return found is not None and is_driver(found.group(1) or found.group(2) or found.group(3))


def is_driver(module: str) -> bool:
    """Return whether a module's name, in either spelling, is the driver's."""
    return module.replace("_", "-") in MODULE_NAMES


def nouveau(edges: Edges, kernel: Optional[str]) -> Json:
    """Whether nouveau is kept out: by modprobe's configuration, in the initramfs, and now."""
    files = sorted(modprobe_files(edges).items())
    blacklists = [posixpath.basename(path) for path, text in files if _BLACKLIST.search(text)]
    return {
        "blacklisted": bool(blacklists),
        "in_initramfs": initramfs_loads_nouveau(edges, kernel, blacklists) if kernel else None,
        "loaded": "nouveau" in loaded_modules(edges),
    }


def initramfs_loads_nouveau(edges: Edges, kernel: str, blacklists: List[str]) -> Optional[bool]:
    """Return whether the kernel's initramfs would load nouveau; None without one, or without a program to list it."""
    image = "/boot/initrd.img-" + kernel
    if not edges.exists(image):
        return None
    # dracut, which can stand in the place of initramfs-tools, brings its update-initramfs, and a lister of its own.
    dracut = edges.exists("/usr/bin/lsinitrd") and not edges.exists("/usr/bin/lsinitramfs")
    tool = "lsinitrd" if dracut else "lsinitramfs"
    listing = edges.output([tool, str(edges.path(image))], _TIMEOUT_S, "lsinitramfs")
    return None if listing is None else listing_loads_nouveau(listing, blacklists)


def listing_loads_nouveau(listing: str, blacklists: List[str]) -> bool:
    """Whether an initramfs with these files holds nouveau and none of the files (by name) that blacklist it.

    update-initramfs copies modprobe's configuration as it stands, so a file's name stands for its content. A line ends
    with a file's name, after what dracut's lister says of it.
    """
    names = [line.strip() for line in listing.splitlines()]
    if not any(_NOUVEAU_FILE.search(name) for name in names):
        return False
    inside = {posixpath.basename(name) for name in names if "modprobe.d/" in name}
    return not inside.intersection(blacklists)


def dkms_lines(edges: Edges) -> List[str]:
    """The lines of `dkms status` about NVIDIA's modules; none where there is no dkms.

    dkms 2 writes "nvidia, 525.1, KERNEL, x86_64: installed", dkms 3 "nvidia/525.1, KERNEL, x86_64: installed".
    """
    code, out, err = edges.run(["dkms", "status"], _TIMEOUT_S)
    if code == NOT_FOUND:
        return []
    if code != 0:
        edges.problem("dkms status", " ".join(err.split()) or f"It ended with status {code}.")
    return [line.strip() for line in out.splitlines() if line.startswith("nvidia")]


def own_key(edges: Edges) -> Json:
    """Return whether the machine owner's key was made here (`made`), and whether it is enrolled (`enrolled`; None where
    that is unknown).
    """
    made = edges.exists(CERTIFICATE)
    enrolled: Optional[bool] = None
    if made:
        code, out, err = edges.run(["mokutil", "--test-key", str(edges.path(CERTIFICATE))], _TIMEOUT_S)
        # Its exit status has changed its meaning between versions; the sentence has not.
        enrolled = None if code == NOT_FOUND else parse_test_key(out + err)
        if enrolled is None:
            said = " ".join((err or out).split()) or f"It printed nothing and ended with status {code}."
            edges.problem("mokutil --test-key", said)
    return {"made": made, "enrolled": enrolled}


def parse_test_key(text: str) -> Optional[bool]:
    """What `mokutil --test-key` says: enrolled, not (only asked for counts as not), or neither."""
    if "is already enrolled" in text or "trusted keyring" in text:
        return True
    if any(words in text for words in ("is not enrolled", "enrollment request", "is blocked")):
        return False
    return None


def damaged(edges: Edges, found: Optional[Json], installed: Mapping[str, str]) -> List[str]:
    """Return the files of the recorded driver's packages, of those that are installed, that are missing or changed."""
    names = sorted(name for name in (found or {}).get("packages", {}) if is_family(name) and name in installed)
    said = edges.output(["dpkg", "--verify", *names], _TIMEOUT_S, "dpkg --verify", silent=True) if names else ""
    return parse_verify(said or "")


def record(edges: Edges, root: str) -> Optional[Json]:
    """The driver role's record of a finished installation, or None."""
    return edges.record(f"{root}/{RECORD}")
