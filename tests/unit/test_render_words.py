"""What a person reads of a plan: words from data are shown as they stand, and the CPU stack is said loudly."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from gpuhost.report import terminal as render

from . import asking


@pytest.fixture(scope="module")
def p2000() -> Dict[str, Any]:
    """A plan with every component."""
    return asking.planned("ubuntu-18.04", "Quadro P2000")


def test_a_plan_in_words_is_the_same_everywhere(p2000: Dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible's messages do not depend on the terminal they were made in."""
    text = render.plan_text(p2000)
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert render.plan_text(p2000) == text
    assert "\x1b" not in text
    for name in ("driver", "cuda", "cudnn", "opencv", "tensorflow"):
        assert p2000[name]["version"] in text


def test_no_card_is_never_a_quiet_success() -> None:
    """The CPU stack says what it is not."""
    text = render.plan_text(asking.planned("debian-12"))
    assert "no NVIDIA card" in text
    assert "No GPU: this is the CPU stack." in text
    assert "No GPU" not in render.plan_text(asking.planned("debian-12", "Quadro P2000"))


def test_square_brackets_of_data_are_no_markup(p2000: Dict[str, Any]) -> None:
    """A card's name holds them ([GeForce ...]); they neither vanish nor crash the printing."""
    gpu = {**p2000["gpus"][0], "name": "GM206 [GeForce GTX 950][/red]"}
    note = {"about": "[driver]", "text": "see [/bold] there", "unverified": True}
    text = render.plan_text({**p2000, "gpus": [gpu], "notes": [note]})
    assert "GM206 [GeForce GTX 950][/red]" in text
    assert "see [/bold] there" in text


def test_a_row_without_proof_is_marked(p2000: Dict[str, Any]) -> None:
    """What the facts call unverified is shown as that in a plan that rests on it."""
    note = {"about": "driver", "text": "not measured", "unverified": True}
    assert "unverified (driver): not measured" in render.plan_text({**p2000, "notes": [note]})
    assert "note (driver): not measured" in render.plan_text({**p2000, "notes": [{**note, "unverified": False}]})


def test_the_own_key_of_secure_boot_is_said() -> None:
    """Modules that nobody signed need the user's own key: that must be read before it is met at boot."""
    planned = asking.planned("ubuntu-18.04", "H200", secure_boot=True)
    assert planned["driver"]["secure_boot"] == "own-key"
    assert "a key of your own" in render.plan_text(planned)


def test_a_refusal_in_words() -> None:
    """Each reason with its rule and figures, and what would do."""
    refused = asking.planned("ubuntu-18.04", "GTX 750 Ti", opencv="4.2")
    text = " ".join(render.plan_text(refused).split())
    assert refused["status"] == "refused"
    for reason in refused["reasons"]:
        assert f"{reason['rule']}: {reason['text']}; needs: {reason['needs']}" in text
    assert text.count("would do:") == len(refused["nearest"]) > 0
