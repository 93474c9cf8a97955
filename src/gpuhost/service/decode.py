"""From what somebody sent to the network's input: its header, a share of the pixel budget, then its pixels."""

import contextlib
import threading
from typing import Any, Iterator, NamedTuple

from ..yolo import images, picture_header
from ..yolo.detector import Detector
from .settings import Settings

#: What strangers may send. The other formats cost more than they are used.
FORMATS = ("JPEG", "PNG", "WebP")
#: How many pictures of the largest size may be decoded at once.
AT_ONCE = 2


def limits_of(settings: Settings) -> picture_header.Limits:
    """Return what a picture that somebody sends may cost."""
    return picture_header.Limits(settings.pixels, settings.scans, 1, FORMATS)


class Budget:
    """The pixels that may be decoded at once, so that the memory for them has a ceiling."""

    def __init__(self, most: int) -> None:
        """Have all of them free."""
        self._turn = threading.Condition()
        self._most = self._free = most

    @contextlib.contextmanager
    def share(self, pixels: int) -> Iterator[None]:
        """Hold so many pixels within the block; waits for them. More than all of them counts as all."""
        wanted = min(pixels, self._most)
        with self._turn:
            while self._free < wanted:
                self._turn.wait()
            self._free -= wanted
        try:
            yield
        finally:
            with self._turn:
                self._free += wanted
                self._turn.notify_all()


class Prepared(NamedTuple):
    """A picture ready for the network."""

    blob: Any
    width: int
    height: int


def prepare(data: bytes, detector: Detector, limits: picture_header.Limits, budget: Budget) -> Prepared:
    """Return the network's input for a picture; images.ImageError for one that cannot be used."""
    header = images.header_of(data, "sent", limits)
    with budget.share(header.width * header.height):
        pixels = images.pixels_of(data, header, "sent")
        return Prepared(detector.blob(pixels), pixels.shape[1], pixels.shape[0])
