"""The guard that keeps updates from the driver and its kernel."""

from __future__ import annotations

from typing import Callable

Hold = Callable[[str], None]


def test_holds(hold: Hold) -> None:
    """The accident began with one package that was not held."""
    hold("guard.holds")


def test_pins(hold: Hold) -> None:
    """A hold falls with one command, and does not speak of packages that are not installed yet."""
    hold("guard.pins")


def test_blacklist(hold: Hold) -> None:
    """unattended-upgrades has a mind of its own about what is held."""
    hold("guard.blacklist")
