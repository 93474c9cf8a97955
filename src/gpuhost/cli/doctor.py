"""`gpuhost doctor`: why CUDA does not work, on this machine or, over ssh, on another."""

from __future__ import annotations

from typing import Any

from ..doctor import run


def add_parser(commands: Any) -> None:
    """The grammar of the command."""
    p = commands.add_parser(
        "doctor",
        help="say why CUDA does not work on a machine, without a lock, or prove that it does",
        description=run.ABOUT,
        epilog=run.CODES,
    )
    run.options(p)
    p.set_defaults(run=run.run)
