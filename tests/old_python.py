"""The Python 3.6 by which tests show that what runs on a host keeps to it."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def old_python() -> str:
    """Return a Python 3.6 that starts: GPUHOST_OLD_PYTHON when set, else python3.6 on PATH; skip without one."""
    candidate = os.environ.get("GPUHOST_OLD_PYTHON") or shutil.which("python3.6")
    if not candidate:
        pytest.skip("no Python 3.6: set GPUHOST_OLD_PYTHON to one")
    started = subprocess.run([candidate, "-c", ""], capture_output=True, text=True, check=False)
    if started.returncode != 0:
        # A version manager's placeholder on PATH is not an interpreter; one that was asked for must start.
        assert not os.environ.get("GPUHOST_OLD_PYTHON"), f"GPUHOST_OLD_PYTHON does not start: {started.stderr}"
        pytest.skip(f"{candidate} does not start")
    return candidate
