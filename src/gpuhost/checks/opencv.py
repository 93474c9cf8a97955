"""Checks of OpenCV: it is the environment's own, it computes, and it is built for the cards and sees one."""

import re
from functools import partial
from typing import TYPE_CHECKING, Dict, List

from ..gpucode import reach
from .base import Check, Outcome, held, on_host
from .environments import again, libraries, normal, packages
from .lock import obeyed

if TYPE_CHECKING:
    from ..shapes.answers import EnvironmentAnswer
    from ..shapes.seen import Seen

#: Largest difference allowed of pixel values from 0 to 255 in single precision (the error is about 1e-5).
PIXEL_LIMIT = 0.01
#: The distribution whose cv2 the locked environments hold.
CV2 = "opencv-contrib-python"
#: The distributions that put a module cv2 into an environment: two of them write over one another.
PROVIDERS = frozenset(
    f"opencv-{contrib}python{headless}" for contrib in ("", "contrib-") for headless in ("", "-headless")
)


def environment(seen: "Seen") -> "EnvironmentAnswer":
    """What was collected of OpenCV's environment."""
    return seen["environments"]["opencv_cuda"]


def ours(seen: "Seen") -> Outcome:
    """Check that `import cv2` takes the environment's own, and that it has only one."""
    probed, required = environment(seen), "one OpenCV, in its environment"
    if "module" not in probed:
        return held(False, required, probed["error"], again(seen, "opencv_cuda"))
    where = probed["module"] or "nowhere"
    if not where.startswith(probed["prefix"].rstrip("/") + "/"):
        return held(False, f"cv2 of {probed['prefix']}", f"cv2 comes from {where}", again(seen, "opencv_cuda"))
    there = providers(seen)
    actual = f"{' and '.join(there)} are installed over one another" if len(there) > 1 else where
    return held(len(there) < 2, required, actual, again(seen, "opencv_cuda"))


def providers(seen: "Seen") -> List[str]:
    """The installed distributions that bring a cv2."""
    return sorted({normal(name) for name in environment(seen)["packages"]} & PROVIDERS)


def computes(seen: "Seen") -> Outcome:
    """Check that OpenCV can be imported, and that a blur and a halving are right."""
    probed = environment(seen)
    required = f"a blur and a resize agree with NumPy within {PIXEL_LIMIT} of 255"
    done = probed.get("computed")
    if done is None:
        return held(False, required, probed["error"], again(seen, "opencv_cuda"))
    worst = max(done["blur_error"], done["halve_error"])
    return held(
        worst <= PIXEL_LIMIT,
        required,
        f"OpenCV {done['version']}, off by {worst:.1e}",
        again(seen, "opencv_cuda"),
    )


def said(seen: "Seen") -> Dict[str, str]:
    """OpenCV's own words about its build, by their name."""
    rows = [line.partition(":") for line in environment(seen)["computed"]["build"]]
    return {name.strip(): value.strip() for name, _, value in rows}


def built(seen: "Seen") -> Outcome:
    """Check that OpenCV is built with CUDA and cuDNN."""
    found = said(seen)
    told = [f"{name}: {found.get(name) or 'not mentioned'}" for name in ("NVIDIA CUDA", "cuDNN")]
    right = all(found.get(name, "").startswith("YES") for name in ("NVIDIA CUDA", "cuDNN"))
    return held(right, "OpenCV is built with CUDA and cuDNN", "; ".join(told), again(seen, "opencv_cuda"))


def code(seen: "Seen") -> List[str]:
    """The GPU code that OpenCV says it holds, such as sm_61 and compute_61."""
    found = said(seen)
    real = re.findall(r"\b([0-9]{2,3})[af]?\b", found.get("NVIDIA GPU arch", ""))
    virtual = re.findall(r"\b([0-9]{2,3})[af]?\b", found.get("NVIDIA PTX archs", ""))
    return [f"sm_{name}" for name in real] + [f"compute_{name}" for name in virtual]


def covers(seen: "Seen") -> Outcome:
    """Check that OpenCV holds code that runs on each locked card."""
    cards = {g["compute_capability"] for g in obeyed(seen)["plan"]["gpus"]}
    ways = {card: reach(code(seen), card) for card in sorted(cards)}
    actual = f"it holds {', '.join(code(seen)) or 'no code for a card'}"
    actual += "".join(f"; {card}: {way}" for card, way in ways.items())
    return held("none" not in ways.values(), f"code for {', '.join(ways)}", actual, again(seen, "opencv_cuda"))


def sees(seen: "Seen") -> Outcome:
    """Check that OpenCV sees a card, and that a picture copied to the first card comes back unchanged."""
    done = environment(seen)["computed"]
    count, error = done["cuda_devices"], done["cuda_error"]
    actual = f"{count} devices" + (f"; {error}" if error else "")
    return held(count >= 1 and not error, "OpenCV sees a card and can use its memory", actual, on_host("reboot"))


CHECKS = (
    Check(
        "opencv.ours",
        "cv2 is the environment's own",
        "pip's OpenCV takes the place of the one that was built, and knows no card.",
        ours,
        (),
        ("opencv.installed",),
        "opencv_cuda",
    ),
    Check(
        "opencv.packages",
        "OpenCV's environment holds the locked packages",
        "A package that was changed by hand is no longer what was tested together.",
        partial(packages, "opencv"),
        (),
        ("opencv.ours",),
        "opencv_cuda",
    ),
    Check(
        "opencv.computes",
        "OpenCV computes",
        "An import that works proves little: a picture is changed and compared.",
        computes,
        (),
        ("opencv.packages",),
        "opencv_cuda",
    ),
    Check(
        "opencv.built",
        "OpenCV is built with CUDA and cuDNN",
        "A build without them runs on the CPU, and most versions say so only in their log.",
        built,
        (),
        ("opencv.computes",),
        "opencv_cuda",
        True,
    ),
    Check(
        "opencv.covers",
        "OpenCV is built for these cards",
        "Code for another capability does not run on the card, or is compiled again at each first use.",
        covers,
        (),
        ("opencv.built",),
        "opencv_cuda",
        True,
    ),
    Check(
        "opencv.libraries",
        "OpenCV loads the host's CUDA libraries",
        "A library of another toolkit can have the same name, and is another one.",
        partial(libraries, "opencv"),
        (),
        ("opencv.built", "cuda.toolkit", "cudnn.version"),
        "opencv_cuda",
        True,
    ),
    Check(
        "opencv.cuda",
        "OpenCV sees a card",
        "What is built for the card can still find none at run time.",
        sees,
        (),
        ("opencv.covers", "driver.cards", "cudnn.version", "cuda.driver"),
        "opencv_cuda",
        True,
    ),
)
