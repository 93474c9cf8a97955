"""Pictures that cost more than they look, or are not what they say, made of a few bytes."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Dict, List, Tuple

import cv2
import numpy as np

from gpuhost.yolo import photos


def encoded(ending: str, pixels: Any, *settings: int) -> bytes:
    """Pixels as a file."""
    done, data = cv2.imencode(ending, pixels, list(settings))
    assert done
    return bytes(data.tobytes())


PIXELS = photos.pixels(0)
JPEG = encoded(".jpg", PIXELS)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, rows: bytes = b"") -> bytes:
    """A PNG of one bit a pixel."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def webp(width: int, height: int) -> bytes:
    """A WebP without loss that asks for so many pixels with 38 bytes."""
    body = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + b"\x88\x88\x08\x07" + b"\0" * 9
    return b"RIFF" + struct.pack("<I", 4 + 8 + len(body)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def animated_webp() -> bytes:
    """A WebP of two pictures."""
    frame = struct.pack("<3s3s3s3s3sB", b"\0" * 3, b"\0" * 3, b"\x0f\0\0", b"\x0f\0\0", b"\1\0\0", 0)
    frames = b"".join(b"ANMF" + struct.pack("<I", len(frame)) + frame for _ in range(2))
    canvas = b"VP8X" + struct.pack("<IB3s3s3s", 10, 2, b"\0" * 3, b"\x0f\0\0", b"\x0f\0\0")
    return b"RIFF" + struct.pack("<I", 4 + len(canvas + frames)) + b"WEBP" + canvas + frames


def scans(count: int, side: int = 8192) -> bytes:
    """A progressive JPEG of so many scans."""
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\x01\x11\x00"
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x00\x00\x01" + b"\0" * 300
    return b"\xff\xd8" + frame + scan * count + b"\xff\xd9"


def tiff(side: int) -> bytes:
    """A TIFF of fax lines."""
    rows = [
        (256, 4, side),
        (257, 4, side),
        (258, 3, 1),
        (259, 3, 4),
        (262, 3, 0),
        (273, 4, 122),
        (278, 4, side),
        (279, 4, 8),
    ]
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in rows)
    return b"II*\0" + struct.pack("<IH", 8, len(rows)) + table + b"\0" * 20 + b"\xff" * 64


def turned(orientation: int) -> bytes:
    """A JPEG whose camera was held in another way."""
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]


def cmyk() -> bytes:
    """A JPEG of four colours, one block of each, without any difference in it."""
    quantities = b"\xff\xdb" + struct.pack(">HB", 67, 0) + b"\1" * 64
    components = b"".join(bytes([number, 0x11, 0]) for number in range(1, 5))
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 20, 8, 8, 8, 4) + components
    codes = b"".join(b"\xff\xc4" + struct.pack(">HB", 20, kind) + b"\1" + bytes(15) + b"\0" for kind in (0x00, 0x10))
    scan = (
        b"\xff\xda" + struct.pack(">HB", 14, 4) + b"".join(bytes([number, 0]) for number in range(1, 5)) + b"\0\x3f\0"
    )
    adobe = b"\xff\xee" + struct.pack(">H5sHHHB", 14, b"Adobe", 100, 0, 0, 0)
    return b"\xff\xd8" + adobe + quantities + frame + codes + scan + b"\0" + b"\xff\xd9"


def with_preview_alone() -> bytes:
    """A JPEG that is cut off, whose embedded preview has an end."""
    small = encoded(".jpg", PIXELS[:32, :32])
    return JPEG[:2] + b"\xff\xe2" + struct.pack(">H", len(small) + 2) + small + JPEG[2 : len(JPEG) // 2]


REFUSED: Dict[str, bytes] = {
    "WebP of 38 bytes, 16383 x 16383": webp(16383, 16383)[:38],
    "TIFF of fax lines, 30000 x 30000": tiff(30000),
    "progressive JPEG, 100 scans": scans(100),
    "progressive JPEG, 1000 scans": scans(1000),
    "PNG of 127 megapixels": png(16000, 7900, rows=b"\0" * (2001 * 7900)),
    "PNG, 60000 x 60000": png(60000, 60000),
    "PNG without area": png(0, 5),
    "GIF, 16383 x 16383": b"GIF89a" + struct.pack("<HHBBB", 16383, 16383, 0, 0, 0) + b"\x3b",
    "animated PNG": png(8, 8, chunk(b"acTL", struct.pack(">II", 2, 0)), rows=b"\0\0" * 8),
    "animated WebP": animated_webp(),
    "AVIF": b"\0\0\0\x1cftypavif" + b"\0" * 300,
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 300,
    "JPEG, 65500 x 1950": JPEG[:2] + b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 1950, 65500, 1) + b"\x01\x11\0\xff\xd9",
    "JPEG that is cut": JPEG[: len(JPEG) // 2],
    "JPEG with an end in its preview alone": with_preview_alone(),
    "JPEG with pixels that rotted": JPEG[:9000] + bytes(1500) + JPEG[10500:],
    "nothing but the mark of a JPEG": b"\xff\xd8",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "PDF": b"%PDF-1.7\n" + JPEG,
    "ZIP": b"PK\3\4" + JPEG,
    "HTML": b"<!doctype html><img src=x>",
    "HTML before a photo": b"<html>" + JPEG,
    "BMP": encoded(".bmp", PIXELS[:8, :8]),
    "PPM": encoded(".ppm", PIXELS[:8, :8]),
    "text": b"an apple",
}
#: Each with the width and height that its boxes are in.
TAKEN: Dict[str, Tuple[bytes, List[int]]] = {
    "JPEG": (JPEG, [640, 480]),
    "progressive JPEG": (encoded(".jpg", PIXELS, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), [640, 480]),
    "JPEG of four colours": (cmyk(), [8, 8]),
    "grey JPEG": (encoded(".jpg", PIXELS[:, :, 0]), [640, 480]),
    "100 kB behind the end": (JPEG + b"x" * 100_000, [640, 480]),
    "photo before a ZIP": (JPEG + b"PK\3\4" + b"\0" * 50, [640, 480]),
    "PNG": (encoded(".png", PIXELS), [640, 480]),
    "PNG of 16 bits": (encoded(".png", PIXELS.astype(np.uint16) * 257), [640, 480]),
    "PNG with alpha": (encoded(".png", np.dstack([PIXELS, PIXELS[:, :, :1]])), [640, 480]),
    "grey PNG": (encoded(".png", PIXELS[:, :, 0]), [640, 480]),
    "WebP": (encoded(".webp", PIXELS), [640, 480]),
    "one pixel": (encoded(".png", PIXELS[:1, :1]), [1, 1]),
    "one row of 65500": (encoded(".jpg", np.zeros((1, 65500, 3), np.uint8)), [65500, 1]),
    "one column of 65500": (encoded(".jpg", np.zeros((65500, 1, 3), np.uint8)), [1, 65500]),
    "24 megapixels": (encoded(".jpg", np.zeros((4000, 6000, 3), np.uint8)), [6000, 4000]),
    **{f"orientation {n}": (turned(n), [640, 480] if n < 5 else [480, 640]) for n in range(1, 9)},
}
