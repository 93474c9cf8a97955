"""Two environments on two toolkits: each interpreter loads its own libraries of the same name, read in its maps.

The libraries are stand-ins that a C compiler makes, with the names of the real ones. What the host's linker would find
is played by LD_LIBRARY_PATH, which is searched before anything that ld.so.conf names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest

from gpuhost.host import own_libraries
from gpuhost.host.probe import environment

#: The file in a wheel of NVIDIA's, and what it needs of the others. cuDNN 8's parts have no search path of their own.
LIBRARIES = {
    "cuda_runtime/lib/libcudart.so.12": [],
    "cublas/lib/libcublasLt.so.12": [],
    "cublas/lib/libcublas.so.12": ["libcublasLt.so.12"],
    "cudnn/lib/libcudnn_ops_infer.so.8": [],
    "cudnn/lib/libcudnn_cnn_infer.so.8": ["libcudnn_ops_infer.so.8"],
    "cudnn/lib/libcudnn.so.8": ["libcublas.so.12"],
}
#: Loads by name what TensorFlow would, cuDNN's parts last, and tells which file each process has mapped.
TENSORFLOW = "import ctypes\nfor name in {names!r}:\n    ctypes.CDLL(name)\n"
TELL = """
import json, re, sys
{before}
with open("/proc/self/maps") as maps:
    files = {{line.split()[-1] for line in maps if re.search("/lib(cu|other)[A-Za-z_]*[.]so", line)}}
print(json.dumps(sorted(files)))
"""
NAMES = ["libcudart.so.12", "libcublas.so.12", "libcudnn.so.8", "libcudnn_cnn_infer.so.8"]


def compiled(path: Path, needs: List[str], version: int) -> None:
    """Make a library of its file's name that needs others by name and tells a version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = f"unsigned long cudnnGetVersion(void) {{ return {version}; }}"
    folders = sorted({str(one.parent) for one in path.parents[2].rglob("*.so.*")})
    command = [
        "cc",
        "-shared",
        "-fPIC",
        "-x",
        "c",
        "-",
        "-o",
        str(path),
        f"-Wl,-soname,{path.name}",
        "-Wl,--no-as-needed",
    ]
    command += [f"-L{folder}" for folder in folders] + [f"-l:{name}" for name in needs]
    subprocess.run(command, input=source, text=True, check=True)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """The host's libraries, TensorFlow's environment with libraries of its own, and OpenCV's without any."""
    top = tmp_path_factory.mktemp("own")
    found = {name: top / name for name in ("host", "dl4cv", "opencv_cuda")}
    for name in ("dl4cv", "opencv_cuda"):
        subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(found[name])], check=True)
    (packages,) = found["dl4cv"].glob("lib/python3.*/site-packages")
    for file, needs in LIBRARIES.items():
        compiled(packages / "nvidia" / file, needs, 8907)
        compiled(found["host"] / "x" / "lib" / Path(file).name, needs, 8600)
    (packages / "tensorflow.py").write_text(TENSORFLOW.format(names=NAMES), encoding="utf-8")
    for name in ("dl4cv", "opencv_cuda"):
        own_libraries.write(found[name])
    return found


def maps(places: Dict[str, Path], name: str, before: str) -> List[str]:
    """The libraries that a program of an environment has mapped after some lines."""
    run = subprocess.run(
        [str(places[name] / "bin/python"), "-c", TELL.format(before=before)],
        env={**os.environ, "LD_LIBRARY_PATH": str(places["host"] / "x" / "lib")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return list(json.loads(run.stdout))


def test_tensorflow_loads_its_own_and_opencv_the_hosts(places: Dict[str, Path]) -> None:
    """All of them, those that another one needs included, and none of the other side's."""
    loads = TENSORFLOW.format(names=NAMES)
    own, host = maps(places, "dl4cv", "import tensorflow"), maps(places, "opencv_cuda", loads)
    names = sorted(Path(file).name for file in LIBRARIES)
    assert sorted(Path(path).name for path in own) == sorted(Path(path).name for path in host) == names
    assert all(path.startswith(str(places["dl4cv"])) for path in own), own
    assert all(path.startswith(str(places["host"])) for path in host), host


def test_nothing_is_loaded_before_tensorflow_is_imported(places: Dict[str, Path]) -> None:
    """A program that does without it costs nothing, and another environment has no such file at all."""
    assert maps(places, "dl4cv", "import json") == []
    assert not list(places["opencv_cuda"].rglob(f"{own_libraries.MODULE}*"))


def test_without_it_the_hosts_would_be_loaded(places: Dict[str, Path]) -> None:
    """The control: the same environment, started without its site-packages' own files."""
    (packages,) = places["dl4cv"].glob("lib/python3.*/site-packages")
    lines = f"sys.path.insert(0, {str(packages)!r}); sys.meta_path.pop(0); import tensorflow"
    assert all(path.startswith(str(places["host"])) for path in maps(places, "dl4cv", lines))


def test_the_probe_sees_what_tensorflow_would_load(places: Dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """verify/ asks each library for its place and cuDNN for its version."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(places["host"] / "x" / "lib"))
    for name, version in (("dl4cv", 8907), ("opencv_cuda", 8600)):
        monkeypatch.setattr(sys, "executable", str(places[name] / "bin/python"))
        found = environment.loaded(["libcudnn.so.8", "libcublas.so.12"])
        where = places["dl4cv" if name == "dl4cv" else "host"]
        assert found["libcudnn.so.8"]["version"] == version
        assert all(row["error"] is None and row["path"].startswith(str(where)) for row in found.values()), found


def test_what_a_process_has_mapped_is_told(places: Dict[str, Path]) -> None:
    """By the probe in the environment's own process, the driver's library and others left out."""
    code = "from gpuhost.host.probe import environment; print('\\n'.join(environment.mapped()))"
    loads = f"import sys; sys.path.insert(0, {str(Path(environment.__file__).parents[3])!r}); import tensorflow; {code}"
    run = subprocess.run(
        [str(places["dl4cv"] / "bin/python"), "-c", loads], stdout=subprocess.PIPE, text=True, check=True
    )
    assert sorted(Path(path).name for path in run.stdout.split()) == sorted(Path(file).name for file in LIBRARIES)
