"""Generations: `current` names a whole one at every moment, and a number is never used twice."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Dict

import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.host import store

from .test_store_tree import killed_at_each_step

LINKS = {"venvs/dl4cv": "store/dl4cv-1", "yolo": "store/yolo-1"}
OTHER = {"venvs/dl4cv": "store/dl4cv-2", "yolo": "store/yolo-1"}


def install(root: Path, *names: str) -> None:
    """Whole folders in the store."""
    for name in names:
        store.write_tree(root / "store" / name, {"f": name}, name)


def in_force(root: Path) -> Dict[str, Any]:
    """What `current` shows, read through the links as a user of the host would."""
    current = root / "current"
    return {name: (current / name / "f").read_text(encoding="utf-8") for name in LINKS if (current / name).exists()}


def test_a_switch_puts_the_links_in_force(tmp_path: Path) -> None:
    """The first and the second generation, their numbers, links and stacks; nothing to do after each."""
    install(tmp_path, "dl4cv-1", "dl4cv-2", "yolo-1")
    assert store.current_generation(tmp_path) is None
    assert store.needs_switch(tmp_path, {"a": 1}, LINKS)
    assert store.switch(tmp_path, {"a": 1}, LINKS) == 1
    assert in_force(tmp_path) == {"venvs/dl4cv": "dl4cv-1", "yolo": "yolo-1"}
    assert not store.needs_switch(tmp_path, {"a": 1}, LINKS)
    assert store.needs_switch(tmp_path, {"a": 2}, LINKS)
    assert store.needs_switch(tmp_path, {"a": 1}, OTHER)
    assert store.switch(tmp_path, {"a": 1}, OTHER) == 2
    assert in_force(tmp_path) == {"venvs/dl4cv": "dl4cv-2", "yolo": "yolo-1"}
    assert store.describe(tmp_path, 1) == {"stack": {"a": 1}, "links": LINKS}
    assert store.generations(tmp_path) == [1, 2]
    assert os.readlink(str(tmp_path / "current")) == "generations/2"


def test_the_links_move_with_the_store(tmp_path: Path) -> None:
    """They are relative, so a store that is mounted elsewhere still works."""
    install(tmp_path / "a", "dl4cv-1", "yolo-1")
    store.switch(tmp_path / "a", {}, LINKS)
    (tmp_path / "a").rename(tmp_path / "b")
    assert in_force(tmp_path / "b") == {"venvs/dl4cv": "dl4cv-1", "yolo": "yolo-1"}
    assert not store.needs_switch(tmp_path / "b", {}, LINKS)


def test_a_number_grows_after_going_back(tmp_path: Path) -> None:
    """Going back to an old generation does not make its successor's number free."""
    install(tmp_path, "dl4cv-1", "dl4cv-2", "yolo-1")
    for number in range(10):
        store.switch(tmp_path, {"n": number}, LINKS)
    store.point_current(tmp_path, 2)
    assert store.current_generation(tmp_path) == 2
    assert store.switch(tmp_path, {"a": 1}, OTHER) == 11


def test_a_target_without_its_marker_is_refused(tmp_path: Path) -> None:
    """What a killed run left is not put in force, and what was in force stays."""
    install(tmp_path, "dl4cv-1", "dl4cv-2", "yolo-1")
    store.switch(tmp_path, {}, LINKS)
    (tmp_path / "store" / "dl4cv-2" / store.MARKER).unlink()
    with pytest.raises(EnvironmentProblem, match="dl4cv-2 is not complete"):
        store.switch(tmp_path, {}, OTHER)
    assert store.generations(tmp_path) == [1]
    assert in_force(tmp_path) == {"venvs/dl4cv": "dl4cv-1", "yolo": "yolo-1"}


@pytest.mark.parametrize("links", [{"../../x": "store/yolo-1"}, {"/etc/x": "store/yolo-1"}, {"x": "../store/yolo-1"}])
def test_links_stay_inside(tmp_path: Path, links: Dict[str, str]) -> None:
    """Neither a name nor a target leads out of the root."""
    root = tmp_path / "root"
    install(root, "yolo-1")
    with pytest.raises(EnvironmentProblem, match="leads out"):
        store.switch(root, {}, links)
    assert store.generations(root) == []


def test_a_killed_switch_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """`current` names a whole generation at every moment, and the next run ends with the new one in force."""

    def prepare(root: Path) -> None:
        install(root, "dl4cv-1", "dl4cv-2", "yolo-1")
        store.switch(root, {"a": 1}, LINKS)

    def act(root: Path) -> int:
        return store.switch(root, {"a": 2}, OTHER)

    seen = set()
    for root in killed_at_each_step(act, prepare, tmp_path):
        number = store.current_generation(root)
        assert number is not None
        state = store.describe(root, number)
        assert state in ({"stack": {"a": 1}, "links": LINKS}, {"stack": {"a": 2}, "links": OTHER})
        assert set(in_force(root)) == set(LINKS)
        seen.add(state["stack"]["a"])
        if store.needs_switch(root, {"a": 2}, OTHER):
            assert act(root) > 1
        assert in_force(root) == {"venvs/dl4cv": "dl4cv-2", "yolo": "yolo-1"}
        assert not store.needs_switch(root, {"a": 2}, OTHER)
    assert seen == {1, 2}


def test_a_killed_first_switch_leaves_no_generation_in_force(tmp_path: Path) -> None:
    """On a bare host there is none, or the whole first one."""
    prepare = lambda root: install(root, "dl4cv-1", "yolo-1")  # noqa: E731 - one line
    for root in killed_at_each_step(lambda root: store.switch(root, {}, LINKS), prepare, tmp_path):
        if store.current_generation(root) is None:
            store.switch(root, {}, LINKS)
        assert in_force(root) == {"venvs/dl4cv": "dl4cv-1", "yolo": "yolo-1"}


def test_a_full_disk_keeps_what_was_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error number of the kernel becomes an `EnvironmentProblem`, and no unfinished generation stays."""
    install(tmp_path, "dl4cv-1", "dl4cv-2", "yolo-1")
    store.switch(tmp_path, {}, LINKS)

    def full(_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(EnvironmentProblem, match="no space left"):
            store.switch(tmp_path, {}, OTHER)
    assert [p.name for p in (tmp_path / "generations").iterdir()] == ["1"]
    assert in_force(tmp_path) == {"venvs/dl4cv": "dl4cv-1", "yolo": "yolo-1"}


@pytest.mark.parametrize("target", ["generations/7", "elsewhere", "generations/x", "/etc"])
def test_a_current_that_names_no_generation_counts_for_none(tmp_path: Path, target: str) -> None:
    """A link that leads nowhere, or that somebody else made."""
    (tmp_path / "generations" / "1").mkdir(parents=True)
    (tmp_path / "current").symlink_to(target)
    assert store.current_generation(tmp_path) is None
