"""Detection as a pipeline: photos are read and decoded by threads while the network computes.

    paths -> [decoders: read, decode, blob] -> [this thread: batches, forward] -> [one thread: boxes]

Each arrow holds a bounded number of pictures, so memory does not grow with the number of photos, and
the order stays. OpenCV releases Python's lock in decode, blob and forward, so threads are enough.
"""

import collections
import contextlib
import pathlib
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Deque, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

import numpy as np

from . import images
from .detector import Detection, Detector

FINISHERS = 1
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Prepared(NamedTuple):
    """A photo ready for the network, (1, 3, size, size), with the picture's width and height; or, without a
    blob, what is wrong with it. `path` is what was asked to be looked at; the pixels are kept where asked for.
    """

    path: Any
    blob: Any
    width: int
    height: int
    problem: Optional[images.ImageError]
    pixels: Any = None


class Forwarded(NamedTuple):
    """A batch after the network: its photos, the heads of each, and the seconds that the forward pass took."""

    photos: List[Prepared]
    heads: List[List[Any]]
    forward_s: float


class Finished(NamedTuple):
    """A batch whose boxes are found, photo by photo, or photos that could not be used (`problems`); `at_s` is when, on
    the clock time.perf_counter. `photos` are those of `found`, in the same order.
    """

    found: List[Tuple[Any, List[Detection]]]
    problems: List[Prepared]
    forward_s: float
    at_s: float
    photos: Sequence[Prepared] = ()


def ordered(items: Iterable[_In], work: Callable[[_In], _Out], workers: int, ahead: int) -> Iterator[_Out]:
    """`work` of each item by `workers` threads, in the order of the items, at most `ahead` of them begun or
    waiting.

    `items` is drawn in the caller's thread, and no faster than results are taken. An exception of `work`
    is raised at its item's turn. However this ends, the threads have ended when it has.
    """
    pending: Deque[Any] = collections.deque()
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        pool.shutdown()


def prepare(path: Any, detector: Detector, load: Callable[[Any], Any], keep: bool) -> Prepared:
    """Load one photo and make its blob; a photo that cannot be used comes back with its problem."""
    try:
        image = load(path)
    except images.ImageError as problem:
        return Prepared(path, None, 0, 0, problem)
    return Prepared(path, detector.blob(image), image.shape[1], image.shape[0], None, image if keep else None)


def forward_batch(network: Any, blobs: Any) -> List[List[Any]]:
    """The heads of each of `blobs` (n, 3, size, size): in one pass where the network can, else one by one."""
    if len(blobs) > 1 and hasattr(network, "forward_batch"):
        return list(network.forward_batch(blobs))
    return [list(network.forward(blobs[number : number + 1])) for number in range(len(blobs))]


def batches(photos: Iterable[Prepared], size: int) -> Iterator[Tuple[List[Prepared], List[Prepared]]]:
    """Groups of `size` usable photos, the last one perhaps smaller; an unusable photo is a group's second part,
    alone and at once.
    """
    good: List[Prepared] = []
    for photo in photos:
        if photo.problem is not None:
            yield [], [photo]
            continue
        good.append(photo)
        if len(good) == size:
            yield good, []
            good = []
    if good:
        yield good, []


def _forwarded(
    network: Any, groups: Iterable[Tuple[List[Prepared], List[Prepared]]], size: int
) -> Iterator[Tuple[Forwarded, List[Prepared]]]:
    """Each group after the network. A group that is not full is filled up with its last photo: another shape
    would make the library set the network up again.
    """
    for good, bad in groups:
        if not good:
            yield Forwarded([], [], 0.0), bad
            continue
        begun = time.perf_counter()
        blobs = good[0].blob
        if size > 1:
            blobs = np.concatenate([photo.blob for photo in good] + [good[-1].blob] * (size - len(good)))
        heads = forward_batch(network, blobs)[: len(good)]
        yield Forwarded([photo._replace(blob=None) for photo in good], heads, time.perf_counter() - begun), bad


def detect_all(
    detector: Detector,
    paths: Iterable[Any],
    batch: int = 1,
    decoders: int = 2,
    load: Callable[[Any], Any] = images.read,
    keep: bool = False,
) -> Iterator[Finished]:
    """Detect in each photo of `paths`, in order, `batch` photos in a forward pass, `decoders` threads before it.

    `load` makes pixels of what `paths` gives; `keep` leaves them with the results.

    At most 2 * batch + decoders decoded photos are in memory at once. Close the iterator, or exhaust it,
    and all threads have ended.
    """

    def finish(entry: Tuple[Forwarded, List[Prepared]]) -> Finished:
        done, problems = entry
        found = [
            (photo.path, detector.boxes(heads, photo.width, photo.height))
            for photo, heads in zip(done.photos, done.heads)
        ]
        return Finished(found, problems, done.forward_s, time.perf_counter(), done.photos)

    photos = ordered(paths, lambda path: prepare(path, detector, load, keep), decoders, batch + decoders)
    with contextlib.closing(photos):  # type: ignore[type-var]
        forwarded = _forwarded(detector.network, batches(photos, batch), batch)
        finished = ordered(forwarded, finish, FINISHERS, 2)
        with contextlib.closing(finished):  # type: ignore[type-var]
            yield from finished


class Pace:
    """What the pipeline has taken so far: per batch its photos and the seconds since the batch before. Kept up to date
    while it runs, so that an interrupted run leaves what it did.
    """

    def __init__(self) -> None:
        """Nothing has run yet."""
        self.photos = array("I")
        self.seconds = array("d")
        self.forward_s = 0.0
        self.boxes = 0

    def add(self, group: Finished, seconds: float) -> None:
        """Count a finished group, which took `seconds`; one without a usable photo adds its time to the batch after
        it.
        """
        if self.photos and self.photos[-1] == 0:
            self.photos[-1], self.seconds[-1] = len(group.found), self.seconds[-1] + seconds
        else:
            self.photos.append(len(group.found))
            self.seconds.append(seconds)
        self.forward_s += group.forward_s
        self.boxes += sum(len(found) for _, found in group.found)


def time_all(
    detector: Detector,
    paths: Iterable[pathlib.Path],
    batch: int,
    decoders: int,
    pace: Pace,
    tell: Callable[[Finished], None] = lambda group: None,
) -> float:
    """Run the pipeline over `paths` and add each batch's time to `pace`; `tell` hears of each. Returns the seconds of
    this run, first file to last box.
    """
    begun = mark = time.perf_counter()
    finished = detect_all(detector, paths, batch, decoders)
    with contextlib.closing(finished):  # type: ignore[type-var]
        for group in finished:
            pace.add(group, group.at_s - mark)
            mark = group.at_s
            tell(group)
    return time.perf_counter() - begun
