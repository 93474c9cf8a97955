"""The role `opencv` with a real builder: one host builds, another takes its wheel, and both prove it.

Both hosts are this machine, each with a store of its own; they share toolkit and cuDNN, as hosts that are alike have
them at the same place. The wheel is the one of test_real_build.py where that has run. Wants root: the role looks to the
distribution's packages.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

from gpuhost.planning import recipes
from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.gpus import parse
from gpuhost.planning.plan import make
from gpuhost.planning.resolve import resolver

from ..locks import of
from .conftest import Tools

pytestmark = pytest.mark.build
ROOT = Path(__file__).resolve().parents[2]
COUNTS = re.compile(r"^(\w+) +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=0 ", re.MULTILINE)


def lock() -> Dict[str, Any]:
    """A lock for an RTX 2080 on Debian 12 with CUDA 13, whose wheels have nvcc: its driver would be another there, and
    TensorFlow none, but the role reads neither.
    """
    plan = make(resolver(), Request("debian-12", (parse(shipped(), "RTX 2080"),)))
    sources = recipes.sources_of(recipes.row_of(shipped(), "4.14"))
    plan["opencv"].update(version="4.14.0", artifacts=sources)
    plan["cuda"] = {"version": "13.0.2", "series": "13.0", "source": "wheels"}
    return of(plan, "builder")


class Fleet:
    """A builder, and a host that asks it."""

    def __init__(self, folder: Path, tools: Tools) -> None:
        """Write inventory and play."""
        self.folder, self.stores = folder, {"builder": tools.root, "other": folder / "other"}
        this = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
        hosts = {name: {**this, "opencv_root": str(store)} for name, store in self.stores.items()}
        (folder / "hosts.json").write_text(json.dumps({"gpu_hosts": {"hosts": hosts}}))
        role = {
            "ansible.builtin.import_role": {"name": "opencv"},
            "vars": {
                "opencv_lock": lock(),
                "opencv_cuda": str(tools.cuda),
                "opencv_cudnn": str(tools.cudnn),
                "opencv_options": ["--cpu", "AVX2"],
                "opencv_builder": "builder",
                "opencv_wheels": str(folder / "wheels"),
            },
        }
        (folder / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [role]}]))

    def play(self) -> Tuple[Dict[str, int], str]:
        """Run it; how much it changed on each host that did not fail, and all that it said."""
        inventory = ["-i", str(self.folder / "hosts.json")]
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", *inventory, str(self.folder / "play.json")],
            cwd=str(ROOT),
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(self.folder / "home")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return {name: int(count) for name, count in COUNTS.findall(done.stdout)}, " ".join(done.stdout.split())


@pytest.fixture(scope="module")
def fleet(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The two hosts."""
    return Fleet(tmp_path_factory.mktemp("fleet"), tools)


def test_one_builds_for_all(fleet: Fleet) -> None:
    """The other host gets the same bytes and compiles nothing; each proves in a fresh process what it has."""
    changed, said = fleet.play()
    assert changed.get("other", 0) > 0 and "builder" in changed, said[-4000:]
    assert said.count("the library holds code for exactly sm_75") == 2
    (copied,) = (fleet.stores["other"] / "cache/wheels").glob("opencv*.whl")
    # The builder's store outlives a run and may hold wheels of earlier keys too.
    assert (fleet.stores["builder"] / "cache/wheels" / copied.name).read_bytes() == copied.read_bytes()
    assert not (fleet.stores["other"] / "cache" / "opencv" / "sources").exists()


def test_the_second_run_changes_nothing(fleet: Fleet) -> None:
    """Nothing is built, fetched or installed again."""
    changed, said = fleet.play()
    assert changed == {"builder": 0, "other": 0}, said[-4000:]
