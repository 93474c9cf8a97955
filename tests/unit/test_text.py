"""What a host or an inventory says, as a line on a terminal and as the name of a folder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuhost.errors import UsageError
from gpuhost.text import folder_name, printable

ANY = st.text(st.characters(exclude_categories=()), max_size=60)


@given(ANY, st.one_of(st.none(), st.integers(1, 50)))
def test_printable_text_moves_no_cursor_and_ends_no_line(value: str, longest: int | None) -> None:
    """Escape sequences, carriage returns and bidirectional overrides of a host must not reach a terminal."""
    shown = printable(value, longest)
    assert shown.isprintable()
    assert longest is None or len(shown) <= longest


@given(st.lists(ANY.filter(bool), min_size=2, max_size=6, unique=True))
def test_no_two_hosts_share_a_folder_and_none_leads_out(hosts: list[str]) -> None:
    """`gpu:1` and `gpu_1` once overwrote one another's reports."""
    names = []
    for host in hosts:
        try:
            names.append(folder_name(host))
        except UsageError:  # longer than a path component may be
            assert len(host) > 16  # twelve characters stand for one outside the basic plane
    assert len(set(names)) == len(names)
    assert all("/" not in name and not name.startswith(".") and name.isascii() and "\0" not in name for name in names)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("gpu-1.lab", "gpu-1.lab"),
        ("gpu:1", "gpu%3A1"),
        ("gpu_1", "gpu_1"),
        ("..", "%2E."),
        ("a/b", "a%2Fb"),
        ("ä", "%C3%A4"),
    ],
)
def test_a_folder_keeps_an_ordinary_hosts_name(host: str, name: str) -> None:
    """People look for the folder by the host's name."""
    assert folder_name(host) == name


@pytest.mark.parametrize("host", ["", "x" * 201, "\N{SNOWMAN}" * 40])
def test_a_name_that_makes_no_folder_is_refused(host: str) -> None:
    """Nothing is cut off silently: two long names would then share a folder."""
    with pytest.raises(UsageError, match="alias"):
        folder_name(host)
