"""What is expected of a host that has no lock: that what stands on it fits together. Pure.

With a lock a check holds the host against it. Without one, the same check holds the host against `expectation`, a
lock-like value that is made from the host itself and says so by its origin. What only a lock can say is not judged
then.
"""

from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence, Tuple

from ..types import Json
from .lock import cards_of

if TYPE_CHECKING:
    from ..shapes.answers import Machine
    from ..shapes.observation import Observation
    from ..shapes.seen import Seen

ORIGIN = "as found"
#: Where the system that was read runs: on the machine itself, or in something that has another's kernel and driver.
MACHINE, CONTAINER, WSL = "machine", "container", "wsl2"
OUTER = {
    CONTAINER: "this is a container: kernel and modules are those of the machine that runs it, so ask there",
    WSL: "this is WSL2: the driver is that of Windows, and its kernel loads no module for the card",
}
#: The families of distributions, by the program that installs packages.
APT, DNF, PACMAN, ZYPPER = "apt", "dnf", "pacman", "zypper"
FAMILIES = (
    (APT, ("debian", "ubuntu")),
    (DNF, ("fedora", "rhel", "centos")),
    (PACMAN, ("arch",)),
    (ZYPPER, ("suse", "opensuse")),
)
#: Suites beside a release's own, by distribution.
POCKETS = {
    "ubuntu": ("-updates", "-security", "-backports", "-proposed"),
    "debian": ("-updates", "-security", "-backports", "-proposed-updates"),
}
#: What is asked of packages and their sources needs apt, and what is asked of modules needs the machine's own kernel.
OF_PACKAGES, OF_KERNELS = ("dpkg-query", "/etc/apt/sources.list*"), ("/lib/modules*",)
#: Why nothing is said of a driver of which no trace was seen where not every trace could be looked for.
NOT_SEEN = "whether there is a driver could not be read"


def is_as_found(seen: "Seen") -> bool:
    """Return whether the host is judged without a lock."""
    return "as_found" in seen


def is_ours(seen: "Seen") -> bool:
    """Return whether gpuhost has provisioned the host, so that its own commands fix it."""
    if not is_as_found(seen):
        return True
    installed = seen["machine"]["installed"]
    return installed["generation"] is not None or installed["driver"]["record"] is not None


def place(seen: "Seen") -> str:
    """Return where the system runs; with a lock that is a machine."""
    return str(seen["as_found"]["place"]) if is_as_found(seen) else MACHINE


def family_of(names: Sequence[str]) -> Optional[str]:
    """Return the family of a distribution by its ID and those of ID_LIKE; None for one that is not known."""
    for name in names:
        for family, members in FAMILIES:
            if any(name == member or name.startswith(member + "-") for member in members):
                return family
    return None


def expectation(machine: "Machine", where: str, names: Sequence[str]) -> Json:  # Json: a lock-like value
    """Return what a host is checked against that has no lock, from what was read of it.

    `names` are the distribution's ID and those of ID_LIKE. The driver's version is that of a finished installation by
    gpuhost, else of the user space: that is what programs load, and module and kernel have to follow it.
    """
    observation, installed = machine["observation"], machine["installed"]
    driver = installed["driver"]
    record: Mapping[str, Any] = driver["record"] or {}
    module: Mapping[str, Any] = driver["module"] or {}
    found = (record.get("version"), driver["library"], observation["nvidia"]["module_version"], module.get("version"))
    version = next((text for text in found if text), None)
    return {
        "origin": ORIGIN,
        "place": where,
        "family": family_of(names),
        "cards": cards_of(observation),
        "plan": {
            "gpus": [
                {"pci_id": card["pci_id"], "compute_capability": card["compute_capability"]}
                for card in observation["gpus"]
            ],
            "driver": {
                "version": version,
                "branch": record.get("branch") or (version or "").partition(".")[0],
                "source": record.get("source") or ORIGIN,
                "kernel_modules": "open" if module.get("open") else "proprietary",
                "secure_boot": "own-key" if driver["key"]["made"] else "signed",
            },
        },
    }


def platform_row(
    observation: "Observation",
    codenames: Mapping[str, Any],  # Json: a row of the catalog
) -> Optional[Json]:  # Json: a row of the catalog
    """Return what `checks.sources` has to know of the host's release, as the catalog's row says it.

    `codenames` are those of all releases of each distribution. None where the releases of this one are not known, and
    for "forky/sid", as testing and unstable call themselves alike: either's sources may be its own.
    """
    platform = observation["platform"]
    distribution, codename = platform["distribution"], platform["codename"]
    if distribution not in codenames or codename not in codenames[distribution]:
        return None
    if platform["pretty_name"].endswith("/sid"):
        return None
    suites = [codename, *(codename + pocket for pocket in POCKETS.get(distribution, ()))]
    return {"distribution": distribution, "codename": codename, "suites": suites, "codenames": codenames}


def beyond(sources: Tuple[str, ...], seen: "Seen") -> Optional[str]:
    """Return why a check that rests on these sources says nothing about this host; None where it does."""
    if place(seen) in OUTER and any(source in sources for source in OF_KERNELS):
        return OUTER[place(seen)]
    if seen["as_found"]["family"] != APT and any(source in sources for source in OF_PACKAGES):
        return "there is no apt here, and gpuhost does not read this distribution's packages"
    return None


def missing_traces(seen: "Seen") -> List[str]:
    """Return the traces of a driver that a host lacks: module, library, loaded module, nvidia-smi; [] with any."""
    observation, driver = seen["machine"]["observation"], seen["machine"]["installed"]["driver"]
    nvidia = observation["nvidia"]
    if driver["library"] or driver["module"] or nvidia["module_loaded"] or nvidia["smi"]["status"] != "absent":
        return []
    where = f" for kernel {driver['kernel']}" if driver["kernel"] else ""
    return [f"no module nvidia{where}", "no libnvidia-ml.so.1", "no nvidia-smi"]
