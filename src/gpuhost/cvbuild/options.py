"""The configure options as one ordered list, each with where it comes from and why it is set.

`--why` prints this list and docs/reference/opencv-options.md is made from it. An option whose value names a place of
this machine is written with `{work}`-like words for the cache key, so that two machines get the same key.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..versions import release
from .archs import Architectures
from .failures import failure

ON, OFF = "ON", "OFF"
#: What a detector needs, and what these modules need themselves (CUDA cannot be had without cudev in 4.x).
DNN_MODULES = ("core", "imgproc", "imgcodecs", "dnn", "cudev")
VIDEO_MODULES = (*DNN_MODULES, "videoio")
PROFILES = ("dnn", "video", "full")
#: What a profile promises beyond its modules; each is checked against what CMake found.
PROMISED = {"video": (("WITH_FFMPEG", "ON"), ("WITH_V4L", "ON"), ("WITH_PROTOBUF", "ON"))}


class Settings(NamedTuple):
    """Everything that option values depend on. Places are plain text: real ones, or words for the cache key."""

    opencv: str
    archs: Architectures
    profile: str
    modules: Tuple[str, ...]  # of --modules; empty: the profile's
    nonfree: bool
    cpu: str  # the instructions that the library may use without asking: AVX2
    more: Tuple[Tuple[str, str], ...]  # --option NAME=VALUE
    contrib: str
    cuda: str
    cuda_include: str  # where CMake does not look by itself; else empty, as the next
    cuda_library: str
    cudnn_include: str
    cudnn_library: str
    cxx: str
    cc: str
    python: str
    python_include: str
    python_library: str
    numpy_include: str
    rpath: str
    hooks: str  # the folder of unity.py's hooks; empty: none
    ccache: bool


class Option(NamedTuple):
    """One `-D name=value`; `origin` is who asks for it, `since` the first OpenCV that knows it ('' for all of 4.x)."""

    name: str
    value: str
    origin: str
    reason: str
    since: str = ""

    @property
    def argument(self) -> str:
        """As CMake takes it."""
        return f"-D{self.name}={self.value}"


# Where an option comes from.
REFERENCE = "the reference build"
FACTS = "facts on OpenCV's sources"
MEASURED = "measured"
PROJECT = "a rule of this project"

Row = Tuple[str, Callable[[Settings], Optional[str]], str, str, str]


def fixed(value: str) -> Callable[[Settings], Optional[str]]:
    """A value that depends on nothing."""
    return lambda _: value


def only_full(s: Settings) -> str:
    """On in the profile `full`."""
    return ON if s.profile == "full" else OFF


def not_dnn(s: Settings) -> str:
    """On in the profiles `video` and `full`."""
    return OFF if s.profile == "dnn" else ON


def ffmpeg(s: Settings) -> str:
    """On in `video`, by the distribution's libraries; full is not a reason to depend on them."""
    return ON if s.profile == "video" else OFF


def cudacodec(s: Settings) -> Optional[str]:
    """Off where every module is built: without NVIDIA's SDK it does nothing, and on a machine without a driver CMake
    fails, because it is linked against libcuda. Seen with 4.14.0.
    """
    return OFF if build_list(s) is None else None


def protobuf(s: Settings) -> str:
    """Off in dnn where the DNN module can do without it: seen in the sources of 4.10.0, 4.11.0 and 4.14.0."""
    return OFF if s.profile == "dnn" and release(s.opencv) >= release("4.10") else ON


def build_list(s: Settings) -> Optional[str]:
    """The modules to build, None for all."""
    if s.modules:
        return ",".join(dict.fromkeys([*s.modules, "cudev", "python3"]))
    of_profile = {"dnn": DNN_MODULES, "video": VIDEO_MODULES}.get(s.profile)
    return None if of_profile is None else ",".join([*of_profile, "python3"])


