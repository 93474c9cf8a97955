"""The stacks that the facts about each platform come to, for the cards that people have; a refusal names a way out."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import pytest

from gpuhost.planning import lock, plan
from gpuhost.planning.catalog import shipped
from gpuhost.planning.gpus import parse
from gpuhost.planning.offers import resolver_for
from gpuhost.planning.request import request_from
from gpuhost.planning.resolve import resolver

from ..example_hosts import observed
from ..offered import offering

Json = Dict[str, Any]
#: The driver's package, its module, CUDA, cuDNN, TensorFlow and its Python.
Stack = Tuple[str, str, str, str, Optional[str], Optional[str]]
TF_221 = ("12.5.1", "9.10.2.21", "2.21.0")
TF_213 = ("11.8.0", "8.6.0.163", "2.13.1", "3.8")
#: TensorFlow takes the newest CUDA 12, which builds for these cards too.
BLACKWELL = ("nvidia-driver-580-open", "open", "12.9.1", "9.10.2.21", "2.21.0")
#: The newest whose wheels are locked.
BY_WHEELS = ("13.2.1", "9.13.1.26", None, None)
SINCE_PASCAL = ("Quadro P2000", "RTX 2080", "RTX 3090", "RTX 4090", "H100", "H200")
STACKS: Dict[Tuple[str, str], Stack] = {
    **{("ubuntu-20.04", card): ("nvidia-driver-535", "proprietary", *TF_213) for card in ("GTX 750 Ti", *SINCE_PASCAL)},
    ("ubuntu-20.04", "H200"): ("nvidia-driver-570-server", "proprietary", *TF_213),
    ("ubuntu-22.04", "GTX 750 Ti"): ("nvidia-driver-580", "proprietary", "12.3.2", "8.9.7.29", "2.16.2", "3.10"),
    **{("ubuntu-22.04", card): ("nvidia-driver-580", "proprietary", *TF_221, "3.10") for card in SINCE_PASCAL},
    ("ubuntu-24.04", "GTX 750 Ti"): ("nvidia-driver-580", "proprietary", "12.3.2", "8.9.7.29", "2.16.2", "3.12"),
    **{("ubuntu-24.04", card): ("nvidia-driver-580", "proprietary", *TF_221, "3.12") for card in SINCE_PASCAL},
    **{("ubuntu-22.04", card): (*BLACKWELL, "3.10") for card in ("RTX 5090", "10de:2901")},
    **{("ubuntu-24.04", card): (*BLACKWELL, "3.12") for card in ("RTX 5090", "10de:2901")},
}
#: Without TensorFlow, which has no wheel whose libraries hold code for these cards.
APART_FROM_TENSORFLOW: Dict[Tuple[str, str], Stack] = {
    ("ubuntu-20.04", "RTX 5090"): (".run", "open", "12.9.1", "9.10.2.21", None, None),
    # Nothing of TensorFlow is for its Python 3.14.
    **{("ubuntu-26.04", card): ("nvidia-driver-595", "proprietary", *BY_WHEELS) for card in SINCE_PASCAL[1:]},
    ("ubuntu-26.04", "RTX 5090"): ("nvidia-driver-595-open", "open", *BY_WHEELS),
    ("ubuntu-26.04", "10de:2901"): ("nvidia-driver-595-open", "open", *BY_WHEELS),
}


def planned(platform: str, card: str, **more: Any) -> Json:
    """Return the plan for a card on a platform that no host was seen of."""
    found = resolver()
    return plan.make(found, request_from(found, platform, [parse(found.catalog, card)], {}, **more))


def stack(made: Json) -> Stack:
    """Return what a plan comes to."""
    assert made["status"] == "planned", made["reasons"]
    driver, tensorflow = made["driver"], made["tensorflow"] or {}
    versions = (made["cuda"]["version"], made["cudnn"]["version"], tensorflow.get("version"), tensorflow.get("python"))
    return (driver.get("package", ".run"), driver["kernel_modules"], *versions)


@pytest.mark.parametrize(("platform", "card"), STACKS)
def test_a_card_gets_the_stack_of_the_facts(platform: str, card: str) -> None:
    """Shared with TensorFlow, whose environment is locked; what nobody has read of the archive is said."""
    made = planned(platform, card)
    assert stack(made) == STACKS[platform, card]
    assert made["tensorflow"]["cuda"] is None and made["tensorflow"]["environment"]
    assert any(note["unverified"] and "index was not read" in note["text"] for note in made["notes"])


@pytest.mark.parametrize(("platform", "card"), APART_FROM_TENSORFLOW)
def test_a_card_that_is_refused_is_told_what_would_do(platform: str, card: str) -> None:
    """TensorFlow stands in the way; left out, the open modules are chosen."""
    refused = planned(platform, card)
    assert refused["status"] == "refused"
    assert [row["component"] for row in refused["obstacles"]] == ["tensorflow"]
    made = planned(platform, card, without=frozenset({"tensorflow"}))
    assert stack(made) == APART_FROM_TENSORFLOW[platform, card]


@pytest.mark.parametrize("card", ["GTX 750 Ti", "Quadro P2000"])
def test_ubuntu_26_04_has_no_toolkit_for_cards_before_turing(card: str) -> None:
    """CUDA 13 builds nothing for them, and the installers of CUDA 12 do not run there: another release would do."""
    made = planned("ubuntu-26.04", card, without=frozenset({"tensorflow"}))
    assert made["status"] == "refused"
    assert {row["rule"] for row in made["reasons"]} >= {"cuda-platform", "cuda-builds"}
    assert any(row["change"] == "on ubuntu-24.04" for row in made["nearest"])


def test_a_card_that_no_python_of_the_archive_serves_is_refused() -> None:
    """TensorFlow has no code for Kepler in a wheel for Python 3.12; the nearest change is another release."""
    made = planned("ubuntu-24.04", "Tesla K80")
    assert made["status"] == "refused"
    assert {row["rule"] for row in made["reasons"]} == {"tensorflow-code", "tensorflow-python"}
    assert any(row["change"] == "on ubuntu-18.04" for row in made["nearest"])


@pytest.mark.parametrize("card", ["RTX 4090", "RTX 5090"])
@pytest.mark.parametrize("version", ["20.04", "22.04", "24.04", "26.04"])
def test_a_host_of_the_release_is_planned_from_its_offers(version: str, card: str) -> None:
    """As from the snapshot, but for the driver's packages, which its lock names with their places in the archive."""
    platform, without = f"ubuntu-{version}", frozenset({"tensorflow"})
    base = observed("ubuntu1804-quadro-p2000")
    release = shipped().platforms["platforms"][platform]
    row = {**base["platform"], "id": platform, "version": version, "codename": release["codename"]}
    observation = offering({**base, "platform": row})
    found = resolver_for(observation, {}, True)
    cards = [parse(found.catalog, card)]
    kernel = release.get("kernels", [{"release": "5.15.0-139-generic"}])[0]["release"]
    request = request_from(found, platform, cards, {}, kernel=kernel, secure_boot=False, without=without)
    made, from_snapshot = plan.make(found, request), planned(platform, card, without=without)
    assert stack(made) == stack(from_snapshot)
    if made["driver"]["source"] == "runfile":
        return
    line = made["driver"]["package"].replace("nvidia-driver-", "").replace("-open", "")
    locked = lock.make("box", observation, made)
    assert lock.check(locked, "made", "box") == locked
    debs = {deb["name"]: deb for deb in locked["plan"]["driver"]["packages"]}
    assert f"libnvidia-compute-{line}" in debs
    assert all(deb["snapshot"].startswith("https://snapshot.ubuntu.com/ubuntu/") for deb in debs.values())
