"""Entry point of `python -m gpuhost.yolo`."""

import json
import os
import sys

from ..errors import EnvironmentProblem

LARGEST_PICTURE = "128000000"
"""Pixels. OpenCV reads this limit when it is loaded, and then refuses larger pictures by their header, of any kind."""


def run() -> int:
    """Start the command line, or say what this Python lacks for it."""
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", LARGEST_PICTURE)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its words about a video go to the terminal as they are
    try:
        from .commands import main
    except ImportError as problem:
        text = f"The detector needs NumPy and OpenCV in this Python ({sys.executable}): {problem}."
        lacking = EnvironmentProblem(text, "Use the python of the environment opencv_cuda.")
        if sys.argv[1:2] != ["bench"] and "--json" in sys.argv:
            print(json.dumps(lacking.record(), indent=2))
        else:
            print(f"error: {lacking}", file=sys.stderr)
        return lacking.exit_code
    return main()


if __name__ == "__main__":
    sys.exit(run())
