"""The built wheel, in a fresh environment outside the checkout: what works there, and what says that it does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest
from packaging.requirements import Requirement

from gpuhost.cli import main as cli
from gpuhost.planning import opencv as opencv_plan
from gpuhost.shipping import tree

from ..locks import of
from .asking import planned

pytestmark = pytest.mark.install

ROOT = Path(__file__).resolve().parents[2]
P2000 = ["--os", "debian-12", "--gpu", "Quadro P2000"]
CLONE = "./run is part of a clone of gpuhost's repository"

#: Each command of `gpuhost` with the exit code and the words that it ends with where no stack is installed.
ANSWERS: Dict[str, List[Any]] = {
    "plan": [
        (P2000, 0, "Quadro P2000"),
        (["--os", "debian-12", "--gpu", "none"], 0, "OpenCV"),
        (["--os", "no-such-os", "--gpu", "none"], 2, "not in the catalog"),
        (["--os", "ubuntu-18.04", "--gpu", "GTX 750 Ti", "--tensorflow", "2.3"], 3, "needs"),
    ],
    "detect": [(["photo.jpg"], 7, CLONE)],
    "bench": [
        ([], 7, CLONE),
        (["compare", "a.json", "b.json"], 7, "NumPy"),
        (["picture", "a.json", "-o", "o.svg"], 7, "NumPy"),
        (["picture", "a.json", "-o", "o.png"], 2, "SVG"),
    ],
    "doctor": [(["--message", "no CUDA-capable device is detected"], 1, "D08"), (["--message", "well"], 3, "")],
    "observe": [([], 0, '"platform"'), (["--root", "no-such"], 2, "is not a folder")],
    "devices": [([], 7, CLONE)],
    "verify": [([], 7, "verify/ is not part of an installed package")],
    "report": [([], 2, "There is no report of localhost")],
    "completion": [([], 0, "complete")],
    "manual": [([], 0, ".SH COMMANDS")],
    "history": [([], 2, CLONE), (["box"], 2, CLONE), (["--reports", "/dev/null"], 2, CLONE)],
    "lock": [(["check"], 2, "There is no lock in locks."), (["show", "box"], 8, "There is no lock")],
}


def needed(name: str) -> Set[str]:
    """Return what a package needs, and what that needs, by the metadata of the installed ones."""
    found: Set[str] = set()
    todo = [name]
    while todo:
        for line in metadata.requires(todo.pop()) or []:
            wanted = Requirement(line)
            key = wanted.name.lower()
            if key not in found and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                found.add(key)
                todo.append(key)
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `bin` of a fresh environment that has the wheel and what its metadata asks for, and no more.

    The tools that build and install it, and the packages it needs, are those that `./run` has installed by their pins.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source, env = folder / "source", folder / "env"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-I", "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=str(source), check=True, stdout=subprocess.PIPE)
    shutil.rmtree(source)
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(env)], check=True)
    python = str(env / "bin" / "python")
    ask = [python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    for name in needed("gpuhost"):
        for file in metadata.files(name) or []:
            if ".." not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), str(site / file))
    install = ["install", "--quiet", "--disable-pip-version-check", "--no-index", str(next(folder.glob("*.whl")))]
    subprocess.run([sys.executable, "-I", "-m", "pip", "--python", python, *install], check=True)
    return env / "bin"


def run(installed: Path, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in an empty folder, as a user who has nothing else of gpuhost."""
    env = {"PATH": os.environ["PATH"], "HOME": str(place), "COLUMNS": "1000", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [str(installed / words[0]), *words[1:]],
        cwd=str(place),
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_command_is_tried() -> None:
    """A command that is added must say how it behaves without a checkout."""
    actions = [action for action in cli.parser()._actions if action.choices]
    assert set(actions[0].choices or ()) == set(ANSWERS)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [([name, *words], code, said) for name, rows in ANSWERS.items() for words, code, said in rows],
)
def test_a_command_works_or_says_what_it_lacks(
    installed: Path, tmp_path: Path, words: List[str], code: int, said: str
) -> None:
    """With its exit code, in a paragraph and never a traceback."""
    if words[0] in ("detect", "bench") and code == 7 and Path("/opt/gpuhost/current/venvs/opencv_cuda").exists():
        pytest.skip("a stack is installed on this machine")
    done = run(installed, tmp_path, "gpuhost", *words)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert said in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) <= 1 or done.returncode != 7, done.stderr


@pytest.mark.parametrize("name", ["opencv-builder", "yolo", "watch", "pairs", "service"])
def test_what_is_carried_to_a_host_is_the_same(installed: Path, tmp_path: Path, name: str) -> None:
    """Each program is packed from the installed package as from a checkout."""
    lock = of(planned("debian-12", "Quadro P2000"))
    (tmp_path / "lock.json").write_text(json.dumps(lock), encoding="utf-8")
    program = "import json; from gpuhost.shipping import tree; lock = json.load(open('lock.json')); "
    done = run(installed, tmp_path, "python", "-I", "-c", f"{program}print(json.dumps(tree.program({name!r}, lock)))")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == tree.program(name, lock)


def test_the_carried_builder_starts(installed: Path, tmp_path: Path) -> None:
    """Of nothing but the carried files and `packaging`; without tools it refuses in a sentence of its own."""
    for name, text in tree.opencv(of(planned("debian-12", "Quadro P2000")))["files"].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    python = str(installed / "python")
    where = [str(tmp_path), str(tmp_path / "root"), "/no/cuda", "/no/cudnn"]
    done = run(installed, tmp_path, *opencv_plan.command(python, *where, ["--print-key"]))
    assert done.returncode != 0 and done.stderr.startswith("error: [D2"), done.stderr
