"""Diagnoses of the toolkit, OpenCV, TensorFlow and the benchmark at run time."""

import posixpath
import re
import shlex
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Mapping, Tuple

from ..checks.base import on_host
from ..checks.card import signs
from ..checks.cuda import NOT_READY, TOO_OLD, init_code
from ..checks.environments import ENVIRONMENTS, again, normal, strangers
from ..checks.lock import installed
from ..checks.opencv import CV2, providers
from ..checks.opencv import environment as opencv
from ..checks.python import NAMES, framework, is_for_processor, uncovered, words
from ..checks.tensorflow import CUDNN, LINKER, cudnn_library, says
from . import by_hand
from .base import Diagnosis, Sign

if TYPE_CHECKING:
    from ..shapes.answers import SearchPlace
    from ..shapes.lock import Framework
    from ..shapes.seen import Seen

#: Below this many free MiB on a card TensorFlow's first convolution can fail for lack of memory.
LITTLE_MIB = 1024
#: Folders that the linker searches on every host.
SYSTEM_FOLDERS = re.compile(r"(/usr(/local)?)?/lib(32|64)?(/[\w-]+-linux-gnu[\w]*)?/*")
DRIVER_TOO_OLD = r"driver version is insufficient|\(35\)|driver on your system is too old"
NO_CODE = "no kernel image|not built to work with the selected device"
NO_MEMORY = "convolution algorithm|CUDNN_STATUS_(ALLOC_FAILED|INTERNAL_ERROR|NOT_INITIALIZED)|out of memory|OOM when"
NO_FABRIC = "SYSTEM_NOT_READY|system not yet initialized"
OTHER_CUDNN = "Loaded runtime CuDNN library"
NOT_LOADED = "Could not load dynamic library|Cannot dlopen"
IGNORED = "Ignoring visible gpu device"
ON_CPU = "took the CPU|switching to CPU|not built with CUDA"


def renew(seen: "Seen") -> str:
    """What puts the locked OpenCV in place of the one that is there."""
    return again(seen, "opencv_cuda")


def from_the_index(seen: "Seen") -> bool:
    """Return whether the package index's OpenCV is there instead of one built here, whose version has a +."""
    there = {normal(name): versions for name, versions in opencv(seen)["packages"].items()}
    wanted: Mapping[str, Any] = seen["expected"]["environments"]["opencv_cuda"]
    built = "+" in str((wanted.get("packages") or {}).get(CV2, ""))
    return built and all("+" not in version for version in there.get(CV2, ["+"]))


def little_memory(seen: "Seen") -> bool:
    """Return whether a card's memory is nearly full, or unknown: then the library's own words decide."""
    free = signs(seen)["free_mib"]
    return not free or min(free.values()) < LITTLE_MIB


def out_of_the_way(path: str, environment: str, otherwise: str, seen: "Seen") -> str:
    """The command that keeps the linker from the library that an environment found at `path`; `otherwise` where it
    is one of ours in its place.

    A variable that names its folder, or the file, comes before all else. A folder of the system's own stays where it
    is: there the file is what is in the way, and the command shows whose it is.
    """
    folder = posixpath.dirname(path)
    for row in seen["environments"][environment].get("search") or ():
        if {posixpath.normpath(word) for word in re.split("[: ]+", row["value"]) if word} & {folder, path}:
            return unset(row)
    if not path.startswith("/") or path.startswith(f"{installed(seen)['root']}/current/"):
        return otherwise
    if SYSTEM_FOLDERS.fullmatch(folder):
        return on_host(f"dpkg -S {shlex.quote(path)}  # remove the package that it names, or move the file away")
    return by_hand.out_of_the_linker(folder)


def unset(row: "SearchPlace") -> str:
    """The command that takes a variable out of the files that set it for a login, as no environment here needs it.

    The line stays as a comment after a command that does nothing, so that a script around it stays complete.
    """
    variable = str(row["variable"])
    files = " ".join(shlex.quote(str(file)) for file in row["files"])
    if not files:
        return on_host(f"unset {variable}")
    return on_host(f"sed -E -i --follow-symlinks 's/^\\s*(export\\s+)?{variable}=/: # &/' {files}  # and log in again")


