"""Python on a host and here: it imports nothing from a folder that others write to, and reads text in any locale."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import yaml

from gpuhost.checks import benchmark as checks_benchmark
from gpuhost.host import commands, opencv_job, venvs
from gpuhost.planning import opencv as opencv_plan
from gpuhost.shipping import bundle, tree
from gpuhost.verification.collect import Options

from . import wheelhouse

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for top in ("src", "plugins", "verify", "build") for path in (ROOT / top).rglob("*.py"))
YAML = sorted(path for top in ("roles", "playbooks") for path in (ROOT / top).rglob("*.yml"))
OLD = Path(os.environ.get("GPUHOST_OLD_PYTHON", "~/.pyenv/versions/3.6.15/bin/python")).expanduser()
#: libyaml where PyYAML has it: some 100 files are read.
QUICK = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: What a hostile user puts into a folder: modules that every Python program imports sooner or later.
NAMES = ("pip", "json", "cv2", "gpuhost", "venv", "runpy", "numpy", "sitecustomize", "usercustomize")


def words(node: ast.AST) -> List[str]:
    """The constants of a list, in order; what is not a constant is ''."""
    parts = getattr(node, "elts", [])
    return [part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "" for part in parts]


def strings(value: Any) -> Iterator[Any]:
    """Every list, every dict and every text of a YAML value."""
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(inner)


def test_the_files_are_there() -> None:
    """Empty lists would let the laws pass."""
    assert len(SOURCES) > 100 and len(YAML) > 50


def parsed() -> Iterator[Tuple[Path, ast.Module]]:
    """Every source with its syntax tree."""
    for path in SOURCES:
        yield path, syntax(path)


@functools.lru_cache(maxsize=None)
def syntax(path: Path) -> ast.Module:
    """A source's syntax tree, for the laws that read all of them."""
    return ast.parse(path.read_text(encoding="utf-8"))


def test_each_python_that_is_started_is_isolated() -> None:
    """`-m` and `-c` import from the working folder and from PYTHONPATH, unless -I comes before them."""
    for path, node in ((path, node) for path, tree_of in parsed() for node in ast.walk(tree_of)):
        if isinstance(node, (ast.List, ast.Tuple)):
            said = words(node)
            if said and said[0] and "python" not in said[0] and not said[0].startswith("-"):
                continue  # another program
            for option in {"-m", "-c"} & set(said):
                assert "-I" in said[: said.index(option)], f"{path}:{node.lineno}: {said}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("PYTHONPATH="):
            pytest.fail(f"{path}:{node.lineno} sets PYTHONPATH")
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
            assert " -m gpuhost" not in text and "PYTHONPATH=" not in text, f"{path}:{node.lineno}"


def test_each_python_of_a_role_or_playbook_is_isolated() -> None:
    """In argv lists, command lines and environments."""
    read = [(path, list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=QUICK))) for path in YAML]
    for path, value in ((path, value) for path, whole in read for value in strings(whole)):
        if isinstance(value, list) and "-m" in value:
            assert "-I" in value[: value.index("-m")], (path, value)
        if isinstance(value, dict):
            assert not {"PYTHONPATH", "PYTHONHOME"} & set(map(str, value)), (path, value)
        if isinstance(value, str) and "python" in value and " -m " in value:
            assert " -I " in value, (path, value)


def test_no_text_is_read_in_the_locale_s_encoding() -> None:
    """Under LC_ALL=C Python 3.6 reads ASCII, and a compiler's quotes are none: encoding and errors are said."""
    for path, node in ((path, node) for path, tree_of in parsed() for node in ast.walk(tree_of)):
        if isinstance(node, ast.Call):
            given = {word.arg for word in node.keywords}
            assert not {"text", "universal_newlines"} & given or not is_process(node), f"{path}:{node.lineno}"
            if is_process(node) and "encoding" in given:
                assert "errors" in given, f"{path}:{node.lineno}"


def test_one_module_opens_addresses() -> None:
    """Every other one goes through it, with its bounds."""
    for path, tree_of in parsed():
        imported = {
            name.name
            for node in ast.walk(tree_of)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in node.names
        }
        forbidden = {"urllib.request", "urlopen", "urlretrieve", "requests"} & imported
        assert not forbidden or path.name == "https.py", (path, forbidden)


