"""The lock: what makes it another host, a damaged file, and the same bytes for the same host."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from gpuhost.errors import LockError
from gpuhost.planning import lock, plan
from gpuhost.planning.request import request_of
from gpuhost.planning.resolve import resolver

from ..example_hosts import observed
from ..locks import save

Json = Dict[str, Any]
WANTED = {"tensorflow": "2.13"}


def locked(host: str, **over: Any) -> Json:
    """Return the lock of an example host."""
    observation = observed(host)
    found = resolver()
    return lock.make("bench", observation, plan.make(found, request_of(found, observation, WANTED, **over)))


@pytest.fixture(scope="module")
def p2000() -> Json:
    """The lock of the Quadro P2000's host."""
    return locked("ubuntu1804-quadro-p2000")


@pytest.fixture(scope="module")
def mixed() -> Json:
    """The lock of the host with two cards."""
    return locked("ubuntu1804-mixed-p2000-rtx3090")


def test_the_same_host_has_no_differences(p2000: Json, mixed: Json) -> None:
    """Neither the order of the cards nor their addresses (another slot) make another host."""
    assert lock.differences(p2000, observed("ubuntu1804-quadro-p2000"), WANTED) == []
    seen = observed("ubuntu1804-mixed-p2000-rtx3090")
    seen["gpus"].reverse()
    for number, card in enumerate(seen["gpus"]):
        card["pci_address"] = f"0000:0{number + 7}:00.0"
    assert lock.differences(mixed, seen, WANTED) == []


def test_no_driver_yet_is_no_difference(p2000: Json) -> None:
    """Without a driver no uuid can be read; the PCI id says enough then."""
    seen = observed("ubuntu1804-quadro-p2000")
    seen["gpus"][0]["uuid"] = None
    assert lock.differences(p2000, seen, WANTED) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda gpus: gpus.clear(), "present none"),
        (lambda gpus: gpus.append(copy.deepcopy(gpus[0])), "present 2 x 10de:1c30"),
        (lambda gpus: gpus[0].update(pci_id="10de:2204"), "present 10de:2204"),
    ],
    ids=["gone", "new", "other-model"],
)
def test_other_cards_are_a_difference(p2000: Json, change: Callable[[Any], Any], says: str) -> None:
    """Both sides are named, so that the message says what was swapped."""
    seen = observed("ubuntu1804-quadro-p2000")
    change(seen["gpus"])
    (found,) = lock.differences(p2000, seen, WANTED)
    assert found == f"cards: locked 10de:1c30, {says}"


def test_one_of_two_cards_swapped(mixed: Json) -> None:
    """The number of cards is the same, the set of ids is not."""
    seen = observed("ubuntu1804-mixed-p2000-rtx3090")
    seen["gpus"][1]["pci_id"] = seen["gpus"][0]["pci_id"]
    (found,) = lock.differences(mixed, seen, WANTED)
    assert "locked 10de:1c30, 10de:2204, present 2 x 10de:1c30" in found


def test_another_card_of_the_same_model(p2000: Json) -> None:
    """Its uuid tells."""
    seen = observed("ubuntu1804-quadro-p2000")
    seen["gpus"][0]["uuid"] = "GPU-another"
    (found,) = lock.differences(p2000, seen, WANTED)
    assert "of the same model" in found
    assert "GPU-another" in found
    assert str(p2000["cards"][0]["uuid"]) in found


def test_another_platform_and_another_wish(p2000: Json) -> None:
    """Each is a difference of its own; nothing asked is not the same as something asked."""
    seen = observed("ubuntu1804-quadro-p2000")
    seen["platform"]["id"] = "debian-12"
    found = lock.differences(p2000, seen, {})
    assert found == [
        "platform: locked ubuntu-18.04, present debian-12",
        "asked: locked for tensorflow 2.13, now nothing in particular",
    ]


