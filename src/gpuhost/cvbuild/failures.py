"""Every way in which a build can be refused or fail, each with its own id, so that a user can search for it.

An id is a diagnosis of the project's list with a word (`D20-cudnn-missing`), or `B-` and a word where no diagnosis of
the list speaks of it. docs/reference/opencv-options.md is made from this table.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Type

from ..errors import ArtifactError, EnvironmentProblem, GpuhostError, RefusedError, UnreadableError, UsageError


class Kind(NamedTuple):
    """One kind of failure: the exception (which decides the exit code) and what it is about."""

    error: Type[GpuhostError]
    about: str


KINDS: Dict[str, Kind] = {
    "D17-card-not-covered": Kind(
        RefusedError, "the architectures asked for, or those in a wheel, do not run on a card"
    ),
    "D18-no-dnn-cuda": Kind(EnvironmentProblem, "the DNN module was configured or built without its CUDA backend"),
    "D18-ran-on-cpu": Kind(EnvironmentProblem, "a network that should run on CUDA gave exactly the CPU's result"),
    "D19-below-opencv-floor": Kind(RefusedError, "the card is below what OpenCV's DNN CUDA backend takes"),
    "D20-cudnn-missing": Kind(EnvironmentProblem, "there is no cuDNN where it was looked for"),
    "D20-cudnn-headers-only": Kind(EnvironmentProblem, "cuDNN's headers are there, its library is not"),
    "D20-cudnn-library-only": Kind(EnvironmentProblem, "cuDNN's library is there, its headers are not"),
    "D20-cudnn-major": Kind(RefusedError, "this OpenCV does not work with this version of cuDNN"),
    "D20-cudnn-mixed": Kind(EnvironmentProblem, "cuDNN's headers and its library are of different major versions"),
    "D20-cudnn-not-used": Kind(EnvironmentProblem, "CMake decided against cuDNN, or found another one"),
    "D21-toolkit-incomplete": Kind(EnvironmentProblem, "a part of the CUDA toolkit that OpenCV needs is not there"),
    "D21-cmake-too-old": Kind(EnvironmentProblem, "this CMake is older than the sources or the toolkit need"),
    "D22-gcc-too-new": Kind(EnvironmentProblem, "no compiler on this machine is one that the toolkit accepts"),
    "D22-no-compiler": Kind(EnvironmentProblem, "there is no C++ compiler"),
    "D23-not-enough-memory": Kind(EnvironmentProblem, "there is not enough memory for even one compile job"),
    "D23-killed-for-memory": Kind(EnvironmentProblem, "the kernel ended a compiler because memory ran out"),
    "D24-hidden-download": Kind(EnvironmentProblem, "OpenCV's configure step tried to download a file"),
    "D25-detection-failed": Kind(UnreadableError, "no architecture was given, and no card could be read"),
    "D25-all-architectures": Kind(EnvironmentProblem, "OpenCV was about to build for every architecture it knows"),
    "D26-not-for-this-cuda": Kind(RefusedError, "this CUDA toolkit makes no code for the card"),
    "D29-shadowed": Kind(EnvironmentProblem, "another cv2 is imported than the one that was built"),
    "D29-no-device": Kind(EnvironmentProblem, "there is a card, and the new cv2 counts no device"),
    "B-usage": Kind(UsageError, "the command line, or the recipe, asks for something that cannot be understood"),
    "B-opencv-without-cuda": Kind(RefusedError, "this OpenCV release has no CUDA backend, or not for this CUDA"),
    "B-opencv-without-darknet": Kind(RefusedError, "this OpenCV release reads no Darknet networks"),
    "B-wrong-architectures": Kind(EnvironmentProblem, "the code in the library is not what was planned"),
    "B-configured-otherwise": Kind(EnvironmentProblem, "CMake's summary differs from the plan"),
    "B-configure-failed": Kind(EnvironmentProblem, "CMake ended with an error"),
    "B-compile-failed": Kind(EnvironmentProblem, "a compile step failed"),
    "B-sources-tampered": Kind(ArtifactError, "the sources are not the ones of the checksum"),
    "B-sources-not-fetched": Kind(EnvironmentProblem, "the sources could not be fetched"),
    "B-disk-full": Kind(EnvironmentProblem, "there is no space left"),
    "B-unwritable": Kind(EnvironmentProblem, "a folder cannot be written"),
    "B-busy": Kind(EnvironmentProblem, "another run is building the same wheel"),
    "B-tool-missing": Kind(EnvironmentProblem, "a build tool is not there"),
    "B-not-installed": Kind(EnvironmentProblem, "pip did not install the wheel"),
    "B-import-failed": Kind(EnvironmentProblem, "the new cv2 cannot be imported"),
    "B-wrong-processor": Kind(RefusedError, "this processor lacks instructions that the wheel uses"),
}


def failure(identity: str, message: str, next_step: str) -> GpuhostError:
    """Return the exception for a kind of failure; its message begins with the kind's id."""
    return KINDS[identity].error(f"[{identity}] {message}", next_step)


def identity_of(error: GpuhostError) -> str:
    """The id that a failure carries, '' for one of another part of the project."""
    head, bracket, _ = error.message.partition("]")
    return head[1:] if bracket and head[1:] in KINDS else ""
