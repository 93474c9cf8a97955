"""The options of the commands, apart from the work, so that a program without OpenCV can read them too."""

import argparse
import pathlib
from typing import Any

from ..errors import UsageError
from .networks import MODELS

DEFAULT_MODELS = ("yolov4-tiny", "yolov3")
DEFAULT_DETECT = "yolov4-tiny"
CONFIDENCE = 0.5
MODES = ("single", "offline", "both")
BENCH_CODES = (
    "Exit codes: 0 measured, 1 measured but some photos could not be used, 2 usage or no usable photo, 6 damaged "
    "file, 7 the machine or the device cannot do it, 130 interrupted (the --json file then holds what was measured)."
)
OVERLAP = 0.3
RECONNECT = 5
FORMATS = ("text", "json", "jsonl", "csv", "coco")
DETECT_CODES = (
    "Exit codes: 0 done, 1 done but some pictures could not be used, 2 usage or no usable picture, 6 damaged file, "
    "7 as with bench, 130 interrupted (what was done is written)."
)


def check_least(given: argparse.Namespace, least: int, *names: str) -> None:
    """UsageError for a number that is below what it may be at the least; one that was left out is not looked at."""
    for name in names:
        value = getattr(given, name, None)
        if value is not None and value < least:
            raise UsageError(f"--{name} must be at least {least}.", next_step="Leave it out for the default.")


def _files(command: argparse.ArgumentParser, work_needed: bool) -> None:
    """Where the files are, and how large the network's input is."""
    command.add_argument(
        "--size",
        metavar="N|WxH",
        help="input in pixels, in multiples of 32: a square's side, or both (default: 416, or what --cfg says)",
    )
    command.add_argument(
        "--work",
        type=pathlib.Path,
        required=work_needed,
        metavar="DIR",
        help="folder for networks, weights and photos" + ("" if work_needed else " (default: one that is made)"),
    )
    command.add_argument(
        "--weights-dir",
        type=pathlib.Path,
        metavar="DIR",
        help="folder that holds the published NAME.weights",
    )
    command.add_argument(
        "--weights",
        metavar="FILE",
        help="weight file of the network; the word synthetic: weights that are made and detect nothing",
    )


def _own(command: argparse.ArgumentParser) -> None:
    """A network of the user's own."""
    command.add_argument("--cfg", type=pathlib.Path, metavar="FILE", help="Darknet configuration, in place of --model")
    command.add_argument("--names", type=pathlib.Path, metavar="FILE", help="names of its classes, one a line")


def _several(command: argparse.ArgumentParser) -> None:
    """Models and number of photos."""
    command.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="{}; may be repeated (default: {})".format(", ".join(MODELS), ", ".join(DEFAULT_MODELS)),
    )
    command.add_argument("--count", type=int, metavar="N", help="number of photos (default: 192, or all of --photos)")
    command.add_argument(
        "--progress", action="store_true", help="lines about the progress even when this is not a terminal"
    )


def add_prepare(command: argparse.ArgumentParser) -> None:
    """Making the files ahead."""
    _files(command, work_needed=True)
    _several(command)


def add_bench(command: argparse.ArgumentParser, work_needed: bool = True) -> None:
    """Measuring."""
    command.epilog = BENCH_CODES
    _files(command, work_needed)
    _several(command)
    _own(command)
    command.add_argument(
        "--device", default="cpu", metavar="NAME", help="where to compute; `devices` lists them (default: cpu)"
    )
    command.add_argument("--photos", type=pathlib.Path, metavar="DIR", help="your own photos, in place of made ones")
    command.add_argument("--passes", type=int, default=1, help="how often to go over the photos (default: 1)")
    command.add_argument(
        "--mode",
        choices=MODES,
        default="single",
        help="single: one photo after the other; offline: a pipeline that decodes while the network computes; "
        "both: in turns (default: single)",
    )
    command.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="start no further photo of a model after this time (default: all photos; only with --mode single)",
    )
    command.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="photos in a forward pass of the pipeline (default: 8 on a card, 1 on a CPU)",
    )
    command.add_argument(
        "--baseline",
        nargs="?",
        const="",
        metavar="DEVICE",
        help="measure the reference loop (docs/why.md) too, in turns, on DEVICE (default: the same device)",
    )
    command.add_argument(
        "--json", type=pathlib.Path, metavar="FILE", help="write the whole report there; - is the output itself"
    )
    command.add_argument("--read-only", action="store_true", help="write nothing below --work: all must be prepared")


