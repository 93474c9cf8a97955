"""Beds: throw-away machines that boot for real and leave nothing behind (see ../README.md)."""

from .archive import Archive, branch_jump, next_month
from .bed import Bed
from .commands import BedError, CommandFailed
from .mirror import Mirror
from .ubuntu import UbuntuBed

__all__ = ["Archive", "Bed", "BedError", "CommandFailed", "Mirror", "UbuntuBed", "branch_jump", "next_month"]
