"""The README's first commands work as written, in a fresh clone on a bare Debian 12."""

from __future__ import annotations

import pytest

from .beds import Bed
from .beds.bed import CLONE, PROJECT
from .readme import start_commands

COMMAND_SECONDS = 25 * 60

SAMPLE = """# gpuhost

```
not this one
```

## Start

Two commands:

```sh
# a fresh host
./run ansible-playbook site.yml

./run pytest \\
    -q  # the toolkit's own tests
```

```
nor this
```

## More
"""


def test_commands_are_taken_as_written() -> None:
    """Only the block under the heading counts; comments in it are no headings, a continued line is one."""
    assert start_commands(SAMPLE) == [
        "./run ansible-playbook site.yml",
        "./run pytest -q  # the toolkit's own tests",
    ]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (SAMPLE.replace("## Start", "## Begin"), "no heading"),
        ("## Start\n\nText.\n\n## More\n\n```\n./run\n```\n", "no fenced block"),
        ("## Start\n```\n# only a comment\n```\n", "no fenced block"),
        ("## Start\n```\n./run pytest\n", "does not end"),
    ],
)
def test_a_readme_without_its_commands_is_an_error(broken: str, why: str) -> None:
    """A README that lost its block must not pass for want of anything to run."""
    with pytest.raises(ValueError, match=why):
        start_commands(broken)


def test_the_first_commands_work_as_written(fresh_debian: Bed) -> None:
    """Each line of the block exits with 0, in order, on a machine with nothing but apt and git."""
    commands = start_commands((PROJECT / "README.md").read_text())
    fresh_debian.clone_project()
    for command in commands:
        fresh_debian.run(["sh", "-c", command], cwd=CLONE, timeout=COMMAND_SECONDS)
