"""The detector's files as they travel to a target: complete, and named by what they hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuhost import __version__
from gpuhost.errors import UsageError
from gpuhost.host import store
from gpuhost.shipping import bundle, tree


def test_the_tree_is_complete_and_runs_alone(tmp_path: Path) -> None:
    """Written to a store and run from there, by a Python that sees nothing else of the project."""
    found = tree.yolo()
    assert found["version"] == __version__
    store.write_tree(tmp_path / "store" / "yolo", found["files"], found["digest"])
    done = subprocess.run(
        [sys.executable, "-S", "-B", "-c", "import gpuhost.errors, gpuhost.yolo; print(gpuhost.yolo.__file__)"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "store" / "yolo")},
        cwd=str(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path))


def test_a_program_is_named_by_its_version_and_its_content() -> None:
    """Each as the module gpuhost_tree takes it; the builder only with a lock, any other name not at all."""
    for name, made in (("yolo", tree.yolo()), ("watch", tree.watch()), ("service", tree.service())):
        found = tree.program(name)
        assert found == {
            "name": f"{name}-{__version__}-{made['digest']}",
            "files": made["files"],
            "digest": made["digest"],
        }
    for name in ("opencv-builder", "../x"):
        with pytest.raises(UsageError, match=r"There is no program.*needs a lock"):
            tree.program(name)


def test_the_digest_follows_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same files give the same name in the store; one changed letter gives another."""
    before = tree.yolo()
    assert tree.yolo() == before
    for name, text in before["files"].items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(bundle, "PACKAGE", tmp_path / "gpuhost")
    bundle.sources.cache_clear()
    assert tree.yolo() == before
    with (tmp_path / "gpuhost" / "errors.py").open("a", encoding="utf-8") as file:
        file.write("#\n")
    bundle.sources.cache_clear()
    assert tree.yolo()["digest"] != before["digest"]
    bundle.sources.cache_clear()


def test_only_what_the_detector_needs_travels() -> None:
    """No catalog, no resolver: the target never decides."""
    names = set(tree.yolo()["files"])
    assert {
        "gpuhost/__init__.py",
        "gpuhost/yolo/__main__.py",
        "gpuhost/host/files.py",
        "gpuhost/data/yolo.json",
    } <= names
    rooms = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert rooms == {"yolo", "host", "data"}
    assert {name for name in names if "/data/" in name} == {"gpuhost/data/yolo.json"}
    host = {name.split("/host/")[1] for name in names if "/host/" in name}
    reading = {"fatbin.py", "probe/__init__.py", "probe/cuda.py"}  # which code ONNX Runtime has, and for which card
    assert host == {"__init__.py", "answer.py", "cgroups.py", "commands.py", "files.py", *reading}
