"""Which generation a host goes back to: the same command, typed again at any moment, means the same one."""

from __future__ import annotations

from typing import Any, Dict, Optional

import pytest

from gpuhost.errors import RefusedError, UsageError
from gpuhost.planning import rollback

from ..example_hosts import observed
from .test_rebuild_compare import locked, with_cards

P2000, H200 = locked(), locked(with_cards("2335"))
SEEN = observed("ubuntu1804-quadro-p2000")
Json = Dict[str, Any]
HOST = "h"


def there(current: Optional[int], came_by: str = "switch", before: Optional[int] = None) -> Json:
    """A host with generation 1 for the P2000 and 2 for the H200."""
    rows = [{"number": 1, "stack": P2000, "links": {}}, {"number": 2, "stack": H200, "links": {}}]
    return {"current": current, "came_by": came_by, "before": before, "good": [1], "generations": rows}


@pytest.mark.parametrize(
    ("found", "lock", "pending", "expected"),
    [
        pytest.param(there(2, before=1), H200, None, 1, id="after a rebuild"),
        pytest.param(there(1), P2000, H200, 1, id="a rebuild stopped before its switch"),
        pytest.param(there(2, before=1), P2000, H200, 1, id="a rebuild stopped behind its switch"),
        pytest.param(there(2, before=1), H200, H200, 1, id="a rebuild stopped between its last two steps"),
        pytest.param(there(1, "back", before=2), H200, None, 1, id="going back, stopped behind the rename"),
        pytest.param(there(1, "back", before=2), P2000, None, 1, id="going back, done"),
        pytest.param(there(1, "back", before=2), P2000, H200, 1, id="gone back, and a new rebuild stopped"),
    ],
)
def test_without_a_number(found: Json, lock: Json, pending: Optional[Json], expected: int) -> None:
    """The generation before; or the one in force, where only the driver is to come back."""
    answer = rollback.prepare(HOST, found, lock, pending, "", SEEN)
    assert answer["generation"] == expected and answer["lock"] == found["generations"][expected - 1]["stack"]


def test_with_a_number() -> None:
    """As it is typed, also as text; another one is refused with those that are there."""
    assert rollback.prepare(HOST, there(1), P2000, None, "2", SEEN)["generation"] == 2
    with pytest.raises(UsageError, match="no generation 3") as caught:
        rollback.prepare(HOST, there(1), P2000, None, 3, SEEN)
    assert "1 (in force, good), 2" in caught.value.next_step


@pytest.mark.parametrize(
    ("found", "lock", "words"),
    [
        (there(None), P2000, "No generation is in force"),
        (there(1), P2000, "no generation before 1"),
        (there(1), H200, "not that of generation 1"),
    ],
)
def test_it_never_guesses(found: Json, lock: Json, words: str) -> None:
    """Where there is none, or where it is not clear which one is meant."""
    with pytest.raises(RefusedError, match=words):
        rollback.prepare(HOST, found, lock, None, "", SEEN)


def test_a_damaged_record_is_refused() -> None:
    """What such a generation needs is not known."""
    found = there(2, before=1)
    found["generations"][0]["stack"] = {"plan": {}}
    with pytest.raises(RefusedError, match="has no complete stack"):
        rollback.prepare(HOST, found, H200, None, "", SEEN)


def test_what_it_means_is_told() -> None:
    """The driver that comes back, and that the cards in the machine are others than the generation's."""
    lines = "\n".join(rollback.prepare(HOST, there(2, before=1), H200, None, "", with_cards("2335"))["lines"])
    assert "driver: 525.105.17" in lines and "(now 550.163.01" in lines
    assert "ATTENTION cards: locked 10de:1c30, present 10de:2335" in lines
