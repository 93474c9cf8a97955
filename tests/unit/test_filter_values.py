"""What stands between a filter and Ansible: the values that it is given, and those that it gives."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / "plugins" / "filter" / "gpuhost.py"


class Lazy(list):  # type: ignore[type-arg]
    """A list as ansible-core 2.19 and later hand it to a filter: it cannot be made by calling its type."""

    def __init__(self, *items: Any) -> None:
        """Refuse what the core refuses."""
        if items:
            raise TypeError("Direct construction of lazy containers is not supported.")


@pytest.fixture(scope="module")
def filters() -> Any:
    """The module of the filters."""
    spec = importlib.util.spec_from_file_location("gpuhost_filters", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("named", [False, True])
def test_a_filter_may_give_back_what_it_was_given(filters: Any, named: bool) -> None:
    """Containers of ansible-core 2.19 and later come out as plain ones, however deep they lie."""
    inner = Lazy()
    inner.append("{{ 1 }}")
    outer = Lazy()
    outer.append({"part": inner})
    give = filters.told(lambda value: {"given": value})
    found = give(value=outer) if named else give(outer)
    assert found == {"given": [{"part": ["{{ 1 }}"]}]}
    assert type(found["given"]) is list and type(found["given"][0]["part"]) is list
