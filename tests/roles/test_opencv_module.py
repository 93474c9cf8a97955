"""The module gpuhost_opencv as Ansible runs it, with a builder that is a few lines of sh: what it passes on, and when
it builds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, NamedTuple

import pytest

from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.gpus import parse
from gpuhost.planning.plan import make
from gpuhost.planning.resolve import resolver

from ..locks import of
from .conftest import Ansible, Result

pytestmark = pytest.mark.play

#: Stands where the builder's Python does: `builder FOLDER [--print-key]`.
BUILDER = """
key=00112233445566778899aabbccddeeff
[ ! -e "$1/refuse" ] || { echo "error: [D22-gcc-too-new] No compiler." >&2; echo "apt-get install g++-7" >&2; exit 7; }
if [ "${2:-}" = --print-key ]; then
    wheel=null
    path=$1/store/cache/wheels/opencv/$key/cv2.whl
    facts='"name": "opencv-contrib-python", "version": "4.1", "file": "cv2.whl", "kind": "wheel", "size": 1'
    sum=0000000000000000000000000000000000000000000000000000000000000000
    [ ! -e "$1/wheel" ] || wheel='{"path": "'$path'", "sha256": "'$sum'", '$facts'}'
    echo '{"key": "'$key'", "wheel": '$wheel'}'
    exit 0
fi
echo built >> "$1/builds"
echo "10/20 steps, 50 %" >&2
sleep 3
[ ! -e "$1/break" ] || { echo "error: [B-compile-failed] a.cpp" >&2; echo "The log is there." >&2; exit 7; }
touch "$1/wheel"
"""


class Run(NamedTuple):
    """One run over all hosts, and their folders."""

    result: Result
    folders: Dict[str, Path]

    def builds(self, name: str) -> int:
        """How often the builder has built."""
        file = self.folders[name] / "builds"
        return len(file.read_text().split()) if file.exists() else 0


def play(ansible: Ansible, hosts: str, times: int, check: bool = False) -> Dict[str, Any]:
    """A play that calls the module for some hosts."""
    folder = f"{ansible.folder}/{{{{ inventory_hostname }}}}"
    command = ["/bin/sh", str(ansible.folder / "builder"), folder]
    arguments = {"root": f"{folder}/store", "name": "opencv", "command": command}
    return {"hosts": hosts, "check_mode": check, "tasks": [{"name": "Build", "gpuhost_opencv": arguments}] * times}


@pytest.fixture(scope="module")
def run(ansible: Ansible) -> Run:
    """Four hosts: check mode, a build that is asked for twice, one that is refused, one that breaks."""
    (ansible.folder / "builder").write_text(BUILDER, encoding="utf-8")
    folders = {name: ansible.folder / name for name in ("checked", "builds", "refused", "breaks")}
    for name, folder in folders.items():
        folder.mkdir()
        ansible.host(name)
    (folders["refused"] / "refuse").touch()
    (folders["breaks"] / "break").touch()
    # A play whose hosts have all failed ends the run, so the failing ones come last.
    plays = [play(ansible, "checked", 1, True), play(ansible, "builds", 2), play(ansible, "refused,breaks", 1)]
    return Run(ansible.play(plays), folders)


def test_check_mode_only_asks(run: Run) -> None:
    """It says that a build would come."""
    assert run.result.recap["checked"]["changed"] == 1, run.result.out
    assert run.builds("checked") == 0


def test_it_builds_once_and_tells_how_far_it_is(run: Run) -> None:
    """The second task finds the wheel; the builder's line of progress reaches the terminal."""
    assert run.result.recap["builds"]["changed"] == 1 and run.builds("builds") == 1, run.result.out
    assert "[builds]" in run.result.out and "opencv: 10/20 steps, 50 %" in run.result.out
    assert "10/20 steps" in (run.folders["builds"] / "store" / "log" / "opencv.log").read_text()


@pytest.mark.parametrize(
    ("name", "words"),
    [("refused", "[D22-gcc-too-new] No compiler. apt-get install g++-7"), ("breaks", "[B-compile-failed] a.cpp")],
)
def test_the_builders_error_is_the_tasks(run: Run, name: str, words: str) -> None:
    """With its id and its next step, and no traceback."""
    assert run.result.recap[name]["failed"] == 1
    told = run.result.failure(name).replace("\\n", " ")
    assert words in told and "Traceback" not in told, told


def test_a_dry_run_of_the_roles_shows_what_would_be_built(ansible: Ansible) -> None:
    """On a bare host with a card: the tools, the builder with its command, the watch; not one file is made."""
    root = ansible.folder / "bare"
    plan = make(resolver(), Request("debian-12", (parse(shipped(), "quadro p2000"),)))
    lock = of(plan, "bare")
    wanted = {"opencv_lock": lock, "opencv_root": str(root), "opencv_options": ["--jobs", "2"]}
    ansible.host("bare")
    tasks = [
        {"name": "OpenCV", "ansible.builtin.import_role": {"name": "opencv"}, "vars": wanted},
        {"name": "Show", "ansible.builtin.debug": {"msg": "{{ __opencv_command_kept | join(' ') }}"}},
        {"name": "Watch", "ansible.builtin.import_role": {"name": "watch"}, "vars": {"watch_root": str(root)}},
    ]
    result = ansible.play([{"hosts": "bare", "tasks": tasks}], "--check", "--diff")
    assert result.recap["bare"]["failed"] == 0, result.out
    told = " ".join(result.out.split())
    assert "+cmake 3" in told and "+recipe.json" in told and "would be built for 6.1" in told
    assert re.search(rf"{root}/store/opencv_build-\S+/bin/python -I -c .*{root}/store/opencv-builder-", told)
    assert f"--cuda {root}/current/cuda --cudnn {root}/current/cudnn --jobs 2" in told
    assert not root.exists()
