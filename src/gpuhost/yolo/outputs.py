"""What was found, as text, JSON, JSON Lines, CSV, COCO results or Darknet's labels, and pictures with the boxes drawn.

Each writer takes one picture after the other and keeps none of them. A file is complete or not there, and takes no name
that is taken unless `force` is set.
"""

import contextlib
import csv
import io
import json
import pathlib
import re
from collections import Counter
from typing import IO, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import cv2

from ..errors import UsageError
from ..host.files import make_folder, remove
from ..text import printable
from . import draw
from .darknet import sides
from .detector import Detection, Detector
from .files import whole_file, write_text
from .networks import MODELS
from .sources import Item

COLUMNS = ("photo", "frame", "at_s", "label", "class_id", "score", "left", "top", "width", "height")
#: COCO numbers its 80 classes from 1 to 90, with gaps.
_COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = tuple(number for number in range(1, 91) if number not in _COCO_GAPS)


class Seen(NamedTuple):
    """One picture after the detection."""

    item: Item
    width: int
    height: int
    found: Sequence[Detection]
    pixels: Any = None


def head(detector: Detector, title: str) -> Dict[str, Any]:
    """Return what JSON says of the network, beside what it found."""
    width, height = sides(detector.size)
    return {
        "schema": 1,
        "model": title,
        "size": width if width == height else [width, height],
        "device": detector.network.device.name,
        "weights": {"kind": detector.files.weights_kind, "sha256": detector.files.weights_sha256},
        "meaningful": detector.meaningful,
    }


def boxes(found: Sequence[Detection]) -> List[Dict[str, Any]]:
    """Return detections as JSON."""
    return [
        {
            "label": row.label,
            "class_id": row.class_id,
            "score": round(row.score, 6),
            "box": [round(value, 2) for value in row.box],
        }
        for row in found
    ]


def line_of(row: Detection) -> str:
    """Return a detection as a line for people."""
    label = printable(row.label, 100)
    return "{:.2f}  {:16} left {:.0f}, top {:.0f}, {:.0f} x {:.0f}".format(row.score, label, *row.box)


class Table:
    """Writes results, one picture after the other, to a stream of text. `head` is what JSON says of the whole run."""

    def __init__(self, stream: Any, kind: str, head: Dict[str, Any]) -> None:
        """Write the beginning."""
        self._stream, self._kind, self._head = stream, kind, head
        self._rows = 0
        self._of_coco = head["model"] in MODELS
        if kind == "json":
            text = json.dumps(head, indent=1, allow_nan=False)
            stream.write(text[:-2] + ',\n "pictures": [')
        elif kind == "coco":
            stream.write("[")
        elif kind == "csv":
            stream.write(",".join(COLUMNS) + "\r\n")

    def add(self, seen: Seen) -> None:
        """Write one picture's boxes."""
        item = seen.item
        if self._kind == "csv":
            for row in boxes(seen.found):
                at_s = None if item.at_s is None else round(item.at_s, 3)
                head = (item.name, item.frame, at_s, row["label"], row["class_id"], row["score"])
                self._csv((*head, *row["box"]))
        elif self._kind == "coco":
            for row in boxes(seen.found):
                self._entry(self._coco_row(item, row))
        elif self._kind == "text":
            where = printable(item.name, 300) + ("" if item.frame is None else f" frame {item.frame}")
            self._stream.write(f"{where}: {counted(seen.found)}\n")
        else:
            size = {"width": seen.width, "height": seen.height}
            self._entry({**_where(item), **size, "detections": boxes(seen.found)})
        self._stream.flush()

    def fault(self, item: Item, problem: str) -> None:
        """Write that a picture could not be used, where the format has a place for it."""
        if self._kind in ("json", "jsonl"):
            self._entry({**_where(item), "error": problem})
            self._stream.flush()

    def end(self) -> None:
        """Write the end."""
        if self._kind == "json":
            self._stream.write("\n ]\n}\n")
        elif self._kind == "coco":
            self._stream.write("\n]\n")
        self._stream.flush()

    def _entry(self, row: Dict[str, Any]) -> None:
        """Write one JSON value: an element of a list, or a line."""
        text = json.dumps(row, allow_nan=False)
        if self._kind == "jsonl":
            self._stream.write(text + "\n")
        else:
            self._stream.write(("," if self._rows else "") + "\n  " + text)
        self._rows += 1

    def _csv(self, row: Sequence[Any]) -> None:
        """Write one row."""
        line = io.StringIO()
        csv.writer(line).writerow(row)
        self._stream.write(line.getvalue())

    def _coco_row(self, item: Item, row: Dict[str, Any]) -> Dict[str, Any]:
        """Return a box as COCO's results have it. A picture's id is its name without ending, a number if it is one."""
        stem = item.place.stem if item.frame is None else f"{item.place.stem}:{item.frame}"
        number = row["class_id"]
        return {
            "image_id": int(stem) if re.fullmatch("[0-9]{1,18}", stem) else stem,
            "category_id": COCO_IDS[number] if self._of_coco else number + 1,
            "bbox": row["box"],
            "score": row["score"],
        }


def _where(item: Item) -> Dict[str, Any]:
    """Return which picture it is."""
    where: Dict[str, Any] = {"photo": item.name}
    if item.frame is not None:
        where.update(frame=item.frame, at_s=round(item.at_s or 0.0, 3))
    return where


def by_count(kinds: Mapping[str, int]) -> List[Tuple[str, int]]:
    """Return kinds with their numbers, the most frequent first, then by name."""
    return sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))


