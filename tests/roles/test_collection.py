"""The project as a collection: built, installed, and each role run alone by its README's example, from a foreign folder.

The package gpuhost is not importable there, and no ansible.cfg of the project is found: what a role needs has to be in
the collection. Where a module can do nothing on this machine, a stand-in takes its place in the installed collection.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Dict, List

import collection
import pytest

from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.gpus import parse
from gpuhost.planning.plan import make
from gpuhost.planning.resolve import resolver

from ..locks import of, save
from .conftest import ROOT, Result
from .test_nvidia_driver import LOOK, MISSING, MODULE

pytestmark = pytest.mark.play

ROLES = sorted(path.parent.parent.name for path in (ROOT / "roles").glob("*/tasks/main.yml"))
EXAMPLE = re.compile(r"^```yaml\n(.*?)^```$", re.M | re.S)


class Foreign:
    """A folder of somebody's own, with the collection installed and a Python that has what ansible-core and it need."""

    def __init__(self, folder: Path) -> None:
        """Build the collection and install it, by Ansible's own commands."""
        self.folder = folder
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
        """Add a host, which is this machine."""
        this = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        self.hosts[name] = {**this, **variables}

    def stand_in(self, module: str, text: str) -> None:
        """Put a stand-in in a module's place."""
        (self.collection / "plugins/modules" / f"{module}.py").write_text(text, encoding="utf-8")

    def examples(self, roles: List[str], *arguments: str) -> Result:
        """Run the README's example of each role, for the host of its name."""
        files = []
        for role in roles:
            (example,) = EXAMPLE.findall((ROOT / "roles" / role / "README.md").read_text(encoding="utf-8"))
            assert "hosts: gpu_hosts\n" in example
            files.append(self.folder / f"{role}.yml")
            files[-1].write_text(example.replace("hosts: gpu_hosts\n", f"hosts: {role}\n"), encoding="utf-8")
        inventory = self.folder / "hosts.json"
        inventory.write_text(json.dumps({"gpu_hosts": {"hosts": self.hosts}}), encoding="utf-8")
        done = self.ansible("playbook", "-i", str(inventory), *map(str, files), *arguments)
        done.stderr = ""
        return Result(done)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    """One folder for all."""
    return Foreign(tmp_path_factory.mktemp("foreign"))


def test_names_in_the_collection_are_full(foreign: Foreign) -> None:
    """A short name would be looked for where a collection has nothing."""
    names = "|".join(path.stem for kind in ("action", "modules") for path in collection.plugins(kind))
    for file in foreign.collection.glob("roles/*/*/*.yml"):
        text = file.read_text(encoding="utf-8")
        assert re.findall(rf"^ +(?:- )?(?:{names}):", text, re.M) == [], file
        assert re.findall(r"\|\s*gpuhost_\w+|_role:\n +name: \w+$", text, re.M) == [], file
    for file in foreign.collection.glob("plugins/*/*.py"):
        assert re.findall(r"^\s*(?:from|import) (?:ansible\.module_utils\.)?gpuhost\b.*", file.read_text(), re.M) == []


def test_the_driver_alone(foreign: Foreign) -> None:
    """The role, its action plugin, the filter that reads the lock: all from the collection."""
    plan = make(resolver(), Request("debian-12", (parse(shipped(), "quadro p2000"),)))
    save(foreign.folder / "locks/nvidia_driver/stack.json", of(plan, "nvidia_driver"))
    root = foreign.folder / "driver"
    root.mkdir()
    (root / "answers.json").write_text(json.dumps(MISSING), encoding="utf-8")
    foreign.stand_in("gpuhost_driver", MODULE)
    foreign.host("nvidia_driver", nvidia_driver_root=str(root))
    done = foreign.examples(["nvidia_driver"])
    assert done.rc == 0, done.out
    assert done.recap["nvidia_driver"]["changed"] == 1
    assert (root / "asked").read_text(encoding="utf-8").splitlines() == [LOOK, "present"]
