"""The command line of `python -m gpuhost.yolo`: bench, devices, prepare."""

import argparse
import contextlib
import json
import pathlib
import sys
from typing import List, Optional

import cv2

from ..errors import GpuhostError, UsageError
from . import benchmark, devices, engine, gate, photos
from .darknet import check_size
from .files import nothing_written
from .models import catalog, model_files
from .networks import MODELS, layers_of
from .progress import Progress
from .table import AUTO, DEVICES, device_named

INTERRUPTED = 130
ENVIRONMENT = 7
DEFAULT_MODELS = ("yolov4-tiny", "yolov3")


def parser() -> argparse.ArgumentParser:
    """The options of the three commands."""
    top = argparse.ArgumentParser(
        prog="python -m gpuhost.yolo", description="Darknet YOLO on this machine: check and measure it."
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    bench = commands.add_parser("bench", help="time the detection, photo by photo")
    prepare = commands.add_parser("prepare", help="make networks, weights and photos, and measure nothing")
    for command in (bench, prepare):
        command.add_argument(
            "--model",
            action="append",
            metavar="NAME",
            help="{}; may be repeated (default: {})".format(", ".join(MODELS), ", ".join(DEFAULT_MODELS)),
        )
        command.add_argument(
            "--size", type=int, default=416, help="input side in pixels, a multiple of 32 (default: 416)"
        )
        command.add_argument(
            "--work",
            type=pathlib.Path,
            required=True,
            metavar="DIR",
            help="folder for networks, weights and photos",
        )
        command.add_argument(
            "--weights-dir",
            type=pathlib.Path,
            metavar="DIR",
            help="folder that may hold the published NAME.weights",
        )
        command.add_argument(
            "--count", type=int, default=photos.COUNT, help=f"number of photos (default: {photos.COUNT})"
        )
        command.add_argument(
            "--progress", action="store_true", help="lines about the progress even when this is no terminal"
        )
    names = ", ".join(device.name for device in (*DEVICES, AUTO))
    bench.add_argument("--device", default="cpu", metavar="NAME", help=f"{names} (default: cpu)")
    bench.add_argument("--photos", type=pathlib.Path, metavar="DIR", help="your own photos, in place of made ones")
    bench.add_argument("--passes", type=int, default=1, help="how often to go over the photos (default: 1)")
    bench.add_argument(
        "--json", type=pathlib.Path, metavar="FILE", help="write the whole report there; - is the output itself"
    )
    bench.add_argument("--read-only", action="store_true", help="write nothing below --work: all must be prepared")
    table = commands.add_parser("devices", help="say which devices really work here")
    table.add_argument("--json", action="store_true", help="as JSON")
    return top


def _check(options: argparse.Namespace) -> None:
    """UsageError for numbers and names that cannot be meant, before any work is done."""
    check_size(options.size)
    for model in options.model:
        layers_of(model)
        if model not in MODELS:
            raise UsageError(f"{model} is no model to measure.", next_step="Use one of: {}.".format(", ".join(MODELS)))
    for name in ("count", "passes"):
        if getattr(options, name, 1) < 1:
            raise UsageError(f"--{name} must be at least 1.", next_step="Leave it out for the default.")
    if options.weights_dir is not None and not options.weights_dir.is_dir():
        raise UsageError(
            f"There is no folder {options.weights_dir}.",
            next_step="Leave --weights-dir out for synthetic weights.",
        )


def _bench(options: argparse.Namespace) -> None:
    """Measure, print, and show the original's figures beside it. With `--json -` only the report goes to the output."""
    to_output = str(options.json) == "-"
    lines = sys.stderr if to_output else sys.stdout
    settings = benchmark.Settings(
        models=tuple(options.model),
        size=options.size,
        device=options.device,
        work=options.work,
        photos=options.photos,
        weights_dir=options.weights_dir,
        number=options.count,
        passes=options.passes,
        report=None if to_output else options.json,
    )
    device_named(settings.device)
    with contextlib.ExitStack() as stack:
        if options.read_only:
            stack.enter_context(nothing_written(options.work))
        report = benchmark.run(settings, Progress(sys.stderr, options.progress), lambda text: print(text, file=lines))
    rows = ["{} {} s each".format(row["device"], row["mean_s"]) for row in catalog()["reference"]["rows"]]
    print("The original's figures over {} photos: {}.".format(photos.COUNT, "; ".join(rows)), file=lines)
    if to_output:
        print(json.dumps(report, indent=1, allow_nan=False))


def _prepare(options: argparse.Namespace) -> None:
    """Make the files that a benchmark would make first."""
    progress = Progress(sys.stderr, options.progress)
    for model in options.model:
        progress.say(f"{model}: network and weights")
        files = model_files(model, options.size, options.work, options.weights_dir)
        gate.config(files, options.work)
        engine.prepare(files)
        print(f"{model}: {files.cfg}, {files.weights_kind} weights {files.weights}")
    made = photos.make(options.work / "photos", options.count, lambda done, of: progress.tick("photos", done, of))
    print("{} photos in {}".format(len(made.paths), options.work / "photos"))


def _devices(options: argparse.Namespace) -> None:
    """Print the device table."""
    rows = devices.survey()
    if options.json:
        print(json.dumps({"schema": 1, "opencv": cv2.__version__, "devices": rows}, indent=1))
        return
    for row in rows:
        print("{:10} {:4} {}".format(row["name"], "yes" if row["available"] else "no", row["title"]))
        if not row["available"]:
            print("{:15} {} {}".format("", row["reason"], row["next_step"]))


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; returns the exit code (0, or the error's own; 130 after Ctrl-C)."""
    top = parser()
    options = top.parse_args(arguments)
    try:
        if options.command is None:
            raise UsageError("There is no command.", next_step="Type one of: bench, devices, prepare.")
        if options.command == "devices":
            _devices(options)
            return 0
        options.model = options.model or list(DEFAULT_MODELS)
        _check(options)
        (_bench if options.command == "bench" else _prepare)(options)
    except GpuhostError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.exit_code
    except OSError as problem:
        print(f"error: {problem}. Check the folder, its space and its permissions.", file=sys.stderr)
        return ENVIRONMENT
    except KeyboardInterrupt:
        print(
            "error: interrupted; what was measured so far is in the --json file, if one was asked for.",
            file=sys.stderr,
        )
        return INTERRUPTED
    return 0
