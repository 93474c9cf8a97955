"""Frames of video files, of addresses and of cameras, one at a time.

FFmpeg, through OpenCV, decodes a file that somebody else may have made: it may open nothing but what was named, in the
containers that are listed here, and a picture size above the limit is refused before its first frame.
"""

import os
import pathlib
import stat
import threading
import time
from typing import Any, Callable, Iterator, NamedTuple, Optional

import cv2

from ..credentials import without_secrets
from ..errors import UsageError
from ..reading import UnfitFile, check
from . import images, picture_header

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".3gp", ".flv", ".wmv"),
    *(".mjpeg", ".mjpg", ".h264", ".hevc"),
)
SCHEMES = ("http", "https", "rtsp", "rtsps")
MAJOR = 81
"""The number of Video4Linux among the character devices."""
MOST_FRAMES = 10 * 1000 * 1000
OPEN_MS, READ_MS = 10000, 10000
"""How long a server may be silent."""
LONGEST_WAIT_S = 30.0
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,mjpeg,h264,hevc"
_FILE = f"protocol_whitelist;file|format_whitelist;{_CONTAINERS}"
_NET = (
    f"protocol_whitelist;http,https,httpproxy,tcp,tls,udp,rtp,rtsp,rtsps|format_whitelist;{_CONTAINERS},rtsp,rtp,mpjpeg"
)
_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_opening = threading.Lock()


class Settings(NamedTuple):
    """Which frames are taken: every so many, at most so many of each source (0: all), and how many times in a row a
    camera that fell silent is opened again.
    """

    every: int = 1
    most: int = 0
    reconnect: int = 5


class Frame(NamedTuple):
    """One frame: its number from 0, its time in seconds from the beginning, and the frames a second of its video."""

    number: int
    at_s: float
    rate: float
    pixels: Any


def why_not(cv: Any = cv2) -> str:
    """Return why this OpenCV reads no video, in one sentence, or nothing when it does."""
    registry = getattr(cv, "videoio_registry", None)
    if not hasattr(cv, "VideoCapture") or registry is None:
        return f"This OpenCV {cv.__version__} was built without video (videoio)."
    if cv.CAP_FFMPEG not in registry.getBackends():
        return f"This OpenCV {cv.__version__} was built without FFmpeg, so it reads no video files and no addresses."
    return ""


def require() -> None:
    """UsageError where this OpenCV reads no video."""
    reason = why_not()
    if reason:
        raise UsageError(
            reason, "Use the python of an OpenCV with FFmpeg, such as pip's, or bring pictures in place of a video."
        )


def file(path: pathlib.Path, settings: Settings) -> Iterator[Frame]:
    """Return the frames of a video file; ImageError when it cannot be used or ends before its time."""
    name = str(path)
    try:
        check(path)
    except UnfitFile as problem:
        raise images.bad(name, f"cannot be used: {str(problem).rstrip('.')}", "Name a file.", "video") from problem
    except OSError as problem:
        raise images.bad(
            name, f"cannot be read: {problem.strerror}", "Check its name and rights.", "video"
        ) from problem
    # Without the absolute path a name such as "concat:a" or "-" would mean something else to FFmpeg.
    capture = _opened(lambda: _ffmpeg(str(pathlib.Path.cwd() / path), _FILE), name, "video")
    try:
        count, rate = _number(capture, "CAP_PROP_FRAME_COUNT"), _rate(capture)
        done = 0
        for frame in _taken(capture, settings, rate, name):
            done = frame.number + 1
            yield frame
        if not settings.most and done + settings.every < 0.9 * count < MOST_FRAMES:
            fault = f"ends after {done} of about {count:.0f} frames"
            raise images.bad(name, fault, "Copy it again; the frames so far were used.", "video")
    finally:
        capture.release()


def address(url: str, settings: Settings) -> Iterator[Frame]:
    """Return the frames of a camera or a video behind an address."""
    return _live(without_secrets(url), lambda: _ffmpeg(url, _NET), settings)


