"""What one virtual environment of the stack holds and can do, told by its own Python: one start for all
questions.

Runs in the environment on the target: Python 3.6 and the standard library, and what the environment itself
has. Answers twice: first with what is there, then with what was computed, so that a crash inside a library is
told apart and named.
"""

import ctypes
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

from ... import strict_json
from ...types import Json
from .. import commands
from ..answer import channel

_LINES = ("NVIDIA CUDA", "NVIDIA GPU arch", "NVIDIA PTX archs", "cuDNN")
_MODULES = {"opencv": "cv2", "tensorflow": "tensorflow"}
_LOAD_LIMIT_S = 120.0
_LIBRARIES = re.compile(r"/lib(cudart|cublas|cudnn|cufft|curand|cusolver|cusparse|nvrtc|nvJitLink|nccl)[-.\w]*\.so")
_MOST = 60
#: By these a folder comes before all that the linker knows; and where they are mostly set, for a login.
_VARIABLES = ("LD_LIBRARY_PATH", "LD_PRELOAD")
_SETTINGS = ("/etc/environment", "/etc/profile", "/etc/bash.bashrc", "/etc/profile.d/*.sh")
_OWN_SETTINGS = (".profile", ".bash_profile", ".bashrc", ".pam_environment")
_LONGEST = 1 << 16
# Loads each library as TensorFlow would in this environment, tells where the linker found it (dlinfo(3) knows the name
# that it was found under), and asks cuDNN for its version; a line each, so that what came before a crash counts.
_LOADER = """\
import ctypes, json, os, sys
try:
    import gpuhost_libraries
except ImportError:
    pass  # the environment has no libraries of its own
else:
    gpuhost_libraries.load()
for name in sys.argv[1:]:
    told = {"name": name, "error": None}
    try:
        library = ctypes.CDLL(name)
        entry = ctypes.c_void_p()
        ctypes.CDLL(None).dlinfo(ctypes.c_void_p(library._handle), 2, ctypes.byref(entry))
        told["path"] = ctypes.cast(entry.value + 8, ctypes.POINTER(ctypes.c_char_p))[0].decode()
        told["real"] = os.path.realpath(told["path"])
        if name.startswith("libcudnn.so"):
            library.cudnnGetVersion.restype = ctypes.c_size_t
            told["version"] = library.cudnnGetVersion()
    except (OSError, AttributeError) as error:
        told["error"] = str(error)
    print(json.dumps(told), flush=True)
"""


def main(arguments: Json) -> int:
    """Answer with what is there, then with the result of `arguments["kind"]`: "opencv" or "tensorflow".

    `arguments["sonames"]` are the libraries to be loaded by name, as TensorFlow does.
    """
    answer = channel()
    answer(
        {
            "packages": distributions(),
            "prefix": os.path.realpath(sys.prefix),
            "python": sys.version.split()[0],
            "module": origin(_MODULES[arguments["kind"]]),
            "libraries": loaded(arguments.get("sonames") or []),
            "search": search(os.environ, Path("/"), Path(os.environ.get("HOME") or "/root")),
        }
    )
    compute: Callable[[], Json] = {"opencv": opencv, "tensorflow": tensorflow}[arguments["kind"]]
    try:
        answer({"computed": compute()})
    except Exception as error:  # noqa: BLE001 - whatever the library raises is the answer
        answer({"failed": "{}: {}".format(type(error).__name__, " ".join(str(error).split())[:500])})
    return 0


def distributions() -> Dict[str, List[str]]:
    """Every installed distribution and its version; one that is there twice has two, also when they are the same."""
    # A folder may be on the path twice, by way of a link.
    folders = list(dict.fromkeys(os.path.realpath(folder) for folder in sys.path))
    try:
        from importlib import metadata  # novermin: older Pythons take the other way
    except ImportError:  # before Python 3.8
        import pkg_resources  # type: ignore[import-untyped,import-not-found,unused-ignore]

        # Its working set would keep the first of two.
        found_in = (found for folder in folders for found in pkg_resources.find_distributions(folder))
        pairs = [(d.project_name, d.version) for d in found_in]
    else:
        pairs = [(d.metadata["Name"], d.version) for d in metadata.distributions(path=folders)]
    found: Dict[str, List[str]] = {}
    for name, version in pairs:
        found.setdefault(str(name), []).append(str(version))
    return {name: sorted(versions) for name, versions in found.items()}


def origin(module: str) -> Optional[str]:
    """The file that an import of this module would take, without importing it."""
    spec = importlib.util.find_spec(module)
    return os.path.realpath(spec.origin) if spec is not None and spec.origin else None


