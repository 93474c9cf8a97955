"""From the words of an error to its causes: the likeliest first, and each with what tells it from the others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List

import pytest

from gpuhost.diagnoses import apart
from gpuhost.diagnoses.table import BY_ID
from gpuhost.doctor import messages, words

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
NO_DEVICE = "CUDA error: no CUDA-capable device is detected"


def sharing() -> Dict[str, List[str]]:
    """Return the messages that several diagnoses have, with their ids."""
    known: Dict[str, List[str]] = {}
    for one in BY_ID.values():
        for message in one.messages:
            known.setdefault(message, []).append(one.id)
    return {message: ids for message, ids in known.items() if len(ids) > 1}


def test_each_diagnosis_has_its_row() -> None:
    """With nothing that a terminal or a table cannot show."""
    assert list(apart.BY_ID) == list(BY_ID)
    for told in apart.BY_ID.values():
        assert told.look.isprintable() and told.look.count("`") % 2 == 0 and told.reports >= 0


@pytest.mark.parametrize(("message", "ids"), sharing().items())
def test_causes_of_one_message_can_be_distinguished(message: str, ids: List[str]) -> None:
    """Each by something else."""
    looks = [apart.BY_ID[one].look for one in ids]
    assert all(looks) and len({*looks}) == len(looks)


def test_the_likeliest_cause_comes_first() -> None:
    """What any machine can have, by the number of reports; then what needs something special."""
    found = [one.id for one, _ in messages.named(NO_DEVICE)]
    assert found == ["D08", "D10", "D37", "D38", "D41", "D11", "D39", "D47"]
    special = [bool(apart.BY_ID[one].only) for one in found]
    assert special == sorted(special) and any(special)


def test_the_longest_message_still_decides() -> None:
    """Of two messages in a text the longer one is the more telling, however rare its cause is."""
    text = "libcuda.so.1: cannot open shared object file"
    assert [one.id for one, _ in messages.named(text)] == ["D40", "D30"]


def test_a_message_is_answered_with_what_to_look_at() -> None:
    """And the words that were typed are not repeated beside each cause."""
    shown = words.pointed(messages.pointed(NO_DEVICE))
    assert "  look    lsmod | grep ^nouveau lists it" in shown
    assert "D11  Secure Boot refuses the module (only with Secure Boot on)" in shown
    assert "says    " not in shown and shown.lower().count("no cuda-capable device") == 0
    assert "the likeliest first" in shown


def test_the_page_has_every_diagnosis_that_any_page_names() -> None:
    """Under its id, in the order of the ids, with the rule and the runbook where a card is dead."""
    there = re.findall(r"^### (D\d\d)$", PAGE, re.MULTILINE)
    assert there == list(BY_ID)
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {one for page in pages for one in re.findall(r"\bD\d\d\b", page.read_text(encoding="utf-8"))}
    assert named <= {*there}
    assert apart.RULE in PAGE
    for one in ("D16", "D38"):
        assert "runbooks/rebuild.md#a-dead-card" in PAGE.partition(f"### {one}\n")[2].partition("\n### ")[0]


def test_most_causes_say_what_to_type() -> None:
    """On a host that gpuhost set up, and on any other."""
    sections = PAGE.partition("## The causes")[2].split("\n### ")[1:]
    typed = [section[:3] for section in sections if "set up, type" in section]
    others = [section[:3] for section in sections if "any other, type" in section]
    assert len(typed) > 30 and len(others) > 20
    assert {"D08", "D10", "D11"} <= {*typed} & {*others}
