"""The toolkit's own tests on all processors: bare `./run pytest` deals their files out to workers (pytest-xdist)."""

from __future__ import annotations

import os

import pytest

MOST_WORKERS = 8


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Ask for workers before pytest-xdist looks whether it is asked for.

    Named files, other marks (beds take the machine for themselves) and `-n` stay as they are typed. No file is split,
    because what a module makes for its tests is made once.
    """
    if hasattr(config, "workerinput"):  # a worker, which comes by here as well
        return
    typed = [str(word) for word in config.invocation_params.args]
    bare = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not any(word.startswith("-m") for word in typed)
    if bare and config.option.numprocesses is None and not config.option.usepdb and not config.option.collectonly:
        config.option.numprocesses = min(len(os.sched_getaffinity(0)), MOST_WORKERS)
        config.option.dist = "loadfile"
