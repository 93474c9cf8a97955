"""Diagnoses that only the building of OpenCV can give; its own table (cvbuild/failures.py) holds them in detail."""

from .base import Diagnosis

BUILD = "build/opencv_cmake.py"


def built(identity: str, title: str, cause: str, fix: str, *messages: str) -> Diagnosis:
    """Return a diagnosis that only the build gives."""
    return Diagnosis(identity, title, cause, fix, elsewhere=(BUILD,), messages=messages)


TABLE = (
    built(
        "D19",
        "The card is below what OpenCV's CUDA backend supports",
        "OpenCV 4.2 needs compute capability 5.3 or more for its networks on CUDA; later releases need 3.0.",
        "Use a later OpenCV, which the plan chooses by itself.",
        "CUDA backend for DNN module requires CC 5.3",
    ),
    built(
        "D20",
        "CMake finds no cuDNN, or the wrong one",
        "The header or the library is elsewhere, the version header is a newer one, or CMake's cache is out of date.",
        "Give CMake the paths of the lock's cuDNN, and delete the cache of an earlier attempt.",
        "CUDNN_LIBRARY",
        "Could NOT find CUDNN",
        "cuDNN: NO",
    ),
    built(
        "D21",
        "A part of the toolkit is not found",
        "The CMake of Ubuntu 18.04 is older than the toolkit, or a library of the toolkit is missing.",
        "Use the locked CMake of the build's environment, and a complete toolkit.",
        "CUDA_nppicom_LIBRARY",
        "CUDA_cublas_LIBRARY",
    ),
    built(
        "D22",
        "The compiler is newer than nvcc accepts",
        "A toolkit refuses compilers that were released after it.",
        "Install a compiler from the archive that the toolkit accepts; the message names the package.",
        "unsupported GNU version",
    ),
    built(
        "D23",
        "The compiler is killed for lack of memory",
        "More jobs run at once than fit into memory.",
        "Run only as many jobs as the free memory allows, which is the default, or add swap.",
        "Killed signal terminated program cc1plus",
        "Killed (program cc1plus)",
    ),
    built(
        "D24",
        "OpenCV's configure step downloads files",
        "It downloads files while it configures, and fails without a network or if a file has changed.",
        "Switch off the options that need them, or provide the files by checksum.",
        "ippicv",
        "boostdesc_bgm.i",
        "vgg_generated",
    ),
    built(
        "D25",
        "OpenCV is built for every architecture",
        "If CMake can read no card, it builds for every architecture that it knows, which takes hours.",
        "Give CMake the architectures of the lock; the build ends if it chooses others.",
        "Automatic detection of CUDA generation failed",
    ),
    built(
        "D26",
        "nvcc does not know the card's architecture",
        "The toolkit is too old or too new for the card.",
        "Use a toolkit that can compile for the card, which the plan chooses by itself.",
        "Unsupported gpu architecture",
    ),
)
