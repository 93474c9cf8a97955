"""What NVIDIA offers for download, as stand-ins made from a version: the driver's .run, the CUDA runfile, cuDNN.

They take the real options, have the real traps and leave the real layout; their libraries are real ELF files that can
be loaded and know their version, and compute nothing.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
from typing import Any, Dict, List, NamedTuple, Optional, Union

from . import driver_packages
from .debs import Content, File, Link, tar
from .firmware import DATA
from .packages import STANDINS
from .standins import elf

Files = Dict[str, Union[File, Link]]
# What version.json calls these releases (read from users' reports); others are called by their version.
SDK_NAMES = {"11.8.0": "11.8.20220929", "12.1.0": "12.1.20230222", "12.2.2": "12.2.20230823"}


class Made(NamedTuple):
    """A stand-in: the catalog's file name for it, and its content."""

    name: str
    data: bytes


def make(kind: str, version: str, cuda: Optional[str] = None) -> Made:
    """The stand-in of "driver", "cuda" or "cudnn" at a version of the catalog; for cuDNN also which CUDA's."""
    if kind == "driver":
        return Made(f"NVIDIA-Linux-x86_64-{version}.run", driver(version))
    if kind == "cuda":
        row = _one(_json("cuda.json")["releases"], version=version)
        return Made(row["runfile"]["file"], cuda_runfile(version))
    if kind == "cudnn":
        wanted = {"version": version, **({"cuda": cuda} if cuda else {})}
        row = _one(_json("cudnn.json")["packages"], **wanted)
        return Made(row["file"], cudnn(version, row["file"]))
    raise ValueError(f"driver, cuda or cudnn, not {kind}")


def driver(version: str) -> bytes:
    """The .run of a driver."""
    major = int(version.split(".")[0])
    branch = driver_packages.Branch(str(major), version, version, ())
    files: Files = {}
    for kind in ("compute", "gl", "decode", "encode", "cfg1", "fbc1"):
        for path, item in driver_packages.libraries(branch, kind).items():
            files["/files" + path] = item
    files["/files/usr/bin/nvidia-smi"] = File((STANDINS / "nvidia-smi").read_bytes(), 0o755)
    uninstall = (STANDINS / "nvidia-uninstall.sh").read_bytes()
    files["/files/usr/bin/nvidia-uninstall"] = File(uninstall, 0o755)
    files["/files/usr/bin/nvidia-installer"] = File(uninstall, 0o755)
    kinds = {"proprietary": "NVIDIA", "open": "Dual MIT/GPL"} if major >= 515 else {"proprietary": "NVIDIA"}
    for kind, licence in kinds.items():
        for path, item in driver_packages.dkms_source(version, licence).items():
            files[f"/{kind}/{path.rsplit('/', 1)[1]}"] = item
    words = {"VERSION": version, "HAS_OPEN": "yes" if major >= 515 else "no"}
    words["DEFAULT_KIND"] = "open" if major >= 560 else "proprietary"
    return _self_extracting("driver.run.sh", words, files)


def cuda_runfile(version: str) -> bytes:
    """The runfile of a CUDA toolkit."""
    series = ".".join(version.split(".")[:2])
    old = [int(word) for word in series.split(".")] < [10, 1]
    words = {"VERSION": version, "SERIES": series, "OLD": "yes" if old else "no"}
    return _self_extracting("cuda.run.sh", words, toolkit(version))


def toolkit(version: str) -> Files:
    """A toolkit's folder."""
    major, minor, patch = (int(word) for word in version.split("."))
    series, number = f"{major}.{minor}", 1000 * major + 10 * minor
    compiler = f"{series}.{patch if patch > 9 else 89}"
    nvcc = (STANDINS / "nvcc.sh").read_text().replace("@SERIES@", series).replace("@COMPILER@", compiler)
    top = "/targets/x86_64-linux"
    files: Files = {
        "/bin/nvcc": File(nvcc.encode(), 0o755),
        "/bin/ptxas": File(nvcc.replace("nvcc:", "ptxas:").encode(), 0o755),
        "/bin/cuda-uninstaller": File(b"#!/bin/sh\nexit 0\n", 0o755),
        "/include": Link("targets/x86_64-linux/include"),
        "/lib64": Link("targets/x86_64-linux/lib"),
        f"{top}/include/cuda.h": File(f"#define CUDA_VERSION {number}\n".encode()),
        f"{top}/include/cuda_runtime_api.h": File(f"#define CUDART_VERSION  {number}\n".encode()),
        f"{top}/lib/stubs/libcuda.so": File(elf.library("libcuda.so.1")),
        "/nvvm/bin/cicc": File(b"#!/bin/sh\nexit 1\n", 0o755),
        "/nvvm/libdevice/libdevice.10.bc": File(b"BC\xc0\xde"),
        "/extras/CUPTI/include/cupti.h": File(b"#pragma once\n"),
        "/EULA.txt": File(b"stand-in\n"),
    }
    for name, (soname, full) in _toolkit_libraries(major, minor, compiler).items():
        functions = {"cudaRuntimeGetVersion": elf.store(number)} if name == "cudart" else {}
        files[f"{top}/lib/lib{name}.so.{full}"] = File(elf.library(f"lib{name}.so.{soname}", functions))
        files[f"{top}/lib/lib{name}.so.{soname}"] = Link(f"lib{name}.so.{full}")
        files[f"{top}/lib/lib{name}.so"] = Link(f"lib{name}.so.{soname}")
    if (major, minor) >= (11, 1):
        said = {
            "cuda": {"name": "CUDA SDK", "version": SDK_NAMES.get(version, version)},
            "cuda_cudart": {"name": "CUDA Runtime (cudart)", "version": compiler},
            "cuda_nvcc": {"name": "CUDA NVCC", "version": compiler},
        }
        files["/version.json"] = File((json.dumps(said, indent=3) + "\n").encode())
    else:
        files["/version.txt"] = File(f"CUDA Version {version}\n".encode())
    return files


