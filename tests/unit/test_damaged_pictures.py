"""A JPEG that libjpeg fills up with grey is refused, a good one never; what libraries print stays off the terminal."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, List

import cv2
import numpy as np
import pytest

from gpuhost.yolo import images, native
from gpuhost.yolo.photos import pixels

KINDS = {
    "plain": (),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "with restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "with its own codes": (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
}


def jpeg(number: int, *options: int) -> bytes:
    """Return a generated photo as JPEG."""
    return bytes(cv2.imencode(".jpg", pixels(number), list(options))[1].tobytes())


def rotten(data: bytes, seed: int, count: int = 400) -> bytes:
    """Return a JPEG with bytes of its pixels replaced; none of them looks like a marker."""
    chance = np.random.RandomState(seed)
    first = data.rindex(b"\xff\xda") + 20
    at = chance.randint(first, max(first + 1, len(data) - count - 2))
    count = min(count, len(data) - 2 - at)
    return data[:at] + chance.randint(0, 255, count).astype(np.uint8).tobytes() + data[at + count :]


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_jpeg_with_an_end_marker_is_refused(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Wherever it was cut, and nothing but our own sentence is told."""
    data = jpeg(3, *KINDS[kind])
    first = data.index(b"\xff\xda") + 20
    for share in (0.1, 0.5, 0.9):
        cut = data[: first + int(share * (len(data) - first))].rstrip(b"\xff") + b"\xff\xd9"
        with pytest.raises(images.ImageError, match=r"holiday\.jpg is damaged"):
            images.decode(cut, "holiday.jpg")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "least"), [("plain", 20), ("progressive", 20), ("with restarts", 18), ("with its own codes", 12)]
)
def test_rotten_jpegs_are_refused(kind: str, least: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Nearly all: what happens to end at the last byte cannot be told from a picture."""
    refused = 0
    for seed in range(20):
        try:
            images.decode(rotten(jpeg(seed % 3, *KINDS[kind]), seed), "x")
        except images.ImageError:
            refused += 1
    assert refused >= least
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_jpeg_is_taken(kind: str) -> None:
    """Also with what cameras leave in front of the end, and behind it."""
    for number in range(8):
        data = jpeg(number, *KINDS[kind])
        for more in (b"", b"\0" * 5000, b"\xff" * 40, b"\x55" * 700, b"\0\1\2\3\4\5\6\7"):
            assert images.decode(data[:-2] + more + data[-2:]) is not None
        assert images.decode(data + b"behind the end") is not None


def test_pictures_of_several_threads_are_told_apart() -> None:
    """The error stream is one for all, and a good picture is not blamed for a bad one beside it."""
    good, bad = jpeg(0), jpeg(0)[:20000] + b"\xff\xd9"
    wrong: List[Any] = []

    def decode(data: bytes, is_good: bool) -> None:
        for _ in range(15):
            try:
                images.decode(data)
                taken = True
            except images.ImageError:
                taken = False
            if taken != is_good:
                wrong.append(is_good)

    threads = [threading.Thread(target=decode, args=row) for row in [(good, True), (bad, False)] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_lines_of_others_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    """A program that logs from another thread loses none of it."""

    def work() -> int:
        os.write(2, b"a line of a log\nCorrupt JPEG data: bad Huffman code\n")
        return 7

    assert native.Listener().call(work) == (7, "Corrupt JPEG data: bad Huffman code\n")
    assert "a line of a log" in capfd.readouterr().err


def test_the_error_stream_is_given_back(capfd: pytest.CaptureFixture[str]) -> None:
    """Also when the work fails, and no descriptor is left open."""
    listener = native.Listener()
    listener.call(lambda: None)

    def fail() -> None:
        raise ValueError("no")

    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(ValueError, match="no"):
            listener.call(fail)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    os.write(2, b"Corrupt JPEG data: not ours\n")
    assert "not ours" in capfd.readouterr().err
