"""Beds: throw-away machines that boot for real and leave nothing behind (see ../README.md)."""

from .bed import Bed
from .commands import BedError, CommandFailed

__all__ = ["Bed", "BedError", "CommandFailed"]
