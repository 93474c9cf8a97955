"""`detect`: many pictures through one network, and what is written of them."""

import argparse
import contextlib
import itertools
import json
import sys
from collections import Counter
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from ..errors import EXIT_INTERRUPTED, UsageError
from ..text import printable
from . import draw, images, options, outputs, pipeline, sources, video
from .benchmark import decoder_threads
from .detector import Detection, Detector, numbers_of
from .models import Wanted, class_names
from .progress import Progress

DONE, SOME_UNUSABLE = 0, 1
NAMED = 20
"""Pictures that could not be used, told one by one; the others are counted."""
Open = Callable[[], Detector]


class Asked:
    """What the options ask for, checked before any work."""

    def __init__(self, given: argparse.Namespace) -> None:
        """UsageError for what cannot be meant together, or would overwrite something."""
        self.words: List[str] = [*given.photo, *(sources.listed(str(given.list)) if given.list else [])]
        if not self.words:
            raise UsageError("There is no picture to look at.", "Name files, folders, videos, or - for standard input.")
        if self.words.count(sources.STDIN) + (str(given.list) == sources.STDIN) > 1:
            raise UsageError("Standard input can be read once only.", "Name it once.")
        sources.check(self.words)
        options.check_least(given, 1, "every", "frames")
        options.check_least(given, 0, "reconnect")
        self.kind = given.format or ("json" if given.json else "text")
        if given.json and self.kind != "json":
            raise UsageError(f"--json is --format json, and --format {self.kind} was asked for.", "Use one of them.")
        self.one = sources.is_one_photo(self.words)
        if given.output is not None:
            if not self.one:
                raise UsageError("-o takes one picture.", "For several name a folder: --into DIR.")
            draw.check_name(given.output)
        outputs.check_free(given.output, "-o", given.force)
        outputs.check_free(given.results, "--results", given.force)
        outputs.check_folder(given.into, "--into", given.force)
        outputs.check_folder(given.labels, "--labels", given.force)
        self.video = video.Settings(given.every, given.frames or 0, given.reconnect)
        if any(sources.is_url(word) for word in self.words):
            video.require()


def wanted_classes(given: argparse.Namespace) -> Tuple[str, ...]:
    """Return the classes that are wanted; UsageError for one that the published networks do not have. Those of other
    networks are known when their files are read.
    """
    wanted = tuple(name.strip() for name in (given.classes or "").split(",") if name.strip())
    if given.cfg is None and given.onnx is None and given.names is None:
        numbers_of(wanted, class_names())
    return wanted


def head_of(detector: Detector, given: argparse.Namespace) -> Dict[str, Any]:
    """Return what JSON says of the whole run."""
    title = Wanted(given.model, given.cfg).title if given.onnx is None else printable(given.onnx.name, 80)
    return outputs.head(detector, title)


def one(asked: Asked, given: argparse.Namespace, open_detector: Open) -> Tuple[int, Detector]:
    """Find the objects in one photo; draw them, print them. The photo is read before a network is made."""
    item = next(iter(sources.items(asked.words, asked.video)))
    picture = sources.load(item)
    detector = open_detector()
    found = detector.detect(picture)
    seen = outputs.Seen(item, picture.shape[1], picture.shape[0], found, picture)
    if given.output is not None:
        draw.save(given.output, draw.drawn(picture, found, detector.meaningful), given.force)
    with contextlib.ExitStack() as stack:
        for writer in _writers(stack, given, detector):
            writer.add(seen)
        if given.results is None and asked.kind in ("text", "json"):
            _print_one(asked, given, detector, seen)
        else:
            table = outputs.table(given.results, asked.kind, head_of(detector, given), sys.stdout, given.force)
            stack.enter_context(table).add(seen)
    return DONE, detector


def _print_one(asked: Asked, given: argparse.Namespace, detector: Detector, seen: outputs.Seen) -> None:
    """Print the boxes of one photo, for people or as JSON."""
    if asked.kind == "json":
        size = {"width": seen.width, "height": seen.height}
        answer = {**head_of(detector, given), "photo": asked.words[0], **size}
        print(json.dumps({**answer, "detections": outputs.boxes(seen.found)}, indent=1, allow_nan=False))
        return
    for row in seen.found:
        print(outputs.line_of(row))
    drawn = f", drawn in {printable(given.output, 300)}" if given.output else ""
    print(f"{len(seen.found)} objects{drawn}")


