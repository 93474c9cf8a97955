"""The playbooks from a folder whose name has a space and an accent, as a person's own folder may have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.play


def test_modules_run_from_a_folder_with_a_space_and_an_accent(tmp_path: Path) -> None:
    """An interpreter of the controller's is one word, whatever its path; so are roles, plugins and the package."""
    home = tmp_path / "Gerät mit é" / "gpuhost"
    for name in ("roles", "plugins", "playbooks", "inventory", "src"):
        shutil.copytree(ROOT / name, home / name)
    shutil.copy(ROOT / "ansible.cfg", home)
    role = {"name": "gpu_stack", "tasks_from": "controller"}
    tasks = [{"name": "Look at the controller", "ansible.builtin.import_role": role}]
    play = [{"name": "Controller", "hosts": "localhost", "gather_facts": False, "tasks": tasks}]
    (home / "play.yml").write_text(json.dumps(play), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / ".venv")], check=True)
    (site_packages,) = home.glob(".venv/lib/python*/site-packages")
    packages = [str(home / "src"), sysconfig.get_paths()["purelib"]]
    (site_packages / "these.pth").write_text("\n".join(packages), encoding="utf-8")
    command = [str(home / ".venv/bin/python"), "-m", "ansible", "playbook", "play.yml"]
    done = subprocess.run(
        command,
        cwd=home,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_DISPLAY_OK_HOSTS": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Check that the controller has the package gpuhost" in done.stdout
