"""What `--gpu` takes, and what it must never mistake for something else."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuhost.errors import GpuhostError, UnreadableError, UsageError
from gpuhost.planning import gpus as gpu
from gpuhost.planning.catalog import shipped

from . import independent

FACTS = independent.read()
DEVICES = FACTS["gpus"]["devices"]
NAMED = sorted(device for device, row in DEVICES.items() if row["name"])


@pytest.mark.parametrize(
    ("text", "device", "capability"),
    [
        ("GTX 750 Ti", "1380", "5.0"),
        ("geforce gtx 750 ti", "1380", "5.0"),
        ("  GeForce   GTX  750  Ti ", "1380", "5.0"),
        ("750 Ti", "1380", "5.0"),
        ("NVIDIA GeForce GTX 750 Ti", "1380", "5.0"),
        ("10de:1380", "1380", "5.0"),
        ("1380", "1380", "5.0"),
        ("10de:1c30", "1c30", "6.1"),
        ("10DE:1C30", "1c30", "6.1"),
        ("0x10DE:1C30", "1c30", "6.1"),
        ("0x10de:0x1c30", "1c30", "6.1"),
        ("0x1c30", "1c30", "6.1"),
        ("1C30", "1c30", "6.1"),
        ("P2000", "1c30", "6.1"),
        ("Quadro P2000", "1c30", "6.1"),
        ("quadro p2000", "1c30", "6.1"),
        ("RTX 2080", "1e82", "7.5"),
        ("RTX 3090", "2204", "8.6"),
        ("RTX 4090", "2684", "8.9"),
        ("4090", "2684", "8.9"),
        ("RTX 4090 D", "2685", "8.9"),
        ("H100", "2330", "9.0"),
        ("H100 PCIe", "2331", "9.0"),
        ("H200", "2335", "9.0"),
        ("RTX 5090", "2b85", "12.0"),
        ("Tesla K80", "102d", "3.7"),
        ("K80", "102d", "3.7"),
        ("T4", "1eb8", "7.5"),
    ],
)
def test_cards_are_found(text: str, device: str, capability: str) -> None:
    """Names in any case, with or without the words people leave out, and PCI ids in any spelling."""
    found = gpu.parse(shipped(), text)
    assert (found.device, found.compute_capability) == (device, capability)


@pytest.mark.parametrize(
    ("text", "device"),
    [
        # As nvidia-smi prints them, NVIDIA's own documents and public outputs of nvidia-smi -L.
        ("NVIDIA A100-SXM4-80GB", "20b2"),
        ("NVIDIA A100-PCIE-40GB", "20f1"),
        ("NVIDIA A100 80GB PCIe", "20b5"),
        ("NVIDIA H100 80GB HBM3", "2330"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", "249c"),
        ("Tesla V100-SXM2-16GB", "1db1"),
        ("Tesla V100S-PCIE-32GB", "1df6"),
        ("NVIDIA TITAN X (Pascal)", "1b00"),
        ("GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-00000000-0000-4000-8000-000000000001)", "2204"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "20b0"),
        # As lspci does: the chip says which of two boards of one name it is.
        ("GP106 [GeForce GTX 1060 6GB]", "1c03"),
        ("GP104 [GeForce GTX 1060 6GB]", "1b83"),
        ("01:00.0 VGA compatible controller: NVIDIA Corporation GP106 [GeForce GTX 1060 6GB] (rev a1)", "1c03"),
        (
            "01:00.0 VGA compatible controller [0300]: NVIDIA Corporation GP104 [GeForce GTX 1060 3GB] [10de:1b84]",
            "1b84",
        ),
        ("01:00.0 3D controller: NVIDIA Corporation GM107M [GeForce GTX 960M] (rev a2)", "139b"),
        ("GA104M [GeForce RTX 3080 Mobile / Max-Q 8GB/16GB]", "249c"),
        # As people type them.
        ("gtx-1060", "1c03"),
        ("gtx1060", "1c03"),
        ("GTX750Ti", "1380"),
        ("750ti", "1380"),
        ("rtx3060ti", "2486"),
        ("RTX-4090", "2684"),
        ("RTX 3080 Laptop", "249c"),
        ("rtx 4070 ti-super", "2705"),
    ],
)
def test_names_as_programs_print_and_people_type_them(text: str, device: str) -> None:
    """By rules of spelling: hyphens and missing blanks, the words for a form, whole lines of nvidia-smi and lspci."""
    assert gpu.parse(shipped(), text).device == device


@pytest.mark.parametrize(
    ("text", "device", "not_this"),
    [
        ("GTX 1060", "1c03", "1b83"),
        ("RTX 3060", "2503", "2487"),
        ("GTX 1650", "1f82", "2188"),
        ("A100", "20b0", "20b2"),
    ],
)
def test_of_several_boards_the_common_one_is_meant(text: str, device: str, not_this: str) -> None:
    """Not one with a cut-down chip of a larger card; and the plan says which was taken and what else has the name."""
    found = gpu.parse(shipped(), text)
    assert found.device == device
    assert f"is taken as 10de:{device} ({found.name}, {found.chip})" in found.note
    assert f"10de:{not_this}" in found.note.partition("it also fits")[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Radeon RX 6800", "a card of AMD: .* NVIDIA's cards only"),
        ("0b:00.0 VGA compatible controller: Advanced Micro Devices, Inc. [AMD/ATI] Navi 21 (rev c1)", "AMD"),
        ("1002:73bf", "AMD"),
        ("Intel Arc A770", "Intel"),
        ("8086:56a0", "Intel"),
        ("GRID T4-16Q", "virtual GPU: .*guest driver"),
        ("NVIDIA A40-48Q", "virtual GPU"),
        ("GRID A100-3-20C", "virtual GPU"),
    ],
)
def test_what_is_planned_for_by_nobody_says_why(text: str, words: str) -> None:
    """The card of another maker, and a share of a card."""
    with pytest.raises(UsageError, match=words) as caught:
        gpu.parse(shipped(), text)
    assert "--gpu none" in caught.value.next_step


def test_no_name_of_nvidias_is_taken_for_another_makers_or_a_share() -> None:
    """Each name of the catalog, and each that nvidia-smi prints."""
    for name in [
        *(DEVICES[d]["name"] for d in NAMED),
        *(n for ns in FACTS["gpus"]["also_called"].values() for n in ns),
    ]:
        gpu.refuse_others(name)


def test_a_hint_has_the_id_of_the_card_that_was_meant() -> None:
    """Not that of some other one."""
    with pytest.raises(UsageError) as caught:
        gpu.parse(shipped(), "GTX 75O Ti")
    assert "--gpu 10de:1380, for GeForce GTX 750 Ti" in caught.value.next_step


def test_capability_alone() -> None:
    """A dotted capability plans for any such card, and says that no driver's claim was checked."""
    found = gpu.parse(shipped(), "6.1")
    assert (found.device, found.compute_capability, found.generation) == (None, "6.1", "Pascal")
    assert "not checked" in found.note


