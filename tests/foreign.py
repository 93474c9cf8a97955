"""A user's own folder, somewhere else, in which the project is an installed collection."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional

import collection

ROLES = Path(__file__).resolve().parents[1] / "roles"
EXAMPLE = re.compile(r"^```yaml\n(.*?)^```$", re.M | re.S)


class Foreign:
    """The folder, with a Python that has what ansible-core and the collection need, and not the package gpuhost."""

    def __init__(self, folder: Path, env: Optional[Mapping[str, str]] = None) -> None:
        """Build the collection and install it, by Ansible's own commands; `env` is added to the environment of each."""
        self.folder, self.env = folder, dict(env or {})
        self.home = folder / "home"
        self.hosts: Dict[str, Dict[str, Any]] = {}
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        (site_packages,) = (folder / "venv").glob("lib/python*/site-packages")
        # A .pth file in there, such as that of the editable gpuhost, is not read.
        (site_packages / "these.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
        built = collection.build(folder)
        installed = self.ansible("galaxy", "collection", "install", str(built))
        assert installed.returncode == 0, installed.stdout
        self.collection = self.home / "collections/ansible_collections/gpuhost/gpuhost"

    def ansible(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of Ansible's commands in the folder."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PIP_", "PYTHON"))}
        environment.update(
            ANSIBLE_HOME=str(self.home),
            ANSIBLE_LOCAL_TEMP=str(self.folder / "local"),
            ANSIBLE_REMOTE_TEMP=str(self.folder / "remote"),
            ANSIBLE_ASYNC_DIR=str(self.folder / "async"),
            ANSIBLE_NOCOLOR="1",
            **self.env,
        )
        return subprocess.run(
            [str(self.folder / "venv/bin/python"), "-m", "ansible", *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )

    def host(self, name: str, **variables: Any) -> None:
        """Add a host, which is this machine unless the variables say otherwise."""
        this = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        self.hosts[name] = {**this, **variables}

    def lock_file(self, host: str) -> Path:
        """Where the examples look for a host's lock."""
        return self.folder / "locks" / host / "stack.json"

    @contextlib.contextmanager
    def stand_in(self, module: str, text: str) -> Iterator[None]:
        """Put a stand-in in a module's place for a while."""
        file = self.collection / "plugins/modules" / f"{module}.py"
        own = file.read_text(encoding="utf-8")
        file.write_text(text, encoding="utf-8")
        yield
        file.write_text(own, encoding="utf-8")

    def examples(self, hosts: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the example in each role's README for one host: `hosts` by role."""
        files = []
        for role, host in hosts.items():
            (example,) = EXAMPLE.findall((ROLES / role / "README.md").read_text(encoding="utf-8"))
            assert "hosts: gpu_hosts\n" in example
            files.append(self.folder / f"{role}.yml")
            files[-1].write_text(example.replace("hosts: gpu_hosts\n", f"hosts: {host}\n"), encoding="utf-8")
        inventory = self.folder / "hosts.json"
        inventory.write_text(json.dumps({"gpu_hosts": {"hosts": self.hosts}}), encoding="utf-8")
        return self.ansible("playbook", "-i", str(inventory), *map(str, files), *arguments)