def loaded(sonames: List[str]) -> Dict[str, Json]:
    """What comes of loading each library by its name: `error` (None: it loads), `path` where the linker found it, the
    `real` file behind that, and cuDNN's own `version`.

    In a process apart: a library that was loaded here by its name would count as found when TensorFlow asks for it.
    """
    found = {name: {"error": "the loader crashed before it"} for name in sonames}  # type: Dict[str, Json]
    if not sonames:
        return found
    argv = [sys.executable, "-I", "-c", _LOADER, *sonames]
    try:
        out = commands.bounded(argv, _LOAD_LIMIT_S, stderr=subprocess.DEVNULL)[1]
    except (subprocess.TimeoutExpired, commands.TooMuch) as error:
        return {name: {"error": f"the loader was ended: {type(error).__name__}"} for name in sonames}
    for line in out.splitlines():
        if line.startswith("{"):
            try:
                told = strict_json.loads(line)
            except strict_json.StrictJsonError:
                continue  # a library's own word; what it made of ours stays as it was
            found[told.pop("name")] = told
    return found


def opencv() -> Json:
    """A blur and a halving of a made picture by OpenCV, each checked against NumPy: the largest differences (of
    values 0 to 255).
    """
    import cv2

    picture = made_picture()
    return {
        "version": cv2.__version__,
        "file": os.path.realpath(cv2.__file__),
        "blur_error": farthest(cv2.GaussianBlur(picture, (5, 5), 1.2), blurred(picture, 5, 1.2)),
        "halve_error": farthest(
            cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LINEAR), halved(picture)
        ),
        "build": build_lines(cv2.getBuildInformation()),
        "cuda_devices": cv2.cuda.getCudaEnabledDeviceCount() if hasattr(cv2, "cuda") else 0,
        "cuda_error": cuda_error(cv2, picture),
        **loaded_files(),
    }


def build_lines(text: str) -> List[str]:
    """The lines of OpenCV's build information that speak of the card."""
    return [line.strip() for line in text.splitlines() if line.strip().startswith(_LINES)]


def cuda_error(cv2: Any, picture: Any) -> Optional[str]:
    """What OpenCV says when a picture is sent to the first card and fetched back; None when it comes back as it was, or
    where there is no card to ask.
    """
    try:
        if not hasattr(cv2, "cuda_GpuMat") or cv2.cuda.getCudaEnabledDeviceCount() < 1:
            return None
        sent = cv2.cuda_GpuMat()
        sent.upload(picture)
        same = bool((sent.download() == picture).all())
    except Exception as error:  # noqa: BLE001 - whatever OpenCV raises is the answer
        return "{}: {}".format(type(error).__name__, " ".join(str(error).split())[:500])
    return None if same else "a picture sent to the card came back changed"


def mapped() -> List[str]:
    """Return the files of CUDA's libraries that this process has loaded, but for the driver's own."""
    with Path("/proc/self/maps").open(errors="replace") as maps:
        names = {line.rstrip("\n").partition("/")[2] for line in maps if _LIBRARIES.search(line)}
    return sorted("/" + name for name in names)[:_MOST]


class _Loaded(ctypes.Structure):
    """An entry of the linker's list of what a process has loaded: the beginning of link_map (link.h)."""


_Loaded._fields_ = [
    ("address", ctypes.c_void_p),
    ("name", ctypes.c_char_p),
    ("dynamic", ctypes.c_void_p),
    ("next", ctypes.POINTER(_Loaded)),
]


def found_as() -> Dict[str, str]:
    """Return by file the name under which the linker found each of CUDA's libraries that this process has loaded."""
    program, entry = ctypes.CDLL(None), ctypes.POINTER(_Loaded)()
    program.dlinfo(ctypes.c_void_p(program._handle), 2, ctypes.byref(entry))
    found = {}
    while entry:
        name = os.fsdecode(entry.contents.name or b"")
        if _LIBRARIES.search(name):
            found[os.path.realpath(name)] = name
        entry = entry.contents.next
    return found


def loaded_files() -> Json:
    """Return the files of CUDA's libraries that are `mapped`, and as what they were `found_as`."""
    files, names = mapped(), found_as()
    return {"mapped": files, "found_as": {file: names[file] for file in files if file in names}}


