"""What a person types: `gpuhost` with some words, in this process."""

from __future__ import annotations

from typing import Tuple

import pytest

from gpuhost.cli import main as cli

#: Exit status, output and error output.
Answer = Tuple[int, str, str]


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> Answer:
    """Return what comes of a command line."""
    try:
        code = cli.main(list(words))
    except SystemExit as end:  # argparse's own
        code = int(str(end.code))
    said = capsys.readouterr()
    return code, said.out, said.err