@pytest.mark.parametrize(
    ("short", "longer"),
    [
        ("RTX 4090", "RTX 4090 D"),
        ("GTX 1060", "GTX 1060 Mobile"),
        ("GTX 750", "GTX 750 Ti"),
        ("RTX 3080", "RTX 3080 Ti"),
        ("RTX 2070", "RTX 2070 SUPER"),
    ],
)
def test_a_longer_name_is_another_card(short: str, longer: str) -> None:
    """Ti, SUPER, D and Mobile are other products: the short name never stands for them, not even in the
    note."""
    found = gpu.parse(shipped(), short)
    assert found.name is not None
    assert not found.name.casefold().endswith(longer.split()[-1].casefold())
    assert longer.casefold() + "," not in found.note.casefold()


def test_one_name_of_several_cards_is_told() -> None:
    """A name that fits several ids is taken as the one most packages claim, and the note names the others."""
    found = gpu.parse(shipped(), "GTX 750 Ti")
    assert "10de:11c7" in found.note  # the same name on a chip of 3.0
    assert "10de:1380" in found.note
    assert gpu.parse(shipped(), "10de:1380").note == ""


@pytest.mark.parametrize("digits", ["1050", "1080", "2080"])
def test_digits_that_are_an_id_and_a_name(digits: str) -> None:
    """1080 is the id of a GTX 580 and what people call a GTX 1080: neither is guessed, and both can be
    written."""
    assert digits in DEVICES
    with pytest.raises(UsageError, match=f"10de:{digits}"):
        gpu.parse(shipped(), digits)
    assert gpu.parse(shipped(), f"10de:{digits}").device == digits
    brand = "RTX" if digits == "2080" else "GTX"
    assert gpu.parse(shipped(), f"{brand} {digits}").name == f"GeForce {brand} {digits}"


@pytest.mark.parametrize("text", ["GTX 75O Ti", "GeForce RTX 4O90", "Qadro P2000", "RTX 4090 Ti Super"])
def test_a_slip_of_the_pen_is_helped(text: str) -> None:
    """What is nearly a name is a usage error with suggestions, all of which are names."""
    with pytest.raises(UsageError) as caught:
        gpu.parse(shipped(), text)
    assert "Did you mean" in caught.value.next_step
    assert text in caught.value.message
    offered = caught.value.next_step.split("Did you mean ")[1].split("?")[0].split(", ")
    assert set(offered) <= {row["name"] for row in DEVICES.values()}


NO_CARDS = ["", "   ", "10de:ffff", "ffff", "10de:", "1002:73bf", "8086:56a0", "0.0", "4.2", "99.9", "6"]
NO_CARDS += ["GeForce", "nvidia", "RTX", "PCIe", "80GB", "Radeon RX 6800", "(", "\x00", "--json", "P2000,K80"]


