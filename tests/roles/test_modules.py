"""The modules as Ansible runs them: check mode first, then for real, then again, on one root.

One run with three plays; each has an inventory host of its own, so that the recap counts them apart.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import pytest

from gpuhost.host import store

from ..unit import wheelhouse
from .conftest import Ansible, Result

pytestmark = pytest.mark.play

FILES = {"a/b.txt": "1\n", "c": "é\n"}
LINKS = {"venvs/opencv_cuda": "{{ made.folder }}", "tree": "store/tree-1"}


class Run(NamedTuple):
    """The run, its root, and what each task returned, by host."""

    result: Result
    root: Path
    seen: Dict[str, Any]
    bare: List[str]


def tasks(root: Path, lock: Dict[str, Any], seen: Path) -> List[Dict[str, Any]]:
    """Each module once, and their results handed out."""
    return [
        {
            "name": "Tree",
            "gpuhost_tree": {"root": str(root), "name": "tree-1", "files": FILES, "digest": "d1"},
            "register": "tree",
        },
        {
            "name": "Environment",
            "gpuhost_environment": {
                "root": str(root),
                "name": "opencv_cuda",
                "lock": lock,
                "python": "{{ ansible_playbook_python }}",
            },
            "register": "made",
        },
        {
            "name": "Generation",
            "gpuhost_generation": {"root": str(root), "stack": {"lock": 1}, "links": LINKS},
            "register": "switched",
        },
        {
            "name": "Hand the results out",
            "ansible.builtin.copy": {
                "content": "{{ {'tree': tree, 'made': made, 'switched': switched} | to_json }}",
                "dest": f"{seen}/{{{{ inventory_hostname }}}}.json",
                "mode": "0600",
            },
            "check_mode": False,
            "changed_when": False,
            "diff": False,
        },
    ]


def failing(root: Path, lock: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Calls that must fail in one sentence."""
    missing = {"root": str(root), "name": "dl4cv", "lock": lock, "python": "/usr/bin/python3.99"}
    tree = {"root": str(root), "files": FILES, "digest": "d"}
    return [
        {"name": "Leads out", "gpuhost_tree": {**tree, "name": "../../x"}, "ignore_errors": True},
        {"name": "No name", "gpuhost_tree": {**tree, "name": ""}, "ignore_errors": True},
        {
            "name": "Not whole",
            "gpuhost_generation": {"root": str(root), "stack": {}, "links": {"x": "store/none"}},
            "ignore_errors": True,
        },
        {"name": "No interpreter", "gpuhost_environment": missing, "ignore_errors": True},
    ]


@pytest.fixture(scope="module")
def run(ansible: Ansible) -> Run:
    """One real run."""
    pip = wheelhouse.bundled_pip()
    if pip is None:
        pytest.skip("this Python brings no pip wheel along (ensurepip)")
    house, root, seen = (ansible.folder / name for name in ("house", "root", "seen"))
    for folder in (house, root, seen):
        folder.mkdir()
    (house / pip.name).write_bytes(pip.read_bytes())
    wheelhouse.wheel(house, "gpuhost-one", "1.0")
    lock = wheelhouse.lock_of([wheelhouse.row(path) for path in house.iterdir()])
    for name in ("checked", "first", "second", "wrong"):
        ansible.host(name)
    offline = {
        "PIP_NO_INDEX": "1",
        "PIP_CACHE_DIR": str(house.with_name("pip-cache")),
        "PIP_FIND_LINKS": str(house),
        "PIP_CONFIG_FILE": os.devnull,
    }
    look = {"ansible.builtin.find": {"paths": str(root), "recurse": True, "file_type": "any"}, "register": "there"}
    keep = {"ansible.builtin.copy": {"content": "{{ there.files | to_json }}", "dest": f"{seen}/bare.json"}}
    steps = tasks(root, lock, seen)
    result = ansible.play(
        [
            {"hosts": "checked", "tasks": steps, "check_mode": True, "diff": True, "environment": offline},
            {"hosts": "wrong", "tasks": [look, keep]},
            {"hosts": "first", "tasks": steps, "environment": offline},
            {"hosts": "second", "tasks": steps, "environment": offline},
            {"hosts": "wrong", "tasks": failing(root, lock)},
        ]
    )
    assert result.rc == 0, result.out
    found = {
        name: json.loads((seen / f"{name}.json").read_text(encoding="utf-8")) for name in ("checked", "first", "second")
    }
    bare = [row["path"] for row in json.loads((seen / "bare.json").read_text(encoding="utf-8"))]
    return Run(result, root, found, bare)


def test_check_mode_changes_nothing_and_says_all(run: Run) -> None:
    """On a bare root: all three would change, their differences are shown, and not one file is made."""
    assert run.result.recap["checked"]["changed"] == 3
    assert run.bare == []
    for words in ("+a/b.txt", "+gpuhost-one 1.0", '+  "tree": "store/tree-1"'):
        assert words.replace(" ", "") in run.result.out.replace(" ", "")


def test_the_first_run_makes_what_check_mode_promised(run: Run) -> None:
    """The same folders and number; the links lead to what was installed."""
    assert run.result.recap["first"]["changed"] == 3
    for name, key in (("tree", "folder"), ("made", "folder"), ("switched", "generation")):
        assert run.seen["first"][name][key] == run.seen["checked"][name][key]
    current = run.root / "current"
    assert (current / "tree" / "a" / "b.txt").read_text(encoding="utf-8") == "1\n"
    python = str(current / "venvs" / "opencv_cuda" / "bin" / "python")
    said = subprocess.run(
        [python, "-c", "import gpuhost_one as g; print(g.VERSION)"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "1.0\n"
    assert run.seen["first"]["switched"]["previous"] is None


def test_the_second_run_changes_nothing(run: Run) -> None:
    """The same generation, no second one."""
    assert run.result.recap["second"]["changed"] == 0
    assert run.seen["second"]["switched"]["generation"] == 1
    assert store.generations(run.root) == [1]


def test_the_long_step_tells_what_it_is_at(run: Run) -> None:
    """The step and the time gone, with the host's name; the job's own traces do not stay in the result."""
    assert "[first]" in run.result.out
    assert "s  opencv_cuda: " in run.result.out
    assert not set(run.seen["first"]["made"]) & {"ansible_job_id", "results_file", "finished", "stdout"}


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("Leads out", "The name '../../x' leads out of the store."),
        ("No name", "The name '' leads out of the store."),
        ("Not whole", "store/none is not complete"),
        ("No interpreter", "There is no /usr/bin/python3.99 on this host. Install it: apt-get install python3.99"),
    ],
)
def test_a_failure_is_one_sentence_with_its_code(run: Run, task: str, words: str) -> None:
    """Never a traceback of the module, and exit code 7 as the command would have."""
    part = run.result.out.partition(f"TASK [{task}]")[2].partition("TASK [")[0]
    said = " ".join(part.split()).replace("''", "'")
    assert words.replace("''", "'") in said
    assert "exit_code: 7" in said
    assert "Traceback" not in said
    assert not (run.root.parent / "x").exists()
    assert not list((run.root / "store").glob("dl4cv-*"))
