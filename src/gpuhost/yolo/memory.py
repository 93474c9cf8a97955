"""How much memory this machine has, what OpenCV's fast convolution would take of it, and giving it back."""

import ctypes
import os
import pathlib
from typing import Sequence

from ..host import cgroups
from .darknet import convolutions
from .networks import Layer

SHARE = 1 / 6
"""Of the machine's memory, what the packed filters may take: with it a full network stays below 1 GB on a
machine of 4 GB, and is fast on one of 8 GB.
"""
TILE_BYTES = 4 * 8 * 8
"""OpenCV from 4.7 on keeps each 3 x 3 filter as 8 x 8 values for Winograd's convolution: YOLOv3 then peaks at
1.77 GB in place of 0.61 GB (4.14, measured).
"""


def machine_bytes(root: pathlib.Path = pathlib.Path("/")) -> int:
    """The machine's memory, or what this process's control groups (a container, a service) may use of it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *cgroups.memory_limits(root)])


def winograd_bytes(layers: Sequence[Layer]) -> int:
    """What OpenCV's packed 3 x 3 filters of this network take."""
    filters = [shape for shape in convolutions(layers) if shape.conv.size == 3 and shape.conv.stride == 1]
    return sum(TILE_BYTES * shape.conv.filters * shape.depth for shape in filters)


def winograd_fits(layers: Sequence[Layer]) -> bool:
    """Whether OpenCV may use it here. Without, YOLOv3 takes about twice the time."""
    return winograd_bytes(layers) <= SHARE * machine_bytes()


def give_back() -> None:
    """Return freed memory to the system, as the allocator does not by itself after a network is gone: several
    hundred MB with a full one. Only the GNU library has a call for it.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(ctypes.c_size_t(0))
