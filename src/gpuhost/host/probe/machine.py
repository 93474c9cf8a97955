"""Reading a machine: one observation of everything a plan rests on, and no opinion about it.

The target only observes and never sees the catalog. Runs there as part of an Ansible module, so Python 3.6
and the standard library only. The observation's form is data/observation.schema.json.
"""

import re
from typing import Any, Dict, Optional

from ...errors import EnvironmentProblem, UnreadableError
from ..commands import NOT_FOUND, Run, run_command
from ..edges import Edges
from ..pairs import judge, keep
from ..parse.machine import (
    enforced,
    parse_audit,
    parse_cpuinfo,
    parse_df,
    parse_dpkg_packages,
    parse_efi_flag,
    parse_lockdown,
    parse_meminfo,
    parse_mokutil,
    parse_os_release,
    parse_python_version,
)
from ..parse.versions import sort_versions
from .apt import read_apt, read_indexes
from .boot import boots
from .gpu import read_hybrid, read_nvidia
from .offers import read_offers

SCHEMA = 1
ROOT = "/opt/gpuhost"
# Stands as long as a run of ours is installing the driver's packages (driver_setup.PENDING).
INTERRUPTED = f"{ROOT}/state/driver.pending"
#: The same of VirtualBox's.
INTERRUPTED_BESIDE = f"{ROOT}/state/virtualbox.pending"

_TIMEOUT_S = 60.0
_EFI_VARIABLES = "/sys/firmware/efi/efivars"
_EFI_FLAGS = ("SecureBoot", "SetupMode", "MokSBStateRT")
_LOCKDOWN = "/sys/kernel/security/lockdown"
_SIG_ENFORCE = "/sys/module/module/parameters/sig_enforce"
_DPKG_FORMAT = "${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Want}\\t${db:Status-Status}\\n"


def observe(
    root: str = "/", run: Run = run_command, strict: bool = True, offers: bool = False, newer: bool = False
) -> Dict[str, Any]:
    """The observation of the machine whose files lie below `root` and whose commands `run` runs.

    Changes nothing. Sizes are MiB. What cannot be read is named under `problems`; raises UnreadableError when
    the machine has no os-release or no PCI devices, or a card without an id: nothing can be planned then. Without
    `strict` that is one more of the problems. With `offers` it says what the distribution's archives offer as well,
    which takes apt some seconds and which only a plan needs; with `newer` also of kernels, which only an update needs.
    """
    edges = Edges(root, run)
    platform = read_platform(edges, strict)
    gpus, nvidia, others = read_nvidia(edges, strict)
    architecture = (
        edges.output(["dpkg", "--print-architecture"], _TIMEOUT_S, "dpkg --print-architecture") or ""
    ).strip()
    packages, audit = _read_packages(edges, architecture)
    hybrid = read_hybrid(edges)
    kernel = read_kernel(edges)
    offered, indexes = {}, read_indexes(edges)
    if offers:
        asked = (edges, indexes, platform["distribution"], architecture, kernel["installed"])
        offered["offers"] = read_offers(*asked, fetch=bool(gpus), newer=newer)
    return {
        "schema": SCHEMA,
        "hostname": _one_line(edges, "/proc/sys/kernel/hostname"),
        "machine": (edges.output(["uname", "-m"], _TIMEOUT_S, "uname -m") or "").strip(),
        "platform": platform,
        "kernel": kernel,
        "secure_boot": read_secure_boot(edges),
        "gpus": gpus,
        "other_functions": others,
        "nvidia": nvidia,
        **({} if hybrid is None else {"hybrid": hybrid}),
        "wsl": _read_wsl(edges),
        "apt": read_apt(edges, platform["distribution"], indexes, architecture),
        **offered,
        "packages": packages,
        "dpkg_audit": audit,
        "pythons": _read_pythons(edges),
        "memory_mib": _read_memory(edges),
        "disk": _read_disk(edges),
        "cpu": _read_cpu(edges),
        "interrupted": edges.exists(INTERRUPTED) or edges.exists(INTERRUPTED_BESIDE),
        "reboot_required": edges.exists("/run/reboot-required") or edges.exists("/var/run/reboot-required"),
        "problems": edges.problems,
    }


def _one_line(edges: Edges, name: str) -> str:
    """The one line of a small file of /proc; empty, and a problem, when there is none."""
    text = (edges.text(name) or "").strip()
    if not text:
        edges.problem(name, "It is missing or empty.")
    return text


def read_platform(edges: Edges, strict: bool = True) -> Dict[str, str]:
    """The platform, from either place that os-release(5) names; without `strict` an unknown one is empty."""
    try:
        return _platform(edges)
    except UnreadableError as error:
        if strict:
            raise
        edges.problem("/etc/os-release", error.message)
        return dict.fromkeys(("id", "distribution", "version", "codename", "pretty_name"), "")


def _platform(edges: Edges) -> Dict[str, str]:
    """The platform; raises UnreadableError where no file says it."""
    for name in ("/etc/os-release", "/usr/lib/os-release"):
        text = edges.text(name)
        if text is not None:
            return parse_os_release(text)
    raise UnreadableError(
        "This machine has no os-release file, so its distribution is unknown.",
        next_step="On Debian and Ubuntu, apt-get install --reinstall base-files restores it.",
    )


