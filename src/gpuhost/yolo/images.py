"""Reading pictures: bytes from a file to pixels, with a name for everything that can be wrong with them."""

import pathlib
import re
from typing import Any

import cv2
import numpy as np

from ..credentials import without_secrets
from ..errors import UsageError
from ..reading import UnfitFile, content
from ..text import printable
from . import picture_header
from .native import Listener

LARGEST_FILE = 1 << 30
"""Bytes; the most pixels that are taken, uncompressed and of 16 bits, are not more."""

_listener = Listener()
#: What libjpeg says when it has made up pixels.
_MADE_UP = re.compile(
    "premature end|bad Huffman code|bad arithmetic code|Inconsistent progression|Premature end|instead of RST"
)
_LEFT_OVER = re.compile("([0-9]+) extraneous bytes before marker 0xd[0-79]")
_PADDING = 32
"""Bytes in front of the end marker that some cameras leave there; more are taken when they are of few values."""
_FEW_VALUES = 4


class ImageError(UsageError):
    """A picture that cannot be used; the message names the file and what is wrong."""


def bad(
    name: str, problem: str, next_step: str = "Leave it out, or save it again as JPEG.", what: str = "picture"
) -> ImageError:
    """The error for the picture (or `what` it is) of this name."""
    return ImageError(f"The {what} {printable(without_secrets(name), 300)} {problem}.", next_step=next_step)


def read_bytes(path: pathlib.Path) -> bytes:
    """Return the bytes of a picture's file. Raise ImageError if it is missing, not a regular file, or too large."""
    try:
        data = content(path, LARGEST_FILE)
    except FileNotFoundError as problem:
        raise bad(str(path), "is not there", "Check the name.") from problem
    except UnfitFile as problem:
        raise bad(str(path), f"cannot be used: {str(problem).rstrip('.')}", "Name a picture's file.") from problem
    except OSError as problem:
        raise bad(str(path), f"cannot be read: {problem.strerror}", "Check the name and its rights.") from problem
    if not data:
        raise bad(str(path), "is an empty file")
    return data


def read(path: pathlib.Path) -> Any:
    """The pixels of a picture's file, as `decode` gives them."""
    return decode(read_bytes(path), str(path))


def decode(data: bytes, name: str = "given") -> Any:
    """The pixels of an encoded picture: uint8 (height, width, 3), blue first; grey, alpha and 16 bits
    are brought to that.
    """
    return pixels_of(data, header_of(data, name), name)


def header_of(
    data: bytes, name: str = "given", limits: picture_header.Limits = picture_header.DEFAULT
) -> picture_header.Header:
    """What an encoded picture would cost; ImageError for one that is not read, or does not keep the limits."""
    try:
        return picture_header.read(data, limits)
    except picture_header.Unfit as problem:
        raise bad(name, str(problem), problem.next_step) from problem


def pixels_of(data: bytes, header: picture_header.Header, name: str = "given") -> Any:
    """The pixels of an encoded picture whose header was read, as `decode` gives them."""
    try:
        image, said = _listener.call(lambda: cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR))
    except cv2.error as problem:
        raise bad(name, "is not a picture that OpenCV can read, or is damaged") from problem
    if image is None:
        raise bad(name, "is not a picture that OpenCV can read, or is damaged")
    if header.format == "JPEG" and _is_damaged(said, data, header.end):
        raise bad(name, "is damaged: pixels of it are missing or wrong")
    return image


def _is_damaged(said: str, data: bytes, end: int) -> bool:
    """Return whether libjpeg's warning about a JPEG speaks of lost pixels.

    Data left over when the last pixel is done is what rot leaves in half of all cases (in the other half it is too
    short), but also what cameras pad with.
    """
    if _MADE_UP.search(said):
        return True
    left = _LEFT_OVER.search(said)
    if left is None or int(left.group(1)) <= _PADDING:
        return False
    return len(set(data[max(0, end - int(left.group(1))) : end])) > _FEW_VALUES


def check_pixels(image: Any, name: str = "given") -> Any:
    """`image` as uint8 (height, width, 3); grey is widened, everything else that is not that is an
    ImageError.
    """
    if not isinstance(image, np.ndarray):
        raise bad(name, f"is not an array but {type(image).__name__}", "Pass what cv2.imread returns.")
    if image.dtype != np.uint8:
        raise bad(name, f"has values of type {image.dtype}", "Convert it to 8 bits per channel.")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise bad(
            name,
            f"has the shape {image.shape}",
            "Pass (height, width, 3), blue first; drop an alpha channel.",
        )
    try:
        picture_header.check_area(image.shape[1], image.shape[0], picture_header.DEFAULT.pixels)
    except picture_header.Unfit as problem:
        raise bad(name, str(problem), problem.next_step) from problem
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image
