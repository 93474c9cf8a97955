"""What another card means for a host: changes with reasons, costs, refusals, and how a stopped one goes on."""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Optional

import pytest

from gpuhost.checks.lock import cards_of
from gpuhost.errors import UnreadableError, UsageError
from gpuhost.planning import lock, plan, rebuild
from gpuhost.planning.request import request_of
from gpuhost.planning.resolve import resolver

from ..example_hosts import observed

P2000 = observed("ubuntu1804-quadro-p2000")
Json = Dict[str, Any]
NOTHING: Json = {"artifacts": [], "debs": [], "wheels": [], "store": [], "build_seconds": {}}


def with_cards(*ids: str, readable: Optional[bool] = None, message: str = "", version: str = "525.105.17") -> Json:
    """The P2000's host with other cards in it; `readable` is what its driver says of each."""
    observation = copy.deepcopy(P2000)
    base = observation["gpus"][0]
    observation["gpus"] = [
        {**base, "pci_id": f"10de:{i}", "pci_address": f"0000:{n:02x}:00.0", "uuid": None, "name": None,
         "readable": readable, "error": message or None}
        for n, i in enumerate(ids, start=1)
    ]  # fmt: skip
    status = {"status": "error" if message else "ok", "message": message}
    observation["nvidia"] = {
        "module_loaded": True,
        "module_version": version,
        "smi": status,
        "unseen": [],
        "warnings": [],
    }
    return observation


def locked(observation: Json = P2000, **asked: str) -> Json:
    """The lock of a host as it is."""
    found = resolver()
    return lock.make("h", observation, plan.make(found, request_of(found, observation, asked)))


def prepared(observation: Json, old: Optional[Json] = None, **more: Any) -> Json:
    """What a rebuild comes to."""
    given = {"pending": None, "asked": {}, "ignore_gpus": False, "future": [], "there": NOTHING, **more}
    return rebuild.prepare(resolver(), "h", observation, old or locked(), **given)


def why(answer: Json) -> Dict[str, str]:
    """The reason of each component that changes."""
    return {row["name"]: row["why"] for row in answer["changes"] if row["why"]}


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        (["2204"], {"opencv": "built for 6.1, needed is 8.6", "tensorflow": "the same files"}),
        (["2335"], {"driver": "does not claim H200", "opencv": "needed is 9.0", "tensorflow": "the same files"}),
        (["102d"], {"driver": "Tesla K80 is Kepler", "opencv": "needed is 3.7", "tensorflow": "the same files"}),
        (["1c30", "2204"], {"opencv": "needed is 6.1, 8.6", "tensorflow": "the same files"}),
        ([], {"driver": "no card any more", "cuda": "no card any more", "cudnn": "no card any more",
              "opencv": "no card any more", "tensorflow": "the same files"}),
    ],
)  # fmt: skip
def test_what_changes_and_why(cards: List[str], expected: Dict[str, str]) -> None:
    """Each component that is another one for the new cards has its reason, and no other component has one."""
    answer = prepared(with_cards(*cards))
    assert answer["differs"] and not answer["refused"]
    reasons = why(answer)
    assert set(reasons) == set(expected)
    for name, words in expected.items():
        assert words in reasons[name]
    assert answer["lock"]["cards"] == cards_of(with_cards(*cards))


def test_a_host_as_locked_has_nothing_to_rebuild() -> None:
    """Nothing differs, and the lock stays what it is to the letter."""
    old = locked()
    answer = prepared(P2000, old)
    assert not answer["differs"] and answer["lock"] == old and why(answer) == {}


def test_another_card_of_the_model_changes_no_component() -> None:
    """It is told, and the lock is new."""
    other = copy.deepcopy(P2000)
    other["gpus"][0]["uuid"] = "GPU-11111111-0000-4000-8000-000000000000"
    answer = prepared(other)
    assert answer["differs"] and why(answer) == {}
    assert answer["lock"]["cards"][0]["uuid"] == other["gpus"][0]["uuid"]