@pytest.mark.parametrize("text", [*NO_CARDS, "10de:1c30 10de:1380"])
def test_what_is_no_card_is_a_usage_error(text: str) -> None:
    """Nonsense, an unknown id, another vendor, a brand alone: exit code 2, with what to type instead."""
    with pytest.raises(UsageError) as caught:
        gpu.parse(shipped(), text)
    assert caught.value.exit_code == 2
    assert caught.value.next_step


def test_every_name_finds_its_card() -> None:
    """Each of the 1,100 names leads to a card of that name; where a form of the product (`Rev. A`, `80GB`)
    is what more packages claim, to that, and the note names this id too."""
    assert len(NAMED) == 1100
    for device in NAMED:
        name = DEVICES[device]["name"]
        found = gpu.parse(shipped(), name)
        assert found.name is not None
        assert found.device == device or f"10de:{device}" in found.note, name
        assert found.name == name or found.name.startswith(f"{name} "), name


def test_forms_taken_for_a_name_are_few() -> None:
    """These names stand for a form of the product that more packages claim; a change of the list is a
    change of plans."""
    taken = {DEVICES[d]["name"]: gpu.parse(shipped(), DEVICES[d]["name"]).name for d in NAMED}
    assert {name: form for name, form in taken.items() if name != form} == {
        "GeForce GTS 450": "GeForce GTS 450 Rev. 2",
        "GeForce GT 630": "GeForce GT 630 Rev. 2",
        "GeForce RTX 2060": "GeForce RTX 2060 Rev. A",
        "H100": "H100 SXM5 80GB",
    }


def test_every_id_is_its_card() -> None:
    """An id with its vendor always means that id, and nothing has to be noted."""
    for device, row in DEVICES.items():
        found = gpu.parse(shipped(), f"10de:{device}")
        card = independent.card_of(FACTS, device)
        assert (found.device, found.name, found.chip) == (device, row["name"] or None, row["chip"])
        assert found.note == ""
        assert found.compute_capability == card.capability
        assert found.generation == independent.generation(FACTS, card)
        assert found.first_listed_driver == row.get("first_listed_driver")
        assert found.unlisted_up_to == row.get("unlisted_up_to")


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_card_or_an_error(text: str) -> None:
    """Whatever is typed: a card, or an error of ours, never a traceback."""
    try:
        gpu.parse(shipped(), text)
    except GpuhostError as error:
        assert error.next_step


WORDS = st.sampled_from(
    [
        "gtx",
        "RTX",
        "geforce",
        "quadro",
        "Ti",
        "750",
        "2080",
        "4090",
        "D",
        "10de",
        ":",
        "0x",
        "1c30",
        "6.1",
        ",",
        "Mobile",
        "80GB",
    ]
)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=6), st.sampled_from([" ", "", "  ", "-"]))
def test_any_words_of_names_are_a_card_or_an_error(words: List[str], between: str) -> None:
    """The same for what looks like a name or an id; and a note is there whenever the answer was a choice."""
    try:
        found = gpu.parse(shipped(), between.join(words))
    except GpuhostError as error:
        assert error.next_step
    else:
        assert found.device is None or found.device in DEVICES


def row_of(pci_id: str, **rest: Any) -> Dict[str, Any]:
    """A card as a probe reports it."""
    return {"pci_id": pci_id, "pci_address": "0000:01:00.0", **rest}


def test_probed_cards_are_mapped() -> None:
    """The cards of a machine, in its order."""
    found = gpu.from_observation(shipped(), [row_of("10de:1c30"), row_of("10de:1380", readable=True)], "ok")
    assert [g.device for g in found] == ["1c30", "1380"]


@pytest.mark.parametrize(
    ("row", "status", "word"),
    [
        (row_of("10de:ffff"), "ok", "10de:ffff"),
        (row_of("1002:73bf"), "ok", "1002:73bf"),
        (row_of("10de:1c30", readable=False, error="No such device"), "ok", "No such device"),
        (row_of("10de:1c30", readable=False, error=None), "ok", "no answer"),
    ],
)
def test_a_card_that_cannot_be_read_is_an_error(row: Dict[str, Any], status: str, word: str) -> None:
    """There but unknown, or there but silent: exit code 4, never a guess and never the CPU."""
    with pytest.raises(UnreadableError, match=word) as caught:
        gpu.from_observation(shipped(), [row_of("10de:1380"), row], status)
    assert caught.value.exit_code == 4
    assert caught.value.next_step


@pytest.mark.parametrize("status", ["missing", "failed"])
def test_without_a_driver_nothing_has_to_answer(status: str) -> None:
    """Before a driver is installed no card answers: the PCI id is enough."""
    found: Optional[List[gpu.Gpu]] = gpu.from_observation(shipped(), [row_of("10de:1c30", readable=False)], status)
    assert found is not None
    assert [g.device for g in found] == ["1c30"]
