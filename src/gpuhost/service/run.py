"""The verbs of the service's program: `serve` and `check`."""

import argparse
import os
import pathlib
import sys
from typing import Any, Dict, List, Optional

from ..errors import EXIT_INTERRUPTED, EnvironmentProblem, GpuhostError, UsageError
from . import hook_settings
from .settings import Settings, read

#: What an answer on its way may take beyond its deadline when the service is asked to end.
GRACE_S = 5
#: The event loop tells the arbiter so often that it lives; a loop that hangs is ended after this time.
SILENT_S = 120
PIXELS = "OPENCV_IO_MAX_IMAGE_PIXELS"


def main(argv: List[str]) -> int:
    """Run a verb; the exit status is 0, or that of the failure, which is reported in one sentence."""
    parser = argparse.ArgumentParser(prog="gpuhost-service")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for name, text in (
        ("serve", "answer photos until a signal ends it"),
        ("check", "read the settings and say whether they will do"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--settings", type=pathlib.Path, required=True, metavar="FILE")
    verbs.choices["serve"].add_argument(
        "--bind",
        metavar="ADDRESS",
        help="listen there (host:port or unix:/path) and not on the socket that systemd gives",
    )
    given = parser.parse_args(argv)
    try:
        if given.verb is None:
            raise UsageError("There is no verb.", "Use serve or check.")
        settings = read(given.settings)
        hook_settings.of(settings)
        # OpenCV reads it when it is loaded: the second line behind the check of each header.
        os.environ[PIXELS] = str(settings.pixels)
        if given.verb == "check":
            return _check(settings)
        return _serve(settings, given.bind)
    except GpuhostError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _check(settings: Settings) -> int:
    """See that the settings name what there is."""
    try:
        from . import models
    except ImportError as problem:
        raise _lacks(problem) from problem
    models.check(settings)
    print(f"The settings are in order: {len(settings.models)} models on the device {settings.device}.")
    return 0


def _serve(settings: Settings, bind: Optional[str]) -> int:
    """Serve until a signal ends it. The networks are opened in the worker: a CUDA context does not survive a fork."""
    if bind is None and os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise UsageError(
            "There is no socket to listen on.", "Start it by its socket unit, or name one: --bind ADDRESS."
        )
    try:
        from .server import Server
    except ImportError as problem:
        raise _lacks(problem) from problem
    Server(settings, options(settings, bind)).run()
    return 0


def options(settings: Settings, bind: Optional[str]) -> Dict[str, Any]:
    """Return gunicorn's settings."""
    found = {
        "workers": 1,
        "timeout": SILENT_S,
        "graceful_timeout": int(settings.deadline_s) + GRACE_S,
        "keepalive": 75,
        "loglevel": "warning",
        "proc_name": "gpuhost-service",
        "forwarded_allow_ips": "",
        "preload_app": False,
    }
    return found if bind is None else {**found, "bind": bind}


def _lacks(problem: ImportError) -> EnvironmentProblem:
    """Return the error for a Python that has not what the service needs."""
    return EnvironmentProblem(
        f"This Python ({sys.executable}) lacks what the service needs: {problem}.",
        "Use the python of the environment opencv_cuda, made with service_enabled: true.",
    )
