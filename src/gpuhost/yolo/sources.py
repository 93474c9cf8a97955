"""What a person asks to be looked at, picture by picture: files, folders, lists, standard input, videos, cameras.

Nothing is read ahead: a folder is walked and a video is decoded no faster than its pictures are taken, so memory does
not grow with their number. What cannot be used comes as an item that says so, and the next one follows.
"""

import os
import pathlib
import re
import stat
import sys
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..credentials import without_secrets
from ..errors import UsageError
from ..reading import UnfitFile, content
from ..text import printable
from . import images, photos, video

STDIN = "-"
LONGEST_LIST = 64 << 20
"""Bytes."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Item(NamedTuple):
    """One picture. `name` is for people and `place` is where its results go, below the folder for them.

    Its pixels are in `path`, or here already: a frame of a video, with its number and its time in seconds. An item
    with a problem has neither.
    """

    name: str
    place: pathlib.PurePath
    path: Optional[pathlib.Path] = None
    pixels: Any = None
    frame: Optional[int] = None
    at_s: Optional[float] = None
    rate: float = 0.0
    problem: Optional[images.ImageError] = None


def load(item: Item) -> Any:
    """Return the pixels of an item; ImageError when it has none."""
    if item.problem is not None:
        raise item.problem
    return images.read(item.path) if item.path is not None else item.pixels


def is_url(word: str) -> bool:
    """Return whether a word is an address and not a path."""
    return _SCHEME.match(word) is not None


def check(words: Sequence[str]) -> None:
    """UsageError for an address of a kind that is not opened."""
    for word in words:
        found = _SCHEME.match(word)
        if found is not None and found.group(1).lower() not in video.SCHEMES:
            raise UsageError(
                f"An address of the kind {printable(found.group(1), 40)}:// is not opened.",
                next_step="Use one of: {}.".format(", ".join(scheme + "://" for scheme in video.SCHEMES)),
            )


def listed(path: str) -> List[str]:
    """Return the lines of a list of pictures; `-` is standard input. UsageError when it cannot be read."""
    try:
        data = sys.stdin.buffer.read(LONGEST_LIST + 1) if path == STDIN else content(pathlib.Path(path), LONGEST_LIST)
    except (OSError, UnfitFile) as problem:
        words = problem.strerror if isinstance(problem, OSError) else str(problem).rstrip(".")
        raise UsageError(f"The list {printable(path, 300)} cannot be read: {words}.", "Name a text file.") from problem
    if len(data) > LONGEST_LIST:
        raise UsageError(f"The list is larger than {LONGEST_LIST} bytes.", "Split it.")
    return [os.fsdecode(line) for line in data.replace(b"\r\n", b"\n").split(b"\n") if line.strip()]


def is_one_photo(words: Sequence[str]) -> bool:
    """Return whether there is one picture to look at, whatever is in it: no folder, no video and no camera."""
    return len(words) == 1 and not is_url(words[0]) and (words[0] == STDIN or _kind(words[0]) == "photo")


def _kind(word: str) -> str:
    """Return what a path leads to: folder, camera, video or photo. What is not there is a photo, whose reader says so.

    Only a device of Video4Linux (character device 81) is a camera: opening another may act on it.
    """
    try:
        found = pathlib.Path(word).stat()
    except (OSError, ValueError):
        return "photo"
    if stat.S_ISDIR(found.st_mode):
        return "folder"
    if stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) == video.MAJOR:
        return "camera"
    return "video" if pathlib.PurePath(word).suffix.lower() in video.SUFFIXES else "photo"


def items(words: Iterable[str], settings: video.Settings) -> Iterator[Item]:
    """Return each picture of what was named, in that order; a folder's in the order of their names."""
    for word in words:
        if word == STDIN:
            yield _standard_input()
        elif is_url(word):
            yield from _frames(without_secrets(word), pathlib.PurePath("stream"), video.address(word, settings))
        else:
            path = pathlib.Path(word)
            kind = _kind(word)
            if kind == "folder":
                yield from _folder(path, settings)
            elif kind == "camera":
                yield from _frames(str(path), pathlib.PurePath(path.name), video.camera(path, settings))
            else:
                yield from _file(path, pathlib.PurePath(path.name), settings)


def _standard_input() -> Item:
    """The one picture that comes in by standard input."""
    name = "standard input"
    data = sys.stdin.buffer.read(images.LARGEST_FILE + 1)
    try:
        if len(data) > images.LARGEST_FILE:
            raise images.bad(name, f"is larger than {images.LARGEST_FILE} bytes")
        if not data:
            raise images.bad(name, "is empty")
        return Item(name, pathlib.PurePath("stdin"), pixels=images.decode(data, name))
    except images.ImageError as problem:
        return Item(name, pathlib.PurePath("stdin"), problem=problem)


def _file(path: pathlib.Path, place: pathlib.PurePath, settings: video.Settings) -> Iterator[Item]:
    """A photo, or the frames of a video."""
    if path.suffix.lower() in video.SUFFIXES:
        yield from _frames(str(path), place, video.file(path, settings))
    else:
        yield Item(str(path), place, path=path)


def _frames(name: str, place: pathlib.PurePath, frames: Iterator[video.Frame]) -> Iterator[Item]:
    """The frames of a video or a camera, and last what ended it, if it did not end well."""
    try:
        for frame in frames:
            yield Item(name, place, None, frame.pixels, frame.number, frame.at_s, frame.rate)
    except images.ImageError as problem:
        yield Item(name, place, problem=problem)


def _folder(folder: pathlib.Path, settings: video.Settings) -> Iterator[Item]:
    """The pictures and videos in a folder and the folders in it. Links to folders are not followed."""
    pending: List[Tuple[pathlib.Path, pathlib.PurePath]] = [(folder, pathlib.PurePath())]
    while pending:
        here, place = pending.pop()
        try:
            with os.scandir(str(here)) as found:
                rows = sorted((row.name, row.is_dir(follow_symlinks=False)) for row in found)
        except OSError as problem:
            fault = images.bad(str(here), f"cannot be read: {problem.strerror}", "Check its rights.", "folder")
            yield Item(str(here), place / "folder", problem=fault)
            continue
        for name, _ in (row for row in rows if not row[1]):
            if photos.is_photo(name) or pathlib.PurePath(name).suffix.lower() in video.SUFFIXES:
                yield from _file(here / name, place / name, settings)
        pending += [(here / name, place / name) for name, is_folder in reversed(rows) if is_folder]