def add_detect(command: argparse.ArgumentParser, work_needed: bool = True) -> None:
    """Detecting in pictures."""
    command.epilog = DETECT_CODES
    command.add_argument(
        "photo",
        nargs="*",
        metavar="PICTURE",
        help="pictures, folders, videos, cameras (/dev/video0), addresses (rtsp://, http://), or - for standard input",
    )
    command.add_argument("--list", metavar="FILE", help="a text file with one more of them a line; - is standard input")
    command.add_argument("--every", type=int, default=1, metavar="N", help="of a video every Nth frame (default: 1)")
    command.add_argument("--frames", type=int, metavar="N", help="of each video or camera no more than N frames")
    command.add_argument(
        "--reconnect",
        type=int,
        default=RECONNECT,
        metavar="N",
        help=f"attempts to reach a silent camera again before it is given up (default: {RECONNECT})",
    )
    _results(command)
    command.add_argument(
        "--model",
        metavar="NAME",
        help="{} (default: {})".format(", ".join(MODELS), DEFAULT_DETECT),
    )
    command.add_argument("--device", default="cpu", metavar="NAME", help="where to compute (default: cpu)")
    command.add_argument(
        "--confidence", type=float, default=CONFIDENCE, help=f"lowest score of a box, 0 to 1 (default: {CONFIDENCE})"
    )
    command.add_argument(
        "--overlap",
        type=float,
        help=f"of two boxes of a class that share more than this, one stays, 0 to 1 (default: {OVERLAP}; an end2end "
        "model has chosen itself)",
    )
    command.add_argument(
        "--fit", metavar="HOW", help="stretch or letterbox: the picture's way into the network (default: as trained)"
    )
    command.add_argument("--multi-label", action="store_true", help="every class above the confidence, not the best")
    command.add_argument("--classes", metavar="A,B", help="only these classes, by name")
    command.add_argument(
        "--batch", type=int, metavar="N", help="pictures in a forward pass (default: 8 on a card, 1 on a CPU)"
    )
    _files(command, work_needed)
    _own(command)
    command.add_argument(
        "--onnx",
        type=pathlib.Path,
        metavar="FILE",
        help="exported detection model (YOLOv5 to v11), in place of --model",
    )
    command.add_argument(
        "--layout", metavar="HOW", help="what it gives: v5, v8 or end2end (default: told apart by its shape)"
    )


def _results(command: argparse.ArgumentParser) -> None:
    """What is written of the pictures."""
    command.add_argument(
        "-o",
        "--output",
        type=pathlib.Path,
        metavar="FILE",
        help="write the one picture with the boxes drawn there (.jpg, .png, .webp, .bmp, .tiff, .ppm)",
    )
    command.add_argument("--into", type=pathlib.Path, metavar="DIR", help="write pictures and videos with boxes there")
    command.add_argument("--labels", type=pathlib.Path, metavar="DIR", help="write Darknet's label files there")
    command.add_argument("--json", action="store_true", help="the same as --format json")
    command.add_argument("--format", choices=FORMATS, help="what is printed of each picture (default: text)")
    command.add_argument("--results", type=pathlib.Path, metavar="FILE", help="write that there and not to the output")
    command.add_argument("--force", action="store_true", help="overwrite files that are there")
    command.add_argument(
        "--progress", action="store_true", help="lines about the progress even when this is not a terminal"
    )


def add_devices(command: argparse.ArgumentParser) -> None:
    """Listing the devices."""
    command.add_argument("--json", action="store_true", help="as JSON")


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m gpuhost.yolo`."""
    top = argparse.ArgumentParser(
        prog="python -m gpuhost.yolo", description="Darknet YOLO on this machine: check and measure it."
    )
    commands: Any = top.add_subparsers(dest="command", metavar="COMMAND")
    add_bench(commands.add_parser("bench", help="time the detection"))
    add_detect(commands.add_parser("detect", help="find the objects in pictures and videos"))
    add_devices(commands.add_parser("devices", help="say which devices really work here"))
    add_prepare(commands.add_parser("prepare", help="make networks, weights and photos, and measure nothing"))
    return top