def test_the_cpu_stack_in_spite_of_cards() -> None:
    """Locked with the cards ignored, it stays so only as long as they are to be ignored."""
    held = locked("ubuntu1804-quadro-p2000", gpus=[])
    seen = observed("ubuntu1804-quadro-p2000")
    assert held["cards"] == []
    assert held["plan"]["driver"] is None
    assert lock.differences(held, seen, WANTED, ignore_gpus=True) == []
    assert lock.differences(held, seen, WANTED) == ["cards: locked none, present 10de:1c30"]


def test_the_same_host_gives_the_same_bytes(p2000: Json, tmp_path: Path) -> None:
    """No date, no path, no order of a set: the file changes in git only when the stack does, and reads back equal."""
    again = locked("ubuntu1804-quadro-p2000")
    assert (lock.text(again), lock.files(again)) == (lock.text(p2000), lock.files(p2000))
    file = save(tmp_path / "stack.json", p2000)
    assert lock.load(file) == p2000
    assert lock.text(lock.load(file)) == file.read_text(encoding="utf-8")
    assert list(json.loads(file.read_text(encoding="utf-8"))) == [lock.KEY]


def broken(text: str) -> Callable[[str], str]:
    """A file with another text."""
    return lambda whole: text


def without(*path: str) -> Callable[[str], str]:
    """The file without one entry."""

    def change(whole: str) -> str:
        value = json.loads(whole)
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        return json.dumps(value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        broken(""),
        broken("[]"),
        broken("{}"),
        broken('{"gpuhost_lock": []}'),
        broken('{"gpuhost_lock": null}'),
        lambda whole: whole[: len(whole) // 2],
        without("gpuhost_lock", "plan"),
        without("gpuhost_lock", "plan", "asked"),
        without("gpuhost_lock", "cards"),
        lambda whole: whole.replace('"schema": 2', '"schema": 3'),
        lambda whole: whole.replace('"version": "11.8.0"', '"version": 11.8'),
        lambda whole: whole.replace('"status": "planned"', '"status": "refused"'),
        lambda whole: whole.replace('"pci_id": "10de:1c30"', '"pci_id": ""'),
    ],
)
def test_a_damaged_lock_is_refused(p2000: Json, tmp_path: Path, change: Callable[[str], str]) -> None:
    """One error with its exit code, the file's name and what to do; never a plan made from half a lock."""
    whole = lock.text(p2000)
    file = save(tmp_path / "stack.json", p2000)
    file.write_text(change(whole), encoding="utf-8")
    assert file.read_text(encoding="utf-8") != whole
    with pytest.raises(LockError) as caught:
        lock.load(file)
    assert caught.value.exit_code == 8
    assert str(file) in caught.value.message
    assert "git" in caught.value.next_step


def test_bytes_that_are_no_text_are_a_damaged_lock(tmp_path: Path) -> None:
    """Not a UnicodeDecodeError."""
    file = tmp_path / "stack.json"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(LockError, match="cannot be read"):
        lock.load(file)


def test_a_missing_lock_says_how_to_make_one(tmp_path: Path) -> None:
    """The command that makes it."""
    with pytest.raises(LockError, match="There is no lock") as caught:
        lock.load(tmp_path / "stack.json")
    assert "playbooks/plan.yml" in caught.value.next_step


def test_the_lock_of_a_refusal_is_refused() -> None:
    """A plan without a stack must not become what the roles obey."""
    observation = observed("ubuntu1804-quadro-p2000")
    found = resolver()
    refused = plan.make(found, request_of(found, observation, {"cuda": "13"}))
    assert refused["status"] == "refused"
    with pytest.raises(LockError):
        lock.check({**locked("ubuntu1804-quadro-p2000"), "plan": refused}, "stack.json")


@pytest.mark.parametrize("part", ["driver", "cuda", "cudnn", "opencv", "tensorflow"])
def test_a_cards_plan_without_one_of_its_parts_is_refused(part: str, p2000: Json) -> None:
    """A lock that was cut by hand: without a driver the roles would install a stack that nothing can use."""
    cut = copy.deepcopy(p2000)
    assert lock.check(cut, "stack.json")["plan"]["gpus"]
    cut["plan"][part] = None
    with pytest.raises(LockError, match=f"no {part}|damaged"):
        lock.check(cut, "stack.json")
