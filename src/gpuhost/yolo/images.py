"""Reading pictures: bytes from a file to pixels, with a name for everything that can be wrong with them."""

import pathlib
import re
import struct
from typing import Any

import cv2
import numpy as np

from ..errors import UsageError

LARGEST = 128 * 1000 * 1000
"""Pixels; decoded they take three bytes each."""
_MARKER = re.compile(b"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END = 0xD9


class ImageError(UsageError):
    """A picture that cannot be used; the message names the file and what is wrong."""


def _bad(name: str, problem: str, next_step: str = "Leave it out, or save it again as JPEG.") -> ImageError:
    """The error for the picture `name`."""
    return ImageError(f"The picture {name} {problem}.", next_step=next_step)


def read_bytes(path: pathlib.Path) -> bytes:
    """The file's bytes; ImageError when there is no such file or it is empty."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as problem:
        raise _bad(str(path), "is not there", "Check the name.") from problem
    if not data:
        raise _bad(str(path), "is an empty file")
    return data


def check_jpeg(data: bytes, name: str) -> None:
    """Walk the segments of a JPEG file to its end marker: OpenCV fills what is missing with grey and
    says nothing.

    A search for the end marker from behind would be misled by the preview picture that cameras embed.
    """
    position = 2
    while True:
        found = _MARKER.search(data, position)
        if found is None:
            raise _bad(name, "is cut off: its JPEG data has no end")
        marker = data[found.end() - 1]
        if marker == _END:
            return
        length = struct.unpack(">H", data[found.end() : found.end() + 2])[0] if found.end() + 2 <= len(data) else 0
        if marker in _FRAME_MARKERS and found.end() + 7 <= len(data):
            height, width = struct.unpack(">HH", data[found.end() + 3 : found.end() + 7])
            _check_size(width, height, name)
        position = found.end() + length


def check_png(data: bytes, name: str) -> None:
    """Look at a PNG file's size before it is decoded, and that its end is there."""
    if b"IEND" not in data[-16:]:
        raise _bad(name, "is cut off: its PNG data has no end")
    if data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        _check_size(width, height, name)


def _check_size(width: int, height: int, name: str) -> None:
    """Refuse a picture without area or with more pixels than LARGEST."""
    if width * height == 0:
        raise _bad(name, f"has no area ({width} x {height} pixels)")
    if width * height > LARGEST:
        raise _bad(name, f"is too large ({width} x {height} pixels)", "Make it smaller than 128 megapixels.")


def decode(data: bytes, name: str = "given") -> Any:
    """The pixels of an encoded picture: uint8 (height, width, 3), blue first; grey, alpha and 16 bits
    are brought to that.
    """
    if data.startswith(b"\xff\xd8"):
        check_jpeg(data, name)
    elif data.startswith(b"\x89PNG"):
        check_png(data, name)
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as problem:
        raise _bad(name, "cannot be decoded ({})".format(" ".join(str(problem).split())[:200])) from problem
    if image is None:
        raise _bad(name, "is not a picture that OpenCV can read, or is damaged")
    return image


def check_pixels(image: Any, name: str = "given") -> Any:
    """`image` as uint8 (height, width, 3); grey is widened, everything else that is not that is an
    ImageError.
    """
    if not isinstance(image, np.ndarray):
        raise _bad(name, f"is not an array but {type(image).__name__}", "Pass what cv2.imread returns.")
    if image.dtype != np.uint8:
        raise _bad(name, f"has values of type {image.dtype}", "Convert it to 8 bits per channel.")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise _bad(
            name,
            f"has the shape {image.shape}",
            "Pass (height, width, 3), blue first; drop an alpha channel.",
        )
    _check_size(image.shape[1], image.shape[0], name)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image
