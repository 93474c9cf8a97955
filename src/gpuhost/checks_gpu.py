"""Checks of the card and of what stands under the environments: driver, toolkit, cuDNN."""

from __future__ import annotations

from typing import List

from .catalog import Json
from .checks_base import INSTALL, RELOCK, Check, Outcome, held
from .checks_host import observation
from .checks_lock import installed, obeyed
from .toolkits import agrees
from .versions import in_series


def present(seen: Json) -> Outcome:
    """Is there an NVIDIA card where the lock has one?"""
    cards = [f"{c['name'] or c['pci_id']} at {c['pci_address']}" for c in observation(seen)["gpus"]]
    return held(bool(cards), "an NVIDIA card in the machine", ", ".join(cards) or "none", RELOCK)


def loaded(seen: Json) -> Outcome:
    """Is the loaded kernel module the locked driver's?"""
    wanted, found = obeyed(seen)["plan"]["driver"]["version"], observation(seen)["nvidia"]
    if not found["module_loaded"]:
        others = sorted({c["kernel_driver"] for c in observation(seen)["gpus"] if c["kernel_driver"]})
        actual = f"the nvidia module is not loaded; the card is held by {', '.join(others) or 'no driver'}"
        return held(False, f"driver {wanted} is loaded", actual, INSTALL)
    return held(
        found["module_version"] == wanted,
        f"driver {wanted} is loaded",
        f"driver {found['module_version'] or 'of unknown version'} is loaded",
        f"Reboot the host, which loads the installed driver; if it stays so: {INSTALL}",
    )


def listed(seen: Json) -> Outcome:
    """Does the driver's own tool list each locked card?"""
    smi = observation(seen)["nvidia"]["smi"]
    required = f"nvidia-smi lists {len(obeyed(seen)['cards'])} locked cards"
    if smi["status"] != "ok":
        return held(
            False,
            required,
            smi["message"] or "nvidia-smi failed",
            INSTALL,
        )
    readable = [c for c in observation(seen)["gpus"] if c["readable"]]
    missing: List[str] = []
    for card in obeyed(seen)["cards"]:
        match = [c for c in readable if (c["uuid"] == card["uuid"] if card["uuid"] else c["pci_id"] == card["pci_id"])]
        if match:
            readable.remove(match[0])
        else:
            missing.append(f"{card['uuid'] or card['pci_id']} ({card['pci_address']})")
    return held(not missing, required, f"missing: {', '.join(missing)}" if missing else "all listed", RELOCK)


def toolkit(seen: Json) -> Outcome:
    """Is the toolkit in force the locked one, by its own record and by its compiler?"""
    wanted, found = obeyed(seen)["plan"]["cuda"]["version"], installed(seen)
    said = [f"its record says {found['cuda']}"] if found["cuda"] else []
    said += [f"nvcc says {found['nvcc']}"] if found["nvcc"] else []
    right = (
        bool(said)
        and (found["cuda"] is None or agrees(wanted, found["cuda"]))
        and (found["nvcc"] is None or in_series(wanted, found["nvcc"]))
    )
    return held(
        right,
        f"CUDA {wanted}",
        ", ".join(said) or "no toolkit below current/cuda",
        INSTALL,
    )


def cudnn(seen: Json) -> Outcome:
    """Is cuDNN in force the locked one? Its header gives three of the four figures."""
    wanted, found = obeyed(seen)["plan"]["cudnn"]["version"], installed(seen)["cudnn"]
    right = found is not None and in_series(wanted, found)
    return held(
        right,
        f"cuDNN {wanted}",
        f"the header says {found}" if found else "no header below current/cudnn",
        INSTALL,
    )


CHECKS = (
    Check(
        "gpu.present",
        "There is a card",
        "A card that fell off the bus leaves everything else running on the CPU.",
        present,
        ("lock.present",),
        gpu=True,
    ),
    Check(
        "driver.loaded",
        "The locked driver is loaded",
        "An upgrade that was not held leaves module and library apart.",
        loaded,
        ("gpu.present",),
        gpu=True,
    ),
    Check(
        "driver.cards",
        "The driver lists each locked card",
        "A driver that is loaded need not serve the card.",
        listed,
        ("driver.loaded",),
        gpu=True,
    ),
    Check(
        "cuda.toolkit",
        "The toolkit is the locked one",
        "TensorFlow and OpenCV load one version of its libraries.",
        toolkit,
        ("lock.provisioned",),
        gpu=True,
    ),
    Check(
        "cudnn.version",
        "cuDNN is the locked one",
        "Another minor version is refused, or is slow.",
        cudnn,
        ("lock.provisioned",),
        gpu=True,
    ),
)
