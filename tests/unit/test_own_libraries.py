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

from gpuhost.checks.base import ON_HOST
from gpuhost.host import own_libraries
from gpuhost.host.probe import environment

from .collected import DIGEST, gpu_host, host, judged

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
        assert all(row["real"] == str(Path(row["path"]).resolve()) for row in found.values())


def test_what_a_process_has_mapped_is_told(places: Dict[str, Path]) -> None:
    """By the probe in the environment's own process, the driver's library and others left out."""
    code = "from gpuhost.host.probe import environment; print('\\n'.join(environment.mapped()))"
    loads = f"import sys; sys.path.insert(0, {str(Path(environment.__file__).parents[3])!r}); import tensorflow; {code}"
    run = subprocess.run(
        [str(places["dl4cv"] / "bin/python"), "-c", loads], stdout=subprocess.PIPE, text=True, check=True
    )
    assert sorted(Path(path).name for path in run.stdout.split()) == sorted(Path(file).name for file in LIBRARIES)


def test_a_file_is_told_with_the_name_that_it_was_found_under(places: Dict[str, Path], tmp_path: Path) -> None:
    """The maps name a file behind all links; what has to be taken out of the way is the folder that was searched."""
    link = tmp_path / "cuda"
    link.symlink_to(places["host"] / "x")
    code = "import json; from gpuhost.host.probe import environment; print(json.dumps(environment.loaded_files()))"
    path = f"import sys; sys.path.insert(0, {str(Path(environment.__file__).parents[3])!r})"
    run = subprocess.run(
        [str(places["opencv_cuda"] / "bin/python"), "-c", f"{path}; {TENSORFLOW.format(names=NAMES)}\n{code}"],
        env={**os.environ, "LD_LIBRARY_PATH": str(link / "lib")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = json.loads(run.stdout)
    real = str(places["host"] / "x" / "lib" / "libcudnn.so.8")
    assert real in told["mapped"] and told["found_as"][real] == str(link / "lib" / "libcudnn.so.8")
    assert set(told["found_as"]) == set(told["mapped"])


def test_the_variables_before_the_linker_are_told_with_the_files_that_set_them(tmp_path: Path) -> None:
    """For a login; a comment and another variable are none, and an empty value is as good as unset."""
    root, home = tmp_path / "root", tmp_path / "home"
    for file, text in {
        root / "etc/profile.d/tensorflow.sh": "  export LD_LIBRARY_PATH=/x:$LD_LIBRARY_PATH\n",
        root / "etc/profile.d/other.sh": "# LD_LIBRARY_PATH=/y\nMY_LD_LIBRARY_PATH=/z\n",
        root / "etc/environment": 'PATH="/usr/bin"\nLD_LIBRARY_PATH="/x"\n',
        home / ".bashrc": "LD_LIBRARY_PATH=/x\n",
    }.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (home / ".profile").mkdir()
    found = environment.search({"LD_LIBRARY_PATH": "/x", "LD_PRELOAD": "", "PATH": "/x"}, root, home)
    files = [root / "etc/environment", root / "etc/profile.d/tensorflow.sh", home / ".bashrc"]
    assert found == [{"variable": "LD_LIBRARY_PATH", "value": "/x", "files": [str(file) for file in files]}]


#: How another toolkit of the same names gets before ours on a host, and what a shell then says.
IN_THE_WAY = {
    "linker": 'echo "$OTHER" >/etc/ld.so.conf.d/000_cuda.conf && ldconfig',
    "variable": 'echo "export LD_LIBRARY_PATH=$OTHER" >/etc/profile.d/cuda.sh',
}


def staged(top: Path, way: str) -> None:
    """Put the other toolkit before ours, type what verify/ says of it, and print each state of the check.

    Runs in a mount namespace of its own, with a copy of /etc that is gone with it.
    """
    sys.executable = str(top / "venv/bin/python")
    subprocess.run(["cp", "--archive", "/etc", str(top / "etc")], check=True)
    subprocess.run(["mount", "--bind", str(top / "etc"), "/etc"], check=True)
    shell(top, 'echo "$OURS" >/etc/ld.so.conf.d/gpuhost.conf && ldconfig')
    print(json.dumps(look(top)))
    shell(top, IN_THE_WAY[way])
    found = look(top)
    print(json.dumps(found))
    shell(top, found[2].partition(ON_HOST)[2])
    print(json.dumps(look(top)))


def shell(top: Path, command: str) -> str:
    """Run a command in a login shell."""
    folders = {"OURS": str(top / "gpuhost/current/cuda/lib"), "OTHER": str(top / "cuda-11.7/lib64")}
    variables = {key: value for key, value in os.environ.items() if not key.startswith("LD_")}
    done = subprocess.run(["sh", "-lc", command], env={**variables, **folders}, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def look(top: Path) -> List[str]:
    """What the check of TensorFlow's libraries comes to for one who logs in now: status, diagnosis and remedy."""
    value = shell(top, 'printf %s "$LD_LIBRARY_PATH"')
    os.environ.update(LD_LIBRARY_PATH=value)
    seen = host(gpu_host()["machine"]["observation"], gpu_host()["lock"])
    seen["machine"]["installed"]["root"] = str(top / "gpuhost")
    probed = seen["environments"]["dl4cv"]
    probed["libraries"].update(environment.loaded(["libcudart.so.11.0"]))
    probed["search"] = environment.search(os.environ, Path("/"), top)
    found = judged(seen)["tensorflow.own"]
    return [found.status, str(found.diagnosis), found.remediation]


@pytest.mark.parametrize("way", IN_THE_WAY)
def test_what_comes_before_ours_is_named_and_the_remedy_heals_it(tmp_path: Path, way: str) -> None:
    """With the real linker, its real cache and a real profile, all of a copy of /etc."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
        pytest.skip("a mount namespace needs root")
    store = tmp_path / "gpuhost/store" / f"cuda-1-{DIGEST}"
    (tmp_path / "gpuhost/current").mkdir(parents=True)
    (tmp_path / "gpuhost/current/cuda").symlink_to(store)
    for folder in (store / "lib", tmp_path / "cuda-11.7/lib64"):
        compiled(folder / "libcudart.so.11.0", [], 0)
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    code = (
        "import sys; from pathlib import Path; from tests.unit.test_own_libraries import staged;"
        "staged(Path(sys.argv[1]), sys.argv[2])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", code, str(tmp_path), way],
        cwd=str(root),
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    before, wrong, after = (json.loads(line) for line in done.stdout.splitlines())
    assert before[0] == after[0] == "pass", done.stdout
    assert wrong[:2] == ["fail", "D51"] and wrong[2].startswith(f"{ON_HOST}sed "), wrong
