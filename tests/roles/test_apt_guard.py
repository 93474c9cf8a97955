"""The role on a host without a driver, this machine: nothing is guarded, nothing is released, and both are said.

What it does on a host with a driver is tested on a bed (tests/e2e/test_guard.py) and on a root of files.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from gpuhost.host.guard.rules import PREFERENCES, UNATTENDED

from ..old_python import old_python
from .conftest import Ansible, Result

pytestmark = [
    pytest.mark.play,
    pytest.mark.skipif(
        shutil.which("dpkg-query") is None or Path(PREFERENCES).exists() or Path(UNATTENDED).exists(),
        reason="this machine has no dpkg, or a guard of its own",
    ),
]


def guard(ansible: Ansible, root: Path, python: str, *arguments: str) -> Result:
    """Run the role."""
    ansible.hosts.clear()
    ansible.host("box", ansible_python_interpreter=python, apt_guard_root=str(root))
    role = {"name": "Guard", "ansible.builtin.import_role": {"name": "apt_guard"}}
    return ansible.play([{"name": "Guard", "hosts": "box", "tasks": [role]}], *arguments)


@pytest.mark.parametrize("which", ["this", "old"])
def test_without_a_driver_one_line_is_all(ansible: Ansible, tmp_path: Path, which: str) -> None:
    """Under the Python of the target, too; the proof is not even asked for."""
    done = guard(ansible, tmp_path, sys.executable if which == "this" else old_python(), "-e", "apt_guard_prove=true")
    assert done.rc == 0, done.out
    assert (done.recap["box"]["changed"], done.recap["box"]["skipped"]) == (0, 2)
    assert done.out.count("nothing to guard") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tag", ["release", "remove"])
def test_without_a_guard_nothing_is_released(ansible: Ansible, tmp_path: Path, tag: str) -> None:
    """And the tag runs nothing but that."""
    done = guard(ansible, tmp_path, sys.executable, "--tags", tag)
    assert done.rc == 0, done.out
    assert (done.recap["box"]["ok"], done.recap["box"]["changed"]) == (3, 0)  # the arguments are checked first
    assert "nothing to release" in done.out


def test_the_ordinary_run_releases_nothing(ansible: Ansible, tmp_path: Path) -> None:
    """Letting go is typed by a person."""
    assert "Let go" not in guard(ansible, tmp_path, sys.executable, "--list-tasks").out