def _writers(stack: contextlib.ExitStack, given: argparse.Namespace, detector: Detector) -> List[Any]:
    """Return the writers of folders; they are ended with the stack, also when it is left by Ctrl-C."""
    writers: List[Any] = []
    if given.into is not None:
        writers.append(outputs.Drawn(given.into, given.force, detector.meaningful))
    if given.labels is not None:
        writers.append(outputs.Labels(given.labels, given.force))
    for writer in writers:
        stack.callback(writer.end)
    return writers


class Tally:
    """What a run has come to: pictures, objects by class, and what could not be used."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.pictures = self.objects = self.faults = 0
        self.classes = Counter()  # type: Counter[str]

    def add(self, found: List[Detection]) -> None:
        """Count one picture."""
        self.pictures += 1
        self.objects += len(found)
        self.classes.update(row.label for row in found)

    def text(self) -> str:
        """Return the summary table."""
        rows = [("pictures", self.pictures), ("not used", self.faults), ("objects", self.objects)]
        kinds = outputs.by_count(self.classes)
        rows += [("  " + printable(label, 40), count) for label, count in kinds[:20]]
        if len(kinds) > 20:
            rows.append(("  of other classes", sum(count for _, count in kinds[20:])))
        return "\n".join(f"{name:<24}{count:>10}" for name, count in rows)


def many(asked: Asked, given: argparse.Namespace, open_detector: Open, progress: Progress) -> Tuple[int, Detector]:
    """Find the objects in any number of pictures. One that cannot be used is named and set aside.

    The first usable one is looked for before a network is made; when there is none its problem is raised. Ctrl-C ends
    the run as its last picture would.
    """
    tally = Tally()
    last: Optional[images.ImageError] = None
    early: List[Tuple[sources.Item, images.ImageError]] = []
    items = sources.items(asked.words, asked.video)
    first: List[sources.Item] = []
    for item in items:
        try:
            first = [item._replace(pixels=sources.load(item), path=None)]
            break
        except images.ImageError as fault:
            last = fault
            early.append((item, fault))
            _tell(tally, fault)
    if not first:
        raise last or UsageError("There is no picture in what was named.", "Name a folder that holds pictures.")
    detector = open_detector()
    code = DONE
    with contextlib.ExitStack() as stack:
        writers = _writers(stack, given, detector)
        head = head_of(detector, given)
        given.begun = given.results is None  # the table's head goes to the output at once
        table = stack.enter_context(outputs.table(given.results, asked.kind, head, sys.stdout, given.force))
        for item, problem in early:
            table.fault(item, str(problem))
        try:
            _through(detector, itertools.chain(first, items), given, table, writers, tally, progress)
        except KeyboardInterrupt:
            code = EXIT_INTERRUPTED
    progress.close()
    print(tally.text(), file=sys.stderr)
    if code == EXIT_INTERRUPTED:
        print(f"error: interrupted; the {tally.pictures} pictures so far are written.", file=sys.stderr)
    elif tally.faults:
        total = tally.pictures + tally.faults
        print(f"error: {tally.faults} of {total} pictures could not be used.", file=sys.stderr)
        code = SOME_UNUSABLE
    return code, detector


def _tell(tally: Tally, problem: images.ImageError) -> None:
    """Name a picture that is set aside."""
    tally.faults += 1
    if tally.faults <= NAMED:
        print(f"not used: {problem}", file=sys.stderr)


def _through(
    detector: Detector,
    items: Iterator[sources.Item],
    given: argparse.Namespace,
    table: outputs.Table,
    writers: List[Any],
    tally: Tally,
    progress: Progress,
) -> None:
    """Send the pictures through the network, and hand each to the writers."""
    on_card = detector.network.device.on_card
    batch = given.batch or (8 if on_card else 1)
    finished = pipeline.detect_all(detector, items, batch, decoder_threads(), sources.load, keep=given.into is not None)
    with contextlib.closing(finished):  # type: ignore[type-var]
        for group in finished:
            for photo in group.problems:
                if photo.problem is not None:
                    progress.close()
                    _tell(tally, photo.problem)
                    table.fault(photo.path, str(photo.problem))
            for photo, (_, found) in zip(group.photos, group.found):
                seen = outputs.Seen(photo.path, photo.width, photo.height, found, photo.pixels)
                for writer in writers:
                    writer.add(seen)
                table.add(seen)
                tally.add(found)
            progress.count("pictures", tally.pictures + tally.faults)