def counted(found: Sequence[Detection]) -> str:
    """Return how many objects of which kind there are: "3 objects: 2 person, 1 dog"."""
    rows = by_count(Counter(row.label for row in found))
    names = ", ".join(f"{count} {printable(label, 60)}" for label, count in rows[:20])
    return f"{len(found)} objects" + (f": {names}" if names else "")


class Names:
    """Names of result files in a folder: a picture keeps its place and stem, and no two share one."""

    def __init__(self, folder: pathlib.Path) -> None:
        """None is taken."""
        self._folder = folder
        self._taken: Set[str] = set()

    def path(self, item: Item, suffix: str) -> pathlib.Path:
        """Return the path for one picture's results."""
        stem = item.place.stem if item.frame is None else f"{item.place.stem}-{item.frame:06d}"
        place, number = item.place.parent / (stem + suffix), 1
        while str(place) in self._taken:
            number += 1
            place = item.place.parent / f"{stem}-{number}{suffix}"
        self._taken.add(str(place))
        return self._folder / place


class Labels:
    """Writes Darknet's label files: a line a box, its class and the centre and size in parts of the picture."""

    def __init__(self, folder: pathlib.Path, force: bool) -> None:
        """Write into this folder."""
        self._names, self._force = Names(folder), force

    def add(self, seen: Seen) -> None:
        """Write one picture's file, which is empty where nothing was found."""
        lines = []
        for row in seen.found:
            left, top, wide, high = row.box
            centre = (left + wide / 2) / seen.width, (top + high / 2) / seen.height
            parts = (*centre, wide / seen.width, high / seen.height)
            lines.append("{} {:.4f} {:.4f} {:.4f} {:.4f}\n".format(row.class_id, *parts))
        write_text(self._names.path(seen.item, ".txt"), "".join(lines), None, self._force)

    def end(self) -> None:
        """Nothing is left open."""


class Drawn:
    """Writes pictures with the boxes drawn, and each video as a video (Motion JPEG in AVI)."""

    def __init__(self, folder: pathlib.Path, force: bool, meaningful: bool) -> None:
        """Write into this folder."""
        self._names, self._force, self._meaningful = Names(folder), force, meaningful
        self._video: Optional[Tuple[Tuple[str, int, int], Any, contextlib.ExitStack]] = None

    def add(self, seen: Seen) -> None:
        """Write one picture, or the next frame of a video."""
        picture = draw.drawn(seen.pixels, seen.found, self._meaningful)
        if seen.item.frame is not None:
            self._frame(seen, picture)
            return
        self.end()
        suffix = seen.item.place.suffix.lower()
        suffix = suffix if suffix in draw.SUFFIXES else ".jpg"
        draw.save(self._names.path(seen.item, suffix), picture, self._force)

    def _frame(self, seen: Seen, picture: Any) -> None:
        """Write a frame; another video, or another size, is another file."""
        key = (seen.item.name, seen.width, seen.height)
        if self._video is None or self._video[0] != key:
            self.end()
            path = self._names.path(seen.item._replace(frame=None), ".avi")
            self._video = (key, *_video_file(path, seen, self._force))
        self._video[1].write(picture)

    def end(self) -> None:
        """Close the video that is open, whole."""
        if self._video is not None:
            _, writer, stack = self._video
            self._video = None
            writer.release()
            stack.close()


def _video_file(path: pathlib.Path, seen: Seen, force: bool) -> Tuple[Any, contextlib.ExitStack]:
    """Open a video beside its name, which it takes when the stack is closed."""
    make_folder(path.parent)
    stack = contextlib.ExitStack()
    part = path.with_name(f".{path.stem}.part.avi")
    writer = cv2.VideoWriter(
        str(part), cv2.VideoWriter.fourcc(*"MJPG"), min(seen.item.rate or 25.0, 120.0), (seen.width, seen.height)
    )
    if not writer.isOpened():
        raise UsageError(
            f"This OpenCV writes no video into {printable(path.parent, 200)}.", "Use --labels or --format."
        )

    def take() -> None:
        with whole_file(path, None, force) as handle, part.open("rb") as made:
            for block in iter(lambda: made.read(1 << 20), b""):
                handle.write(block)

    stack.callback(remove, part)
    stack.callback(take)
    return writer, stack


@contextlib.contextmanager
def table(path: Optional[pathlib.Path], kind: str, head: Dict[str, Any], out: Any, force: bool) -> Iterator[Table]:
    """Give the table of a run: on the output, or in a file that is complete when the block ends."""
    if path is None:
        rows = Table(out, kind, head)
        yield rows
        rows.end()
        return
    with whole_file(path, None, force) as handle:
        text = _as_text(handle)
        rows = Table(text, kind, head)
        yield rows
        rows.end()
        text.detach()


def _as_text(handle: IO[bytes]) -> io.TextIOWrapper:
    """Return a stream of text on a file; names that are not UTF-8 are written as they are on the disk."""
    return io.TextIOWrapper(handle, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)


def check_free(path: Optional[pathlib.Path], option: str, force: bool) -> None:
    """UsageError when a file to be written is there already."""
    if path is not None and not force and (path.exists() or path.is_symlink()):
        raise UsageError(f"{option}: {printable(path, 300)} is there already.", "Name another file, or add --force.")


def check_folder(path: Optional[pathlib.Path], option: str, force: bool) -> None:
    """UsageError when a folder for results is something else, or holds anything already."""
    if path is None or not (path.exists() or path.is_symlink()):
        return
    if not path.is_dir():
        raise UsageError(f"{option}: {printable(path, 300)} is not a folder.", "Name another one.")
    if not force and next(path.iterdir(), None) is not None:
        raise UsageError(
            f"{option}: the folder {printable(path, 300)} is not empty.", "Name a new one, or add --force."
        )
