"""What a picture will cost is known before it is decoded: each bomb is refused unread, each real picture is taken."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from typing import Any, Dict, List, Tuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuhost.yolo import images, picture_header
from gpuhost.yolo.photos import pixels
from gpuhost.yolo.picture_header import Header, Limits, Unfit, read

PHOTO = pixels(3)[:72, :96]
SMALL = Limits(pixels=100_000)


def encoded(image: Any, suffix: str, *options: int) -> bytes:
    """An array as a file of this kind."""
    return bytes(cv2.imencode(suffix, image, list(options))[1].tobytes())


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> bytes:
    """A PNG whose header claims this size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def riff(*chunks: Tuple[bytes, bytes]) -> bytes:
    """A WebP of these chunks."""
    body = b"".join(k + struct.pack("<I", len(d)) + d + b"\0" * (len(d) % 2) for k, d in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def three(value: int) -> bytes:
    """A number of three bytes."""
    return struct.pack("<I", value)[:3]


def vp8x(width: int, height: int) -> bytes:
    """The canvas of a WebP."""
    return b"\x02\0\0\0" + three(width - 1) + three(height - 1)


def tiff(pages: List[Dict[int, int]], order: str = "<", loop: bool = False) -> bytes:
    """A TIFF whose pages have these tags, each one number; with `loop` the last page leads to the first."""
    text = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    for number, tags in enumerate(pages):
        end = len(text) + 6 + 12 * len(tags)
        follows = end if number + 1 < len(pages) else 8 if loop else 0
        rows = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
        text += struct.pack(order + "H", len(tags)) + rows + struct.pack(order + "I", follows)
    return text


PROGRESSIVE = encoded(PHOTO, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)


def scans(number: int) -> bytes:
    """A progressive JPEG with its last scan so many times more."""
    last = PROGRESSIVE.rindex(b"\xff\xda")
    return PROGRESSIVE[:-2] + PROGRESSIVE[last:-2] * number + PROGRESSIVE[-2:]


SIDE = 16383
#: Each is at most some kilobytes and asks for gigabytes, a minute, or a decoder whose demands are not known.
BOMBS: Dict[str, Tuple[bytes, str]] = {
    "WebP of 26 bytes": (riff((b"VP8L", b"\x2f" + struct.pack("<I", 0x0FFFFFFF))), "too large (16384 x 16384"),
    "lossy WebP": (riff((b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", SIDE, SIDE))), "too large (16383"),
    "WebP with a canvas": (riff((b"VP8X", vp8x(1 << 24, 1 << 24))), "too large"),
    "WebP with a small canvas": (
        riff((b"VP8X", vp8x(8, 8)), (b"VP8L", b"\x2f" + struct.pack("<I", 0x0FFFFFFF))),
        "too large",
    ),
    "animated WebP": (riff((b"VP8X", vp8x(8, 8)), (b"ANMF", b"\0" * 6 + three(SIDE) + three(SIDE))), "too large"),
    "WebP of many frames": (riff((b"VP8X", vp8x(8, 8)), *[(b"ANMF", b"\0" * 16)] * 1001), "more than 1000 pictures"),
    "TIFF G4": (tiff([{256: 30000, 257: 30000, 258: 1, 259: 4}]), "too large (30000 x 30000"),
    "TIFF LZW": (tiff([{256: SIDE, 257: SIDE, 258: 8, 259: 5, 277: 3}], ">"), "too large (16383"),
    "TIFF with a JPEG inside": (tiff([{256: 8, 257: 8, 259: 7}]), "kind that is not read"),
    "TIFF of 64 bits": (tiff([{256: 8, 257: 8, 258: 64}]), "kind that is not read"),
    "TIFF of many channels": (tiff([{256: 8, 257: 8, 277: 60000}]), "kind that is not read"),
    "TIFF with a tile": (tiff([{256: 8, 257: 8, 322: 1 << 23, 323: 1 << 23}]), "tiles are too large"),
    "TIFF with a strip": (tiff([{256: 60000, 257: 1, 278: 1 << 23}]), "tiles are too large"),
    "TIFF of many pages": (tiff([{256: 8, 257: 8}] * 1001), "more than 1000 pictures"),
    "TIFF in a circle": (tiff([{256: 8, 257: 8}], loop=True), "more than 1000 pictures"),
    "BigTIFF": (b"II+\0\x08\0\0\0" + b"\0" * 40, "not a picture of a format"),
    "BMP": (b"BM" + b"\0" * 12 + struct.pack("<Iii", 40, 30000, 30000) + b"\0" * 28, "too large"),
    "BMP upside down": (b"BM" + b"\0" * 12 + struct.pack("<Iii", 40, 30000, -30000) + b"\0" * 28, "too large"),
    "BMP of the lowest height": (b"BM" + b"\0" * 12 + struct.pack("<Iii", 40, 1, -(1 << 31)) + b"\0" * 28, "too large"),
    "old BMP": (b"BM" + b"\0" * 12 + struct.pack("<IHH", 12, 60000, 60000) + b"\0" * 8, "too large"),
    "PNG": (png(60000, 60000), "too large (60000 x 60000"),
    "animated PNG": (png(8, 8, chunk(b"acTL", struct.pack(">II", 1 << 31, 0))), "more than 1000 pictures"),
    "PNG without a header": (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"") + chunk(b"IEND", b""), "damaged"),
    "PNM": (b"P6\n# one\n60000\n60000\n255\n", "too large"),
    "PNM of many digits": (b"P6 " + b"9" * 400 + b" 1 255\n", "holds no size"),
    "PNM with a comment in a number": (b"P6 1#\n60000 60000 255\n", "holds no size"),
    "JPEG of a thousand scans": (scans(1000), "more than 64 scans"),
    "JPEG of large frames": (b"\xff\xd8\xff\xc2\0\x11\x08\xff\xdc\xff\xdc" + b"\0" * 20 + b"\xff\xd9", "too large"),
    "JPEG whose second frame is large": (
        PROGRESSIVE[:-2] + b"\xff\xc2\0\x11\x08\xff\xdc\xff\xdc" + b"\0" * 10 + b"\xff\xd9",
        "too large",
    ),
    "JPEG of a million marks": (b"\xff\xd8" + b"\xff\x01" * 500_000 + b"\xff\xd9", "too many segments"),
    "JPEG of a million 0xff": (b"\xff\xd8" + b"\xff" * 4_000_000, "cut off"),
    "GIF": (
        b"GIF89a" + struct.pack("<HH", SIDE, SIDE) + b"\0" * 40,
        "not a picture of a format that is read (JPEG, PNG",
    ),
    "AVIF": (b"\0\0\0\x20ftypavif" + b"\0" * 40, "not a picture of a format"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 40, "not a picture of a format"),
    "JPEG 2000 alone": (b"\xff\x4f\xff\x51" + b"\0" * 40, "not a picture of a format"),
    "OpenEXR": (b"\x76\x2f\x31\x01" + b"\0" * 40, "not a picture of a format"),
    "Radiance": (b"#?RADIANCE\n\n-Y 60000 +X 60000\n", "not a picture of a format"),
    "Sun raster": (b"\x59\xa6\x6a\x95" + b"\xff" * 40, "not a picture of a format"),
    "PFM": (b"PF\n60000 60000\n-1\n", "not a picture of a format"),
    "PAM": (b"P7\nWIDTH 60000\n", "not a picture of a format"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture of a format"),
    "RIFF": (b"RIFF\0\0\0\0WAVE", "another kind of RIFF"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_is_decoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is wrong, and what to do."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    data, words = BOMBS[name]
    with pytest.raises(images.ImageError, match=re.escape(words)) as caught:
        images.decode(data, "evil\x1b[2J.jpg")
    told = str(caught.value)
    assert told.isprintable() and len(told) < 400 and caught.value.next_step


def test_all_bombs_together_need_no_memory() -> None:
    """In a process that may take 64 MiB more than it has; OpenCV is not called."""
    program = (
        "import resource, sys; sys.path.insert(0, '.')\n"
        "from tests.unit import test_picture_header as here\n"
        "import cv2; cv2.imdecode = None\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "most = pages * resource.getpagesize() + (64 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "for data, words in here.BOMBS.values():\n"
        "    try: here.images.decode(data, 'x')\n"
        "    except here.images.ImageError as error: assert words in str(error), error\n"
        "    else: raise SystemExit(words)\n"
        "print('refused', len(here.BOMBS))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == f"refused {len(BOMBS)}\n", done.stderr[-800:]


GREY, DEEP = PHOTO[:, :, 0], PHOTO.astype(np.uint16) * 257
CLEAR = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 9, np.uint8)])
WHOLE: Dict[str, Tuple[str, bytes]] = {
    "JPEG": ("JPEG", encoded(PHOTO, ".jpg")),
    "progressive JPEG": ("JPEG", PROGRESSIVE),
    "grey JPEG": ("JPEG", encoded(GREY, ".jpg")),
    "JPEG with restarts": ("JPEG", encoded(PHOTO, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1)),
    "JPEG with fill bytes": ("JPEG", encoded(PHOTO, ".jpg").replace(b"\xff\xdb", b"\xff\xff\xff\xdb")),
    "PNG": ("PNG", encoded(PHOTO, ".png")),
    "PNG of one bit": ("PNG", encoded(GREY, ".png", cv2.IMWRITE_PNG_BILEVEL, 1)),
    "PNG of 16 bits": ("PNG", encoded(DEEP, ".png")),
    "PNG with alpha": ("PNG", encoded(CLEAR, ".png")),
    "lossy WebP": ("WebP", encoded(PHOTO, ".webp", cv2.IMWRITE_WEBP_QUALITY, 80)),
    "lossless WebP": ("WebP", encoded(PHOTO, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101)),
    "WebP with alpha": ("WebP", encoded(CLEAR, ".webp", cv2.IMWRITE_WEBP_QUALITY, 80)),
    "BMP": ("BMP", encoded(PHOTO, ".bmp")),
    "grey BMP": ("BMP", encoded(GREY, ".bmp")),
    "TIFF LZW": ("TIFF", encoded(PHOTO, ".tiff")),
    "TIFF plain": ("TIFF", encoded(PHOTO, ".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 1)),
    "TIFF deflated": ("TIFF", encoded(PHOTO, ".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 8)),
    "TIFF of 16 bits": ("TIFF", encoded(DEEP, ".tiff")),
    "grey TIFF": ("TIFF", encoded(GREY, ".tiff")),
    "PPM": ("PNM", encoded(PHOTO, ".ppm")),
    "PGM": ("PNM", encoded(GREY, ".pgm")),
    "PPM in letters": ("PNM", encoded(PHOTO, ".ppm", cv2.IMWRITE_PXM_BINARY, 0)),
    "PPM with a comment": ("PNM", encoded(PHOTO, ".ppm").replace(b"P6\n", b"P6\n# made by a camera\n", 1)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_the_header_says_what_the_decoder_makes(name: str) -> None:
    """For every kind of picture that photos come in."""
    kind, data = WHOLE[name]
    found = read(data)
    image = images.decode(data)
    assert found[:3] == (kind, image.shape[1], image.shape[0]) and found.frames == 1
    assert found.scans == (data.count(b"\xff\xda") if kind == "JPEG" else 1)


def test_scans_and_frames_are_counted() -> None:
    """A progressive picture has several scans; an animation or a fax several pictures, of which one is decoded."""
    plain = read(PROGRESSIVE).scans
    assert 1 < plain < 20
    assert read(scans(5)).scans == plain + 5
    assert read(scans(64 - plain)).scans == 64
    assert read(tiff([{256: 8, 257: 9}] * 3)) == Header("TIFF", 8, 9, 1, 3)
    assert read(riff((b"VP8X", vp8x(9, 8)), *[(b"ANMF", b"\0" * 16)] * 4)) == Header("WebP", 9, 8, 1, 4)
    assert read(png(9, 8, chunk(b"acTL", struct.pack(">II", 7, 0)))) == Header("PNG", 9, 8, 1, 7)


def test_a_caller_may_take_less() -> None:
    """What is uploaded has narrower limits than a folder of one's own."""
    data = encoded(PHOTO, ".webp")
    with pytest.raises(Unfit, match=re.escape("(JPEG, PNG)")):
        read(data, Limits(formats=("JPEG", "PNG")))
    with pytest.raises(Unfit, match="more than 1 scans"):
        read(PROGRESSIVE, Limits(scans=1))
    with pytest.raises(Unfit, match=r"too large \(96 x 72") as caught:
        read(data, Limits(pixels=96 * 72 - 1))
    assert "0.006911 megapixels" in caught.value.next_step


FILES = sorted({data for _, data in WHOLE.values()} | {data for data, _ in BOMBS.values() if len(data) < 5000})


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A picture with some bytes changed, taken away, doubled or put in, most of them near its beginning."""
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 4))):
        most = max(1, len(data))
        at = draw(st.integers(0, min(64, most - 1)) | st.integers(0, most - 1))
        new = draw(
            st.binary(max_size=6) | st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff", b"\xff\xda"])
        )
        old = draw(st.integers(0, len(new)) | st.just(len(new)) | st.integers(0, 200))
        data[at : at + old] = new
    return bytes(data)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(
    damaged()
    | st.binary(max_size=80)
    | st.sampled_from([m for m, _, _ in picture_header._READERS]).flatmap(
        lambda magic: st.binary(max_size=60).map(lambda rest: magic + rest)
    )
)
def test_what_is_taken_is_never_larger_than_its_header_says(data: bytes) -> None:
    """Whatever the bytes are: a sentence, or a header that the decoder does not exceed."""
    try:
        found = read(data, SMALL)
    except Unfit as problem:
        assert str(problem).isprintable() and len(str(problem)) < 200
        return
    assert 0 < found.width * found.height <= SMALL.pixels
    assert found.scans <= SMALL.scans and found.frames <= SMALL.frames
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return
    if image is not None:
        assert sorted(image.shape[:2]) == sorted((found.height, found.width))
