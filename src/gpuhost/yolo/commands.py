"""The commands of `python -m gpuhost.yolo`: bench, detect, devices, prepare."""

import argparse
import contextlib
import json
import math
import pathlib
import sys
from typing import Any, Dict, List, Optional, Tuple

import cv2

from ..errors import EXIT_INTERRUPTED, EnvironmentProblem, GpuhostError, UsageError
from ..host.answer import end_with_reader
from ..text import printable
from . import benchmark, benchmark_text, detecting, devices, engine, gate, options, photos, video
from .darknet import typed
from .detector import Detector, check_settings
from .files import nothing_written
from .models import DEFAULT_SIZE, SYNTHETIC, Wanted, catalog, model_files
from .networks import MODELS, layers_of
from .progress import Progress
from .table import check_offered, device_named

SOME_UNUSABLE = 1
SYNTHETIC_WARNING = (
    "WARNING: these are synthetic weights. They compute like real ones and detect NOTHING MEANINGFUL: "
    "boxes, names and scores are noise. For real detections give --weights a weight file."
)


def _check_model(model: str) -> None:
    """UsageError for a name that is not a model to use."""
    layers_of(model)
    if model not in MODELS:
        raise UsageError(f"{model} is not a model to measure.", next_step="Use one of: {}.".format(", ".join(MODELS)))


def _check(given: argparse.Namespace) -> None:
    """UsageError for numbers and names that cannot be meant, before any work is done."""
    for model in given.model:
        _check_model(model)
    options.check_least(given, 1, "count", "passes", "batch")
    budget = getattr(given, "budget", None)
    if budget is not None and not (math.isfinite(budget) and budget > 0.0):
        raise UsageError(f"A --budget of {budget} seconds is not possible.", next_step="Use a number above 0.")
    if budget is not None and (given.mode != "single" or given.baseline is not None):
        raise UsageError(
            "--budget goes with --mode single alone: ways that are compared take the same photos.",
            next_step="Say how many photos there are: --count N",
        )
    _check_weights(given.weights_dir)


def _check_weights(folder: Optional[pathlib.Path]) -> None:
    """UsageError when there is no such folder."""
    if folder is not None and not folder.is_dir():
        raise UsageError(
            f"There is no folder {folder}.",
            next_step="Name the folder that holds the published NAME.weights.",
        )


def _settings(given: argparse.Namespace) -> benchmark.Settings:
    """What the options ask to measure."""
    return benchmark.Settings(
        networks=_networks(given),
        size=given.size,
        device=given.device,
        work=given.work,
        photos=given.photos,
        number=given.count if given.count is not None or given.photos is not None else photos.COUNT,
        passes=given.passes,
        report=None if str(given.json) == "-" else given.json,
        mode=given.mode,
        batch=given.batch or 0,
        baseline=given.baseline or (None if given.baseline is None else given.device),
        budget=given.budget,
    )


def _networks(given: argparse.Namespace) -> Tuple[Wanted, ...]:
    """The networks that the options name. A benchmark makes weights where none are named."""
    if given.cfg is not None:
        return (Wanted("", given.cfg, given.weights, given.names),)
    weights = given.weights or (None if given.weights_dir is not None else SYNTHETIC)
    return tuple(Wanted(model, None, weights, given.names, given.weights_dir) for model in given.model)


def _check_own(given: argparse.Namespace) -> None:
    """UsageError for options about the network that contradict one another."""
    if given.cfg is not None and given.model:
        raise UsageError("--cfg and --model name two networks.", next_step="Give one of them.")
    onnx = getattr(given, "onnx", None)
    if onnx is not None and (given.cfg or given.model or given.weights or given.weights_dir):
        raise UsageError("--onnx is a network with its weights.", next_step="Leave --cfg, --model and --weights out.")
    if onnx is None and getattr(given, "layout", None):
        raise UsageError("--layout is that of an ONNX model.", next_step="Name one: --onnx FILE")
    if given.weights is not None and given.weights_dir is not None:
        raise UsageError("--weights and --weights-dir name two kinds of weights.", next_step="Give one of them.")
    if isinstance(given.model, list) and len(given.model) > 1 and given.weights not in (None, SYNTHETIC):
        raise UsageError("One --weights does not fit several networks.", next_step="Name one --model.")


def _bench(given: argparse.Namespace) -> int:
    """Measure, print, and show the reference figures beside it. With `--json -` only the report goes to the output."""
    to_output = str(given.json) == "-"
    lines = sys.stderr if to_output else sys.stdout
    settings = _settings(given)
    device_named(settings.device)
    if to_output:
        end_with_reader(sys.stdout.fileno())
    with contextlib.ExitStack() as stack:
        if given.read_only:
            stack.enter_context(nothing_written(given.work))
        report = benchmark.run(settings, Progress(sys.stderr, given.progress), lambda text: print(text, file=lines))
    rows = ["{} {} s each".format(row["device"], row["mean_s"]) for row in catalog()["reference"]["rows"]]
    print("\n" + benchmark_text.table_text(report["models"]), file=lines)
    print("The reference figures over {} photos: {}.".format(photos.COUNT, "; ".join(rows)), file=lines)
    if to_output:
        print(json.dumps(report, indent=1, allow_nan=False))
    return _tell_unusable(report["photos"])


