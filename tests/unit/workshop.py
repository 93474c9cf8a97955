"""A make-believe build machine: CUDA, cuDNN, CMake, ninja and sources that cost nothing.

They honour the real command lines and leave what the real ones leave: a configure log, a CMakeCache.txt, objects.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence

from gpuhost.cvbuild import cli, machine
from gpuhost.cvbuild.recipe import Recipe
from gpuhost.cvbuild.toolkit import NPP

SUMMARY = Path(__file__).resolve().parents[1] / "data" / "opencv" / "configure-4.14.0.txt"
OBJECTS = 12

NVCC = """#!/bin/sh
case "$1" in
--version) echo 'Cuda tools, release {series}, V{version}'; echo 'Build cuda_{series}.r{series}/compiler.1' ;;
--list-gpu-code) {codes} ;;
esac
"""

CMAKE = '''#!{python}
"""A CMake that writes the summary its arguments call for, or what FAULT says."""
import json, os, pathlib, sys
arguments = sys.argv[1:]
if arguments == ["--version"]:
    print("cmake version 3.26.4")
    sys.exit()
fault = pathlib.Path({fault!r}).read_text()
if arguments[0] == "--install":
    package = pathlib.Path(arguments[arguments.index("--prefix") + 1]) / "python" / "cv2"
    (package / "python-3").mkdir(parents=True)
    (package / "utils").mkdir()
    (package / "__init__.py").write_text("")
    (package / "config.py").write_text("/usr/local")
    (package / "load_config_py3.py").write_text("")
    (package / "utils" / "__init__.py").write_text("")
    module = pathlib.Path(arguments[1]) / "cv2.abi3.so"
    (package / "python-3" / "cv2.abi3.so").write_bytes(module.read_bytes())
    sys.exit()
given = dict(a[2:].split("=", 1) for a in arguments if a.startswith("-D"))
build = pathlib.Path(arguments[arguments.index("-B") + 1])
(build.parent / "configured").open("a").write("x")
if fault == "disk":
    sys.exit("CMake Error: cannot write: No space left on device")
if fault == "all":
    print("-- CUDA: Automatic detection of CUDA generation failed. Going to build for all known architectures")
    sys.exit()
if fault == "floor":
    sys.exit("CMake Error: CUDA backend for DNN module requires CC 5.3 or higher. Please remove unsupported archs")
arch = given["CUDA_ARCH_BIN"].replace(".", "").replace(";", " ")
if fault == "arch":
    arch = "70"
text = pathlib.Path({summary!r}).read_text()
text = text.replace("--     NVIDIA GPU arch:             90", "--     NVIDIA GPU arch:             " + arch)
text = text.replace("/srv/venv/bin/python", given["PYTHON3_EXECUTABLE"])
text = text.replace("(ver 2.4.6)", "(ver " + {numpy!r} + ")")
if fault == "cudnn":
    text = text.replace("cuDNN:                         YES (ver 9.13.1)", "cuDNN:                         NO")
print(text)
(build / "CMakeDownloadLog.txt").write_text(
    '#use_cache "x"\\n' + ('#cmake_download "https://example.org/x" "y"\\n' if fault == "download" else "")
)
(build / "CMakeCache.txt").write_text("CUDA_NVCC_EXECUTABLE:FILEPATH=" + os.environ["CUDA_NVCC_EXECUTABLE"] + "\\n")
(build / "build.ninja").write_text(json.dumps(given))
'''

NINJA = '''#!{python}
"""A ninja that makes {objects} objects and the module, skips those that are there, and stops where FAULT says."""
import json, os, pathlib, sys
build = pathlib.Path(sys.argv[sys.argv.index("-C") + 1])
fault = pathlib.Path({fault!r}).read_text()
for number in range({objects}):
    path = build / f"{{number}}.o"
    if fault == f"kill-{{number}}":
        os.kill(os.getppid(), 15)
        import time
        time.sleep(30)
    if fault == f"memory-{{number}}":
        sys.exit("c++: fatal error: Killed signal terminated program cc1plus")
    if fault == f"error-{{number}}":
        sys.exit("FAILED: x.cpp: error: expected")
    if not path.exists():
        path.write_text("made by " + str(os.getpid()))
        print(f"[gpuhost {{number + 1}}/{objects} 0.1] Building {{number}}", flush=True)
module = bytes.fromhex({module!r}[json.loads((build / "build.ninja").read_text())["CUDA_ARCH_BIN"]])
(build / "cv2.abi3.so").write_bytes(module)
'''


def elf(code: Iterable[str]) -> bytes:
    """A library with fat binaries of the given code ('sm_90', 'compute_90'), one container with all of it."""
    entries = b""
    for name in code:
        kind, _, arch = name.partition("_")
        payload = b"\x7fELF" + bytes(60)
        head = struct.pack("<HHIQIIHHI", 2 if kind == "sm" else 1, 0x101, 64, len(payload), 0, 0, 0, 0, int(arch))
        entries += head.ljust(64, b"\0") + payload
    fat = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries if entries else b""
    names = b"\0.nv_fatbin\0.shstrtab\0"
    table = 64 + len(fat) + len(names)
    head = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    )
    rows = [(0, 0, 0, 0), (1, 1, 64, len(fat)), (12, 3, 64 + len(fat), len(names))]
    body = b"".join(struct.pack("<IIQQQQIIQQ", n, t, 0, 0, o, s, 0, 0, 1, 0) for n, t, o, s in rows)
    return head + fat + names + body


def script(path: Path, text: str) -> None:
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def toolkit(root: Path, version: str = "13.0.88", codes: Sequence[str] = ("75", "80", "86", "90")) -> Path:
    """A CUDA toolkit whose nvcc builds for `codes`."""
    series = ".".join(version.split(".")[:2])
    listed = "; ".join(f"echo sm_{c}" for c in codes)
    script(root / "bin" / "nvcc", NVCC.format(series=series, version=version, codes=listed))
    for name in ("nvvm/bin/cicc", "include/cuda_runtime.h", "include/cublas_v2.h", "include/npp.h"):
        script(root / name, "")
    for name in ("libcudart_static.a", "libcublas.so", *(f"lib{npp}.so" for npp in NPP)):
        script(root / "lib64" / name, "")
    return root


def cudnn(root: Path, version: str = "9.13.1", header: bool = True, library: bool = True) -> Path:
    """A cuDNN, or a part of one."""
    figures = dict(zip(("MAJOR", "MINOR", "PATCHLEVEL"), version.split(".")))
    root.mkdir(parents=True, exist_ok=True)
    if header:
        script(root / "include" / "cudnn_version.h", "".join(f"#define CUDNN_{k} {v}\n" for k, v in figures.items()))
    if library:
        script(root / "lib" / f"libcudnn.so.{version}", "")
        (root / "lib" / "libcudnn.so").symlink_to(f"libcudnn.so.{version}")
    return root


def sdist(path: Path) -> Dict[str, Any]:
    """A small sdist, and its row as the catalog would have it."""
    tree = path.parent / "opencv_contrib_python-4.14.0.94"
    for name in ("opencv/CMakeLists.txt", "opencv/a.cpp", "opencv_contrib/modules/b.cpp", "LICENSE.txt"):
        script(tree / name, name)
    with tarfile.open(str(path), "w:gz") as archive:
        archive.add(str(tree), tree.name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"kind": "sdist", "package": "opencv-contrib-python", "file": path.name, "sha256": digest}


class Workshop:
    """Everything a build needs, below one folder; `run` is the command."""

    def __init__(self, folder: Path, monkeypatch: Any, cards: Sequence[str] = ("9.0",)) -> None:
        """Set it up, and put its tools first on PATH."""
        self.folder = folder
        self.patch = monkeypatch
        self.root = folder / "root"
        self.cuda, self.cudnn = toolkit(folder / "cuda"), cudnn(folder / "cudnn")
        self.sdist = folder / "opencv_contrib_python-4.14.0.94.tar.gz"
        row = sdist(self.sdist)
        tools = folder / "tools"
        summary, modules = str(SUMMARY), {c: elf([f"sm_{c.replace('.', '')}"]).hex() for c in ("7.5", "8.6", "9.0")}
        values = {"python": sys.executable, "summary": summary, "numpy": "2.4.6", "objects": OBJECTS}
        self.fault_file = folder / "fault"
        values["fault"] = str(self.fault_file)
        self.fault("")
        script(tools / "cmake", CMAKE.format(**values))
        script(tools / "ninja", NINJA.format(**values, module=modules))
        for name in ("g++", "gcc"):
            script(tools / name, '#!/bin/sh\necho "g++ (Debian 12.2.0-14) 12.2.0"\n')
        monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
        python = machine.Python(sys.executable, "3.11.7", "cp311", "/include", "/library", "2.4.6", "/numpy")
        monkeypatch.setattr(machine, "python", lambda _: python)
        monkeypatch.setattr(
            machine, "tools", lambda *_: machine.Tools(str(tools / "cmake"), "3.26.4", str(tools / "ninja"), None)
        )
        self.tools = tools
        self.recipe = Recipe(
            opencv="4.14.0",
            package_version="4.14.0.94",
            sources=[row],
            capability_min="3.0",
            cudnn={"min": "7.5", "max": "9"},
            cuda={"min": "9.2", "max": "13"},
            cmake_min="3.7",
            gcc={"min": 6, "max": 15},
            gcc_packages=["g++-12", "g++-11"],
            cards=list(cards),
        )

    def fault(self, name: str) -> None:
        """Let CMake or ninja misbehave from now on; '' for no longer."""
        self.fault_file.write_text(name, encoding="utf-8")

    def arguments(self, *more: str) -> List[str]:
        """The command line."""
        file = self.folder / "recipe.json"
        file.write_text(json.dumps(self.recipe.as_json()), encoding="utf-8")
        base = ["--recipe", str(file), "--cuda", str(self.cuda), "--cudnn", str(self.cudnn), "--root", str(self.root)]
        return [*base, "--sources", str(self.sdist), "--cpu", "AVX2", *more]

    def run(self, *more: str) -> int:
        """The exit code of a run in this process."""
        return cli.main(self.arguments(*more))

    @property
    def work(self) -> Optional[Path]:
        """The work folder of the one key that was built."""
        found = [p for p in (self.root / "cache" / "opencv").glob("*") if p.name != "sources"]
        return found[0] if found else None

    def wheels(self) -> List[Path]:
        """The wheels in the cache."""
        return sorted((self.root / "cache" / "wheels").rglob("*.whl"))

    def count(self, name: str) -> int:
        """How often a tool left its mark."""
        path = (self.work or Path(os.devnull)) / name
        return len(path.read_text()) if path.exists() else 0
