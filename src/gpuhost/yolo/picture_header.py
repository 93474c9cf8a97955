"""What an encoded picture will cost, read from its header before anything decodes it.

A few bytes can ask for gigabytes (a WebP of 38 bytes for 16383 x 16383 pixels), and a JPEG with a thousand scans for a
minute. Pure: bytes in, facts or a refusal out; no OpenCV, and no more memory than the bytes themselves.
"""

import re
import struct
from typing import Any, Callable, Dict, NamedTuple, Tuple

#: The formats whose headers are read here. No other reaches a decoder.
FORMATS = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "PNM")
#: Markers, chunks and pages that are looked at; more is not a photo.
MOST_PARTS = 10000
_SAVE = "Leave it out, or save it again as JPEG."
#: Before it may stand any number of 0xff. (A pattern that took them too would try each of a million as the first.)
_MARKER = re.compile(b"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END, _ALONE = 0xDA, 0xD9, 0x01
#: Tags of TIFF, and its compressions that have no further format inside.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS, _TILE_WIDTH, _TILE_HEIGHT = (
    256,
    257,
    258,
    259,
    277,
    278,
    322,
    323,
)
_SIMPLE = (1, 2, 3, 4, 5, 8, 32773, 32946)
_NO_LIMIT = 0xFFFFFFFF
_TILE = 4096 * 4096
_NUMBER = re.compile(rb"(?:[ \t\r\n]|#[^\r\n]{0,1000}[\r\n]){1,1000}([0-9]{1,9})(?=[ \t\r\n])")


class Unfit(ValueError):
    """A picture that is not decoded: what is wrong with it ("is cut off"), and what to do."""

    def __init__(self, problem: str, next_step: str = _SAVE) -> None:
        """Keep both."""
        super().__init__(problem)
        self.next_step = next_step


class Header(NamedTuple):
    """What a decoder would make of the bytes. `scans` counts the passes over a JPEG's pixels, `frames` the pictures;
    `end` is the place of a JPEG's end marker.
    """

    format: str
    width: int
    height: int
    scans: int
    frames: int
    end: int = 0


class Limits(NamedTuple):
    """What is taken."""

    pixels: int = 128 * 1000 * 1000
    scans: int = 64
    frames: int = 1000
    formats: Tuple[str, ...] = FORMATS


DEFAULT = Limits()


def read(data: bytes, limits: Limits = DEFAULT) -> Header:
    """Return the header of a picture that keeps the limits; `Unfit` for every other."""
    for magic, name, reader in _READERS:
        if data.startswith(magic) and name in limits.formats:
            return reader(data, limits)
    kinds = ", ".join(limits.formats)
    raise Unfit(f"is not a picture of a format that is read ({kinds})", "Leave it out, or save it as one of them.")


def check_area(width: int, height: int, most: int) -> None:
    """Refuse a picture without area, or with more pixels than `most`."""
    if width <= 0 or height <= 0:
        raise Unfit(f"has no area ({width} x {height} pixels)")
    if width * height > most:
        raise Unfit(f"is too large ({width} x {height} pixels)", f"Make it smaller than {most / 1e6:g} megapixels.")


def _values(layout: str, data: bytes, at: int, what: str) -> Tuple[Any, ...]:
    """Return the values of a struct layout at a place; a place beyond the end is a picture that is cut off."""
    if at + struct.calcsize(layout) > len(data):
        raise Unfit(f"is cut off: its {what} data has no end")
    return struct.unpack_from(layout, data, at)


def _jpeg(data: bytes, limits: Limits) -> Header:
    """Walk the segments to the end marker: OpenCV fills what is missing with grey and says nothing.

    A search for the end marker from behind would be misled by the preview picture that cameras embed.
    """
    position, scans = 2, 0
    size = (0, 0)
    for _ in range(MOST_PARTS):
        found = _MARKER.search(data, position)
        if found is None:
            raise Unfit("is cut off: its JPEG data has no end")
        marker, position = data[found.end() - 1], found.end()
        if marker == _END:
            check_area(size[0], size[1], limits.pixels)
            return Header("JPEG", size[0], size[1], scans, 1, position - 2)
        if marker == _ALONE:
            continue
        if marker in _FRAMES:
            height, width = _values(">HH", data, position + 3, "JPEG")
            check_area(width, height, limits.pixels)
            size = (max(width, size[0]), max(height, size[1]))
        elif marker == _SCAN:
            scans += 1
            if scans > limits.scans:
                raise Unfit(f"has more than {limits.scans} scans")
        position += _values(">H", data, position, "JPEG")[0]
    raise Unfit("is damaged: its JPEG data has too many segments")


def _png(data: bytes, limits: Limits) -> Header:
    """Read the size, the number of frames of an animated one, and that its end is there."""
    if b"IEND" not in data[-16:]:
        raise Unfit("is cut off: its PNG data has no end")
    if data[8:16] != b"\0\0\0\rIHDR":
        raise Unfit("is damaged: its PNG header is not the first part")
    width, height = _values(">II", data, 16, "PNG")
    check_area(width, height, limits.pixels)
    position, frames = 33, 1
    for _ in range(MOST_PARTS):
        length, kind = _values(">I4s", data, position, "PNG")
        if kind in (b"IDAT", b"IEND"):
            break
        if kind == b"acTL":
            frames = _values(">I", data, position + 8, "PNG")[0]
        position += 12 + length
    return _few(Header("PNG", width, height, 1, frames), limits)


