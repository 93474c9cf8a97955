"""Versions and specifiers: what people write, ordered as the field orders it."""

from __future__ import annotations

from typing import List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from gpuhost import versions
from gpuhost.errors import GpuhostError, UsageError
from gpuhost.planning import versions as pep440


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("11.8", ("11.8.0", "11.8.89"), ("11.7.1", "11.80.0", "12.0.0")),
        ("11", ("11.0.1", "11.8.0"), ("10.2.89", "12.0.0", "110.0")),
        ("4.2.*", ("4.2.0",), ("4.20.0", "4.3.0")),
        (" 4.2 ", ("4.2.0",), ("4.3.0",)),
        ("8.6.0.163", ("8.6.0.163",), ("8.6.0", "8.6.0.164")),
        ("==11.8.0", ("11.8.0",), ("11.8.1",)),
        (">=11.2,<12", ("11.2.0", "11.8.0"), ("11.1.1", "12.0.0")),
        ("~=11.2", ("11.2.0", "11.8.0"), ("11.1.0", "12.0.0")),
        ("!=2.13.1", ("2.13.0",), ("2.13.1",)),
        (">= 525", ("525.105.17", "530.41.03"), ("515.105.01",)),
        ("525", ("525.105.17",), ("530.41.03", "52.5")),
    ],
)
def test_specifiers_mean(text: str, inside: Tuple[str, ...], outside: Tuple[str, ...]) -> None:
    """A bare version is its series; everything else is PEP 440."""
    wanted = pep440.specifier("cuda", text)
    assert all(pep440.admits(wanted, v) for v in inside)
    assert not any(pep440.admits(wanted, v) for v in outside)


def test_no_demand_admits_everything() -> None:
    """What is not asked filters nothing."""
    assert pep440.admits(None, "1.0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "abc",
        "latest",
        "==",
        "=11",
        "11.8.*.*",
        "4.2,",
        ",",
        "*",
        "11.8 12.0",
        ">=11 <12",
        "11..8",
        "v11.8;",
        "'11'",
    ],
)
def test_malformed_specifiers_are_usage_errors(text: str) -> None:
    """Exit code 2, naming what was typed, the component, and two ways to write it."""
    with pytest.raises(UsageError) as caught:
        pep440.specifier("cudnn", text)
    assert caught.value.exit_code == 2
    assert f"'{text}'" in caught.value.message
    assert "cudnn" in caught.value.message
    assert "--cudnn" in caught.value.next_step


@settings(deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_a_specifier_or_an_error(text: str) -> None:
    """Whatever is typed: a specifier, or an error of ours."""
    try:
        found = pep440.specifier("driver", text)
    except GpuhostError as error:
        assert error.next_step
    else:
        assert isinstance(found, SpecifierSet)
        pep440.admits(found, "525.105.17")


@settings(deadline=None)
@given(st.text(alphabet="0123456789.,<>=!~* abrc+-", max_size=15))
def test_anything_like_a_specifier_is_one_or_an_error(text: str) -> None:
    """The same for the letters that specifiers are made of."""
    try:
        found = pep440.specifier("driver", text)
    except GpuhostError as error:
        assert error.next_step
    else:
        pep440.admits(found, "525.105.17")


FIGURES = st.lists(st.integers(0, 999), min_size=1, max_size=4)


@settings(deadline=None)
@given(FIGURES, FIGURES)
def test_a_bare_version_is_a_series(value: List[int], series: List[int]) -> None:
    """`admits` with a bare version is `in_series`, whatever the figures (beyond its length a version is
    zeros)."""
    wanted = pep440.specifier("cuda", ".".join(map(str, series)))
    padded = value + [0] * (len(series) - len(value))
    text = ".".join(map(str, padded))
    assert pep440.admits(wanted, text) == versions.in_series(text, ".".join(map(str, series)))


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        ("4.15.0-213-generic", (4, 15, 0, 213)),
        ("525.105.17", (525, 105, 17)),
        ("6.1.0-50-amd64", (6, 1, 0, 50)),
        ("5.10.0-rc1", (5, 10, 0)),
        ("generic", ()),
        ("", ()),
    ],
)
def test_release_takes_the_figures(text: str, figures: Tuple[int, ...]) -> None:
    """Also of a kernel's release, which is not a version to `packaging`."""
    assert versions.release(text) == figures


@pytest.mark.parametrize(
    ("value", "bound", "holds"),
    [
        ("8.9.7.29", "8", True),
        ("9.0.0", "8", False),
        ("12.4.1", "12.4", True),
        ("12.5.0", "12.4", False),
        ("10.2.89", "10.2", True),
        ("7.6.5.32", "7.6", True),
        ("8.0.0.180", "7.6", False),
    ],
)
def test_a_short_bound_holds_its_series(value: str, bound: str, holds: bool) -> None:
    """'8.x' as an upper bound holds 8.9.7."""
    assert versions.at_most(value, bound) is holds


@pytest.mark.parametrize(("value", "holds"), [("4.1", False), ("4.2", True), ("8.9.7", True), ("9.0", False)])
def test_bounds_hold_what_lies_between(value: str, holds: bool) -> None:
    """Both bounds belong to the range, the upper one with all of its series."""
    assert versions.within(value, {"min": "4.2", "max": "8"}) is holds


def test_capabilities_are_numbers() -> None:
    """10.0 comes after 9.0, which as text it would not."""
    order = ["3.5", "5.0", "7.5", "8.6", "9.0", "10.0", "12.0", "12.1"]
    assert sorted(order[::-1], key=versions.capability) == order


@pytest.mark.parametrize(
    ("values", "words"),
    [([], "none"), (["2.13.1"], "2.13.1"), (["2.9.0", "2.10.0", "2.9.0"], "2.9.0 to 2.10.0")],
)
def test_span(values: List[str], words: str) -> None:
    """A range in words, ordered as versions."""
    assert pep440.span(values) == words
