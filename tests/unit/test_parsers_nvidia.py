"""Parsers of PCI ids, the driver's version file and nvidia-smi's CSV."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuhost.host.parse import nvidia as parsers


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0000:01:00.0", "0000:01:00.0"),
        ("00000000:01:00.0", "0000:01:00.0"),
        ("00000000:CA:00.0", "0000:ca:00.0"),
        ("00010000:01:00.0", "10000:01:00.0"),
        ("01:00.0", None),
        ("0000:01:00.8", None),
        ("auxfiles", None),
    ],
)
def test_pci_addresses_of_sysfs_and_nvidia_smi_join(text: str, address: str | None) -> None:
    """nvidia-smi writes capitals and eight digits of domain; a domain above four digits stays long."""
    assert parsers.parse_pci_address(text) == address


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  390.157  Wed Oct 12 09:19:07 UTC 2022", "390.157"),
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  525.105.17  Tue Mar 28 18:02:59 UTC 2023",
            "525.105.17",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.163.01  Release Build  (x@y)",
            "550.163.01",
        ),
        ("GCC version:  gcc version 7.5.0 (Ubuntu 7.5.0-3ubuntu1~18.04)", None),
    ],
)
def test_module_version_of_both_flavours(line: str, version: str | None) -> None:
    """The open flavour's line has the architecture elsewhere; the compiler's version is not the driver's."""
    assert parsers.parse_module_version(line + "\n") == version


def test_smi_values_that_are_no_values_become_none() -> None:
    """A card may not know its memory; a broken one prints errors, and only that makes it broken."""
    text = (
        "00000000:01:00.0, GPU-1, NVIDIA A, [N/A], 8.6\n"
        "00000000:02:00.0, GPU-2, NVIDIA B, [Not Supported], 8.6\n"
        "00000000:03:00.0, [Unknown Error], NVIDIA C, ERR!, 8.6\n"
    )
    cards, unread = parsers.parse_smi_csv(text, parsers.SMI_FIELDS)
    assert unread == []
    assert [card["memory_mib"] for card in cards.values()] == [None, None, None]
    assert [card["error"] is None for card in cards.values()] == [True, True, False]


def test_smi_lines_that_are_no_cards_are_handed_back() -> None:
    """Warnings share the output with the CSV, and a truncated row is not a card."""
    text = "No devices were found\n00000000:01:00.0, GPU-1\n\n00000000:02:00.0, GPU-2, NVIDIA B, 1, 8.6\n"
    cards, unread = parsers.parse_smi_csv(text, parsers.SMI_FIELDS)
    assert list(cards) == ["0000:02:00.0"]
    assert unread == ["No devices were found", "00000000:01:00.0, GPU-1"]


def test_smi_without_the_capability_column() -> None:
    """Drivers up to 470 do not know it; the capability is then unknown, and the rest stands."""
    cards, _ = parsers.parse_smi_csv("00000000:01:00.0, GPU-1, NVIDIA A, 2048\n", parsers.SMI_FIELDS_OLD)
    assert cards["0000:01:00.0"]["compute_capability"] is None
    assert cards["0000:01:00.0"]["memory_mib"] == 2048


def test_a_line_too_long_for_csv_is_handed_back() -> None:
    """The csv module refuses a field of more than 128 KiB."""
    line = '"' + "x" * 200_000
    assert parsers.parse_smi_csv(line, parsers.SMI_FIELDS) == ({}, [line])


CSV_TEXT = st.lists(
    st.sampled_from(["00000000:01:00.0", ", ", "[N/A]", "ERR!", '"', "\n", "8.6", "2048", "GPU-1", "\x00", "\r"])
).map("".join)


@given(st.text() | CSV_TEXT)
def test_any_text_gives_a_value(text: str) -> None:
    """A driver that crashes half-way prints anything."""
    for fields in (parsers.SMI_FIELDS, parsers.SMI_FIELDS_OLD):
        cards, _ = parsers.parse_smi_csv(text, fields)
        for address, card in cards.items():
            assert parsers.parse_pci_address(address) == address
            assert card["memory_mib"] is None or card["memory_mib"] >= 0
    parsers.parse_module_version(text)
    parsers.parse_loaded_modules(text)
    parsers.parse_pci_address(text)
    assert parsers.parse_hex_id(text) is None or len(text.strip()) == 6
    assert parsers.parse_pci_class(text) is None or len(text.strip()) == 8
