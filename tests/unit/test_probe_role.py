"""The module and the role as Ansible runs them: packaged with module_utils, under a real interpreter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.play

ROOT = Path(__file__).resolve().parents[2]
PLAY = """
- name: Observe
  hosts: localhost
  connection: local
  gather_facts: false
  roles:
    - role: gpu_facts
  post_tasks:
    - name: Hand the observation over
      ansible.builtin.copy:
        content: "{{ gpu_facts_observation | to_json }}"
        dest: "{{ seen }}"
        mode: "0600"
      check_mode: false
"""


def interpreters() -> list[str]:
    """This Python, and an old one where there is one that starts."""
    old = os.environ.get("GPUHOST_OLD_PYTHON") or shutil.which("python3.6")
    starts = old and subprocess.run([old, "-c", ""], capture_output=True, check=False).returncode == 0
    return [sys.executable, *([old] if old and starts else [])]


@pytest.mark.parametrize("interpreter", interpreters())
def test_the_role_observes_in_check_mode_and_changes_nothing(tmp_path: Path, interpreter: str) -> None:
    """The whole way: role, argument specs, module, packaged package, observation in the variable."""
    if not Path("/sys/bus/pci/devices").is_dir():
        pytest.skip("this machine shows no PCI devices in sysfs")
    play = tmp_path / "play.yml"
    play.write_text(PLAY, encoding="utf-8")
    environment = dict(
        os.environ,
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
        ANSIBLE_LOCAL_TEMP=str(tmp_path / "l"),
        ANSIBLE_REMOTE_TEMP=str(tmp_path / "r"),
        ANSIBLE_HOME=str(tmp_path / "h"),
        ANSIBLE_NOCOLOR="1",
    )
    command = [
        sys.executable,
        "-m",
        "ansible",
        "playbook",
        "-i",
        "localhost,",
        "--check",
        str(play),
        "-e",
        json.dumps({"ansible_python_interpreter": interpreter, "seen": str(tmp_path / "seen.json")}),
    ]
    done = subprocess.run(command, cwd=str(ROOT), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    assert "changed=1 " in done.stdout  # the play's own task alone
    assert result["schema"] == 1
    assert result["kernel"]["running"] == os.uname().release
