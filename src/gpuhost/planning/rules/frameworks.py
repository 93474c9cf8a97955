"""The rules about TensorFlow and OpenCV, alone and beside CUDA and cuDNN."""

from __future__ import annotations

import functools
from typing import List, Optional, Tuple, cast

from packaging.utils import parse_wheel_filename

from ...gpucode import reach
from ...shapes.lock import SourceArtifact
from ...types import Json
from ...versions import capability, in_series, release, within
from ..candidates import Candidate, Request, as_tensorflow
from ..catalog import Catalog
from ..gpus import Gpu
from ..versions import version
from .common import each_card

#: The names of the environment locks that build OpenCV, and that it runs in, begin so.
BUILD_TOOLS, RUN_PACKAGES = "opencv_build-cmake-", "opencv_cuda-opencv-"


def tf_code(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """The wheel must hold real code for each card, or PTX that can be compiled for it."""
    code = c.row["code"]

    def fails(gpu: Gpu) -> Optional[str]:
        if reach(code, gpu.compute_capability) != "none":
            return None
        card = f"{gpu.label} ({gpu.compute_capability})"
        return f"the wheels of TensorFlow {c.version} hold {', '.join(code)}: nothing that runs on {card}"

    return each_card(request, fails)


def by_ptx(request: Request, t: Candidate) -> bool:
    """Return whether this TensorFlow reaches some card of the host only through PTX."""
    return any(reach(t.row["code"], cc) == "ptx-jit" for cc in request.capabilities)


def tf_python(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """The wheel's Python must be in the platform's own archive, because no repository is added."""
    c = as_tensorflow(c)
    have = catalog.platforms["platforms"][request.platform]["pythons"]
    if c.python in have:
        return None
    needs = f"TensorFlow {c.version} ({c.tag}) needs Python {c.python}"
    return f"{needs}, the archive of {request.platform} has {', '.join(have)}"


@functools.lru_cache(maxsize=None)
def wheel_glibc(file: str) -> Tuple[int, ...]:
    """The oldest glibc that a manylinux wheel runs on (PEP 600 and its aliases), from the tags in its file name."""
    aliases = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
    tags = parse_wheel_filename(file)[3]
    names = [t.platform for t in tags]
    found = [aliases.get(n.partition("_")[0]) or release(n.replace("manylinux_", "").replace("_", ".")) for n in names]
    return min(found)


def tf_glibc(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """A wheel runs on its glibc or a newer one."""
    c = as_tensorflow(c)
    has = catalog.platforms["platforms"][request.platform]["glibc"]
    needs = wheel_glibc(c.wheel["file"])
    return (
        None
        if release(has) >= needs
        else f"the wheel needs glibc {'.'.join(map(str, needs))}, {request.platform} has {has}"
    )


def tf_avx(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """The official wheels use AVX instructions."""
    return f"TensorFlow {c.version} needs a CPU with AVX" if request.avx is False else None


def tf_cuda(t: Candidate, c: Candidate) -> Optional[str]:
    """TensorFlow is built and tested with one CUDA series and loads its libraries by name; its wheel may take more."""
    tested, takes = t.row["tested"]["cuda"], t.row.get("takes")
    if in_series(c.version, tested) or (takes is not None and within(c.version, takes["cuda"])):
        return None
    more = f" and takes {takes['cuda']['min']} to {takes['cuda']['max']}.x" if takes is not None else ""
    return f"TensorFlow {t.version} is tested with CUDA {tested}{more}, not with {c.version}"


def tf_cudnn(t: Candidate, n: Candidate) -> Optional[str]:
    """The cuDNN loaded must be of the tested major version and at least of the tested minor."""
    tested = release(t.row["tested"]["cudnn"])
    has = release(n.version)
    if has[0] == tested[0] and has[: len(tested)] >= tested:
        return None
    takes = f"TensorFlow {t.version} is tested with cuDNN {t.row['tested']['cudnn']}"
    return f"{takes} and takes that or a newer {tested[0]}.x, this is {n.version}"


def opencv_darknet(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """The YOLO networks are read by OpenCV's Darknet importer."""
    return None if c.row["darknet_importer"] else f"OpenCV {c.version} has no Darknet importer"


def opencv_floor(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """The DNN module's CUDA backend exists from a certain release on and has a lowest capability."""
    dnn = c.row["dnn_cuda"]
    if dnn is None:
        return f"OpenCV {c.version} has no CUDA backend for its DNN module"
    floor = dnn["capability_min"]

    def fails(gpu: Gpu) -> Optional[str]:
        if capability(gpu.compute_capability) >= capability(floor):
            return None
        return f"the DNN CUDA backend of OpenCV {c.version} needs {floor}, {gpu.label} has {gpu.compute_capability}"

    return each_card(request, fails)


def sources_of(row: Json) -> List[SourceArtifact]:  # Json: a row of the catalog
    """Return what to build an OpenCV release from: the sdist that holds opencv and opencv_contrib, else the two
    tarballs; empty where neither is known by checksum.
    """
    found = [{key: value for key, value in a.items() if key != "source"} for a in row["artifacts"]]
    artifacts = cast(List[SourceArtifact], found)
    sdists = [a for a in artifacts if a.get("package") == "opencv-contrib-python"]
    tarballs = [a for a in artifacts if a["kind"].endswith("-tarball")]
    both = {a["kind"] for a in tarballs} == {"opencv-tarball", "opencv_contrib-tarball"}
    return sdists[-1:] or (tarballs if both else [])


def opencv_sources(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """A build with CUDA needs opencv and opencv_contrib, both with a checksum: the contrib sdist, or both tarballs."""
    if sources_of(c.row):
        return None
    return f"no checksummed sources of OpenCV {c.version} together with opencv_contrib are known"


def building_python(catalog: Catalog, platform: str) -> Optional[str]:
    """The newest Python of a platform that OpenCV can be built and run with: both environments are locked for it."""
    for python in reversed(catalog.platforms["platforms"][platform]["pythons"]):
        tag = "-cp" + python.replace(".", "")
        locked = [name for name in catalog.environments if name.endswith(tag)]
        if all(any(name.startswith(kind) for name in locked) for kind in (BUILD_TOOLS, RUN_PACKAGES)):
            return str(python)
    return None


def opencv_tools(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """OpenCV is built for a Python of the platform, with tools that are locked for it."""
    if building_python(catalog, request.platform):
        return None
    return f"no tools that build OpenCV are locked for a Python of {request.platform}"


def opencv_wheel(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """Without a GPU the ready wheel is used: it must suit the platform's glibc and be locked for one of its Pythons."""
    return (
        None
        if locked_wheel(catalog, request.platform, c)
        else f"no locked opencv-contrib-python {c.version} wheel suits {request.platform}"
    )


def wheel_runs(tag: str, python: str) -> bool:
    """Return whether a wheel with this tag ('cp37-abi3', 'cp36-cp36m') runs on that Python.

    abi3 runs on later ones too (PEP 425).
    """
    made_for, _, abi = tag.partition("-")
    minor = int(made_for[3:])
    return minor == release(python)[1] or (abi == "abi3" and minor <= release(python)[1])


def locked_wheel(
    catalog: Catalog,
    platform: str,
    c: Candidate,
) -> Optional[Tuple[Json, str, str]]:  # Json: a row of the catalog
    """The wheel row, the Python and the environment lock's name of an OpenCV release on a platform, or None."""
    row = catalog.platforms["platforms"][platform]
    for wheel in sorted(c.row["wheels"], key=lambda w: version(w["package_version"]), reverse=True):
        for python in reversed(row["pythons"]):
            name = f"{RUN_PACKAGES}{wheel['package_version']}-cp{python.replace('.', '')}"
            runs = wheel_runs(wheel["tag"], python) and release(row["glibc"]) >= release(wheel["glibc"])
            if runs and name in catalog.environments:
                return wheel, python, name
    return None


def opencv_cuda(o: Candidate, t: Candidate) -> Optional[str]:
    """An OpenCV release compiles with a range of CUDA toolkits."""
    if o.row["dnn_cuda"] is None:
        return None
    bounds = o.row["dnn_cuda"]["cuda"]
    if within(t.version, bounds):
        return None
    return f"OpenCV {o.version} builds with CUDA {bounds['min']} to {bounds['max']}, this is {t.version}"


def opencv_cudnn(o: Candidate, n: Candidate) -> Optional[str]:
    """An OpenCV release compiles and runs with a range of cuDNN versions."""
    if o.row["dnn_cuda"] is None:
        return None
    bounds = o.row["dnn_cuda"]["cudnn"]
    if within(n.version, bounds):
        return None
    return f"OpenCV {o.version} builds with cuDNN {bounds['min']} to {bounds['max']}, this is {n.version}"