# name, value, origin, reason, since
ROWS: List[Row] = [
    ("CMAKE_BUILD_TYPE", fixed("Release"), REFERENCE, "optimised code", ""),
    (
        "OPENCV_EXTRA_MODULES_PATH",
        lambda s: s.contrib,
        REFERENCE,
        "opencv_contrib: WITH_CUDA needs its cudev in 4.x",
        "",
    ),
    ("WITH_CUDA", fixed(ON), REFERENCE, "the purpose of this build", ""),
    ("WITH_CUDNN", fixed(ON), REFERENCE, "the DNN module's convolutions", ""),
    ("WITH_CUBLAS", fixed(ON), REFERENCE, "the DNN module's matrix products", ""),
    (
        "OPENCV_DNN_CUDA",
        fixed(ON),
        REFERENCE,
        "the DNN module's CUDA backend; without cuDNN configure fails (4.4+)",
        "",
    ),
    ("ENABLE_FAST_MATH", fixed(ON), REFERENCE, "faster arithmetic on the CPU", ""),
    ("CUDA_FAST_MATH", fixed(ON), REFERENCE, "faster arithmetic on the card", ""),
    (
        "CUDA_ARCH_BIN",
        lambda s: ";".join(s.archs.real),
        REFERENCE,
        "real code for exactly the cards; a pasted 7.0 does not run on a 5.0 card",
        "",
    ),
    (
        "CUDA_ARCH_PTX",
        lambda s: ";".join(s.archs.ptx),
        FACTS,
        "no PTX unless asked for: the driver would compile it",
        "",
    ),
    ("CUDA_TOOLKIT_ROOT_DIR", lambda s: s.cuda, FACTS, "this toolkit, not one that CMake finds", ""),
    ("CMAKE_INCLUDE_PATH", lambda s: s.cuda_include or None, PROJECT, "its headers, in a layout FindCUDA lacks", ""),
    ("CMAKE_LIBRARY_PATH", lambda s: s.cuda_library or None, PROJECT, "its libraries, likewise", ""),
    ("CUDA_HOST_COMPILER", lambda s: s.cxx, FACTS, "the newest compiler this toolkit accepts", ""),
    ("CMAKE_CXX_COMPILER", lambda s: s.cxx, PROJECT, "one compiler for the CPU's and the GPU's code", ""),
    ("CMAKE_C_COMPILER", lambda s: s.cc, PROJECT, "the same", ""),
    ("CUDNN_INCLUDE_DIR", lambda s: s.cudnn_include, FACTS, "this cuDNN, headers", ""),
    ("CUDNN_LIBRARY", lambda s: s.cudnn_library, FACTS, "this cuDNN, library", ""),
    ("ENABLE_CUDA_FIRST_CLASS_LANGUAGE", fixed(OFF), FACTS, "needs a static cuBLAS here, and CMake 3.18", "4.9"),
    ("PYTHON3_EXECUTABLE", lambda s: s.python, REFERENCE, "the environment's Python, not one that CMake finds", ""),
    ("PYTHON_DEFAULT_EXECUTABLE", lambda s: s.python, REFERENCE, "the same, for the generators", ""),
    ("PYTHON3_INCLUDE_DIR", lambda s: s.python_include, PROJECT, "its headers", ""),
    ("PYTHON3_LIBRARY", lambda s: s.python_library, PROJECT, "asked for by CMake, not linked", ""),
    ("PYTHON3_NUMPY_INCLUDE_DIRS", lambda s: s.numpy_include, PROJECT, "the locked NumPy's headers", ""),
    ("PYTHON3_LIMITED_API", fixed(ON), PROJECT, "one module for every Python 3.6 and later", "4.5.5"),
    ("OPENCV_PYTHON3_INSTALL_PATH", fixed("python"), PROJECT, "where the wheel's package is taken from", ""),
    ("BUILD_opencv_python2", fixed(OFF), PROJECT, "no Python 2", ""),
    ("OPENCV_ENABLE_NONFREE", lambda s: ON if s.nonfree else OFF, REFERENCE, "patented algorithms: --nonfree", ""),
    ("BUILD_LIST", build_list, MEASURED, "only the modules of the profile, and what they need", ""),
    ("OPENCV_CMAKE_HOOKS_DIR", lambda s: s.hooks or None, MEASURED, "several files are compiled as one", ""),
    ("BUILD_SHARED_LIBS", fixed(OFF), PROJECT, "a single file, which has to find only CUDA at run time", ""),
    ("BUILD_EXAMPLES", fixed(OFF), MEASURED, "the reference build had them, but nobody runs them", ""),
    ("BUILD_TESTS", fixed(OFF), MEASURED, "the same, and the largest cut of all", ""),
    ("BUILD_PERF_TESTS", fixed(OFF), MEASURED, "the same", ""),
    ("BUILD_DOCS", fixed(OFF), MEASURED, "no documentation", ""),
    ("BUILD_opencv_apps", fixed(OFF), MEASURED, "no training tools", ""),
    ("BUILD_JAVA", fixed(OFF), MEASURED, "no Java", ""),
    ("CPU_BASELINE", lambda s: s.cpu, MEASURED, "code for this class of CPU only", ""),
    ("CPU_DISPATCH", fixed(""), MEASURED, "no additional copies of hot files for other CPUs", ""),
    ("WITH_IPP", fixed(OFF), FACTS, "its library is downloaded at configure time", ""),
    ("WITH_ADE", fixed(OFF), FACTS, "the same (for gapi)", ""),
    ("BUILD_opencv_gapi", fixed(OFF), FACTS, "needs ADE, which is downloaded", ""),
    ("BUILD_opencv_face", fixed(OFF), FACTS, "downloads a model at configure time", ""),
    ("BUILD_opencv_xfeatures2d", fixed(OFF), FACTS, "downloads tables at configure time", ""),
    ("BUILD_opencv_wechat_qrcode", fixed(OFF), FACTS, "downloads models at configure time", ""),
    ("BUILD_opencv_cudaoptflow", fixed(OFF), FACTS, "downloads NVIDIA's optical flow headers", ""),
    ("BUILD_opencv_cudacodec", cudacodec, MEASURED, "needs a separate SDK, and the driver's library to be linked", ""),
    ("WITH_NVCUVID", fixed(OFF), PROJECT, "needs a separate SDK", ""),
    ("WITH_NVCUVENC", fixed(OFF), PROJECT, "needs a separate SDK", "4.7"),
    ("WITH_CUFFT", only_full, MEASURED, "no module of a detector uses it; saves 200 MB of toolkit", ""),
    ("WITH_OPENCL", only_full, MEASURED, "a second kind of GPU code", ""),
    ("WITH_PROTOBUF", protobuf, MEASURED, "Darknet networks do not need it; video and full read ONNX", ""),
    ("WITH_FLATBUFFERS", only_full, MEASURED, "for TFLite networks only", "4.6"),
    ("WITH_ITT", fixed(OFF), MEASURED, "only hooks for a profiler", ""),
    ("BUILD_ITT", fixed(OFF), MEASURED, "the same", ""),
    ("WITH_TIFF", only_full, MEASURED, "JPEG and PNG are enough for photos", ""),
    ("WITH_WEBP", only_full, MEASURED, "the same", ""),
    ("WITH_OPENJPEG", only_full, MEASURED, "the same", "4.3"),
    ("WITH_JASPER", fixed(OFF), PROJECT, "has had many vulnerabilities; OpenJPEG replaces it", ""),
    ("WITH_OPENEXR", fixed(OFF), PROJECT, "needs a library of the host", ""),
    ("WITH_AVIF", fixed(OFF), PROJECT, "needs a library of the host", "4.8"),
    ("BUILD_ZLIB", fixed(ON), PROJECT, "from the sources, not the host's", ""),
    ("BUILD_JPEG", fixed(ON), PROJECT, "the same", ""),
    ("BUILD_PNG", fixed(ON), PROJECT, "the same", ""),
    ("BUILD_TIFF", only_full, PROJECT, "the same", ""),
    ("BUILD_WEBP", only_full, PROJECT, "the same", ""),
    ("BUILD_OPENJPEG", only_full, PROJECT, "the same", "4.3"),
    ("BUILD_PROTOBUF", protobuf, PROJECT, "the same", ""),
    ("WITH_LAPACK", fixed(OFF), PROJECT, "the wheel must not depend on what the build machine happens to have", ""),
    ("WITH_EIGEN", fixed(OFF), PROJECT, "the same", ""),
    ("WITH_TBB", fixed(OFF), PROJECT, "the same", ""),
    ("WITH_FFMPEG", ffmpeg, PROJECT, "video files and cameras, in video: the distribution's libraries", ""),
    ("WITH_GSTREAMER", fixed(OFF), PROJECT, "the same", ""),
    ("WITH_GTK", fixed(OFF), PROJECT, "the same; a server has no screen", ""),
    ("WITH_QT", fixed(OFF), PROJECT, "the same", ""),
    ("WITH_VTK", fixed(OFF), PROJECT, "the same", ""),
    ("WITH_1394", fixed(OFF), PROJECT, "the same", ""),
    ("WITH_VA", fixed(OFF), PROJECT, "the same", ""),
    ("WITH_VA_INTEL", fixed(OFF), PROJECT, "the same", ""),
    ("BUILD_opencv_freetype", fixed(OFF), PROJECT, "the same", ""),
    ("BUILD_opencv_hdf", fixed(OFF), PROJECT, "the same", ""),
    ("BUILD_opencv_sfm", fixed(OFF), PROJECT, "the same", ""),
    ("WITH_V4L", not_dnn, PROJECT, "cameras, in video and full: needs only the kernel's headers", ""),
    ("WITH_OBSENSOR", fixed(OFF), PROJECT, "one maker's depth camera", "4.7"),
    ("ENABLE_PRECOMPILED_HEADERS", fixed(OFF), MEASURED, "they defeat ccache", ""),
    ("ENABLE_CCACHE", lambda s: ON if s.ccache else OFF, MEASURED, "objects of an earlier build are used again", ""),
    ("OPENCV_GENERATE_PKGCONFIG", fixed(OFF), PROJECT, "a wheel has no use for it", ""),
    ("CMAKE_SKIP_RPATH", fixed(ON), PROJECT, "no path of the build tree in the module", ""),
    (
        "CMAKE_MODULE_LINKER_FLAGS",
        lambda s: f"-Wl,--enable-new-dtags,-rpath,{s.rpath}",
        PROJECT,
        "CUDA and cuDNN found",
        "",
    ),
]