def without_other_cudnn(seen: "Seen") -> str:
    """The command that takes another cuDNN out of the linker's way; where it is ours, what installs it."""
    library = cudnn_library(seen)
    path = (library and library.get("path")) or ""
    return out_of_the_way(path, "dl4cv", on_host(LINKER, CUDNN), seen)


def without_strangers(component: "Framework", seen: "Seen") -> str:
    """The command that takes the first library that is not meant for an environment out of its way, or else makes the
    environment again.
    """
    environment, names = ENVIRONMENTS[component], list(strangers(component, seen).values())
    otherwise = again(seen, environment)
    return out_of_the_way(names[0], environment, otherwise, seen) if names else otherwise


def tells(pattern: str, seen: "Seen") -> bool:
    """Return whether OpenCV's error on the card says this."""
    done = opencv(seen).get("computed") or {}
    return re.search(pattern, done.get("cuda_error") or "") is not None


def benchmark_tells(pattern: str, model: str, seen: "Seen") -> bool:
    """Return whether the error of a model's benchmark says this."""
    found: Mapping[str, Any] = seen["benchmark"].get(model) or {}
    return re.search(pattern, str(found.get("error", ""))) is not None


def shadowed(seen: "Seen") -> bool:
    """Return whether the imported cv2 is not the environment's own, or is one of several."""
    where = opencv(seen).get("module")
    if where is None:
        return False
    return len(providers(seen)) > 1 or not where.startswith(opencv(seen)["prefix"].rstrip("/") + "/")


def at_benchmark(pattern: str) -> Tuple[Sign, ...]:
    """The signs of a diagnosis at the benchmarks, by the words of their error."""
    return tuple(
        Sign(f"benchmark.{model}", lambda seen, model=model: benchmark_tells(pattern, model, seen), renew)  # type: ignore[misc]
        for model in ("yolov4-tiny", "yolov3")
    )


def of_python(seen_in: "Callable[[Seen, str], bool]", *names: str) -> Tuple[Sign, ...]:
    """The signs of a diagnosis in a Python environment that the user named, by framework; all of them by default."""
    return tuple(Sign(f"python.{name}", partial(_in_framework, seen_in, name)) for name in names or tuple(NAMES))


def _in_framework(seen_in: "Callable[[Seen, str], bool]", name: str, seen: "Seen") -> bool:
    """Return whether a framework shows it."""
    return bool(framework(seen, name)) and seen_in(seen, name)


def says_in_python(pattern: str) -> "Callable[[Seen, str], bool]":
    """Return whether a framework's words in such an environment say this."""
    return lambda seen, name: re.search(pattern, words(seen, name)) is not None


def has_no_code(seen: "Seen", name: str) -> bool:
    """Return whether a framework has no code for a card, by what it holds or by its own words."""
    return bool(uncovered(seen, name)) or says_in_python(NO_CODE)(seen, name)


