"""The order of Debian versions, checked against dpkg itself where the machine has it."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuhost.host.parse.versions import compare_versions, sort_versions

VERSIONS = (
    "5.4.0-9-generic",
    "5.4.0-150-generic",
    "4.15.0-213-generic",
    "1:1.0",
    "1.0~rc1-1",
    "1.0-1",
    "1.0",
    "1.0+b1",
    "1.0a",
    "1.00",
    "2-0",
)


def test_kernels_are_sorted_by_number_and_not_by_letter() -> None:
    """As text, 5.4.0-9 would boot after 5.4.0-150, and 4.15 before 4.9."""
    kernels = [
        "5.4.0-150-generic",
        "5.4.0-9-generic",
        "4.15.0-213-generic",
        "4.9.0-1-amd64",
        "5.4.0-9-generic",
    ]
    assert sort_versions(kernels) == [
        "4.9.0-1-amd64",
        "4.15.0-213-generic",
        "5.4.0-9-generic",
        "5.4.0-150-generic",
    ]


def test_tilde_sorts_before_the_end_and_the_epoch_before_all() -> None:
    """Release candidates are older than the release; an epoch outweighs everything."""
    assert sort_versions(["1.0", "1:0.1", "1.0~rc1", "1.0a", "1.0+b1"]) == [
        "1.0~rc1",
        "1.0",
        "1.0a",
        "1.0+b1",
        "1:0.1",
    ]


def test_the_order_is_that_of_dpkg() -> None:
    """dpkg is the judge of its own rule."""
    if shutil.which("dpkg") is None:
        pytest.skip("this machine has no dpkg")
    for left, right in itertools.combinations(VERSIONS, 2):
        expected = next(
            word
            for word in ("lt", "eq", "gt")
            if subprocess.run(["dpkg", "--compare-versions", left, word, right], check=False).returncode == 0
        )
        order = compare_versions(left, right)
        assert ("lt" if order < 0 else "gt" if order else "eq") == expected, (left, right)


@given(st.text(), st.text(), st.text(alphabet="0129.~-+:az"), st.text(alphabet="0129.~-+:az"))
def test_any_two_texts_compare_both_ways(left: str, right: str, like: str, unlike: str) -> None:
    """A folder below /lib/modules may have any name; the order must still be one."""
    for one, other in ((left, right), (like, unlike)):
        assert compare_versions(one, one) == 0
        assert (compare_versions(one, other) > 0) == (compare_versions(other, one) < 0)
    assert sort_versions([left, right, like, unlike]) == sort_versions([unlike, like, right, left])
