"""Which generation was in force when, and which generations and store folders are kept."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import List

import pytest

from gpuhost.errors import UsageError
from gpuhost.host import generations, store


def install(root: Path, *names: str) -> None:
    """Whole folders in the store."""
    for name in names:
        store.write_tree(root / "store" / name, {"f": name}, name)


def switch(root: Path, **links: str) -> int:
    """A generation as the role makes it, with its entry."""
    for to in links.values():
        install(root, to)
    number = store.switch(root, {"links": sorted(links)}, {name: f"store/{to}" for name, to in links.items()})
    generations.note(root, number, generations.SWITCH)
    return number


def names(root: Path) -> List[str]:
    """The folders of the store."""
    return sorted(path.name for path in (root / "store").iterdir())


def test_back_and_forth(tmp_path: Path) -> None:
    """The one before is the one that was in force before, whatever its number."""
    for version in ("1", "2", "3"):
        switch(tmp_path, cuda=f"cuda-{version}")
    assert (generations.before(tmp_path), generations.came_by(tmp_path)) == (2, "switch")
    assert generations.go_back(tmp_path, 1) and store.current_generation(tmp_path) == 1
    assert (generations.before(tmp_path), generations.came_by(tmp_path)) == (3, "back")
    assert not generations.go_back(tmp_path, 1)
    assert switch(tmp_path, cuda="cuda-4") == 4
    assert (generations.before(tmp_path), generations.came_by(tmp_path)) == (1, "switch")


def test_killed_between_record_and_rename(tmp_path: Path) -> None:
    """What was recorded and never came into force does not count; what came into force unrecorded does."""
    switch(tmp_path, cuda="cuda-1")
    switch(tmp_path, cuda="cuda-2")
    generations.note(tmp_path, 1, generations.BACK)  # and no rename
    assert (generations.before(tmp_path), generations.came_by(tmp_path)) == (1, "switch")
    install(tmp_path, "cuda-3")
    store.switch(tmp_path, {}, {"cuda": "store/cuda-3"})  # and no entry
    assert (generations.before(tmp_path), generations.came_by(tmp_path)) == (1, "switch")


def test_going_back_is_refused_where_something_is_gone(tmp_path: Path) -> None:
    """Nothing is changed then."""
    switch(tmp_path, cuda="cuda-1")
    switch(tmp_path, cuda="cuda-2")
    (tmp_path / "store/cuda-1" / store.MARKER).unlink()
    with pytest.raises(UsageError, match="cuda-1, which is not complete"):
        generations.go_back(tmp_path, 1)
    with pytest.raises(UsageError, match="no generation 7"):
        generations.go_back(tmp_path, 7)
    assert store.current_generation(tmp_path) == 2 and generations.came_by(tmp_path) == "switch"


def test_what_is_kept(tmp_path: Path) -> None:
    """The last ones, the one in force, the one before it, and the latest good one."""
    for version in range(1, 9):
        switch(tmp_path, cuda=f"cuda-{version}")
        if version in (1, 2):
            assert generations.mark_good(tmp_path) and not generations.mark_good(tmp_path)
    assert generations.kept(tmp_path, 2) == {2, 7, 8}
    generations.go_back(tmp_path, 4)
    generations.go_back(tmp_path, 5)
    assert generations.kept(tmp_path, 1) == {2, 4, 5, 8}
    generations.collect(tmp_path, 1)
    assert store.generations(tmp_path) == [2, 4, 5, 8]
    assert names(tmp_path) == ["cuda-2", "cuda-4", "cuda-5", "cuda-8"]
    assert generations.go_back(tmp_path, 2) and (tmp_path / "current/cuda/f").read_text() == "cuda-2"


def test_what_a_wheel_names_is_kept(tmp_path: Path) -> None:
    """OpenCV looks for CUDA in store folders: those of kept environments and of cached wheels stay, with the reason."""
    install(tmp_path, "cuda-1", "cuda-2", "cuda-3", "cudnn-1")
    facts = {"runpath": "/opt/gpuhost/store/cuda-1/lib64:/opt/gpuhost/store/cudnn-1/lib"}
    cached = tmp_path / "cache/wheels/opencv/key/opencv.whl"
    cached.parent.mkdir(parents=True)
    with zipfile.ZipFile(str(cached), "w") as archive:
        archive.writestr(generations.FACTS, json.dumps(facts))
    (cached.parent / "broken.whl").write_bytes(b"half")
    environment = tmp_path / "store/opencv_cuda-1/lib/python3.8/site-packages" / generations.FACTS
    switch(tmp_path, **{"venvs/opencv_cuda": "opencv_cuda-1"})
    environment.parent.mkdir(parents=True)
    environment.write_text(json.dumps({"runpath": "/opt/gpuhost/store/cuda-2/lib64"}))
    found = generations.garbage(tmp_path, 5)
    assert found.folders == ["store/cuda-3"]
    assert "the wheel opencv.whl" in found.kept["store/cuda-1"] and "store/cudnn-1" in found.kept
    assert "the OpenCV of store/opencv_cuda-1" in found.kept["store/cuda-2"]


def test_tools_and_what_is_in_the_making_stay(tmp_path: Path) -> None:
    """They are nobody's to link to: the next build takes them up."""
    switch(tmp_path, cuda="cuda-1")
    install(tmp_path, "opencv_build-3", "opencv-builder-1", "dl4cv-9")
    (tmp_path / "store/cuda-12-half").mkdir()
    assert generations.garbage(tmp_path, 5).folders == ["store/dl4cv-9"]


def test_what_a_removal_takes_is_a_line_for_each_thing(tmp_path: Path) -> None:
    """With its size on the disk, links not followed, however many files it has."""
    for name in ("store/cuda-11-ab/lib", "cache/wheels", "generations/1", "state"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(50):
        (tmp_path / "store/cuda-11-ab/lib" / str(number)).write_bytes(b"x" * 100_000)
    (tmp_path / "current").symlink_to("generations/1")
    (tmp_path / "store/cuda-11-ab/link").symlink_to("/usr")
    told = [line.split() for line in generations.contents(tmp_path)]
    assert [Path(row[2]).relative_to(tmp_path).as_posix() for row in told] == [
        "cache/wheels",
        "generations",
        "state",
        "store/cuda-11-ab",
    ]
    assert 5.0 <= float(told[-1][0]) < 6.0