def cudnn(version: str, name: str) -> bytes:
    """cuDNN's tarball, in the layout of its time."""
    numbers = [int(word) for word in version.split(".")]
    new = name.endswith(".tar.xz")
    top, lib = ("/" + name[: -len(".tar.xz")], "lib") if new else ("/cuda", "lib64")
    major = numbers[0]
    defines = zip(("CUDNN_MAJOR", "CUDNN_MINOR", "CUDNN_PATCHLEVEL"), numbers)
    text = "".join(f"#define {word} {number}\n" for word, number in defines).encode()
    value = numbers[0] * (10000 if major >= 9 else 1000) + numbers[1] * 100 + numbers[2]
    files: Files = {f"{top}/include/cudnn.h": File(b'#include "cudnn_version.h"\n' if major >= 8 else text)}
    if major >= 8:
        files[f"{top}/include/cudnn_version.h"] = File(text)
    files[f"{top}/{'LICENSE' if new else 'NVIDIA_SLA_cuDNN_Support.txt'}"] = File(b"stand-in\n")
    full = ".".join(str(number) for number in numbers[:3])
    parts = ["cudnn"] + ([f"cudnn_{part}" for part in _CUDNN_PARTS[8 if major == 8 else 9]] if major >= 8 else [])
    for part in parts:
        soname = f"lib{part}.so.{major}"
        functions = {"cudnnGetVersion": elf.answer(value)} if part == "cudnn" else {}
        files[f"{top}/{lib}/lib{part}.so.{full}"] = File(elf.library(soname, functions))
        files[f"{top}/{lib}/{soname}"] = Link(f"lib{part}.so.{full}")
        files[f"{top}/{lib}/lib{part}.so"] = Link(soname)
    packed = tar(files)
    return lzma.compress(packed, preset=1) if new else gzip.compress(packed, 1, mtime=0)


_CUDNN_PARTS = {
    8: ("adv_infer", "adv_train", "cnn_infer", "cnn_train", "ops_infer", "ops_train"),
    9: ("adv", "cnn", "ops", "graph", "heuristic", "engines_precompiled", "engines_runtime_compiled"),
}


def _toolkit_libraries(major: int, minor: int, compiler: str) -> Dict[str, List[str]]:
    """The toolkit's libraries: soname's number and the file's; before 10.1 both follow the toolkit."""
    series = f"{major}.{minor}"
    runtime = series if major < 11 else f"{major}.0" if major == 11 else str(major)
    if (major, minor) < (10, 1):
        numbers = dict.fromkeys(("cublas", "cufft", "curand", "cusolver", "cusparse", "nppc"), series)
    else:
        solver = "10" if major == 10 or (major, minor) == (11, 0) else str(max(11, major - 1))
        fft = {10: "10", 11: "10", 12: "11"}.get(major, "12")
        numbers = {"cublas": str(major), "cublasLt": str(major), "cufft": fft, "curand": "10"}
        numbers.update({"cusolver": solver, "cusparse": str(major), "nppc": str(major)})
    found = {name: [number, f"{number}.{compiler}"] for name, number in numbers.items()}
    return {"cudart": [runtime, compiler], **found}


def _self_extracting(script: str, words: Dict[str, str], files: Content) -> bytes:
    """A script with its files behind it."""
    text = (STANDINS / script).read_text()
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    out = io.BytesIO()
    out.write(text.encode() + b"__PAYLOAD__\n")
    out.write(gzip.compress(tar(files), 1, mtime=0))
    return out.getvalue()


def _one(rows: List[Dict[str, Any]], **wanted: str) -> Dict[str, Any]:
    """The catalog's entry with these values."""
    return next(row for row in rows if all(row[key] == value for key, value in wanted.items()))


def _json(name: str) -> Any:
    """One of the catalog's files."""
    return json.loads((DATA / name).read_text())


__all__ = ["Made", "cuda_runfile", "cudnn", "driver", "make", "toolkit"]
