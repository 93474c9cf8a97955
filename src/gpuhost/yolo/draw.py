"""A picture with the detected boxes drawn on it."""

import pathlib
from typing import Any, Sequence, Tuple

import cv2

from ..errors import UsageError
from ..text import printable
from .detector import Detection
from .files import whole_file

SYNTHETIC_WORDS = "SYNTHETIC WEIGHTS: THESE BOXES MEAN NOTHING"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
"""What pictures are written as. OpenCV says of more kinds that it writes them, and then fails (OpenEXR)."""
_COLOURS = ((60, 60, 230), (40, 150, 30), (230, 120, 40), (30, 140, 220), (200, 60, 190), (150, 130, 0), (90, 90, 90))
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def colour_of(class_id: int) -> Tuple[int, int, int]:
    """A colour (blue, green, red) for a class: neighbours in the list look different."""
    return _COLOURS[class_id % len(_COLOURS)]


def _text(image: Any, words: str, corner: Tuple[int, int], scale: float, back: Tuple[int, int, int]) -> None:
    """Words in white on a box of colour `back` whose lower left corner is `corner`, kept inside the picture."""
    (wide, high), below = cv2.getTextSize(words, _FONT, scale, 1)
    left = max(min(corner[0], image.shape[1] - wide), 0)
    bottom = max(corner[1], high + below)
    cv2.rectangle(image, (left, bottom - high - below), (left + wide, bottom), back, cv2.FILLED)
    cv2.putText(image, words, (left, bottom - below // 2 - 1), _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def drawn(image: Any, found: Sequence[Detection], meaningful: bool) -> Any:
    """A copy of `image` (height, width, 3) with a box, name and score for each detection; without meaning, with a
    line that says so.
    """
    picture = image.copy()
    side = min(picture.shape[:2])
    scale, thick = max(side / 1000.0, 0.35), max(side // 250, 1)
    for row in reversed(found):  # the surest last, on top
        left, top, wide, high = (round(value) for value in row.box)
        colour = colour_of(row.class_id)
        cv2.rectangle(picture, (left, top), (left + wide, top + high), colour, thick)
        _text(picture, f"{row.label} {row.score:.2f}", (left, top), scale, colour)
    if not meaningful:
        _text(picture, SYNTHETIC_WORDS, (0, picture.shape[0]), scale, (0, 0, 180))
    return picture


def check_name(path: pathlib.Path) -> None:
    """UsageError when no picture is written into a file with this ending."""
    if path.suffix.lower() not in SUFFIXES or not cv2.haveImageWriter("x" + path.suffix.lower()):
        raise UsageError(
            f"No picture of the kind '{printable(path.name, 100)}' is written.", next_step="Name it .jpg or .png."
        )


def encoded(suffix: str, picture: Any) -> bytes:
    """Return the picture as a file of the kind that the ending names."""
    refused = UsageError(f"The picture cannot be written as {suffix}.", next_step="Name it .png.")
    try:
        done, data = cv2.imencode(suffix, picture)
    except cv2.error as problem:  # its text is of OpenCV's source lines
        raise refused from problem
    if not done:
        raise refused
    return data.tobytes()


def save(path: pathlib.Path, picture: Any, replace: bool = True) -> None:
    """Write the picture whole or not at all; its kind is that of the file's ending."""
    data = encoded(path.suffix.lower(), picture)
    with whole_file(path, None, replace) as handle:
        handle.write(data)
