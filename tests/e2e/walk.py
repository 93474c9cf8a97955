"""How long the steps of a new user's walk take: one line for each, to be read with `-s`. No test is about them."""

from __future__ import annotations

import contextlib
import time
from typing import Iterator


def told(where: str, step: str, seconds: float) -> None:
    """Print the time of a step."""
    print(f"walk: {where}: {step}: {seconds:.0f} s", flush=True)


@contextlib.contextmanager
def timed(where: str, step: str) -> Iterator[None]:
    """Print the time of what is done meanwhile, also where it fails."""
    begun = time.monotonic()
    try:
        yield
    finally:
        told(where, step, time.monotonic() - begun)
