"""What a Python environment's TensorFlow, PyTorch or OpenCV can do with a card, told by the environment's own Python.

Runs in the environment on the target: Python 3.6 and the standard library, and what the environment itself has. One
start for the look, and one for each framework, so that a crash inside one is told apart.
"""

import os
import re
import site
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

from ...types import Json
from ..answer import channel
from .environment import distributions, origin

MODULES = {"opencv": "cv2", "tensorflow": "tensorflow", "torch": "torch"}
#: Distributions that bring one of them, or libraries that they load.
_TELLING = re.compile(r"(?i)opencv|tensorflow|^torch|^nvidia|^triton$|^numpy$|cuda|cudnn")
_LIBRARIES = re.compile(r"/lib(cuda|cudart|cublas|cublasLt|cudnn|cufft|curand|cusolver|cusparse|nvrtc|nccl)[-.\w]*\.so")
_MOST = 60


def main(arguments: Json) -> int:
    """Answer with what is there; with `arguments["framework"]`, with what that one says and does."""
    answer = channel()
    see_as_a_program_would()
    name = arguments["framework"]
    if name is None:
        packages = {key: value for key, value in distributions().items() if _TELLING.search(key)}
        answer(
            {
                "python": sys.version.split()[0],
                "prefix": os.path.realpath(sys.prefix),
                "packages": dict(sorted(packages.items())[:_MOST]),
                "modules": {framework: origin(module) for framework, module in MODULES.items()},
            }
        )
        return 0
    told: Json = {"version": None, "cuda": None, "code": [], "cards": None, "error": None}
    asked: Dict[str, Callable[[Json], None]] = {"opencv": opencv, "tensorflow": tensorflow, "torch": torch}
    try:
        asked[name](told)
    except Exception as error:  # noqa: BLE001 - whatever the library raises is the answer
        told["error"] = "{}: {}".format(type(error).__name__, " ".join(str(error).split())[:500])
    answer({**told, "libraries": loaded_libraries()})
    return 0


def see_as_a_program_would() -> None:
    """Let imports find what a program of the user's would: PYTHONPATH, and the packages of the user alone.

    This process was started isolated, so that nothing is imported from the working folder.
    """
    folders = [name for name in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(name).is_absolute()]
    sys.path[:0] = folders
    if sys.prefix == sys.base_prefix and Path(site.getusersitepackages()).is_dir():
        site.addsitedir(site.getusersitepackages())


def loaded_libraries() -> List[str]:
    """Return the files of CUDA's libraries that this process has loaded."""
    with Path("/proc/self/maps").open(errors="replace") as maps:
        names = {line.split()[-1] for line in maps if _LIBRARIES.search(line)}
    return sorted(names)[:_MOST]


def opencv(told: Json) -> None:
    """Ask OpenCV."""
    import cv2 as library

    cv2: Any = library
    text = cv2.getBuildInformation()
    built = re.search(r"NVIDIA CUDA:\s*YES \(ver ([0-9.]+)", text)
    told.update(version=cv2.__version__, cuda=built.group(1) if built else None)
    for begin, prefix in (("NVIDIA GPU arch:", "sm_"), ("NVIDIA PTX archs:", "compute_")):
        line = re.search(begin + r"([ 0-9.]*)$", text, re.MULTILINE)
        figures = line.group(1).split() if line else []
        told["code"] += [prefix + figure.replace(".", "") for figure in figures]
    told["cards"] = cv2.cuda.getCudaEnabledDeviceCount() if hasattr(cv2, "cuda") else 0
    if told["cards"] > 0:
        import numpy as np

        picture = np.full((16, 16), 7, dtype=np.uint8)
        sent = cv2.cuda_GpuMat()
        sent.upload(picture)
        if not (cv2.cuda.add(sent, sent).download() == 14).all():
            told["error"] = "a sum on the card is wrong"


def tensorflow(told: Json) -> None:
    """Ask TensorFlow."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
    import tensorflow as tf  # type: ignore[import-untyped,import-not-found,unused-ignore]

    told["version"] = tf.__version__
    information: Json = getattr(tf.sysconfig, "get_build_info", dict)()
    told["cuda"] = information.get("cuda_version") or ("unknown" if tf.test.is_built_with_cuda() else None)
    told["code"] = [str(code) for code in information.get("cuda_compute_capabilities") or []]
    listed = getattr(tf.config, "list_physical_devices", None) or tf.config.experimental.list_physical_devices
    cards = listed("GPU")
    told["cards"] = len(cards)
    for card in cards:
        # Else TensorFlow would take all of a card's memory, also away from what is running on it.
        tf.config.experimental.set_memory_growth(card, True)
    if cards:
        with tf.device("/GPU:0"):
            if float(tf.reduce_sum(tf.ones((64, 64)) * 2.0).numpy()) != 8192.0:
                told["error"] = "a sum on the card is wrong"


def torch(told: Json) -> None:
    """Ask PyTorch."""
    import torch as library  # type: ignore[import-untyped,import-not-found,unused-ignore]

    told.update(version=str(library.__version__), cuda=library.version.cuda)
    if told["cuda"] is None:
        told["cards"] = 0
        return
    told["code"] = [str(code) for code in library.cuda.get_arch_list()]
    told["cards"] = int(library.cuda.device_count())
    library.cuda.init()
    if float((library.ones((64, 64), device="cuda") * 2.0).sum().item()) != 8192.0:
        told["error"] = "a sum on the card is wrong"
