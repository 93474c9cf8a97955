"""`gpuhost bench`, `gpuhost bench compare`, `gpuhost bench picture`, `gpuhost detect` and `gpuhost devices`.

Measuring and detecting need NumPy and OpenCV: they are done by a Python that has them, the one that gpuhost
installed on this machine or else the present one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, List, Optional, Sequence

from ..errors import EnvironmentProblem, UsageError
from ..host.files import write_whole
from ..host.isolated import start
from ..report import bench_picture
from ..shipping import answers
from ..text import printable_lines
from ..types import Json
from ..yolo import options
from .child import waited
from .output import emit

ROOT = Path("/opt/gpuhost")
SOURCE = Path(__file__).resolve().parents[2]


def add_parsers(commands: Any) -> None:
    """The grammar of both commands. Of `bench` and `detect` it is that of `python -m gpuhost.yolo`."""
    bench = commands.add_parser(
        "bench",
        help="time the detection on this machine, or compare two such measurements",
        description="Time the detection: on the OpenCV that gpuhost installed here, else on this Python's.",
        allow_abbrev=False,
    )
    options.add_bench(bench, work_needed=False)
    bench.add_argument("--picture", type=Path, metavar="FILE", help="draw the result as an SVG file")
    bench.set_defaults(run=run_bench)
    more = bench.add_subparsers(dest="action", metavar="compare | picture")
    two = more.add_parser("compare", help="how many times faster is B than A, and how sure is that?")
    two.add_argument("a", type=Path, metavar="A.json", help="the report to compare with")
    two.add_argument("b", type=Path, metavar="B.json", help="the report to judge")
    two.add_argument("--anyway", action="store_true", help="compare even what was not the same work")
    two.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    two.set_defaults(run=run_compare)
    picture = more.add_parser("picture", help="draw reports as one picture")
    picture.add_argument(
        "reports", nargs="+", type=Path, metavar="REPORT.json", help="in the order of the bars; a folder: all in it"
    )
    picture.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the SVG file")
    picture.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    picture.set_defaults(run=run_picture)
    detect = commands.add_parser("detect", help="find the objects in pictures and videos", allow_abbrev=False)
    options.add_detect(detect, work_needed=False)
    detect.set_defaults(run=run_detect)
    devices = commands.add_parser("devices", help="list where bench and detect can compute on this machine")
    options.add_devices(devices)
    devices.set_defaults(run=run_devices)


def python_with_opencv(root: Path = ROOT) -> str:
    """The Python that gpuhost installed OpenCV for on this machine, or the present one if
    it has OpenCV.
    """
    installed = root / "current" / "venvs" / "opencv_cuda" / "bin" / "python"
    if installed.exists():
        return str(installed)
    if importlib.util.find_spec("cv2") is not None:
        return sys.executable
    raise EnvironmentProblem(
        f"There is no OpenCV to detect with: neither {installed} nor a module cv2 in {sys.executable}.",
        "Install the stack: ./run ansible-playbook site.yml. Or type ./run before the command, which adds OpenCV and "
        "engines to .venv: ./run gpuhost detect ...",
    )


def work_folder(root: Path = ROOT) -> Path:
    """Where networks, weights and photos are kept: with the installed stack if this user may write there, else in
    the user's cache.
    """
    installed = root / "cache" / "yolo"
    if os.access(installed, os.W_OK):
        return installed
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuhost" / "yolo"


def published(models: Sequence[str], root: Path = ROOT) -> List[str]:
    """The option for the published weights, where the installed stack has them for all of these models."""
    folder = root / "cache" / "yolo" / "published"
    return ["--weights-dir", str(folder)] if all((folder / f"{name}.weights").is_file() for name in models) else []


def option_list(arguments: argparse.Namespace, names: Sequence[str]) -> List[str]:
    """Return parsed options as the arguments of a command line."""
    line: List[str] = []
    for name in names:
        value, option = getattr(arguments, name), "--" + name.replace("_", "-")
        if value is True:
            line.append(option)
        elif isinstance(value, list):
            line += [f"{option}={one}" for one in value]
        elif value == "":
            line.append(option)
        elif value is not None and value is not False:  # by identity: 0 is a number that was typed
            line.append(f"{option}={value}")
    return line


BENCH = (
    "size",
    "model",
    "count",
    "progress",
    "device",
    "photos",
    "passes",
    "mode",
    "budget",
    "batch",
    "baseline",
    "read_only",
    "cfg",
    "weights",
    "names",
)
DETECT = (
    "list",
    "every",
    "frames",
    "reconnect",
    "output",
    "into",
    "labels",
    "json",
    "format",
    "results",
    "force",
    "progress",
    "model",
    "device",
    "confidence",
    "overlap",
    "fit",
    "multi_label",
    "classes",
    "batch",
    "size",
    "cfg",
    "weights",
    "names",
    "onnx",
    "layout",
)


def delegate(command: str, arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run a command of `python -m gpuhost.yolo` with the Python that can; its exit code. Ctrl-C reaches it as it
    reaches this process, and it is waited for.
    """
    folders = ["--work", str(arguments.work or work_folder())]
    if arguments.weights_dir:
        folders += ["--weights-dir", str(arguments.weights_dir)]
    elif not arguments.weights and not arguments.cfg and not getattr(arguments, "onnx", None):
        default = options.DEFAULT_MODELS if command == "bench" else [options.DEFAULT_DETECT]
        asked = [arguments.model] if isinstance(arguments.model, str) else arguments.model
        folders += published(asked or default)
    return carried_out([command, *folders, *rest])