def search(variables: Mapping[str, str], root: Path, home: Path) -> List[Json]:
    """Return the variables that put libraries before all that the linker knows, each with its value and the files that
    set it for a login.
    """
    there = [root / pattern[1:] for pattern in _SETTINGS] + [home / name for name in _OWN_SETTINGS]
    files = [file for one in there for file in sorted(one.parent.glob(one.name))]
    return [
        {"variable": name, "value": variables[name], "files": [str(file) for file in files if sets(name, file)]}
        for name in _VARIABLES
        if variables.get(name)
    ]


def sets(variable: str, file: Path) -> bool:
    """Return whether a line of a file sets a variable; what cannot be read only keeps a remedy from being short."""
    try:
        if not file.is_file():
            return False
        with file.open(errors="replace") as opened:
            text = opened.read(_LONGEST)
    except OSError:
        return False
    return re.search(rf"^\s*(export\s+)?{variable}=", text, re.MULTILINE) is not None


def made_picture() -> Any:
    """A picture of 96 x 128 values from 0 to 255, the same everywhere: float32 (96, 128)."""
    import numpy as np

    rows, columns = np.mgrid[0:96, 0:128]
    return ((rows * 37 + columns * 101 + rows * columns) % 256).astype(np.float32)


def blurred(picture: Any, size: int, sigma: float) -> Any:
    """The Gaussian blur of a picture (h, w) with `size` x `size` taps, mirrored at the edge pixel: float64
    (h, w).
    """
    import numpy as np

    half = size // 2
    taps = np.exp(-(np.arange(-half, half + 1) ** 2) / (2.0 * sigma * sigma))
    taps /= taps.sum()
    padded = np.pad(picture.astype(np.float64), half, mode="reflect")
    down = sum(taps[i] * padded[i : i + picture.shape[0], :] for i in range(size))
    return sum(taps[i] * down[:, i : i + picture.shape[1]] for i in range(size))


def halved(picture: Any) -> Any:
    """Every 2 x 2 values' mean, which is what linear interpolation gives at exactly half the size: (h / 2, w
    / 2).
    """
    return (picture[0::2, 0::2] + picture[1::2, 0::2] + picture[0::2, 1::2] + picture[1::2, 1::2]) / 4.0


def farthest(ours: Any, expected: Any) -> float:
    """The largest difference of two arrays. JSON has no NaN, so what is not a number counts as 1e300."""
    import numpy as np

    value = float(np.max(np.abs(ours - expected)))
    return value if np.isfinite(value) else 1e300


def tensorflow() -> Json:
    """A convolution (cuDNN's work on a card) and a product of matrices (cuBLAS') by TensorFlow, each checked against
    NumPy: the largest differences, the cards it sees, and where the work ran.
    """
    # That a card is ignored is logged at the level INFO.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
    import numpy as np
    import tensorflow as tf  # type: ignore[import-untyped,import-not-found,unused-ignore]

    config = getattr(tf.config, "list_physical_devices", None) or tf.config.experimental.list_physical_devices
    cards = config("GPU")
    for card in cards:
        # Else TensorFlow would take all of a card's memory, also away from what is running on it.
        tf.config.experimental.set_memory_growth(card, True)
    full_precision = getattr(tf.config.experimental, "enable_tensor_float_32_execution", None)
    if full_precision is not None:
        full_precision(False)
    image = (made_picture().reshape(1, 64, 64, 3) / 255.0).astype(np.float32)
    kernel = (np.arange(3 * 3 * 3 * 8).reshape(3, 3, 3, 8) * 7 % 23 / 23.0 - 0.5).astype(np.float32)
    matrix = image[0, :, :, 0]
    result = tf.nn.conv2d(tf.constant(image), tf.constant(kernel), strides=1, padding="VALID")
    return {
        "version": tf.__version__,
        "conv_error": farthest(result.numpy(), convolved(image, kernel)),
        "product_error": farthest(tf.linalg.matmul(matrix, matrix).numpy(), matrix.astype(np.float64) @ matrix),
        "gpus": [str(card.name) for card in cards],
        "device": str(result.device),
        "built_with_cuda": bool(tf.test.is_built_with_cuda()),
        **loaded_files(),
    }


def convolved(image: Any, kernel: Any) -> Any:
    """The cross-correlation of images (n, h, w, c) with a kernel (k, k, c, m), no padding: float64 (n, h-k+1,
    w-k+1, m).
    """
    import numpy as np

    size = kernel.shape[0]
    rows, columns = image.shape[1] - size + 1, image.shape[2] - size + 1
    total: Optional[Any] = None
    for down in range(size):
        for right in range(size):
            part = np.tensordot(
                image[:, down : down + rows, right : right + columns, :].astype(np.float64),
                kernel[down, right],
                axes=1,
            )
            total = part if total is None else total + part
    return total