def test_a_card_that_nothing_serves_is_refused() -> None:
    """With the rules that block it, and what would do."""
    answer = prepared(with_cards("2b85"))
    assert answer["lock"] is None and "No stack fits" in answer["refused"]
    assert "cuda-platform" in {row["rule"] for row in answer["plan"]["reasons"]} and answer["plan"]["nearest"]


def test_a_dead_card_is_refused() -> None:
    """The driver that is loaded drives its generation, and gets no answer."""
    with pytest.raises(UnreadableError, match="does not answer the driver 525") as caught:
        prepared(with_cards("1c30", readable=False, message="No devices were found"))
    assert "Xid" in caught.value.next_step


def test_a_card_of_another_generation_is_not_dead() -> None:
    """The old driver cannot drive a Kepler card: that is why it is rebuilt. Also beside one that answers (D13)."""
    assert prepared(with_cards("102d", readable=False, message="No devices were found"))["differs"]
    mixed = with_cards("1c30", "102d")
    mixed["gpus"][0]["readable"] = True
    mixed["gpus"][1].update(readable=False, error="sysfs shows this card and nvidia-smi does not list it.")
    assert prepared(mixed)["lock"]["plan"]["driver"]["branch"] == "470"


def test_two_versions_of_the_driver_are_not_a_dead_card() -> None:
    """A driver that was updated underneath: a rebuild or a reboot fixes that."""
    seen = with_cards("2204", readable=False, message="Failed to initialize NVML: Driver/library version mismatch")
    assert prepared(seen)["differs"]


def test_a_stopped_rebuild_goes_on_with_its_lock() -> None:
    """As long as the cards are those it was made for; else it is planned again."""
    pending = prepared(with_cards("2204"))["lock"]
    pending["plan"]["notes"] = []
    answer = prepared(with_cards("2204"), pending=pending)
    assert answer["resumed"] and answer["lock"] is pending and answer["differs"]
    answer = prepared(with_cards("2335"), pending=pending)
    assert not answer["resumed"] and answer["lock"]["plan"]["driver"]["source"] == "runfile"
    assert not prepared(P2000, pending=pending)["differs"], "the old card is back: the old lock holds"


def test_a_card_that_is_to_come() -> None:
    """Planned for as if it were in; its lock names no card, so it can be no host's."""
    answer = prepared(P2000, future=rebuild.wanted_cards("RTX 3090"))
    assert answer["differs"] and answer["lock"]["plan"]["opencv"]["cuda_arch_bin"] == ["8.6"]
    assert answer["lock"]["cards"] == []
    assert rebuild.wanted_cards("Quadro", "P2000, RTX 3090") == ["Quadro P2000", "RTX 3090"], (
        "as Ansible takes it apart"
    )
    assert rebuild.wanted_cards("RTX 3090, Quadro P2000") == ["RTX 3090", "Quadro P2000"]
    with pytest.raises(UsageError, match="future_gpu"):
        rebuild.wanted_cards("RTX 3090,")


def test_what_it_costs() -> None:
    """Downloads by their known sizes, less what the caches hold; the build by the longest one there was."""
    old, cards = locked(with_cards()), with_cards("2335")
    cost = prepared(cards, old)["cost"]
    driver = prepared(cards, old)["lock"]["plan"]["driver"]
    assert cost["bytes"] > driver["size"] and set(cost["unknown"]) == {"cuda", "cudnn"} and cost["build_s"] is None
    there = {**NOTHING, "artifacts": [driver["sha256"]], "build_seconds": {"a": 60.0, "b": 1260.0}}
    less = prepared(cards, old, there=there)
    assert less["cost"]["bytes"] == cost["bytes"] - driver["size"]
    assert any("about 21 min" in line for line in less["lines"])
    assert any("caches of this host: driver" in line for line in less["lines"])
    assert "tensorflow" not in [item["name"] for item in cost["items"]], "the same files are not fetched again"
