"""CatalogEnvironment one Python environment of a target: every package by exact version, file name and sha256.

A maintainer's script. It asks the real pip of the target's Python to resolve, holds it to the target's glibc,
checks that the target's own patch release of Python would have chosen the same, downloads every file once to
count its bytes and to have pip check its hash, and can prove the result in a fresh virtual environment.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, cast
from urllib.parse import unquote, urlsplit

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from gpuhost.planning import environments
from gpuhost.planning.environments import bootstrap_text, lock_name, requirements_text
from gpuhost.shapes.lock import CatalogEnvironment

COMPONENTS = {
    "dl4cv": "tensorflow",
    "opencv_cuda": "opencv",
    "opencv_cuda_engines": "opencv",
    "opencv_build": "cmake",
    "service": "fastapi",
}
#: What an environment holds besides its component: the newest release that fits the target's Python and glibc.
BESIDES = {
    "opencv_cuda_engines": ("onnxruntime", "openvino"),
    "opencv_build": ("ninja", "numpy", "packaging"),
    # FastAPI's own extras would bring python-multipart, which the service does without.
    "service": ("gunicorn", "uvicorn", "uvicorn-worker", "httptools", "uvloop"),
}
#: PEP 600 gave these three older tags their glibc.
LEGACY_GLIBC = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}

#: PEP 600 lets a Python say which manylinux tags it is compatible with. pip then chooses for the target's
#: glibc, while the environment markers stay those of the interpreter; `pip --platform` does not promise that.
GLIBC_LIMIT = '''"""Hold pip to the wheels that glibc {glibc} can run."""


def manylinux_compatible(major, minor, arch):
    """Answer PEP 600's question for one manylinux tag."""
    return (major, minor) <= {pair} and arch == "x86_64"
