"""Real `ansible-playbook` runs on this machine, with an inventory, a root and temporary folders of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECAP = re.compile(r"^(\S+)\s+: (ok=.*)$", re.MULTILINE)


class Result:
    """What one run of ansible-playbook said."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        """Take the output apart."""
        self.rc, self.out = done.returncode, done.stdout + done.stderr
        self.recap: Dict[str, Dict[str, int]] = {
            host: {key: int(value) for key, value in (item.split("=") for item in counts.split())}
            for host, counts in RECAP.findall(self.out)
        }

    def failure(self, host: str) -> str:
        """The message by which a host's run was ended, on one line; '' when it was not."""
        found = re.findall(rf"^fatal: \[{host}[\] ].*?(?=^(?:\w.*: \[|TASK|PLAY|fatal)|\Z)", self.out, re.M | re.S)
        return " ".join(" ".join(found).split()).replace("''", "'")  # YAML doubles a quote inside quotes


class Ansible:
    """Inventory and settings of a test module's runs."""

    def __init__(self, folder: Path) -> None:
        """Make the folders; there are no hosts yet."""
        self.folder = folder
        self.inventory = folder / "inventory"
        self.inventory.mkdir()
        self.hosts: Dict[str, Dict[str, Any]] = {}

    def host(self, name: str, **variables: Any) -> None:
        """Add a host, or change its variables. Every host is this machine."""
        this = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        self.hosts[name] = {**this, **variables}

    def lock_file(self, name: str) -> Path:
        """Where a host's lock goes."""
        return self.folder / "locks" / name / "stack.json"

    def play(self, plays: List[Dict[str, Any]], *arguments: str) -> Result:
        """Run plays over the inventory."""
        file = self.folder / "play.json"
        file.write_text(json.dumps([{"gather_facts": False, **play} for play in plays]), encoding="utf-8")
        return self.run("-i", self.written(), str(file), *arguments)

    def written(self) -> str:
        """Write the inventory; its file."""
        file = self.inventory / "hosts.json"
        file.write_text(json.dumps({"gpu_hosts": {"hosts": self.hosts}}), encoding="utf-8")
        return str(file)

    def lacks(self, playbook: str, steps: Sequence[str], *arguments: str) -> List[str]:
        """Return those steps that are not among the tasks of a playbook, behind the steps before them."""
        listed = self.run("-i", self.written(), playbook, "--list-tasks", *arguments)
        assert listed.rc == 0, listed.out
        at, lacking = 0, []
        for step in steps:
            found = listed.out.find(step, at)
            lacking += [step] if found < 0 else []
            at = max(at, found + 1)
        return lacking

    def run(self, *arguments: str) -> Result:
        """Run ansible-playbook from the root of the project."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PIP_"))}
        environment.update(
            ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
            ANSIBLE_LOCAL_TEMP=str(self.folder / "local"),
            ANSIBLE_REMOTE_TEMP=str(self.folder / "remote"),
            ANSIBLE_ASYNC_DIR=str(self.folder / "async"),
            ANSIBLE_HOME=str(self.folder / "home"),
            ANSIBLE_NOCOLOR="1",
            ANSIBLE_DISPLAY_OK_HOSTS="1",
        )
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", *arguments],
            cwd=str(ROOT),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        done.stderr = ""
        return Result(done)


@pytest.fixture(scope="module")
def ansible(tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    """One inventory for the runs of a test module."""
    return Ansible(tmp_path_factory.mktemp("ansible"))