def is_process(call: ast.Call) -> bool:
    """Return whether a call is one of the module subprocess."""
    function = call.func
    return isinstance(function, ast.Attribute) and getattr(function.value, "id", "") == "subprocess"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, also named by PYTHONPATH, full of modules that leave a mark when they are imported."""
    folder, mark = tmp_path / "trap", tmp_path / "imported"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write({name!r})\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.chdir(folder)
    return mark


def test_the_trap_works(trap: Path) -> None:
    """A Python that is not isolated runs into it."""
    subprocess.run([sys.executable, "-c", "import json"], check=False, capture_output=True)
    assert trap.exists()


def test_the_detector_and_the_builder_are_not_trapped(trap: Path, tmp_path: Path) -> None:
    """Each command line of the project, in the trap: the detector, the builder, the programs that verify/ sends."""
    folder = tmp_path / "current" / "yolo"
    for name, text in tree.yolo()["files"].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    python = tmp_path / "current" / "venvs" / "opencv_cuda" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    shell = checks_benchmark.command(str(tmp_path), "yolov3", "cpu", {**asdict(Options()), "photos": 1})
    lines: List[Tuple[List[str], str]] = [
        (["sh", "-c", shell], "error: "),
        ([*checks_benchmark.thorough(str(tmp_path), "cpu", ["yolov3"], 1, 1, False)], "error: "),
        (["sh", "-c", bundle.command(sys.executable, "host.probe.installed", {"root": str(tmp_path)}, 60)], ""),
    ]
    for line, told in lines:
        done = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, "TERM": "dumb"})
        assert "No module" not in done.stderr and told in done.stderr, done.stderr
    builder = opencv_plan.command(sys.executable, str(ROOT / "src"), str(tmp_path), "/c", "/d", ["--print-key"])
    assert subprocess.run(builder, capture_output=True, text=True, check=False).stderr.startswith("error: [B-usage]")
    assert not trap.exists(), trap.read_text(encoding="utf-8")


def test_pip_and_venv_are_not_trapped(trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole environment is made from the trap."""
    house = tmp_path / "house"
    house.mkdir()
    wheelhouse.wheel(house, "gpuhost-one", "1.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(house))
    lock = wheelhouse.lock_of([wheelhouse.row(path) for path in house.iterdir()])
    folder = venvs.install(tmp_path / "root", "dl4cv", lock, sys.executable, lambda _: None)
    python = str(folder / "bin" / "python")
    assert not trap.exists(), trap.read_text(encoding="utf-8")
    assert json.loads(commands.bounded([python, "-I", "-m", "pip", "list", "--format=json"])[1])


COMPILER = """#!/bin/sh
printf 'a.cpp:1: error: \\342\\200\\230x\\342\\200\\231 was not declared \\377\\n' >&2
echo '{"key": "k", "wheel": null}'
case "$*" in *--print-key*) exit 0 ;; *) exit 1 ;; esac
"""
READER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from gpuhost.host import commands, opencv_job, venvs
from gpuhost.errors import EnvironmentProblem
from gpuhost.yolo import sampling_nvidia
command, folder = [sys.argv[2]], Path(sys.argv[3])
told, steps = [], []
assert opencv_job.ask(command) == {"key": "k", "wheel": None}
try:
    opencv_job.build(command, folder / "log" / "a.log", steps.append)
except EnvironmentProblem as error:
    told.append(error.message)
told.append(commands.run_command(command, 60)[2])
try:
    venvs.run(command, folder / "b.log")
except commands.CommandFailed as error:
    told.append(str(error))
card = sampling_nvidia.NvidiaWatch(0.1, sys.argv[2])
card.start()
told.append(card.summary()[1] or "")
print(json.dumps([told, steps]))
"""


@pytest.mark.parametrize("python", [sys.executable, str(OLD)], ids=["this", "3.6"])
def test_a_compiler_s_words_are_read_in_any_locale(tmp_path: Path, python: str) -> None:
    """LC_ALL=C, Python 3.6: quotes that are no ASCII, and a byte that is nothing, are read, logged and told."""
    if not Path(python).exists():
        pytest.skip("no Python 3.6: set GPUHOST_OLD_PYTHON to one")
    tool = tmp_path / "tool"
    tool.write_bytes(COMPILER.encode())
    tool.chmod(0o755)
    locale: Dict[str, str] = {"LC_ALL": "C", "PATH": os.environ["PATH"], "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [python, "-I", "-c", READER, str(ROOT / "src"), str(tool), str(tmp_path)],
        env=locale,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    told, steps = json.loads(done.stdout.decode())
    said = "error: \u2018x\u2019 was not declared \ufffd"
    assert all(said in text for text in told), told
    assert [said in step for step in steps] == [True]
    assert said in (tmp_path / "log" / "a.log").read_text(encoding="utf-8")


def test_opencv_job_says_what_its_builder_says_too_much() -> None:
    """An answer without end is a failure in one sentence."""
    with pytest.raises(opencv_job.EnvironmentProblem, match="It says more than a key"):
        opencv_job.ask(["sh", "-c", "yes", "sh"])
