"""Checks of the YOLO benchmark: it ran, on the device that the lock is for, and its arithmetic was shown to
be right.
"""

import re
import shlex
from functools import partial
from pathlib import PurePosixPath
from typing import List, Optional, Sequence

from .. import strict_json
from ..errors import UnreadableError
from ..host.isolated import start
from ..types import Json
from .base import INSTALL, Check, Outcome, held, skipped

MODELS = ("yolov4-tiny", "yolov3")
SIZE = 416
PHOTOS = 192
LIMIT_S = 3600
#: Both come from the host and become the name of a file here.
_STARTED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_NUMBER = re.compile(r"[0-9]{1,9}")


def device(lock: Json) -> str:
    """The device of the benchmark: the card where the lock has one."""
    return "cuda" if lock["plan"]["gpus"] else "cpu"


def detector(root: str, generation: str = "current") -> List[str]:
    """The start of the detector's command line on a host."""
    there = f"{root}/{generation}"
    return start(f"{there}/venvs/opencv_cuda/bin/python", f"{there}/yolo", "gpuhost.yolo")


def command(root: str, model: str, on: str, photos: int, images: Optional[str], generation: str = "current") -> str:
    """The shell command that measures one model on a host, writes nothing there and gives its report on its
    output.

    The published weights are used where the host has them, else the made ones.
    """
    published = shlex.quote(f"{root}/cache/yolo/published")
    own = f" --photos {shlex.quote(images)}" if images else ""
    weights = f"set --; if test -d {published}; then set -- --weights-dir {published}; fi"
    program = " ".join(map(shlex.quote, detector(root, generation)))
    work = shlex.quote(f"{root}/cache/yolo")
    return (
        f"{weights}; timeout -k 5 {LIMIT_S} {program} bench "
        f"--model {shlex.quote(model)} --size {SIZE} --device {shlex.quote(on)} --count {int(photos)}{own} "
        f'--work {work} --read-only --json - "$@"'
    )


def thorough(root: str, on: str, models: Sequence[str], photos: int, passes: int, published: bool) -> List[str]:
    """The command of playbooks/benchmark.yml: one photo at a time, the pipeline and the original's loop in turns, on
    the device `on`, with the report on the output and nothing written on the host.
    """
    line = [*detector(root), "bench", "--mode", "both"]
    line += ["--baseline", on, "--device", on, "--size", str(SIZE), "--count", str(int(photos))]
    line += ["--passes", str(int(passes)), "--work", f"{root}/cache/yolo", "--read-only", "--json", "-"]
    for model in models:
        line += ["--model", model]
    return line + (["--weights-dir", f"{root}/cache/yolo/published"] if published else [])


def kept_as(report: str, current: str) -> str:
    """The file name under which playbooks/benchmark.yml keeps a report beside earlier ones: the generation that
    `current` leads to, then when it was made. The names' order is that of the generations and of time.
    """
    number = PurePosixPath(current).name
    try:
        started = strict_json.loads(report)["started"]
    except (ValueError, KeyError, TypeError):
        started = None
    if not isinstance(started, str) or not _STARTED.fullmatch(started) or not _NUMBER.fullmatch(number):
        raise UnreadableError(
            "The host's benchmark does not say when it was made, or `current` leads to no generation.",
            "Look at the host: ./run pytest verify/",
        )
    return f"{int(number):04d}-{re.sub(r'[-:]', '', started)}.json"


def measured(model: str, seen: Json) -> Outcome:
    """Check that all that was asked for was measured, with a passed gate."""
    required = f"{model} at {SIZE} measured to the end, its result proved right"
    if not seen["options"]["benchmark"]:
        return skipped(required, "left out, as --no-benchmark asked")
    found = seen["benchmark"][model]
    if "error" in found:
        return held(False, required, found["error"], found.get("next_step") or INSTALL)
    entry = found["models"][0]
    if len(found["models"]) > 1 or (entry["model"], entry["size"]) != (model, SIZE):
        told = ", ".join(f"{one['model']} at {one['size']}" for one in found["models"])
        return held(False, required, f"the answer is of {told}", INSTALL)
    device_wanted = seen["expected"]["device"]
    if entry["device"] != device_wanted:
        return held(False, f"measured on {device_wanted}", f"measured on {entry['device']}", INSTALL)
    if not entry["complete"] or not entry["gate"]["passed"]:
        return held(False, required, found["stopped_by"] or "the measurement is not complete", INSTALL)
    if not are_all_photos(found, seen["options"]):
        asked = f"the photos of {seen['options']['images']}" if seen["options"]["images"] else "made photos"
        told = f"{entry['headline']['photos']} photos of the kind {found['photos']['kind']}"
        return held(False, f"{model} on {seen['options']['photos']} of {asked}", told, INSTALL)
    line, kind = entry["headline"], entry["weights"]["kind"]
    times = f"{line['photos']} photos in {line['total_s']:.2f} s ({line['mean_s']:.3f} s each)"
    actual = f"{times} on {entry['device']}, {kind} weights"
    return held(True, required, actual, "")


def are_all_photos(report: Json, options: Json) -> bool:
    """Return whether a report is of the photos that were asked for. A folder of the user's may hold fewer."""
    count, own = report["models"][0]["headline"]["photos"], options["images"] is not None
    if (report["photos"]["kind"] == "made") == own:
        return False
    asked = report["photos"].get("count") if own else options["photos"]
    return bool(count == asked and count <= options["photos"])


CHECKS = tuple(
    Check(
        f"benchmark.{model}",
        f"{model} detects on this host",
        "The stack is there to detect objects in photos; this is that work, measured.",
        partial(measured, model),
        (),
        ("opencv.computes", "detector.installed"),
        f"benchmark/{model}",
    )
    for model in MODELS
)