def options(s: Settings) -> List[Option]:
    """The options in order: those this OpenCV knows, then the user's own, which may replace one of them."""
    found: Dict[str, Option] = {}
    for name, value, origin, reason, since in ROWS:
        text = value(s)
        if text is not None and (not since or release(s.opencv) >= release(since)):
            found[name] = Option(name, text, origin, reason, since)
    for name, text in s.more:
        if name in PROTECTED:
            raise failure("B-usage", f"{name} is decided by the plan.", PROTECTED[name])
        found[name] = Option(name, text, "--option", "asked for on the command line")
    return list(found.values())


ONE_MODULE = "The wheel holds one module with everything in it; leave the option out."
PLACES = "Use --cuda, --cudnn, --python, --work or --root."
#: Options that a user sets in another way, so that what is checked is what was asked for.
PROTECTED = {
    "CUDA_ARCH_BIN": "Use --arch-bin.",
    "CUDA_ARCH_PTX": "Use --ptx.",
    "CUDA_GENERATION": "Use --arch-bin: OpenCV's own lists build for cards that are not there.",
    "CMAKE_CUDA_ARCHITECTURES": "Use --arch-bin.",
    "ENABLE_CUDA_FIRST_CLASS_LANGUAGE": "This script reads what the older way of CMake decides.",
    "WITH_CUDA": "This script builds with CUDA only.",
    "WITH_CUDNN": "This script builds with cuDNN only.",
    "WITH_CUBLAS": "The DNN module's CUDA backend needs cuBLAS.",
    "OPENCV_DNN_CUDA": "This script builds the CUDA backend only.",
    "BUILD_LIST": "Use --modules.",
    "OPENCV_ENABLE_NONFREE": "Use --nonfree.",
    **dict.fromkeys(("BUILD_SHARED_LIBS", "BUILD_opencv_world", "BUILD_opencv_python3"), ONE_MODULE),
    **dict.fromkeys(("OPENCV_PYTHON3_INSTALL_PATH", "CMAKE_INSTALL_PREFIX"), ONE_MODULE),
    **dict.fromkeys(("CMAKE_MODULE_LINKER_FLAGS", "CMAKE_SKIP_RPATH"), ONE_MODULE),
    **dict.fromkeys(("CUDA_TOOLKIT_ROOT_DIR", "CUDNN_INCLUDE_DIR", "CUDNN_LIBRARY", "PYTHON3_EXECUTABLE"), PLACES),
    **dict.fromkeys(("PYTHON3_INCLUDE_DIR", "PYTHON3_LIBRARY", "PYTHON3_NUMPY_INCLUDE_DIRS"), PLACES),
    **dict.fromkeys(("OPENCV_EXTRA_MODULES_PATH", "OPENCV_CMAKE_HOOKS_DIR", "OPENCV_DOWNLOAD_PATH"), PLACES),
    **dict.fromkeys(
        ("CMAKE_C_COMPILER", "CMAKE_CXX_COMPILER", "CUDA_HOST_COMPILER", "CMAKE_TOOLCHAIN_FILE"),
        "Put the compiler on PATH: the newest that the toolkit accepts is taken.",
    ),
}


def check_modules(modules: Sequence[str]) -> Tuple[str, ...]:
    """The modules of --modules; without dnn there is no CUDA backend to build."""
    odd = next((m for m in modules if not re.fullmatch(r"[a-z][a-z0-9_]*", m)), None)
    if odd is not None:
        raise failure("B-usage", f"'{odd}' is not a name of an OpenCV module.", "Write it as in --modules dnn,video")
    if modules and "dnn" not in modules:
        step = f"Add it: --modules dnn,{','.join(modules)}"
        raise failure("B-usage", "--modules lacks dnn, whose CUDA backend this script builds and proves.", step)
    return tuple(modules)


def effective(s: Settings) -> Dict[str, str]:
    """The value of each option as it is passed, by name."""
    return {o.name: o.value for o in options(s)}


def parse_more(given: Sequence[str]) -> Tuple[Tuple[str, str], ...]:
    """What --option takes, as pairs."""
    pairs = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or re.search(r"[\x00-\x1f\x7f;]", value):
            raise failure("B-usage", f"'{text}' is not NAME=VALUE.", "Write it as in --option WITH_TIFF=ON")
        pairs.append((name, value))
    return tuple(pairs)
