"""Checks of the YOLO benchmark: it ran, on the device that the lock is for, and its arithmetic was shown to
be right.
"""

import re
import shlex
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence, Union

from .. import strict_json
from ..errors import UnreadableError
from ..host.isolated import start
from .base import INSTALL, Check, Outcome, held, skipped

if TYPE_CHECKING:
    from ..shapes.answers import BenchmarkAnswer, Headline
    from ..shapes.lock import Lock
    from ..shapes.report import ModelRow
    from ..shapes.seen import AskedOptions, Seen

MODELS = ("yolov4-tiny", "yolov3")
SIZE = 416
PHOTOS = 192
LIMIT_S = 3600
#: How long a CPU measures each network; a card measures all photos.
BUDGET_S = 30.0
#: Both come from the host and become the name of a file here.
_STARTED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_NUMBER = re.compile(r"[0-9]{1,9}")


def device(lock: "Lock") -> str:
    """The device of the benchmark: the card where the lock has one."""
    return "cuda" if lock["plan"]["gpus"] else "cpu"


def detector(root: str, generation: str = "current") -> List[str]:
    """The start of the detector's command line on a host."""
    there = f"{root}/{generation}"
    return start(f"{there}/venvs/opencv_cuda/bin/python", f"{there}/yolo", "gpuhost.yolo")


def budget(options: "AskedOptions", on: str) -> Optional[float]:
    """Return the seconds after which no further photo of a model is begun, by verify/'s options and the device; None
    for all photos.
    """
    if options["full"] or (options["seconds"] is None and on != "cpu"):
        return None
    return BUDGET_S if options["seconds"] is None else float(options["seconds"])


def command(root: str, model: str, on: str, options: "AskedOptions", generation: str = "current") -> str:
    """Return the shell command that measures one model on a host as verify/'s `options` ask, writes nothing there and
    gives its report on its output.

    The published weights are used where the host has those of the model, else the made ones.
    """
    images, seconds = options["images"], budget(options, on)
    folder = f"{root}/cache/yolo/published"
    published, file = shlex.quote(folder), shlex.quote(f"{folder}/{model}.weights")
    own = f" --photos {shlex.quote(images)}" if images else ""
    own += "" if seconds is None else f" --budget {seconds:g}"
    weights = f"set --; if test -f {file}; then set -- --weights-dir {published}; fi"
    program = " ".join(map(shlex.quote, detector(root, generation)))
    work = shlex.quote(f"{root}/cache/yolo")
    return (
        f"{weights}; timeout -k 5 {LIMIT_S} {program} bench "
        f"--model {shlex.quote(model)} --size {SIZE} --device {shlex.quote(on)} --count {int(options['photos'])}{own} "
        f'--work {work} --read-only --json - "$@"'
    )


def thorough(root: str, on: str, models: Sequence[str], photos: int, passes: int, published: bool) -> List[str]:
    """The command of playbooks/benchmark.yml: one photo at a time, the pipeline and the reference loop in turns, on
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


def measured(model: str, seen: "Seen") -> Outcome:
    """Check that everything that was asked for was measured, and that the network's answers were right."""
    required = f"{model} at {SIZE} measured to the end, its result proved right"
    earlier = kept(model, seen)
    if not seen["options"]["benchmark"] and earlier is None:
        return skipped(required, "left out, as --no-benchmark asked")
    if model not in seen["benchmark"] and earlier is not None:
        told = f"{times(earlier)} on {earlier['device']}, {earlier['weights']['kind']} weights"
        when = f"measured {earlier['when']} in this generation; --benchmark measures again"
        return held(True, f"{required} in this generation", f"{told}, {when}", "")
    found = seen["benchmark"][model]
    unmeasured: Mapping[str, Any] = found
    if "error" in unmeasured:
        return held(False, required, unmeasured["error"], unmeasured.get("next_step") or INSTALL)
    entry = found["models"][0]
    if len(found["models"]) > 1 or (entry["model"], entry["size"]) != (model, SIZE):
        told = ", ".join(f"{one['model']} at {one['size']}" for one in found["models"])
        return held(False, required, f"the answer is of {told}", INSTALL)
    device_wanted = seen["expected"]["device"]
    if entry["device"] != device_wanted:
        return held(False, f"measured on {device_wanted}", f"measured on {entry['device']}", INSTALL)
    if not entry["complete"] or not entry["gate"]["passed"]:
        return held(False, required, found["stopped_by"] or "the measurement is not complete", INSTALL)
    if not are_all_photos(found, seen["options"], device_wanted):
        asked = f"the photos of {seen['options']['images']}" if seen["options"]["images"] else "generated photos"
        told = f"{entry['headline']['photos']} photos of the kind {found['photos']['kind']}"
        return held(False, f"{model} on {seen['options']['photos']} of {asked}", told, INSTALL)
    seconds, count = budget(seen["options"], device_wanted), entry["headline"]["photos"]
    stopped = "" if seconds is None or count == seen["options"]["photos"] else f", stopped after {seconds:g} s"
    actual = f"{times(entry['headline'])} on {entry['device']}, {entry['weights']['kind']} weights{stopped}"
    return held(True, required, actual, "")


def times(line: "Union[Headline, ModelRow]") -> str:
    """Return how many photos took how long, in words."""
    return f"{line['photos']} photos in {line['total_s']:.2f} s ({line['mean_s']:.3f} s each)"


def kept(model: str, seen: "Seen") -> "Optional[ModelRow]":
    """Return what an earlier report of the same generation measured of a model on the same device, where this run asks
    for no new measurement; None else.

    `seen["earlier"]` is that report's part `benchmark`.
    """
    if seen["options"]["again"] or seen["earlier"] is None:
        return None
    wanted = (model, SIZE, seen["expected"]["device"])
    rows = seen["earlier"]["models"]
    return next((row for row in rows if (row["model"], row["size"], row["device"]) == wanted and row["complete"]), None)


def are_all_photos(report: "BenchmarkAnswer", options: "AskedOptions", on: str) -> bool:
    """Return whether a benchmark's `report` covers the photos that were asked for (`options`: photos, images).

    It may cover fewer where the user's own folder holds fewer, or where the time limit ended the measurement.
    """
    line, own, seconds = report["models"][0]["headline"], options["images"] is not None, budget(options, on)
    if (report["photos"]["kind"] == "made") == own or line["photos"] > options["photos"]:
        return False
    asked = report["photos"].get("count") if own else options["photos"]
    return bool(line["photos"] == asked or (seconds is not None and line["total_s"] >= seconds))


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
