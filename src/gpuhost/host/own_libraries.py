"""Let the TensorFlow of an environment load the CUDA libraries that are in it, whatever the host's linker would find.

The host's toolkit is known to the linker, and a library of TensorFlow's may have the name of one of the host's
(libcudnn.so.9) and be another. A library that is loaded already is taken by its name before anything is searched. So
the environment's own are loaded, by their paths, just before TensorFlow is imported, and by this environment's
interpreter alone. The search paths inside TensorFlow's wheels do not name every folder of NVIDIA's wheels (2.21:
neither that of cuRAND nor that of NVRTC), and the parts of cuDNN 8 have none at all.

Runs on the target: Python 3.6, standard library.
"""

from pathlib import Path

from . import files

MODULE = "gpuhost_libraries"
#: Runs when the interpreter starts. It loads nothing yet.
STARTER = f"import {MODULE}; {MODULE}.watch()\n"
PROGRAM = '''"""Loads the CUDA libraries of this environment before TensorFlow looks for them. Written by gpuhost."""

import ctypes
import os
import pathlib
import sys

# Each after those that it needs: what is not loaded yet would be searched for by name.
ORDER = (
    "cudart nvJitLink nvrtc-builtins nvrtc cublasLt cublas cufft curand cusparse cusolver "
    "cudnn_graph cudnn_ops cudnn_cnn cudnn_adv cudnn_heuristic "
    "cudnn_engines_runtime_compiled cudnn_engines_precompiled "
    "cudnn_ops_infer cudnn_cnn_infer cudnn_adv_infer cudnn_ops_train cudnn_cnn_train cudnn_adv_train cudnn "
    "nccl cupti"
).split()


def load():
    """Load what is there, each by its path."""
    folder = pathlib.Path(__file__).parent / "nvidia"
    for name in ORDER:
        for path in sorted(folder.glob("*/lib/lib{}.so.*".format(name))):
            ctypes.CDLL(str(path), mode=os.RTLD_LAZY)


class Watch:
    """Stands first among the finders of modules, finds none, and is gone once TensorFlow was asked for."""

    def find_spec(self, name, path=None, target=None):
        """Load the libraries when TensorFlow is about to be imported."""
        if name == "tensorflow" and self in sys.meta_path:
            sys.meta_path.remove(self)
            load()


def watch():
    """Wait for TensorFlow. An environment's starters run twice."""
    if not any(isinstance(finder, Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, Watch())
'''


def write(environment: Path) -> None:
    """Write both files into an environment that holds NVIDIA's wheels; any other one is left as it is."""
    for folder in sorted(environment.glob("lib/python3.*/site-packages")):
        if (folder / "nvidia").is_dir():
            files.write_whole(folder / f"{MODULE}.py", PROGRAM)
            files.write_whole(folder / f"{MODULE}.pth", STARTER)
