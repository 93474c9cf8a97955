"""The links of a generation follow the lock."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from gpuhost.planning import lock

CPU: Dict[str, Any] = {"plan": {"driver": None, "opencv": {"source": "wheel"}}}
GPU: Dict[str, Any] = {"plan": {"driver": {"version": "525.105.17"}, "opencv": {"source": "sdist"}}}
ALL = {"venvs/opencv_cuda": "store/o", "venvs/dl4cv": "store/t", "yolo": "store/y"}


def test_what_was_installed_is_linked() -> None:
    """Each folder under its name."""
    assert lock.links(ALL, CPU) == {"links": ALL, "without": ["cuda", "cuda-*", "cudnn"]}


@pytest.mark.parametrize("left_out", ["", None])
def test_what_a_tag_left_out_keeps_its_link(left_out: Any) -> None:
    """Neither linked anew nor taken out."""
    found = lock.links({**ALL, "venvs/dl4cv": left_out}, CPU)
    assert "venvs/dl4cv" not in found["links"] and "venvs/dl4cv" not in found["without"]


def test_a_run_that_builds_no_opencv_leaves_the_one_that_was_built() -> None:
    """It is put in force by a playbook of its own."""
    found = lock.links({"cuda": "store/c", "cudnn": "store/n", "venvs/opencv_cuda": ""}, GPU)
    assert found == {"links": {"cuda": "store/c", "cudnn": "store/n"}, "without": []}


def test_an_opencv_that_was_built_is_linked() -> None:
    """What this run has installed is never taken out."""
    found = lock.links({**ALL, "cuda": "store/c", "cudnn": "store/n"}, GPU)
    assert found["without"] == [] and found["links"]["venvs/opencv_cuda"] == "store/o"
