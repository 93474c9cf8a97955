"""The detector's arithmetic is shown to be right before its speed is measured."""

import pathlib
from typing import Any, Dict

import cv2
import numpy as np

from ..errors import EnvironmentProblem
from .darknet import Size, cfg_text, shapes_of, sides, told
from .detector import to_blob
from .devices import GATE_FP32, cpu_raw_heads
from .files import write_text
from .memory import give_back
from .models import ModelFiles
from .photos import pixels
from .reference import forward, relative_error

SIZE = 128
"""Input side in pixels: small enough for NumPy, large enough that the deepest head has 16 cells."""


def config(files: ModelFiles, work: pathlib.Path) -> pathlib.Path:
    """See that the description of the small network is in `work`; its path."""
    size = size_of(files)
    path, text = work / f"{files.model}-{told(size)}.cfg", cfg_text(files.layers, size)
    if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
        write_text(path, text)
    return path


def size_of(files: ModelFiles) -> Size:
    """The input's size at which the network is checked: SIZE, or its own where its layers do not fit that one."""
    try:
        fits = min(min(shape) for shape in shapes_of(files.layers, SIZE)) > 0
    except ValueError:
        fits = False
    return SIZE if fits else files.size


def check(files: ModelFiles, work: pathlib.Path) -> Dict[str, Any]:
    """Compare OpenCV on the CPU with the NumPy reference on a piece of a generated photo: rel2 per head,
    limit, size.

    The reference makes its own input from the pixels, so that a wrong scale or order of colours shows
    as well. EnvironmentProblem when a head is further off than GATE_FP32.
    """
    small = files._replace(cfg=config(files, work), size=size_of(files))
    width, height = sides(small.size)
    piece = cv2.resize(pixels(0), (width, height)) if width > SIZE or height > SIZE else pixels(0)[:height, :width]
    piece = np.ascontiguousarray(piece)
    give_back()  # What the model before left; this and the device after it need the room.
    found = cpu_raw_heads(small, to_blob(piece, small.size))
    expected = forward(files.layers, files.weights, piece[:, :, ::-1].transpose(2, 0, 1) / 255.0)
    give_back()
    errors = [relative_error(ours, theirs) for ours, theirs in zip(found, expected)]
    # Written so that a value that is not a number fails as well.
    if not all(error <= GATE_FP32 for error in errors):
        raise EnvironmentProblem(
            f"This OpenCV computes {files.model} wrongly: {max(errors):.1e} away from the reference, "
            f"where {GATE_FP32:.0e} is the limit.",
            next_step="Use another build of OpenCV; its speed means nothing while its result is wrong.",
        )
    return {"against": "numpy float64", "size": width, "rel2": errors, "limit": GATE_FP32, "passed": True}