'''

PROOFS = {
    "dl4cv": """
import importlib.util, os, tempfile
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, tensorflow as tf
image = np.random.RandomState(0).rand(1, 8, 8, 3).astype("float32")
kernel = np.random.RandomState(1).rand(3, 3, 3, 4).astype("float32")
got = np.asarray(tf.nn.conv2d(image, kernel, strides=1, padding="VALID"))
want = np.zeros((1, 6, 6, 4), "float32")
for row in range(6):
    for column in range(6):
        want[0, row, column] = np.tensordot(image[0, row:row + 3, column:column + 3], kernel, 3)
assert np.allclose(got, want, atol=1e-4), abs(got - want).max()
model = tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))])
with tempfile.TemporaryDirectory() as folder:
    model.save(os.path.join(folder, "model.h5"))
    again = tf.keras.models.load_model(os.path.join(folder, "model.h5"), compile=False)
one = np.ones((1, 3), "float32")
assert np.allclose(np.asarray(model(one)), np.asarray(again(one)))
if importlib.util.find_spec("tensorboard"):
    import tensorboard.main
print("tensorflow", tf.__version__, "numpy", np.__version__, "convolution and .h5 agree")
""",
    "opencv_cuda": """
import cv2, numpy as np
image = np.random.RandomState(0).randint(0, 256, (48, 64, 3)).astype("uint8")
ok, coded = cv2.imencode(".png", image)
assert ok and (cv2.imdecode(coded, cv2.IMREAD_COLOR) == image).all()
box = cv2.blur(image.astype("float32"), (3, 3))[10, 20]
assert np.allclose(box, image[9:12, 19:22].reshape(9, 3).mean(0), atol=1e-3), box
assert cv2.dnn.blobFromImage(image, 1 / 255.0, (32, 32)).shape == (1, 3, 32, 32)
assert hasattr(cv2.dnn, "readNetFromDarknet") and hasattr(cv2, "xfeatures2d")
print("opencv", cv2.__version__, "numpy", np.__version__, "blur, png and blob agree")
""",
}
# What builds OpenCV: the tools answer, and NumPy's headers are there.
PROOFS["opencv_build"] = """
import subprocess, sys
from pathlib import Path
import numpy, packaging
for tool in ("cmake", "ninja"):
    subprocess.run([str(Path(sys.executable).parent / tool), "--version"], check=True)
assert (Path(numpy.get_include()) / "numpy" / "arrayobject.h").exists()
"""
# The detection service's packages: the server answers, with the parser and the loop that are meant.
PROOFS["service"] = """
import asyncio, importlib.util
import fastapi, gunicorn, httptools, uvicorn, uvicorn_worker, uvloop
from fastapi import FastAPI
assert importlib.util.find_spec("multipart") is None and importlib.util.find_spec("python_multipart") is None
app = FastAPI()
app.get("/there")(lambda: {"there": True})

async def ask():
    config = uvicorn.Config(app, port=0, http="httptools", loop="uvloop", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /there HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    answer = await reader.read()
    writer.close()
    server.should_exit = True
    await serving
    return answer

uvloop.install()
answer = asyncio.run(ask())
assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b'{"there":true}'), answer
print("fastapi", fastapi.__version__, "gunicorn", gunicorn.__version__, "uvicorn", uvicorn.__version__, "answer")
"""
# The detector's own proof: each engine runs a small network and agrees with OpenCV.
PROOFS["opencv_cuda_engines"] = (
    PROOFS["opencv_cuda"]
    + f"""
import sys
sys.path.insert(0, {str(Path(environments.__file__).parents[2])!r})
from gpuhost.yolo.devices import survey
for row in survey():
    if row["name"] in ("onnxruntime", "openvino"):
        assert row["available"], row["reason"]
print("onnxruntime and openvino agree with opencv")
"""
)


class LockingError(Exception):
    """The lock cannot be made; the text says what the maintainer can do."""


def file_name(url: str) -> str:
    """Take the file's name from its address; the address itself never enters a lock."""
    return unquote(urlsplit(url).path).rsplit("/", 1)[-1]


def wheel_glibc(name: str) -> Optional[str]:
    """Give the lowest glibc ("2.17") that runs this wheel, or None for a wheel that needs none."""
    lowest = None
    for tag in parse_wheel_filename(name)[3]:
        family = tag.platform.split("_", 1)[0]
        if family == "manylinux":
            major, minor = tag.platform.split("_")[1:3]
            needs = (int(major), int(minor))
        elif family in LEGACY_GLIBC:
            needs = LEGACY_GLIBC[family]
        else:
            continue
        lowest = needs if lowest is None else min(lowest, needs)
    return None if lowest is None else "{}.{}".format(*lowest)


def read_report(report: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Turn pip's installation report into the lock's package rows, sorted by name, sizes unknown."""
    rows = []
    for item in report["install"]:
        download = item["download_info"]
        name = file_name(download["url"])
        rows.append(
            {
                "name": canonicalize_name(item["metadata"]["name"]),
                "version": item["metadata"]["version"],
                "file": name,
                "kind": "wheel" if name.endswith(".whl") else "sdist",
                "sha256": download["archive_info"]["hashes"]["sha256"],
                "size": None,
            }
        )
    return sorted(rows, key=lambda row: str(row["name"]))


def target_objections(report: Mapping[str, Any], target: str) -> List[str]:
    """Say where the target's Python (its full version, "3.8.0") would differ from the one that resolved."""
    here = report["environment"]
    there = dict(here, python_full_version=target)
    objections = []
    for item in report["install"]:
        meta = item["metadata"]
        what = f"{meta['name']} {meta['version']}"
        if not SpecifierSet(meta.get("requires_python", "")).contains(target, prereleases=True):
            objections.append(f"{what} needs Python {meta['requires_python']}")
        for text in meta.get("requires_dist", []):
            marker: Optional[Marker] = Requirement(text).marker
            if marker and marker.evaluate(dict(here, extra="")) != marker.evaluate(dict(there, extra="")):
                objections.append(f"{what} asks for {text!r} on only one of the two")
    return objections


def highest_glibc(packages: Sequence[Mapping[str, Any]]) -> str:
    """Give the highest glibc that any of the lock's wheels needs."""
    needs = [wheel_glibc(str(row["file"])) for row in packages if row["kind"] == "wheel"]
    return max((need for need in needs if need), key=Version)


class Bench:
    """A virtual environment of the target's Python with its newest pip, held to the target's glibc."""

    def __init__(self, folder: Path, interpreter: str, glibc: str, pip_wheel: Optional[Path] = None) -> None:
        """Make it under `folder`; with `pip_wheel` that pip is put in, and nothing else, as on a target."""
        self.python = str(folder / "bin" / "python")
        # A machine's own pip settings may add indexes whose files are not the public ones.
        dropped = ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PYTHONPATH")
        self.env = {key: value for key, value in os.environ.items() if key not in dropped}
        self.env.update(PIP_CONFIG_FILE=os.devnull, PIP_DISABLE_PIP_VERSION_CHECK="1")
        bare = ["--without-pip"] if pip_wheel else []
        self._call([interpreter, "-I", "-m", "venv", *bare, str(folder)])
        major, minor = (int(part) for part in glibc.split("."))
        site = next((folder / "lib").glob("python3*/site-packages"))
        text = GLIBC_LIMIT.format(glibc=glibc, pair=(major, minor))
        (site / "_manylinux.py").write_text(text, encoding="utf-8")
        if pip_wheel:
            alone = ["install", "--quiet", "--no-index", "--no-deps", str(pip_wheel)]
            self._call([self.python, str(pip_wheel / "pip"), *alone])
        else:
            self.pip("install", "--quiet", "--upgrade", "pip")

    def _call(self, command: Sequence[str]) -> str:
        """Run one command and give its output; what it said goes to the maintainer when it fails."""
        done = subprocess.run(  # noqa: S603 - the maintainer's own interpreter, arguments as a list
            command, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise LockingError(f"{' '.join(command)} ended with {done.returncode}.\n{done.stdout[-2000:]}")
        return done.stdout

    def pip(self, *arguments: str) -> str:
        """Run this environment's pip and give what it printed."""
        return self._call([self.python, "-I", "-m", "pip", *arguments])

    def run(self, *arguments: str) -> str:
        """Run this environment's Python and give what it printed."""
        return self._call([self.python, *arguments])

    def resolve(self, requirements: Sequence[str], constraints: Path) -> Dict[str, Any]:
        """Ask pip what it would install; the answer is its installation report.

        Where that holds an sdist, it is asked again with what builds one.
        """
        flags = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-", "-c", str(constraints)]
        report: Dict[str, Any] = json.loads(self.pip("install", *flags, *requirements))
        sdists = [row for row in read_report(report) if row["kind"] == "sdist"]
        if sdists and "wheel" not in requirements:
            return self.resolve([*requirements, "setuptools", "wheel"], constraints)
        return report


def fill_sizes(bench: Bench, lock: CatalogEnvironment, wheelhouse: Path, work: Path) -> None:
    """Download every file of the lock into `wheelhouse`, where pip checks its hash, and write its size."""
    listed = work / "all.txt"
    listed.write_text(requirements_text(lock), encoding="utf-8")
    exact = ["--quiet", "--no-deps", "--require-hashes", "-r", str(listed)]
    bench.pip("download", *exact, "-d", str(wheelhouse))
    for row in lock["packages"]:
        row["size"] = (wheelhouse / row["file"]).stat().st_size


def prove(lock: CatalogEnvironment, interpreter: str, glibc: str, wheelhouse: Path, work: Path) -> str:
    """Install the lock from its files alone, as a target does, make it compute, and give what it said."""
    pip_file = next(row["file"] for row in lock["packages"] if row["name"] == "pip")
    bench = Bench(work / "proof", interpreter, glibc, wheelhouse / pip_file)
    # A target may have no compiler: an sdist must do without one.
    bench.env["CC"] = "false"
    exact = ["--quiet", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--require-hashes"]
    for name, text in (("first.txt", bootstrap_text(lock)), ("all.txt", requirements_text(lock))):
        (work / name).write_text(text, encoding="utf-8")
        bench.pip("install", *exact, "--no-index", "--find-links", str(wheelhouse), "-r", str(work / name))
    bench.pip("check")
    installed = json.loads(bench.pip("list", "--format=json"))
    there = {canonicalize_name(row["name"]): row["version"] for row in installed}
    if there != {row["name"]: row["version"] for row in lock["packages"]}:
        raise LockingError(f"The environment holds something else than its lock: {there}")
    return bench.run("-c", PROOFS[lock["environment"]]).strip()


def make_lock(options: argparse.Namespace, work: Path) -> CatalogEnvironment:
    """Resolve, check, download and (with --prove) prove one lock; `work` is a scratch folder."""
    bench = Bench(work / "resolve", options.interpreter, options.glibc)
    constraints = work / "constraints.txt"
    constraints.write_text("".join(f"{line}\n" for line in options.extra_constraint), encoding="utf-8")
    besides = BESIDES.get(options.environment, ())
    report = bench.resolve(["pip", options.requirement, *besides], constraints)
    here = report["environment"]
    if here["python_version"] != options.python:
        raise LockingError(f"{options.interpreter} is Python {here['python_version']}, not {options.python}.")
    objections = target_objections(report, options.target_python or here["python_full_version"])
    if objections:
        raise LockingError("Add an --extra-constraint for each of: " + "; ".join(objections))
    packages = read_report(report)
    wanted = canonicalize_name(Requirement(options.requirement).name)
    made = {
        "schema": 1,
        "environment": options.environment,
        "component": COMPONENTS[options.environment],
        "version": next(row["version"] for row in packages if row["name"] == wanted),
        "python": options.python,
        "tag": "cp" + options.python.replace(".", ""),
        "glibc": highest_glibc(packages),
        "packages": packages,
        "made": {
            "date": datetime.date.today().isoformat(),
            "with": f"pip {report['pip_version']} on CPython {here['python_full_version']}",
            "constraints": list(options.extra_constraint),
        },
    }
    lock, wheelhouse = cast(CatalogEnvironment, made), options.wheelhouse or work / "files"
    fill_sizes(bench, lock, wheelhouse, work)
    if options.prove:
        print(prove(lock, options.interpreter, options.glibc, wheelhouse, work))
    return lock


def parse(arguments: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--environment", required=True, choices=sorted(COMPONENTS), help="which of the target's environments")
    add("--requirement", required=True, help="what it is for: tensorflow==2.13.1")
    add("--python", required=True, help="the target's Python, by minor release: 3.8")
    add("--interpreter", required=True, help="a Python of that minor release on this machine")
    add("--target-python", help="the target's full version (3.8.0), where it is older than the interpreter")
    add("--glibc", required=True, help="the target's glibc; wheels for a newer one are left alone: 2.27")
    cap = "a cap that the packages do not state, may be repeated: 'protobuf<4'"
    add("--extra-constraint", action="append", default=[], help=cap)
    add("--wheelhouse", type=Path, help="keep the downloaded files here (default: removed afterwards)")
    add("--prove", action="store_true", help="install the lock in a fresh environment and make it compute")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="write the lock into this folder")
    options = parser.parse_args(arguments)
    # What would otherwise be noticed only after the downloads.
    if not options.output.is_dir():
        parser.error(f"--output {options.output} is not a folder")
    if shutil.which(options.interpreter) is None:
        parser.error(f"--interpreter {options.interpreter} is not there to run")
    if not re.fullmatch(r"2\.[0-9]+", options.glibc):
        parser.error(f"--glibc {options.glibc} is not a version of glibc, such as 2.27")
    return options


def main() -> int:
    """Make one lock and write it; 0 when it is written, 1 with the reason otherwise."""
    options = parse()
    try:
        with tempfile.TemporaryDirectory(prefix="lock-environment-") as work:
            lock = make_lock(options, Path(work))
    except LockingError as error:
        print(error, file=sys.stderr)
        return 1
    name = lock_name(lock["environment"], lock["component"], lock["version"], lock["tag"])
    path = options.output / f"{name}.json"
    path.write_text(json.dumps(lock, indent=2) + "\n", encoding="utf-8")
    print(f"{path}: {len(lock['packages'])} packages, glibc {lock['glibc']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
