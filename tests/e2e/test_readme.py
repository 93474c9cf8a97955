"""The README's first commands are found and taken as written; test_site.py runs them on a bare host."""

from __future__ import annotations

import pytest

from .readme import section_commands, start_commands

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
    """Only the block under the heading counts; comments in it are not headings, a continued line is one."""
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


RUNBOOK = """# Night

## Look

1. First.

       ./run ansible-playbook a.yml --limit HOST

| it | `./run ansible-playbook b.yml` |

## Empty

Nothing.
"""


def test_commands_of_a_section() -> None:
    """From blocks and from tables, in their order."""
    assert section_commands(RUNBOOK, "Look") == [
        "./run ansible-playbook a.yml --limit HOST",
        "./run ansible-playbook b.yml",
    ]
    for heading in ("Empty", "Missing"):
        with pytest.raises(ValueError, match=heading):
            section_commands(RUNBOOK, heading)
