"""The command line of the doctor, as `gpuhost-doctor.pyz` and over ssh: arguments, exit code, output.

Exit codes: 0 driver and CUDA work, 1 a known cause was found, 2 usage, 3 something is wrong and not recognised, 4 what
decides could not be read.
"""

import argparse
import json
import os
import sys
from typing import Any, Optional, Sequence

from .. import __version__
from ..types import Json
from . import judge, words
from .collect import collect

#: Escapes are written to a terminal that wants them only (no-color.org).
NO_COLOUR = "NO_COLOR"
ABOUT = "Say why CUDA does not work on a machine, or prove that it does. Nothing is changed, and no root is needed."
CODES = (
    "Exit codes: 0 driver and CUDA work, 1 a known cause was found, 3 something is wrong and not recognised, 4 what "
    "decides could not be read."
)


def options(parser: argparse.ArgumentParser) -> None:
    """Add what every form of the doctor understands."""
    parser.add_argument("--json", action="store_true", help="print the report as JSON (doctor.schema.json)")


def parser() -> argparse.ArgumentParser:
    """Return the grammar of the command line."""
    top = argparse.ArgumentParser(prog="gpuhost-doctor", description=ABOUT, epilog=CODES)
    top.add_argument("--version", action="version", version=f"gpuhost-doctor {__version__}")
    options(top)
    return top


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Examine this machine."""
    return run(parser().parse_args(argv))


def run(arguments: Any) -> int:
    """Do what the arguments ask."""
    report = judge.report(collect(releases()))
    write(shown(report, arguments.json))
    return judge.CODES[report["answer"]]


def shown(report: Json, as_json: bool) -> str:
    """Return the report as it is printed."""
    if as_json:
        return json.dumps(report, indent=1, sort_keys=True) + "\n"
    terminal = sys.stdout.isatty() and NO_COLOUR not in os.environ and os.environ.get("TERM") != "dumb"
    return words.told(report, terminal)


def write(text: str) -> None:
    """Write to the standard output, whatever its encoding; a reader that has left is no error."""
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
    import pkgutil

    table = json.loads((pkgutil.get_data("gpuhost", "data/platforms.json") or b"{}").decode("utf-8"))
    return {"codenames": table["codenames"], "platforms": list(table["platforms"])}
