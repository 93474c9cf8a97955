"""Entry point of `python -m gpuhost.yolo`."""

import sys


def run() -> int:
    """Start the command line, or say what this Python lacks for it."""
    try:
        from .commands import main
    except ImportError as problem:
        print(
            f"error: The detector needs NumPy and OpenCV in this Python ({sys.executable}): {problem}.",
            file=sys.stderr,
        )
        print("Use the python of the environment opencv_cuda.", file=sys.stderr)
        return 7
    return main()


if __name__ == "__main__":
    sys.exit(run())
