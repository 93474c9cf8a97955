"""Checks of TensorFlow: it computes, it can load each CUDA library, and it computes on a card."""

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Optional

from ..text import few
from ..types import present
from ..versions import release
from . import environments
from .base import RELOCK, Check, Outcome, held, on_host
from .environments import again, own_toolkit, packages
from .lock import obeyed

if TYPE_CHECKING:
    from ..shapes.answers import EnvironmentAnswer, Library
    from ..shapes.seen import Seen

#: Largest difference allowed, of sums of 27 and 64 products of values below 1 (the error is about 1e-6).
CONV_LIMIT = 1e-4
CUDNN = "./run ansible-playbook playbooks/cudnn.yml"
#: Makes the linker's cache again and, where a library is really gone, the toolkit.
LINKER = "ldconfig"
CUDA = "./run ansible-playbook playbooks/cuda.yml"


def environment(seen: "Seen") -> "EnvironmentAnswer":
    """What was collected of TensorFlow's environment."""
    return seen["environments"]["dl4cv"]


def computes(seen: "Seen") -> Outcome:
    """Check that TensorFlow can be imported, and that a convolution is right."""
    probed = environment(seen)
    required = f"a convolution and a product agree with NumPy within {CONV_LIMIT:g}"
    done = probed.get("computed")
    if done is None:
        actual = f"{probed['error'].rstrip('.')}{by_ptx(seen)}{words(seen)}"
        return held(False, required, actual, again(seen, "dl4cv"))
    worst = max(done["conv_error"], done["product_error"])
    actual = f"TensorFlow {done['version']}, off by {worst:.1e} on {short_device(done['device'])}"
    return held(worst <= CONV_LIMIT, required, actual, again(seen, "dl4cv"))


def by_ptx(seen: "Seen") -> str:
    """What may be the matter with a card that TensorFlow has no real code for, to follow what was found; else ""."""
    cards = sorted(cc for cc, how in present(obeyed(seen)["plan"]["tensorflow"])["code"].items() if how == "ptx-jit")
    if not cards or not obeyed(seen)["plan"]["gpus"]:
        return ""
    text = f"; for a card of {', '.join(cards)} the wheel holds only PTX, which the driver compiles at the first use"
    return f"{text}: a TensorFlow with code for it, or none (--without tensorflow), is the way out if that stays so"


def short_device(device: Any) -> str:
    """The last part of TensorFlow's name of a device, such as CPU:0."""
    return str(device).rpartition("device:")[2] or str(device)


def words(seen: "Seen") -> str:
    """The last of the telling lines that TensorFlow wrote, to follow what was found."""
    lines = environment(seen).get("said") or []
    return f"; it says: {lines[-1]}" if lines else ""


def says(seen: "Seen", pattern: str) -> bool:
    """Return whether TensorFlow says this, in its log or as its error."""
    probed = environment(seen)
    return any(
        re.search(pattern, text, re.IGNORECASE) for text in [*(probed.get("said") or []), probed.get("error") or ""]
    )


def libraries(seen: "Seen") -> Outcome:
    """Check that each library that TensorFlow loads by name can be loaded."""
    found = environment(seen).get("libraries") or {}
    wanted = list(seen["expected"]["sonames"])
    told = [f"{name}: {(found.get(name) or {'error': 'not tried'})['error']}" for name in wanted]
    bad = [line for name, line in zip(wanted, told) if (found.get(name) or {"error": ""})["error"] is not None]
    actual = few(bad, 2) or f"{len(wanted)} libraries load"
    return held(not bad, f"{', '.join(wanted)} load", actual, library_remedy(seen, CUDA))


def library_remedy(seen: "Seen", role: str) -> str:
    """Return the remedy for a wrong library of TensorFlow's: a role of the host's toolkit, or a new environment."""
    return again(seen, "dl4cv") if own_toolkit(seen) else on_host(LINKER, role)


def cudnn_library(seen: "Seen") -> "Optional[Library]":
    """What came of loading cuDNN by the name that TensorFlow has for it; empty where that was not tried."""
    found = environment(seen).get("libraries") or {}
    return next((told for name, told in found.items() if name.startswith("libcudnn.so.")), None)


def cudnn_at_run_time(seen: "Seen") -> Optional[str]:
    """The version of the cuDNN that the linker gives TensorFlow, by its own answer: '8.6.0'."""
    library = cudnn_library(seen)
    number = library and library.get("version")
    if not isinstance(number, int):
        return None
    major = 10000 if number >= 90000 else 1000
    return f"{number // major}.{number % major // 100}.{number % 100}"


def cudnn(seen: "Seen") -> Outcome:
    """Check that the loaded cuDNN is of the major version that TensorFlow was built with, and not older."""
    wanted, found = seen["expected"]["tensorflow"].get("cudnn", ""), cudnn_at_run_time(seen)
    required = f"cuDNN {wanted} or a later {wanted.partition('.')[0]}.x"
    if found is None:
        return held(False, required, "the library does not tell its version", library_remedy(seen, CUDNN))
    right = release(found)[:1] == release(wanted)[:1] and release(found)[:2] >= release(wanted)[:2]
    actual = f"the library is {found}, {present(cudnn_library(seen)).get('path') or 'of an unknown place'}"
    return held(right, required, actual, library_remedy(seen, CUDNN))


def on_gpu(seen: "Seen") -> Outcome:
    """Check that the convolution ran on a card, and that TensorFlow lists all locked cards."""
    done, count = environment(seen)["computed"], len(obeyed(seen)["cards"])
    on_card = "GPU" in short_device(done["device"])
    actual = f"{len(done['gpus'])} cards listed, computed on {short_device(done['device'])}"
    right = on_card and len(done["gpus"]) == count
    actual += "" if right else words(seen)
    return held(right, f"{count} cards listed, computed on a GPU", actual, RELOCK)


CHECKS = (
    Check(
        "tensorflow.packages",
        "TensorFlow's environment holds the locked packages",
        "A package that was changed by hand is no longer what was tested together.",
        partial(packages, "tensorflow"),
        (),
        ("tensorflow.installed",),
        "dl4cv",
    ),
    Check(
        "tensorflow.computes",
        "TensorFlow computes",
        "An import that works proves little: a convolution is compared.",
        computes,
        (),
        ("tensorflow.packages",),
        "dl4cv",
    ),
    Check(
        "tensorflow.libraries",
        "TensorFlow can load each CUDA library",
        "Where one cannot be loaded by its name, TensorFlow goes on without a card.",
        libraries,
        (),
        ("tensorflow.packages", "driver.match", "cuda.toolkit", "cudnn.version"),
        "dl4cv",
        True,
    ),
    Check(
        "tensorflow.cudnn",
        "TensorFlow gets a cuDNN that will do",
        "An older minor version than it was built with is refused at the first convolution.",
        cudnn,
        (),
        ("tensorflow.libraries",),
        "dl4cv",
        True,
    ),
    Check(
        "tensorflow.own",
        "TensorFlow loads the CUDA libraries meant for it",
        "A library of another toolkit can have the same name, and is another one.",
        partial(environments.libraries, "tensorflow"),
        (),
        ("tensorflow.computes", "tensorflow.cudnn"),
        "dl4cv",
        True,
    ),
    Check(
        "tensorflow.gpu",
        "TensorFlow computes on the GPU",
        "TensorFlow falls back to the CPU without an error.",
        on_gpu,
        (),
        ("tensorflow.own", "cuda.driver", "driver.cards"),
        "dl4cv",
        True,
    ),
)
