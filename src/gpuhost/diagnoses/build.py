"""Diagnoses that only the building of OpenCV can give; its own table (cvbuild/failures.py) holds them in detail."""

from .base import Diagnosis

BUILD = "build/opencv_cmake.py"


def built(identity: str, title: str, cause: str, fix: str, *messages: str) -> Diagnosis:
    """Return a diagnosis that only the build gives."""
    return Diagnosis(identity, title, cause, fix, elsewhere=(BUILD,), messages=messages)


TABLE = (
    built(
        "D19",
        "The card is below what OpenCV's CUDA backend takes",
        "OpenCV 4.2 wants 5.3 or more for its networks on CUDA; later releases take 3.0.",
        "A later OpenCV, which the plan chooses by itself.",
        "CUDA backend for DNN module requires CC 5.3",
    ),
    built(
        "D20",
        "CMake finds no cuDNN, or another one",
        "Header or library stand elsewhere, the version header is a new one, or CMake's cache is an old one.",
        "The cuDNN of the lock, told to CMake by its paths, and no cache of an earlier attempt.",
        "CUDNN_LIBRARY",
        "Could NOT find CUDNN",
        "cuDNN: NO",
    ),
    built(
        "D21",
        "A part of the toolkit is not found",
        "The CMake of Ubuntu 18.04 is older than the toolkit, or a library of the toolkit is missing.",
        "The locked CMake of the build's environment, and the whole toolkit.",
        "CUDA_nppicom_LIBRARY",
        "CUDA_cublas_LIBRARY",
    ),
    built(
        "D22",
        "The compiler is newer than nvcc takes",
        "Each toolkit refuses compilers that came after it.",
        "A compiler of the archive that the toolkit takes; the message names the package.",
        "unsupported GNU version",
    ),
    built(
        "D23",
        "The compiler is killed for lack of memory",
        "More jobs run at once than the memory holds.",
        "Jobs after the memory that is free, which is the default; or swap.",
        "Killed signal terminated program cc1plus",
        "Killed (program cc1plus)",
    ),
    built(
        "D24",
        "OpenCV's configure step downloads files",
        "It fetches files while it configures, and fails without a network or with a changed file.",
        "The options that need them are off, or the files are given by checksum.",
        "ippicv",
        "boostdesc_bgm.i",
        "vgg_generated",
    ),
    built(
        "D25",
        "OpenCV is built for every architecture",
        "Without a card that can be read CMake takes all it knows, which takes hours.",
        "The architectures of the lock, said to CMake; anything else ends the build.",
        "Automatic detection of CUDA generation failed",
    ),
    built(
        "D26",
        "nvcc does not know the card's architecture",
        "The toolkit is too old or too new for the card.",
        "A toolkit that builds for the card, which the plan chooses by itself.",
        "Unsupported gpu architecture",
    ),
)
