"""The card and its driver."""

from __future__ import annotations

from typing import Callable

Hold = Callable[[str], None]


def test_card(hold: Hold) -> None:
    """A card that fell off the bus leaves everything running, on the CPU."""
    hold("gpu.present")


def test_installed(hold: Hold) -> None:
    """A branch that jumped, or a package that an update replaced, breaks at the next boot if not before."""
    hold("driver.installed")


def test_kernel(hold: Hold) -> None:
    """A newer kernel boots without the module that was made for the old one."""
    hold("kernel.boots")


def test_headers(hold: Hold) -> None:
    """DKMS passes over a kernel without headers, and the installation still ends well."""
    hold("kernel.headers")


def test_module(hold: Hold) -> None:
    """The next boot loads the module that is there for its kernel, or none."""
    hold("driver.module")


def test_signed(hold: Hold) -> None:
    """Secure Boot refuses a module whose key nobody has enrolled."""
    hold("driver.signed")


def test_nouveau(hold: Hold) -> None:
    """It sits in the initramfs and takes the card before anything else is asked."""
    hold("driver.nouveau")


def test_loaded(hold: Hold) -> None:
    """What is installed is not what runs until the host has been booted."""
    hold("driver.loaded")


def test_match(hold: Hold) -> None:
    """After an upgrade that was not held, the loaded module and the libraries are of two versions."""
    hold("driver.match")


def test_nodes(hold: Hold) -> None:
    """nvidia-smi needs two of them and CUDA a third, which is made at another time by another program."""
    hold("driver.nodes")


def test_cards(hold: Hold) -> None:
    """A loaded driver need not serve the card: its generation may have been dropped, or it may be dead."""
    hold("driver.cards")
