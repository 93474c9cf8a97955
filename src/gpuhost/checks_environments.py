"""Checks of the two virtual environments: their packages against the lock, and that they compute rightly."""

from __future__ import annotations

import fnmatch
import re
import shlex
from functools import partial
from typing import Any, Dict, List, Mapping

from . import opencv_plan
from .catalog import Json
from .checks_base import INSTALL, Check, Outcome, held
from .checks_lock import installed, obeyed
from .environments import environment_names, load_environment, lock_digest, with_engines
from .errors import CatalogError
from .store import MARKER

#: The environment that each component lives in.
ENVIRONMENTS = {"opencv": "opencv_cuda", "tensorflow": "dl4cv"}
#: What venv itself puts into a fresh environment, and Debian's venv on top: there without being locked.
SEEDED = frozenset({"pip", "setuptools", "wheel", "pkg-resources"})
#: Largest difference allowed of pixel values from 0 to 255 in single precision (the error is about 1e-5).
PIXEL_LIMIT = 0.01
#: The same for the convolution, of sums of 27 products of values below 1 (the error is about 1e-6).
CONV_LIMIT = 1e-4


def built(plan: Json) -> Json:
    """What opencv_cuda must hold where OpenCV is built: the environment's own packages, and a wheel of the locked
    sources for the locked CUDA. Its version ends with the cards and a key, which the lock does not know.
    """
    name = opencv_plan.run_environment(plan)
    packages = {p["name"]: p["version"] for p in load_environment(name)["packages"]}
    series = plan["cuda"]["series"].replace(".", "")
    # The tarballs of an older release are no package and have the release's own version.
    version = plan["opencv"]["artifacts"][0].get("package_version", plan["opencv"]["version"])
    packages[opencv_plan.CV2] = f"{version}+cuda{series}.*"
    return {"name": f"{name} with the OpenCV that is built here", "digest": None, "packages": packages}


def locked(lock: Json, links: Mapping[str, Any]) -> Dict[str, Json]:
    """What each environment must hold by a lock: name, digest (None where OpenCV is built on the host) and packages;
    an `error` when the catalog has no such environment.

    The detector's engines are the host's own choice: where the generation's link (of `links`) leads to the
    environment that the lock names with them added, that one is what it is held against."""
    found: Dict[str, Json] = {}
    for component, environment in ENVIRONMENTS.items():
        name = lock["plan"][component].get("environment")
        try:
            if name is None:
                found[environment] = built(lock["plan"])
                continue
            row = load_environment(name)
            more = with_engines(name)
            if more in environment_names():
                other = load_environment(more)
                if lock_digest(other) == (links.get(f"venvs/{environment}") or {}).get("digest"):
                    name, row = more, other
        except CatalogError as error:
            found[environment] = {"name": name, "error": str(error)}
        else:
            packages = {p["name"]: p["version"] for p in row["packages"]}
            found[environment] = {"name": name, "digest": lock_digest(row), "packages": packages}
    return found


def again(seen: Json, environment: str) -> str:
    """What makes an environment anew: without its marker a folder of the store counts as unfinished."""
    target = installed(seen)["links"][f"venvs/{environment}"]["target"]
    marker = shlex.quote(f"{installed(seen)['root']}/{target}/{MARKER}")
    return f"On the host: rm {marker} ; then here: {INSTALL}"


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def deviations(wanted: Dict[str, str], found: Dict[str, List[str]]) -> List[str]:
    """Where the installed packages are not exactly the locked ones, each named with both versions.

    A locked version that ends with `.*` is a wheel built on the host.
    """
    there = {normal(name): versions for name, versions in found.items()}
    told = []
    for name, version in sorted(wanted.items()):
        versions = there.pop(normal(name), [])
        if not versions:
            told.append(f"{name} {version} is missing")
        elif len(versions) > 1 or not fnmatch.fnmatchcase(versions[0], version):
            told.append(f"{name} is {' and '.join(versions)}, locked is {version}")
    told += [
        f"{name} {' and '.join(versions)} is not locked"
        for name, versions in sorted(there.items())
        if name not in SEEDED
    ]
    return told


def packages(component: str, seen: Json) -> Outcome:
    """Is every package of the environment the locked one?"""
    environment = ENVIRONMENTS[component]
    probed, wanted = seen["environments"][environment], seen["locked"][environment]
    if "error" in wanted:
        return held(False, "the locked packages", wanted["error"], "Use the gpuhost that made the lock, or plan anew.")
    required = f"the {len(wanted['packages'])} packages of {wanted['name']}"
    if probed.get("packages") is None:
        return held(False, required, probed["error"], again(seen, environment))
    told = deviations(wanted["packages"], probed["packages"])
    more = f"; {len(told) - 4} more" if len(told) > 4 else ""
    return held(not told, required, "; ".join(told[:4]) + more if told else "exactly these", again(seen, environment))


