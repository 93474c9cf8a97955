"""The card and its driver."""

from __future__ import annotations

from typing import Callable

Hold = Callable[[str], None]


def test_card(hold: Hold) -> None:
    """A card that fell off the bus leaves everything running, on the CPU."""
    hold("gpu.present")


def test_loaded(hold: Hold) -> None:
    """After an upgrade that was not held, the loaded module and the libraries are of two versions."""
    hold("driver.loaded")


def test_cards(hold: Hold) -> None:
    """A loaded driver need not serve the card: its generation may have been dropped, or it may be dead."""
    hold("driver.cards")
