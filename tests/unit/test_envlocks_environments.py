"""Reading environment locks: what pip is told to install, how a lock is named, what a damaged one says."""

import copy
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuhost.errors import CatalogError, RefusedError
from gpuhost.planning import environments

LOCK = {
    "schema": 1,
    "environment": "dl4cv",
    "component": "tensorflow",
    "version": "2.4.4",
    "python": "3.8",
    "tag": "cp38",
    "glibc": "2.17",
    "packages": [
        {
            "name": "numpy",
            "version": "1.19.5",
            "file": "n.whl",
            "kind": "wheel",
            "sha256": "a" * 64,
            "size": 5,
        },
        {"name": "pip", "version": "25.0.1", "file": "p.whl", "kind": "wheel", "sha256": "b" * 64, "size": 6},
        {
            "name": "wheel",
            "version": "0.45.1",
            "file": "w.whl",
            "kind": "wheel",
            "sha256": "c" * 64,
            "size": None,
        },
    ],
    "made": {"date": "2026-01-02", "with": "pip 25.0.1 on CPython 3.8.18", "constraints": []},
}

#: A file whose checksum pins nothing.
UNPINNED = json.dumps({**LOCK, "packages": [{**LOCK["packages"][0], "sha256": "any"}]})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Put a folder with one good lock in the place of the catalog's."""
    locks = tmp_path / "environments"
    locks.mkdir()
    monkeypatch.setattr(environments, "LOCKS", locks)
    (locks / "dl4cv-tensorflow-2.4.4-cp38.json").write_text(json.dumps(LOCK), encoding="utf-8")
    return locks


def test_a_lock_is_found_by_its_name(folder):
    """The names are those that can be loaded, and nothing else that lies in the folder."""
    (folder / "README.md").write_text("no lock", encoding="utf-8")
    assert environments.environment_names() == ["dl4cv-tensorflow-2.4.4-cp38"]
    assert environments.load_environment("dl4cv-tensorflow-2.4.4-cp38") == LOCK


@pytest.mark.parametrize("name", ["dl4cv-tensorflow-9.9-cp38", "../outside", ""])
def test_an_unknown_name_says_which_there_are(folder, name):
    """A wrong version is a catalog error that lists the right ones; a path is not a name."""
    (folder.parent / "outside.json").write_text(json.dumps(LOCK), encoding="utf-8")
    with pytest.raises(CatalogError, match="no environment lock named") as caught:
        environments.load_environment(name)
    assert "dl4cv-tensorflow-2.4.4-cp38" in caught.value.next_step


@pytest.mark.parametrize(
    "text",
    ["", '{"environment": ', "[]", "null", "{}", json.dumps({**LOCK, "packages": None}), "\xff", UNPINNED],
    ids=["empty", "truncated", "list", "null", "no fields", "no packages", "not utf-8", "no checksum"],
)
def test_a_damaged_lock_is_a_catalog_error(folder, text):
    """Whatever is wrong with the file, the user reads one sentence and how to restore it."""
    path = folder / "dl4cv-tensorflow-2.4.4-cp38.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CatalogError, match="damaged"):
        environments.load_environment(path.stem)


def test_a_lock_under_another_name_is_refused(folder):
    """A copied file would install another version than the one that was asked for."""
    (folder / "dl4cv-tensorflow-2.13.1-cp38.json").write_text(json.dumps(LOCK), encoding="utf-8")
    with pytest.raises(CatalogError, match=r"says that it is dl4cv-tensorflow-2\.4\.4-cp38"):
        environments.load_environment("dl4cv-tensorflow-2.13.1-cp38")


def test_requirements_bind_each_package_to_its_file():
    """pip takes a file only by the sha256 of the lock."""
    assert environments.requirements_text(LOCK) == (
        f"numpy===1.19.5 --hash=sha256:{'a' * 64}\n"
        f"pip===25.0.1 --hash=sha256:{'b' * 64}\n"
        f"wheel===0.45.1 --hash=sha256:{'c' * 64}\n"
    )


def test_the_build_tools_go_in_first():
    """Only pip, setuptools and wheel, and only those that the lock has."""
    names = [line.split("==")[0] for line in environments.bootstrap_text(LOCK).splitlines()]
    assert names == ["pip", "wheel"]


@given(st.permutations(LOCK["packages"]))
def test_the_order_of_the_rows_changes_nothing(packages):
    """Requirements and digest are functions of what is locked, not of how the file was written."""
    other = {**LOCK, "packages": packages}
    assert environments.requirements_text(other) == environments.requirements_text(LOCK)
    assert environments.bootstrap_text(other) == environments.bootstrap_text(LOCK)
    assert environments.lock_digest(other) == environments.lock_digest(LOCK)


def test_the_digest_is_over_packages_and_python():
    """It follows every file and the Python, and not the day on which the lock was made."""
    digest = environments.lock_digest(LOCK)
    assert re.fullmatch("[0-9a-f]{12}", digest)
    assert environments.lock_digest({**LOCK, "made": {}, "glibc": "2.5"}) == digest
    assert environments.lock_digest({**LOCK, "python": "3.7"}) != digest
    for field in ("version", "sha256", "file"):
        other = copy.deepcopy(LOCK)
        other["packages"][0][field] += "0"
        assert environments.lock_digest(other) != digest


def test_the_engines_are_in_a_lock_of_their_own(monkeypatch):
    """With engines another lock is installed, without them the one that was named; no such lock is a refusal."""
    there = ["opencv_cuda-opencv-4.9-cp38", "opencv_cuda-opencv-5.0-cp38", "opencv_cuda_engines-opencv-5.0-cp38"]
    monkeypatch.setattr(environments, "environment_names", lambda: there)
    assert environments.chosen("opencv_cuda-opencv-5.0-cp38", False) == "opencv_cuda-opencv-5.0-cp38"
    assert environments.chosen("opencv_cuda-opencv-5.0-cp38", True) == "opencv_cuda_engines-opencv-5.0-cp38"
    with pytest.raises(RefusedError, match="ONNX Runtime and OpenVINO") as caught:
        environments.chosen("opencv_cuda-opencv-4.9-cp38", True)
    assert "opencv_cuda_engines-opencv-5.0-cp38" in caught.value.next_step
