"""What a shell and man are given is made from the grammar, and they take it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, Set

import pytest

from gpuhost.cli import completion, main

TRY = """\
. "$0"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_gpuhost
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the script as a file."""
    path = tmp_path_factory.mktemp("bash") / "gpuhost"
    path.write_text(completion.script(main.parser()), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("gpuhost pl", {"plan"}),
        ("./run gp", {"gpuhost"}),
        ("./run gpuhost bench comp", {"compare"}),
        ("./run gpuhost bench compare --j", {"--json"}),
        ("gpuhost plan --gpu x --comp", {"--compare"}),
        ("gpuhost plan --without ''", {"opencv", "tensorflow"}),
        ("gpuhost lock sh", {"show"}),
        ("./run pytest ver", set()),
        ("gpuhost detect photo", set()),
    ],
)
def test_bash_completes(script: Path, line: str, offered: Set[str]) -> None:
    """Commands, options and choices; where there is none of them, a file's name."""
    done = subprocess.run(
        ["bash", "-c", TRY, str(script), *shlex.split(line)], capture_output=True, text=True, check=True
    )
    assert (set(done.stdout.split()), done.stderr) == (offered, "")


def test_the_manual_names_every_command_and_option(capsys: Any) -> None:
    """Each line is a request of man(7) that is meant, or text."""
    assert main.main(["manual"]) == 0
    page = capsys.readouterr().out
    plain = page.replace("\\-", "-")
    for path, parser in completion.every(main.parser()):
        assert f".SS \\&{' '.join(['gpuhost', *path])}" in plain
        for action in completion.options(parser):
            assert all(option in plain for option in action.option_strings)
    for line in page.splitlines():
        assert re.match(r"\.(TH|SH|SS|TP|PP)\b|\\&|[A-Za-z]", line), line
        assert not re.search(r"\\[^-&e]", line), line
