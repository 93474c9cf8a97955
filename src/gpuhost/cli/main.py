"""The command `gpuhost`. Exit codes: 0 done, 1 done but for some photos, 2 usage, 3 refused, 4 unreadable
machine, 5 damaged catalog, 6 damaged file, 7 the machine cannot do it now, 8 damaged lock, 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from pathlib import Path
from typing import NoReturn, Optional, Sequence

from .. import __version__
from ..errors import EXIT_INTERRUPTED, EnvironmentProblem, GpuhostError, UsageError
from ..report import terminal as render
from . import bench as cli_bench
from . import completion as cli_completion
from . import doctor as cli_doctor
from . import history as cli_history
from . import lock as cli_lock
from . import observe as cli_observe
from . import plan as cli_plan
from . import verify as cli_verify
from .output import emit

#: The script ./run of a checkout, in which this file is src/gpuhost/cli/main.py.
FRONT_DOOR = Path(__file__).resolve().parents[3] / "run"
EXIT_BROKEN_PIPE = 1  # the same as rich has, which prints the tables


class WrongUsage(Exception):
    """A command line that argparse cannot take, with the parser that says so."""

    def __init__(self, parser: Parser, message: str) -> None:
        """Keep both."""
        super().__init__(message)
        self.parser, self.message = parser, message


class Parser(argparse.ArgumentParser):
    """argparse's parser, which leaves the form of an error to `main`; the commands' parsers do as well."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise WrongUsage(self, message)


def parser() -> Parser:
    """The command line's grammar; each command brings its own."""
    top = Parser(prog="gpuhost", description="A lockfile for GPU hosts.")
    top.add_argument("--version", action="version", version=f"gpuhost {__version__}")
    commands = top.add_subparsers(dest="command", metavar="command")
    top.set_defaults(run=lambda _: top.print_help())
    cli_plan.add_parser(commands)
    cli_observe.add_parser(commands)
    cli_bench.add_parsers(commands)
    cli_verify.add_parsers(commands)
    cli_history.add_parser(commands)
    cli_doctor.add_parser(commands)
    cli_lock.add_parser(commands)
    cli_completion.add_parsers(commands, parser)
    return top


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The entry point: every known failure becomes one paragraph and its exit code."""
    try:
        arguments = parser().parse_args(argv)
    except WrongUsage as wrong:
        step = f"See {wrong.parser.prog} --help."
        if "--json" in (sys.argv[1:] if argv is None else argv):
            return told_as_json(UsageError(wrong.message, step))
        argparse.ArgumentParser.error(wrong.parser, wrong.message)
    try:
        code = arguments.run(arguments) or 0
        sys.stdout.flush()
        return code
    except GpuhostError as error:
        step = explained(error.next_step)
        if True in (getattr(arguments, "json", None), getattr(arguments, "as_json", None)):
            error.next_step = step
            return told_as_json(error)
        render.show_error(render.console(stderr=True), error.message, step)
        return error.exit_code
    except OSError as error:
        return unwritten(error)
    except KeyboardInterrupt:
        step = "Type the same command again."
        render.show_error(render.console(stderr=True), "Interrupted. What was started is ended.", step)
        return EXIT_INTERRUPTED


def told_as_json(error: GpuhostError) -> int:
    """Print an error with what to do next as JSON; return its exit code."""
    emit(error.record())
    return error.exit_code


def explained(step: str) -> str:
    """Return what to do next, with a word on what an installed package lacks where that needs a checkout."""
    if "./run " not in step or FRONT_DOOR.is_file():
        return step
    return f"{step} (./run is part of a clone of gpuhost's repository, and this is an installed package.)"


def unwritten(error: OSError) -> int:
    """What a standard output that takes no more means: a reader that has left (as in `| head`), or a full disk."""
    if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO):
        raise error
    # Python flushes standard output once more when it ends, and would say so of its own.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return EXIT_BROKEN_PIPE
    problem = EnvironmentProblem(f"The answer could not be written: {error.strerror}.", "Make room, or print it.")
    render.show_error(render.console(stderr=True), problem.message, problem.next_step)
    return problem.exit_code


if __name__ == "__main__":
    sys.exit(main())
