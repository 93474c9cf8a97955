"""The lock: it is there, it is for this machine, and the host is what it says."""

from __future__ import annotations

from typing import Callable

Hold = Callable[[str], None]


def test_present(hold: Hold) -> None:
    """Without a lock nobody has said what this host should be."""
    hold("lock.present")


def test_platform(hold: Hold) -> None:
    """After an upgrade to another release, the locked packages are those of the old one."""
    hold("lock.platform")


def test_cards(hold: Hold) -> None:
    """OpenCV is built for the cards that were there; another card may not run its code at all."""
    hold("lock.cards")


def test_provisioned(hold: Hold) -> None:
    """A lock is a promise; only a generation in force keeps it."""
    hold("lock.provisioned")


def test_generation(hold: Hold) -> None:
    """A lock that was edited and not carried out says what the host is not."""
    hold("lock.generation")


def test_rights(hold: Hold) -> None:
    """A store that others can write to runs their code as root; one that users cannot read serves nobody."""
    hold("lock.rights")