def opencv_computes(seen: Json) -> Outcome:
    """Does OpenCV import from its environment, and are a blur and a halving right?"""
    probed = seen["environments"]["opencv_cuda"]
    required = f"a blur and a resize agree with NumPy within {PIXEL_LIMIT} of 255"
    done = probed.get("computed")
    if done is None:
        return held(False, required, probed["error"], again(seen, "opencv_cuda"))
    if not done["file"].startswith(probed["prefix"].rstrip("/") + "/"):
        return held(False, f"cv2 of {probed['prefix']}", f"cv2 comes from {done['file']}", again(seen, "opencv_cuda"))
    worst = max(done["blur_error"], done["halve_error"])
    return held(
        worst <= PIXEL_LIMIT,
        required,
        f"OpenCV {done['version']}, off by {worst:.1e}",
        again(seen, "opencv_cuda"),
    )


def tensorflow_computes(seen: Json) -> Outcome:
    """Does TensorFlow import, and is a convolution right?"""
    probed = seen["environments"]["dl4cv"]
    required = f"a convolution agrees with NumPy within {CONV_LIMIT:g}"
    done = probed.get("computed")
    if done is None:
        return held(False, required, probed["error"], again(seen, "dl4cv"))
    actual = f"TensorFlow {done['version']}, off by {done['conv_error']:.1e} on {short_device(done['device'])}"
    return held(done["conv_error"] <= CONV_LIMIT, required, actual, again(seen, "dl4cv"))


def short_device(device: Any) -> str:
    """The last part of TensorFlow's name of a device, such as CPU:0."""
    return str(device).rpartition("device:")[2] or str(device)


def opencv_cuda(seen: Json) -> Outcome:
    """Is OpenCV built with CUDA and cuDNN, and does it see a card?"""
    done = seen["environments"]["opencv_cuda"]["computed"]
    built = " ; ".join(done["build"]) or "built without CUDA"
    both = all(
        any(line.startswith(word) and "YES" in line for line in done["build"]) for word in ("NVIDIA CUDA", "cuDNN")
    )
    required = "OpenCV is built with CUDA and cuDNN and sees a card"
    count = done["cuda_devices"]
    return held(
        both and count >= 1,
        required,
        f"{built} ; {count} devices",
        INSTALL,
    )


def tensorflow_gpu(seen: Json) -> Outcome:
    """Did the convolution run on a card, and are all locked cards there for TensorFlow?"""
    done, count = seen["environments"]["dl4cv"]["computed"], len(obeyed(seen)["cards"])
    on_card = "GPU" in short_device(done["device"])
    actual = f"{len(done['gpus'])} cards listed, computed on {short_device(done['device'])}"
    required = f"{count} cards listed, computed on a GPU"
    return held(
        on_card and len(done["gpus"]) == count,
        required,
        actual,
        "./run pytest verify/ -k 'driver or cuda or cudnn' names the part that is missing",
    )


CHECKS = (
    Check(
        "opencv.packages",
        "OpenCV's environment holds the locked packages",
        "A package that was changed by hand is no longer what was tested together.",
        partial(packages, "opencv"),
        ("opencv.installed",),
        "opencv_cuda",
    ),
    Check(
        "opencv.computes",
        "OpenCV computes",
        "An import that works proves little: a picture is changed and compared.",
        opencv_computes,
        ("opencv.installed",),
        "opencv_cuda",
    ),
    Check(
        "opencv.cuda",
        "OpenCV sees a card",
        "A build without CUDA runs on the CPU and says nothing.",
        opencv_cuda,
        ("opencv.computes", "driver.cards"),
        "opencv_cuda",
        True,
    ),
    Check(
        "tensorflow.packages",
        "TensorFlow's environment holds the locked packages",
        "A package that was changed by hand is no longer what was tested together.",
        partial(packages, "tensorflow"),
        ("tensorflow.installed",),
        "dl4cv",
    ),
    Check(
        "tensorflow.computes",
        "TensorFlow computes",
        "An import that works proves little: a convolution is compared.",
        tensorflow_computes,
        ("tensorflow.installed",),
        "dl4cv",
    ),
    Check(
        "tensorflow.gpu",
        "TensorFlow computes on the GPU",
        "TensorFlow falls back to the CPU without an error.",
        tensorflow_gpu,
        ("tensorflow.computes", "driver.cards"),
        "dl4cv",
        True,
    ),
)
