"""Checks of the card, and of the toolkit and cuDNN that stand under the environments."""

from typing import TYPE_CHECKING, Any, Mapping, Optional

from ..host.toolkit.install import agrees
from ..types import present as given
from ..versions import in_series, release
from .base import FAIL, INSTALL, NO_GPU, RELOCK, SKIP, Check, Outcome, held, on_host, skipped
from .found import WSL, place
from .host import CARDS, LOADED, observation
from .lock import installed, obeyed

if TYPE_CHECKING:
    from ..shapes.seen import Seen

#: A bare host has no lspci.
LISTED = on_host(
    "grep -l 0x10de /sys/bus/pci/devices/*/vendor # nothing listed: look at its seat and power, or a VM's passthrough"
)


def present(seen: "Seen") -> Outcome:
    """Check that there is an NVIDIA card where the lock has one, and where one was demanded.

    Whether the cards are the locked ones is the claim of lock.cards.
    """
    if not obeyed(seen)["plan"]["gpus"]:
        remedy = f"Put a card in, then plan again:\n{RELOCK}"
        status = FAIL if seen["options"]["require_gpu"] else SKIP
        return Outcome(status, "a GPU, planned and locked", NO_GPU, remedy)
    cards = [f"{c['name'] or c['pci_id']} at {c['pci_address']}" for c in observation(seen)["gpus"]]
    return held(bool(cards), "an NVIDIA card in the machine", ", ".join(cards) or "none", RELOCK)


def present_found(seen: "Seen") -> Outcome:
    """Judge whether there is an NVIDIA card at all, on a host without a lock."""
    names = [f"{c['name'] or c['pci_id']} at {c['pci_address']}" for c in observation(seen)["gpus"]]
    required = "an NVIDIA card in the machine"
    if not names and (place(seen) == WSL or not seen["surroundings"]["bus"]):
        return skipped(required, "no PCI bus is shown here")
    return held(bool(names), required, ", ".join(names) or "no NVIDIA display device on the PCI bus", LISTED)


def toolkit(seen: "Seen") -> Outcome:
    """Check that the toolkit in force is the locked one, by its own record and, where it has one, by its compiler."""
    wanted, found = given(obeyed(seen)["plan"]["cuda"])["version"], installed(seen)
    said = [f"its record says {found['cuda']}"] if found["cuda"] else []
    said += [f"nvcc says {found['nvcc']}"] if found["nvcc"] else []
    said += ["it has no record"] if said and not found["cuda"] else []
    right = (
        found["cuda"] is not None
        and agrees(wanted, found["cuda"])
        and (found["nvcc"] is None or in_series(wanted, found["nvcc"]))
    )
    return held(
        right,
        f"CUDA {wanted}",
        ", ".join(said) or "no toolkit below current/cuda",
        INSTALL,
    )


def too_old(driver: str, row: Mapping[str, Any]) -> Optional[str]:  # Json: bounds of a lock, or a row of the catalog
    """Return why a driver does not serve a toolkit, given from which on it runs; None when it does.

    It must be as new as the toolkit's own, or new enough for minor-version compatibility where that exists.
    """
    own, minor = row["driver_min"], row["driver_min_minor_compat"]
    if any(release(driver) >= release(least) for least in (own, minor) if least):
        return None
    return f"CUDA {row['version']} needs driver {minor or own} or newer, this is {driver}"


def driver_serves(seen: "Seen") -> Outcome:
    """Check that the loaded driver is new enough for the toolkit in force."""
    version, loaded = given(obeyed(seen)["plan"]["cuda"])["version"], observation(seen)["nvidia"]["module_version"]
    row = seen["expected"]["cuda"]
    if row is None:
        return skipped(f"a driver for CUDA {version}", "the lock does not say which one that is")
    problem = too_old(given(loaded), row)
    return held(problem is None, f"a driver that serves CUDA {version}", problem or f"driver {loaded}", RELOCK)


def cudnn(seen: "Seen") -> Outcome:
    """Check that the cuDNN in force is the locked one; its header gives three of the four figures."""
    wanted, found = given(obeyed(seen)["plan"]["cudnn"])["version"], installed(seen)["cudnn"]
    right = found is not None and in_series(wanted, found)
    return held(
        right,
        f"cuDNN {wanted}",
        f"the header says {found}" if found else "no header below current/cudnn",
        INSTALL,
    )


CARD = (
    Check(
        "gpu.present",
        "There is a card",
        "A card that fell off the bus leaves everything else running on the CPU.",
        present,
        CARDS,
        ("lock.cards",),
        found=present_found,
    ),
)
CHECKS = (
    Check(
        "cuda.toolkit",
        "The toolkit is the locked one",
        "TensorFlow and OpenCV load one version of its libraries.",
        toolkit,
        ("{root}/generations/*/cuda/*",),
        ("cuda.installed",),
        gpu=True,
    ),
    Check(
        "cuda.driver",
        "The driver is new enough for the toolkit",
        "An older driver refuses every program of a newer toolkit.",
        driver_serves,
        LOADED,
        ("cuda.toolkit", "driver.match"),
        gpu=True,
    ),
    Check(
        "cudnn.version",
        "cuDNN is the locked one",
        "Another minor version is refused, or is slow.",
        cudnn,
        ("{root}/generations/*/cudnn/*",),
        ("cudnn.installed",),
        gpu=True,
    ),
)