def _tell_unusable(found: Dict[str, Any]) -> int:
    """Name the photos that were set aside; the exit code that this makes."""
    unusable = found["unusable"]
    if not unusable["count"]:
        return 0
    for row in unusable["first"]:
        print("not used: {}".format(row["problem"]), file=sys.stderr)
    more = unusable["count"] - len(unusable["first"])
    if more:
        print(f"and {more} more", file=sys.stderr)
    print("error: {} of {} photos could not be used.".format(unusable["count"], found["count"]), file=sys.stderr)
    return SOME_UNUSABLE


def _detect(given: argparse.Namespace) -> int:
    """Find the objects in pictures; draw them, print them."""
    _check_own(given)
    own = given.cfg or given.onnx
    given.model = given.model or ("" if own else options.DEFAULT_DETECT)
    if not own:
        _check_model(given.model)
    _check_weights(given.weights_dir)
    check_settings(given.confidence, given.overlap, given.fit)
    options.check_least(given, 1, "batch")
    check_offered(device_named(given.device))
    classes = detecting.wanted_classes(given)
    asked = detecting.Asked(given)

    def opened() -> Detector:
        detector = Detector(
            given.model,
            given.device,
            given.work,
            given.size,
            given.weights_dir,
            given.confidence,
            given.overlap,
            given.fit,
            given.multi_label,
            classes,
            given.weights,
            given.cfg,
            given.names,
            given.onnx,
            given.layout,
        )
        for note in detector.files.notes:
            print(f"note: {note}", file=sys.stderr)
        return detector

    if asked.one:
        code, detector = detecting.one(asked, given, opened)
    else:
        code, detector = detecting.many(asked, given, opened, Progress(sys.stderr, given.progress))
    if not detector.meaningful:
        print(SYNTHETIC_WARNING, file=sys.stderr)
    return code


def _prepare(given: argparse.Namespace) -> int:
    """Make the files that a benchmark would make first."""
    progress = Progress(sys.stderr, given.progress)
    for model in given.model:
        progress.say(f"{model}: network and weights")
        files = model_files(
            model, given.size or DEFAULT_SIZE, given.work, given.weights_dir, given.weights or SYNTHETIC
        )
        gate.config(files, given.work)
        engine.prepare(files)
        print(f"{model}: {files.cfg}, {files.weights_kind} weights {files.weights}")
    count = photos.COUNT if given.count is None else given.count
    made = photos.make(given.work / "photos", count, lambda done, of: progress.tick("photos", done, of))
    print("{} photos in {}".format(len(made.paths), given.work / "photos"))
    return 0


def _devices(given: argparse.Namespace) -> int:
    """Print the device table."""
    rows = devices.survey()
    if given.json:
        answer = {"schema": 1, "opencv": cv2.__version__, "devices": rows, "no_video": video.why_not() or None}
        print(json.dumps(answer, indent=1))
        return 0
    for row in rows:
        print("{:10} {:4} {}".format(row["name"], "yes" if row["available"] else "no", row["title"]))
        if not row["available"]:
            print("{:15} {} {}".format("", row["reason"], row["next_step"]))
    print("{:10} {:4} {}".format("video", "no" if video.why_not() else "yes", video.why_not() or "files and addresses"))
    return 0


def told(given: argparse.Namespace, problem: GpuhostError) -> int:
    """Print an error, as JSON in place of the answer where that was to be JSON; return its exit code.

    On an output on which the answer has begun, nothing else is printed.
    """
    as_json = getattr(given, "json", None) is True or getattr(given, "format", None) == "json"
    if as_json and not getattr(given, "begun", False):
        print(json.dumps(problem.record(), indent=2))
    else:
        print(f"error: {problem}", file=sys.stderr)
    return problem.exit_code


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; returns the exit code (0, 1 when some photos were unusable, or the error's own; 130 after
    Ctrl-C).
    """
    given = options.parser().parse_args(arguments)
    try:
        if given.command is None:
            raise UsageError("There is no command.", next_step="Type one of: bench, detect, devices, prepare.")
        if getattr(given, "size", None) is not None:
            given.size = typed(given.size)
        if given.command in ("bench", "prepare"):
            if given.command == "bench":
                _check_own(given)
            given.model = given.model or ([] if getattr(given, "cfg", None) else list(options.DEFAULT_MODELS))
            _check(given)
        run = {"bench": _bench, "detect": _detect, "devices": _devices, "prepare": _prepare}[given.command]
        return run(given)
    except GpuhostError as problem:
        return told(given, problem)
    except FileExistsError as problem:
        name = printable(problem.filename2 or problem.filename, 300)
        return told(given, UsageError(f"{name} is there already, made meanwhile.", "Name another, or add --force."))
    except OSError as problem:
        step = "Check the folder, its space and its permissions."
        return told(given, EnvironmentProblem(f"{printable(problem, 500)}.", step))
    except KeyboardInterrupt:
        print(
            "error: interrupted; what was measured so far is in the --json file, if one was asked for.",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