def camera(path: pathlib.Path, settings: Settings) -> Iterator[Frame]:
    """Return the frames of a camera of this machine."""
    found = path.stat()
    number = os.minor(found.st_rdev)
    if not stat.S_ISCHR(found.st_mode):
        raise images.bad(str(path), "is not a camera", "Name a device such as /dev/video0.", "camera")
    return _live(str(path), lambda: cv2.VideoCapture(number, cv2.CAP_V4L2), settings)


def _live(
    name: str,
    connect: Callable[[], Any],
    settings: Settings,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Frame]:
    """Return the frames of a source that may fall silent: it is opened again, after longer and longer waits.

    A frame sets the count of attempts back. What says how many frames it has is a video and ends. ImageError when no
    attempt is left, or when the first one failed.
    """
    begun, number, tries, left = clock(), 0, 0, settings.most
    while True:
        got = 0
        try:
            capture = _opened(connect, name, "camera")
        except images.ImageError:
            if not number:
                raise
        else:
            try:
                for frame in _taken(capture, settings._replace(most=left), _rate(capture), name):
                    got, left = frame.number + 1, left - 1 if left else 0
                    yield frame._replace(number=number + frame.number, at_s=clock() - begun)
                    if settings.most and not left:
                        return
                if got and _number(capture, "CAP_PROP_FRAME_COUNT"):
                    return
            finally:
                capture.release()
        number, tries = number + got, 0 if got else tries + 1
        if tries >= settings.reconnect:
            fault = f"gave no more frames, and {settings.reconnect} attempts to reach it again failed"
            raise images.bad(name, fault, "Look at the camera and the network.", "camera")
        wait(min(LONGEST_WAIT_S, 2.0**tries))


def _ffmpeg(source: str, options: str) -> Any:
    """Open a source with FFmpeg, which reads its options from the environment."""
    limits = []
    for name, value in (("CAP_PROP_OPEN_TIMEOUT_MSEC", OPEN_MS), ("CAP_PROP_READ_TIMEOUT_MSEC", READ_MS)):
        if hasattr(cv2, name):
            limits += [getattr(cv2, name), value]
    with _opening:
        before = os.environ.get(_VARIABLE)
        os.environ[_VARIABLE] = options
        try:
            return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits) if limits else cv2.VideoCapture(source)
        finally:
            if before is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = before


def _opened(connect: Callable[[], Any], name: str, kind: str) -> Any:
    """Return an open source whose pictures keep the limit."""
    capture: Optional[Any] = None
    try:
        capture = connect()
        is_open = capture.isOpened()
    except cv2.error:
        is_open = False
    if capture is None or not is_open:
        raise images.bad(name, "cannot be opened", f"Check that it is a {kind} and can be reached.", kind)
    width, height = _number(capture, "CAP_PROP_FRAME_WIDTH"), _number(capture, "CAP_PROP_FRAME_HEIGHT")
    if width * height > picture_header.DEFAULT.pixels:
        capture.release()
        raise images.bad(name, f"is too large ({width:.0f} x {height:.0f} pixels)", "Make it smaller.", kind)
    return capture


def _number(capture: Any, name: str) -> float:
    """Return a property of a source, 0 where it does not know it."""
    value = float(capture.get(getattr(cv2, name)))
    return value if 0.0 <= value < 1e12 else 0.0


def _rate(capture: Any) -> float:
    """Return the frames a second; 25 where the source does not say it."""
    rate = _number(capture, "CAP_PROP_FPS")
    return rate if 0.1 <= rate <= 1000.0 else 25.0


def _taken(capture: Any, settings: Settings, rate: float, name: str) -> Iterator[Frame]:
    """Return every so many of the frames; those between are not converted to pixels."""
    taken = 0
    for number in range(MOST_FRAMES):
        try:
            if not capture.grab():
                return
            if number % settings.every:
                continue
            done, pixels = capture.retrieve()
        except cv2.error:
            return
        if not done:
            return
        yield Frame(number, number / rate, rate, images.check_pixels(pixels, name))
        taken += 1
        if taken == settings.most:
            return
