"""The machine itself: what it is, where its packages come from, and that the package database is whole."""

from __future__ import annotations

from typing import Callable

Hold = Callable[[str], None]


def test_observed(hold: Hold) -> None:
    """One reading of the host is what every other check rests on."""
    hold("host.observed")


def test_platform(hold: Hold) -> None:
    """The stack is chosen for a release; on another one its driver packages and wheels do not fit."""
    hold("host.platform")


def test_sources_readable(hold: Hold) -> None:
    """A source line that cannot be read may hide a source that must not be there."""
    hold("host.sources-readable")


def test_sources_release(hold: Hold) -> None:
    """Sources of other releases were the original's first cause: an upgrade then mixes their libraries with
    these.
    """
    hold("host.sources-release")


def test_sources_foreign(hold: Hold) -> None:
    """A second source of driver or CUDA packages takes over at the next upgrade, whatever was pinned before."""
    hold("host.sources-foreign")


def test_dpkg(hold: Hold) -> None:
    """A half-installed package stops every later installation, and may be the driver itself."""
    hold("host.dpkg")