def _webp(data: bytes, limits: Limits) -> Header:
    """Read the canvas, and the size of every picture on it; the largest counts."""
    if data[8:12] != b"WEBP":
        raise Unfit("is not a picture: it is another kind of RIFF file")
    width, height, frames, position = 0, 0, 0, 12
    for _ in range(MOST_PARTS):
        if position + 8 > len(data):
            break
        kind, length = _values("<4sI", data, position, "WebP")
        at = position + 8
        size: Tuple[int, ...] = (0, 0)
        if kind == b"VP8X":
            size = (_three(data, at + 4) + 1, _three(data, at + 7) + 1)
        elif kind == b"ANMF":
            size, frames = (_three(data, at + 6) + 1, _three(data, at + 9) + 1), frames + 1
        elif kind == b"VP8L":
            packed = _values("<xI", data, at, "WebP")[0]
            size = ((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1)
        elif kind == b"VP8 ":
            size = tuple(value & 0x3FFF for value in _values("<6xHH", data, at, "WebP"))
        width, height = max(width, size[0]), max(height, size[1])
        if size != (0, 0):
            check_area(width, height, limits.pixels)
        position = at + length + length % 2
    if not width:
        raise Unfit("is cut off: its WebP data holds no picture")
    return _few(Header("WebP", width, height, 1, max(frames, 1)), limits)


def _three(data: bytes, at: int) -> int:
    """Return a number of three bytes, the lowest first."""
    low, high = _values("<HB", data, at, "WebP")
    return int(low | high << 16)


def _bmp(data: bytes, limits: Limits) -> Header:
    """Read the size from either of the two headers; a negative height only turns the rows around."""
    size = _values("<I", data, 14, "BMP")[0]
    if size != 12 and size < 40:
        raise Unfit("is damaged: its BMP header has an unknown length")
    width, height = _values("<HH" if size == 12 else "<ii", data, 18, "BMP")
    check_area(width, abs(height), limits.pixels)
    return Header("BMP", width, abs(height), 1, 1)


def _tiff(data: bytes, limits: Limits) -> Header:
    """Read the first page, which is the one that is decoded, and count the pages.

    Refused is what would need memory or time beyond its pixels: deep or many channels, tiles larger than photos need,
    and formats within the format.
    """
    order = "<" if data.startswith(b"II") else ">"
    at = first = _values(order + "I", data, 4, "TIFF")[0]
    frames = 0
    while at:
        frames += 1
        if frames > limits.frames:
            raise Unfit(f"holds more than {limits.frames} pictures")
        count = _values(order + "H", data, at, "TIFF")[0]
        at = _values(order + "I", data, at + 2 + 12 * count, "TIFF")[0]
    tags = _tags(data, order, first) if frames else {}
    width, height = tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)
    check_area(width, height, limits.pixels)
    if tags.get(_BITS, 1) > 16 or tags.get(_SAMPLES, 1) > 4 or tags.get(_COMPRESSION, 1) not in _SIMPLE:
        raise Unfit("is a TIFF of a kind that is not read (more than 16 bits, 4 channels, or another format inside)")
    rows = tags.get(_ROWS, _NO_LIMIT)
    strip = 0 if rows in (0, _NO_LIMIT) or rows <= height else width * rows
    if max(strip, tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0)) > _TILE:
        raise Unfit("is a TIFF whose tiles are too large")
    return Header("TIFF", width, height, 1, frames)


def _tags(data: bytes, order: str, at: int) -> Dict[int, int]:
    """Return the numbers of a TIFF page that decide its cost; of equal tags the first."""
    wanted = (_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS, _TILE_WIDTH, _TILE_HEIGHT)
    found: Dict[int, int] = {}
    for number in range(_values(order + "H", data, at, "TIFF")[0]):
        place = at + 2 + 12 * number
        tag, kind, count = _values(order + "HHI", data, place, "TIFF")
        if tag in wanted and tag not in found:
            if kind not in (3, 4) or not count or (count > 1 and tag != _BITS):
                raise Unfit("is damaged: its TIFF header holds no plain number")
            # What does not fit into four bytes stands elsewhere.
            far = count * (2 if kind == 3 else 4) > 4
            value_at = _values(order + "I", data, place + 8, "TIFF")[0] if far else place + 8
            layout = order + str(min(count, 4)) + ("H" if kind == 3 else "I")
            found[tag] = max(_values(layout, data, value_at, "TIFF"))
    return found


def _pnm(data: bytes, limits: Limits) -> Header:
    """Read the two numbers behind the first two letters; each ends with white space, as every reader takes it."""
    width = _NUMBER.match(data, 2)
    height = _NUMBER.match(data, width.end()) if width else None
    if width is None or height is None:
        raise Unfit("is damaged: its PNM header holds no size")
    size = int(width.group(1)), int(height.group(1))
    check_area(size[0], size[1], limits.pixels)
    return Header("PNM", size[0], size[1], 1, 1)


def _few(found: Header, limits: Limits) -> Header:
    """Refuse too many frames."""
    if found.frames > limits.frames:
        raise Unfit(f"holds more than {limits.frames} pictures")
    return found


_READERS: Tuple[Tuple[bytes, str, Callable[[bytes, Limits], Header]], ...] = (
    (b"\xff\xd8", "JPEG", _jpeg),
    (b"\x89PNG\r\n\x1a\n", "PNG", _png),
    (b"RIFF", "WebP", _webp),
    (b"BM", "BMP", _bmp),
    (b"II*\0", "TIFF", _tiff),
    (b"MM\0*", "TIFF", _tiff),
    *((b"P%d" % number, "PNM", _pnm) for number in range(1, 7)),
)