def read_kernel(edges: Edges) -> Dict[str, Any]:
    """The running kernel, the installed ones, the one to boot next, and what says that it is that one.

    A purged kernel leaves a folder of modules behind: depmod's files, and what DKMS built. Only what has an image can
    boot. Some distributions keep that beside the modules and give the one in /boot another name.
    """
    known = sort_versions(
        name
        for name in edges.names("/lib/modules") or []
        if edges.exists(f"/lib/modules/{name}/modules.dep") or edges.exists(f"/lib/modules/{name}/kernel")
    )
    in_boot = [version for version in known if edges.exists("/boot/vmlinuz-" + version)]
    installed = [name for name in known if name in in_boot or edges.exists(f"/lib/modules/{name}/vmlinuz")]
    found = boots(edges, in_boot)
    return {
        "running": _one_line(edges, "/proc/sys/kernel/osrelease"),
        "installed": installed,
        "boots": found.kernel,
        "boots_by": found.by,
        **tried(edges),
    }


def tried(edges: Edges) -> Dict[str, Any]:
    """The kernel of an update that a boot has yet to prove, or that this host has undone, and what a person should know
    of it; nothing where there is none.
    """
    try:
        record = keep.read(edges, ROOT)
    except EnvironmentProblem as error:
        edges.problem(f"{ROOT}/{keep.RECORD}", error.message)
        return {}
    if record is None or record["state"] == judge.PROVED:
        return {}
    return {"tried": {"kernel": record["new"]["kernel"], "told": judge.told(record)}}


def read_secure_boot(edges: Edges) -> str:
    """What the kernel enforces of modules: Secure Boot's state, or "lockdown" where it asks for signatures anyway."""
    state = _firmware_says(edges)
    asks = parse_lockdown(edges.text(_LOCKDOWN) or "")
    if state != "enabled" and (asks or (edges.text(_SIG_ENFORCE) or "").strip() == "Y"):
        return "lockdown"
    return state


def _firmware_says(edges: Edges) -> str:
    """Secure Boot's state: from the firmware's variables, else from mokutil, else unknown."""
    if not edges.exists("/sys/firmware/efi"):
        if edges.exists("/sys/bus/pci/devices"):
            return "unsupported"
        edges.problem("/sys/firmware/efi", "/sys is not shown here.")
        return "unknown"
    flags: Dict[str, Optional[bool]] = {}
    for name in edges.names(_EFI_VARIABLES) or []:
        short = name.partition("-")[0]
        if short in _EFI_FLAGS:
            flags[short] = parse_efi_flag(edges.data(f"{_EFI_VARIABLES}/{name}") or b"")
    state = enforced(*[flags.get(name) for name in _EFI_FLAGS])
    if state is None:
        code, out, err = edges.run(["mokutil", "--sb-state"], _TIMEOUT_S)
        state = None if code == NOT_FOUND else parse_mokutil(out + err)
        if state is None:
            said = " ".join((err or out).split()) or f"It printed nothing and ended with status {code}."
            edges.problem("mokutil --sb-state", said)
    return state or "unknown"


def _read_wsl(edges: Edges) -> Optional[Dict[str, bool]]:
    """Whether this is Windows' subsystem for Linux, and whether Windows lends it a card; None on any other machine."""
    kernel = (edges.text("/proc/sys/kernel/osrelease") or "").lower()
    if "microsoft" not in kernel:
        return None
    return {"card": edges.exists("/dev/dxg") and edges.exists("/usr/lib/wsl/lib/libcuda.so.1")}


def _read_packages(edges: Edges, architecture: str) -> Any:
    """The observed packages by name, and what dpkg's audit finds wrong."""
    listing = edges.output(["dpkg-query", "-W", "-f=" + _DPKG_FORMAT], _TIMEOUT_S, "dpkg-query") or ""
    packages, unread = parse_dpkg_packages(listing, architecture)
    if unread:
        edges.problem("dpkg-query", f"{len(unread)} lines cannot be read, the first: {unread[0]}")
    # An audit that finds nothing says nothing.
    return packages, parse_audit(edges.output(["dpkg", "--audit"], _TIMEOUT_S, "dpkg --audit", silent=True) or "")


def _read_pythons(edges: Edges) -> Dict[str, str]:
    """The versions of /usr/bin/python3 and /usr/bin/python3.N, as each itself says."""
    pythons = {}
    for name in edges.names("/usr/bin") or []:
        if re.match(r"python3(\.[0-9]+)?$", name):
            path = "/usr/bin/" + name
            said = edges.output([path, "--version"], _TIMEOUT_S, path)
            version = parse_python_version(said or "")
            if version is not None:
                pythons[path] = version
            elif said is not None:
                edges.problem(path, "It does not say its version.")
    return pythons


def _read_cpu(edges: Edges) -> Dict[str, Any]:
    """The processors."""
    cpu = parse_cpuinfo(edges.text("/proc/cpuinfo") or "")
    if not cpu["count"]:
        edges.problem("/proc/cpuinfo", "It shows no processor.")
    return cpu


def _read_memory(edges: Edges) -> Optional[int]:
    """Installed memory in MiB."""
    memory = parse_meminfo(edges.text("/proc/meminfo") or "")
    if memory is None:
        edges.problem("/proc/meminfo", "It does not say how much memory there is.")
    return memory


def _read_disk(edges: Edges) -> Dict[str, Dict[str, int]]:
    """Free and total MiB of the file systems that / and /opt lie on."""
    disk = {}
    for place in ("/", "/opt"):
        # A minimal host has no /opt yet; it will be made on the root file system.
        asked = place if edges.exists(place) else "/"
        said = edges.output(["df", "-P", "-k", asked], _TIMEOUT_S, "df " + asked)
        space = parse_df(said or "")
        if space is not None:
            disk[place] = space
        elif said is not None:
            edges.problem("df " + asked, "It does not say how much space there is.")
    return disk
