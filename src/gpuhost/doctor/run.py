"""The command line of the doctor, as `gpuhost-doctor.pyz` and over ssh: arguments, exit code, output.

Exit codes: 0 driver and CUDA work, 1 a known cause was found, 2 usage, 3 something is wrong and not recognised, 4 what
decides could not be read.
"""

import argparse
import json
import os
import pkgutil
import shutil
import sys
from typing import Any, Callable, Optional, Sequence, Tuple

from .. import __version__, strict_json
from ..text import printable
from ..types import Json
from . import bundle, judge, messages, python, words
from .collect import collect

#: Escapes are written to a terminal that wants them only (no-color.org).
NO_COLOUR = "NO_COLOR"
USAGE = 2
Examine = Callable[[Any], Tuple[Json, str]]
ABOUT = "Say why CUDA does not work on a machine, or prove that it does. Nothing is changed, and no root is needed."
CODES = (
    "Exit codes: 0 driver and CUDA work, 1 a known cause was found, 3 something is wrong and not recognised, 4 what "
    "decides could not be read."
)


def options(parser: argparse.ArgumentParser) -> None:
    """Add what every form of the doctor understands."""
    parser.add_argument("--json", action="store_true", help="print JSON (doctor.schema.json)")
    parser.add_argument("--python", metavar="PATH", help="also judge TensorFlow, PyTorch and OpenCV of this Python")
    parser.add_argument("--bundle", metavar="FILE", help="also write what an issue needs, redacted, into a new FILE")
    parser.add_argument(
        "--message",
        metavar="TEXT",
        help="only say what an error message may mean, without a look at this machine; - reads the standard input",
    )


def parser() -> argparse.ArgumentParser:
    """Return the grammar of the command line."""
    top = argparse.ArgumentParser(prog="gpuhost-doctor", description=ABOUT, epilog=CODES)
    top.add_argument("--version", action="version", version=f"gpuhost-doctor {__version__}")
    options(top)
    return top


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Examine this machine."""
    try:
        return run(parser().parse_args(argv))
    except OSError as error:
        # Python flushes standard output once more when it ends, and would say so of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr.write(f"error: The report could not be written: {error.strerror}.\n")
        return USAGE


def run(arguments: Any, examine: Optional[Examine] = None) -> int:
    """Do what the arguments ask; `examine` gives the report of a machine and the text of its bundle."""
    if arguments.message is not None:
        return explain(arguments)
    if examine is None and arguments.python is not None and shutil.which(arguments.python) is None:
        sys.stderr.write(f"error: {printable(arguments.python, 200)} is not a program that can be started.\n")
        return USAGE
    report, text = (examine or here)(arguments)
    write(shown(report, arguments.json))
    if arguments.bundle is not None:
        problem = keep(arguments.bundle, text)
        if problem:
            sys.stderr.write(f"error: {problem}\n")
            return USAGE
    return judge.CODES[report["answer"]]


def here(arguments: Any) -> Tuple[Json, str]:
    """Return the report of this machine, and the text of its bundle."""
    seen = collect(releases())
    if arguments.python is not None:
        seen["python"] = python.asked(arguments.python)
    report = judge.report(seen)
    return report, bundle.text(report, seen) if arguments.bundle is not None else ""


def explain(arguments: Any) -> int:
    """Say what an error message may mean."""
    text = arguments.message
    if text == "-":
        text = sys.stdin.buffer.read(messages.LONGEST).decode("utf-8", "replace")
    found = messages.pointed(text)
    write(json.dumps(found, indent=1, sort_keys=True) + "\n" if arguments.json else words.pointed(found))
    return judge.CODES[judge.FOUND if found["messages"] else judge.NOT_RECOGNISED]


def keep(name: str, text: str) -> str:
    """Write a file that nobody else may read, and that was not there before; what is wrong, or ""."""
    try:
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8", "replace"))
    except OSError as error:
        return f"{printable(name, 200)} cannot be written: {error.strerror}."
    sys.stderr.write(f"written, redacted: {printable(name, 200)}. Look through it before you pass it on.\n")
    return ""


def shown(report: Json, as_json: bool) -> str:
    """Return the report as it is printed."""
    if as_json:
        return json.dumps(report, indent=1, sort_keys=True) + "\n"
    terminal = sys.stdout.isatty()
    colours = terminal and NO_COLOUR not in os.environ and os.environ.get("TERM") != "dumb"
    return words.told(report, colours, shutil.get_terminal_size().columns if terminal else 0)


def write(text: str) -> None:
    """Write to the standard output, whatever its encoding; a reader that has left is not an error."""
    data = text.encode(sys.stdout.encoding or "ascii", "replace")
    try:
        sys.stdout.flush()
        out = getattr(sys.stdout, "buffer", None)
        if out is None:
            sys.stdout.write(text)
        else:
            out.write(data)
            out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def releases() -> Json:
    """Return the code names of the releases of each distribution, and the platforms that gpuhost provisions."""
    table = strict_json.loads(pkgutil.get_data("gpuhost", "data/platforms.json") or b"{}")
    return {"codenames": table["codenames"], "platforms": list(table["platforms"])}