TABLE = (
    Diagnosis(
        "D15",
        "The driver is older than the toolkit needs",
        "CUDA's runtime refuses a driver that is older than its own release (error 35).",
        "Make a new plan, which pairs the toolkit with a driver that is new enough.",
        signs=(
            Sign("cuda.driver"),
            Sign("opencv.cuda", lambda seen: tells(DRIVER_TOO_OLD, seen)),
            Sign("cuda.answers", lambda seen: init_code(seen) in TOO_OLD),
            *of_python(says_in_python(DRIVER_TOO_OLD)),
            Sign("tensorflow.gpu", lambda seen: says(seen, DRIVER_TOO_OLD)),
        ),
        elsewhere=("the plan",),
        by_hand=by_hand.install,
        messages=(
            "CUDA driver version is insufficient",
            "The NVIDIA driver on your system is too old",
            "CUDA_ERROR_INSUFFICIENT_DRIVER",
        ),
    ),
    Diagnosis(
        "D17",
        "The library holds no code for this card",
        "It was built for other compute capabilities (CUDA_ARCH_BIN from a tutorial, or for the previous card).",
        "Build it for the capabilities of the cards in the lock.",
        signs=(
            Sign("opencv.covers"),
            Sign("opencv.cuda", lambda seen: tells(NO_CODE, seen), renew),
            Sign("tensorflow.computes", lambda seen: says(seen, NO_CODE)),
            *at_benchmark(NO_CODE),
            *of_python(has_no_code),
        ),
        elsewhere=("build/opencv_cmake.py",),
        messages=(
            "no kernel image is available for execution",
            "not built to work with the selected device",
            "is not compatible with the current PyTorch installation",
            "CUDA_ERROR_NO_BINARY_FOR_GPU",
            "cudaErrorNoKernelImageForDevice",
        ),
    ),
    Diagnosis(
        "D18",
        "OpenCV's networks run on the CPU",
        "OpenCV was built without CUDA or without cuDNN, or pip's build took the place of the one that had them.",
        "Build it with both, and leave no other OpenCV in the environment.",
        signs=(
            Sign("opencv.packages", from_the_index),
            Sign("opencv.built"),
            *at_benchmark(ON_CPU),
            *of_python(is_for_processor, "opencv"),
        ),
        elsewhere=(
            "build/opencv_cmake.py",
            "gpuhost bench",
        ),
        messages=(
            "DNN module was not built with CUDA backend",
            "not compiled with CUDA support",
            "The library is compiled without CUDA support",
        ),
    ),
    Diagnosis(
        "D45",
        "The fabric manager does not run",
        "Cards that are joined by NVSwitches compute only after its service has set up the switches (error 802).",
        "Install nvidia-fabricmanager in exactly the driver's version, and start it.",
        signs=(
            Sign("cuda.answers", lambda seen: init_code(seen) == NOT_READY, by_hand.fabric_manager),
            Sign("opencv.cuda", lambda seen: tells(NO_FABRIC, seen), by_hand.fabric_manager),
            Sign("tensorflow.gpu", lambda seen: says(seen, NO_FABRIC), by_hand.fabric_manager),
        ),
        by_hand=by_hand.fabric_manager,
        messages=("CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized", "cudaErrorSystemNotReady"),
    ),
    Diagnosis(
        "D29",
        "OpenCV sees no card",
        "The imported cv2 is not the one that was built (0 cards), or the driver is missing or too old (-1).",
        "Remove the other cv2 from the environment; otherwise fix the driver first.",
        signs=(
            Sign("opencv.ours", shadowed),
            Sign("opencv.cuda", lambda seen: opencv(seen)["computed"]["cuda_devices"] < 1),
        ),
        elsewhere=("build/opencv_cmake.py",),
        messages=("getCudaEnabledDeviceCount",),
    ),
    Diagnosis(
        "D30",
        "TensorFlow cannot load a CUDA library by its name",
        "The toolkit's series is not the one that this TensorFlow needs, or the linker does not know its folder.",
        "Install the series that the lock pairs with this TensorFlow, for the linker too: playbooks/cuda.yml does.",
        signs=(
            Sign("tensorflow.libraries"),
            Sign("tensorflow.gpu", lambda seen: says(seen, NOT_LOADED)),
            *of_python(says_in_python(NOT_LOADED), "tensorflow"),
        ),
        by_hand=by_hand.framework,
        messages=(
            "Cannot dlopen some GPU libraries",
            "Could not load dynamic library",
            "cannot open shared object file",
            "Skipping registering GPU devices",
        ),
    ),
    Diagnosis(
        "D31",
        "cuDNN is older than TensorFlow was built with",
        "TensorFlow takes the same major version and the same minor or a later one; another copy came first.",
        "Install the locked cuDNN, and remove other copies from the linker's search path.",
        signs=(
            Sign("tensorflow.cudnn", remedy=without_other_cudnn),
            Sign("tensorflow.computes", lambda seen: says(seen, OTHER_CUDNN)),
        ),
        messages=("Loaded runtime CuDNN library",),
    ),
    Diagnosis(
        "D51",
        "An environment loads the CUDA libraries of another one",
        "A folder in LD_LIBRARY_PATH, or first in the linker's list, has libraries of these names; or a file is gone.",
        "Remove that folder from the search path: each environment here finds its own libraries without the variable.",
        signs=(
            Sign("opencv.libraries", remedy=partial(without_strangers, "opencv")),
            Sign("tensorflow.own", remedy=partial(without_strangers, "tensorflow")),
        ),
        messages=(
            "CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH",
            "cuDNN version incompatibility",
            "not defined in file libcublasLt",
            "undefined symbol: cublasLt",
        ),
    ),
    Diagnosis(
        "D33",
        "TensorFlow ignores the card",
        "The wheel holds no code for the card's compute capability, so TensorFlow skips the card.",
        "Make a new plan, which chooses a TensorFlow whose wheels hold code for the card.",
        signs=(
            Sign("tensorflow.gpu", lambda seen: says(seen, IGNORED)),
            *of_python(says_in_python(IGNORED), "tensorflow"),
        ),
        elsewhere=("the plan",),
        messages=(
            "Ignoring visible gpu device",
            "minimum required Cuda capability",
        ),
    ),
    Diagnosis(
        "D32",
        "The card's memory is full",
        "Another program has allocated it, usually a TensorFlow that takes all of it when it starts.",
        "End the other program, or let it take memory as it needs it (memory growth).",
        signs=tuple(
            Sign(
                check,
                lambda seen: says(seen, NO_MEMORY) and little_memory(seen),
                lambda seen: on_host("nvidia-smi", "./run pytest verify/  # the first shows whose memory it is"),
            )
            for check in ("tensorflow.computes", "tensorflow.gpu")
        ),
        messages=(
            "Failed to get convolution algorithm",
            "CUDNN_STATUS_ALLOC_FAILED",
            "CUDA_ERROR_OUT_OF_MEMORY",
            "CUDA out of memory",
            "CUBLAS_STATUS_ALLOC_FAILED",
        ),
    ),
    Diagnosis(
        "D27",
        "Half precision is slow or fails",
        "Cards below 5.3 cannot compute it and most before 7.0 are slow at it; cuDNN has no algorithm for some shapes.",
        "Use single precision, which is the default of the benchmark and the detector.",
        elsewhere=("gpuhost bench",),
        messages=("cuDNN did not return a suitable algorithm for convolution",),
    ),
    Diagnosis(
        "D28",
        "The first run takes a minute",
        "The driver compiles PTX for the card, or CUDA and cuDNN are loaded and initialised at their first use.",
        "Use a library with machine code for the card, and do not time the first runs; the benchmark warms up first.",
        elsewhere=("gpuhost bench",),
    ),
    Diagnosis(
        "D34",
        "pip finds no TensorFlow",
        "The pip of Ubuntu 18.04 does not know today's wheel tags, or the Python has no wheel.",
        "Upgrade pip first, and use a Python that the release has wheels for.",
        never="each environment gets the locked pip first, and then every wheel by its file name and checksum",
        elsewhere=("site.yml",),
        messages=("No matching distribution found for tensorflow",),
    ),
    Diagnosis(
        "D42",
        "The framework is a CPU-only build",
        "The package index has builds with and without CUDA, and the installer chose one without.",
        "Install the build with CUDA, of a series that the driver supports.",
        signs=of_python(is_for_processor, "tensorflow", "torch"),
        by_hand=by_hand.framework,
        messages=("Torch not compiled with CUDA enabled", "torch.cuda.is_available() * False"),
    ),
)