def carried_out(words: Sequence[str]) -> int:
    """Run a command line of `python -m gpuhost.yolo`; as `delegate`."""
    return waited([*start(python_with_opencv(), str(SOURCE), "gpuhost.yolo"), *words])


def run_bench(arguments: argparse.Namespace) -> int:
    """`gpuhost bench`."""
    to_output = str(arguments.json) == "-"
    if arguments.picture is None:
        return delegate("bench", arguments, report_option(arguments.json) + option_list(arguments, BENCH))
    check_svg(arguments.picture)
    if to_output:
        raise UsageError("--picture does not go with --json -.", "Name a file: --json FILE")
    with tempfile.TemporaryDirectory(prefix="gpuhost-") as folder:
        report = arguments.json or Path(folder) / "bench.json"
        code = delegate("bench", arguments, report_option(report) + option_list(arguments, BENCH))
        if report.exists() and code in (0, 1):
            draw([report], ["here"], arguments.picture)
            print(f"picture: {arguments.picture}")
    return code


def report_option(path: Optional[Path]) -> List[str]:
    """The option that names the report's file."""
    return [] if path is None else [f"--json={path}"]


def run_detect(arguments: argparse.Namespace) -> int:
    """`gpuhost detect`."""
    return delegate("detect", arguments, [*option_list(arguments, DETECT), "--", *arguments.photo])


def run_devices(arguments: argparse.Namespace) -> int:
    """`gpuhost devices`."""
    return carried_out(["devices", *(["--json"] if arguments.json else [])])


def compare_module() -> Any:
    """The comparison, which resamples with NumPy."""
    if importlib.util.find_spec("numpy") is None:
        raise EnvironmentProblem(
            f"Comparing needs NumPy in this Python ({sys.executable}).", "Use ./run gpuhost bench compare A B"
        )
    from ..yolo import bench_compare

    return bench_compare


def loaded(path: Path) -> Json:
    """A benchmark's report, in which everything that is read is there and of its kind; else a UsageError."""
    report: Json = compare_module().load(path)
    wrong = answers.misfit(report, "benchmark_report")
    if wrong is not None:
        raise UsageError(
            f"{path} is not a whole report of the benchmark: {wrong}.", "Make it with `gpuhost bench --json FILE`."
        )
    return report


def run_compare(arguments: argparse.Namespace) -> int:
    """`gpuhost bench compare`."""
    module = compare_module()
    found = module.compare(loaded(arguments.a), loaded(arguments.b), arguments.anyway)
    if arguments.as_json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        # A report may come from another machine: nothing in it may move the cursor.
        sys.stdout.write(printable_lines(module.as_text(found)) + "\n")
    return 0


def check_svg(path: Path) -> None:
    """UsageError for a name that does not say SVG."""
    if path.suffix.lower() != ".svg":
        raise UsageError(f"The picture is an SVG, and {path.name!r} is not named so.", "Name it .svg.")


def draw(reports: Sequence[Path], names: Sequence[str], output: Path) -> None:
    """Write the picture of some reports."""
    found = [loaded(path) for path in reports]
    try:
        write_whole(output, bench_picture.svg(list(zip(names, found))), None)
    except OSError as error:
        raise EnvironmentProblem(
            f"The picture cannot be written to {output}: {error.strerror}.", "Name another file."
        ) from error


def reports_at(path: Path) -> List[Path]:
    """A report, or all of a folder by their names; UsageError when the folder has none."""
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.json"))
    if not found:
        raise UsageError(f"There is no report in the folder {path}.", "Make one with `gpuhost bench --json FILE`.")
    return found


def run_picture(arguments: argparse.Namespace) -> int:
    """`gpuhost bench picture`."""
    check_svg(arguments.output)
    reports = [report for path in arguments.reports for report in reports_at(path)]
    draw(reports, bench_picture.titled(reports), arguments.output)
    if arguments.as_json:
        emit({"picture": str(arguments.output), "reports": [str(path) for path in reports]})
    else:
        print(f"picture: {arguments.output}")
    return 0
