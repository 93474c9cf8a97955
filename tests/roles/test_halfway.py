"""What would end an installation halfway is told before anything is changed, with all else that is not in order."""

from __future__ import annotations

import socket
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest

from gpuhost.planning import lock

from ..example_hosts import observed
from ..unit.mounts import mounted
from .conftest import Ansible, Result

pytestmark = pytest.mark.play

CPU = observed("debian12-no-gpu")
BROKEN = {**CPU, "dpkg_audit": ["The following packages are only half configured:", "vim"]}


class Halfway(NamedTuple):
    """Two runs of the same plays, the second with --check; where the index is that nobody serves; and a run of what
    a rebuild and an update look for, whose lock is not the host's.
    """

    ansible: Ansible
    done: Result
    checked: Result
    port: int
    known: Result


def index(port: int) -> Dict[str, str]:
    """Variables of a host whose pip looks at a port of this machine."""
    return {
        "PIP_INDEX_URL": f"http://127.0.0.1:{port}/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "",
        "PIP_CONFIG_FILE": "/dev/null", "no_proxy": "127.0.0.1", "PIP_PROXY": "", "PIP_NO_INDEX": "",
    }  # fmt: skip


@pytest.fixture(name="runs", scope="module")
def both(ansible: Ansible, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Halfway]:
    """Each host is this machine with another disk or another index."""
    with socket.socket() as free, socket.socket() as served:
        for made in (free, served):
            made.bind(("127.0.0.1", 0))
        served.listen(50)
        closed, good = free.getsockname()[1], served.getsockname()[1]
        with mounted(tmp_path_factory.mktemp("disks") / "small", "size=100m") as small:
            wide = str(tmp_path_factory.mktemp("wide"))
            for name, observation, root, port in (
                ("whole", CPU, wide, good),
                ("small", CPU, str(small), good),
                ("alone", CPU, wide, closed),
                ("all", BROKEN, str(small), closed),
                ("planned", CPU, str(small), closed),
            ):
                told = {"gpu_stack_observation": observation, "gpu_stack_root": root}
                ansible.host(name, **told, settings=index(port), gpu_stack_root_needed=name != "planned")
            role: List[Dict[str, Any]] = [{"role": "gpu_stack"}]
            plays = [{"hosts": "gpu_hosts", "roles": role, "environment": "{{ settings }}"}]
            checked, done = ansible.play(plays, "--check"), ansible.play(plays)
            locks = {name: {"lock": lock.load(ansible.lock_file(name))} for name in ("whole", "planned")}
            known = ansible.play(
                [
                    {
                        "hosts": "whole:planned",
                        "environment": "{{ settings }}",
                        "vars": {"known": locks, "gpu_stack_lock_file": str(ansible.folder / "none" / "stack.json")},
                        "tasks": [
                            {"import_role": {"name": "gpu_stack", "tasks_from": "preflight"}},
                            {
                                "import_role": {"name": "gpu_stack", "tasks_from": "ready"},
                                "vars": {"gpu_stack_to_come": "{{ known[inventory_hostname] }}"},
                            },
                        ],
                    }
                ]
            )
            yield Halfway(ansible, done, checked, closed, known)


def test_too_little_space_and_an_index_that_is_not_there(runs: Halfway) -> None:
    """Each stops the run with figures or names; a real run and --check say the same, and no lock is written."""
    for done in (runs.done, runs.checked):
        small, alone = done.failure("small"), done.failure("alone")
        assert "Nothing was changed." in small and "There is too little space: " in small
        assert " MB are needed and 10" in small and "Not reached" not in small
        assert (
            f"Not reached: 127.0.0.1, port {runs.port} (Connection refused). From there come Python packages." in alone
        )
        assert "too little space" not in alone
    for name in ("small", "alone", "all"):
        assert not runs.ansible.lock_file(name).exists()


def test_all_of_it_is_told_in_one_message(runs: Halfway) -> None:
    """What is wrong with the host as before, and with it the disk and the network."""
    told = runs.done.failure("all")
    for words in ("only half configured", "There is too little space", f"Not reached: 127.0.0.1, port {runs.port}"):
        assert words in told
    assert runs.done.recap["all"]["changed"] == 0


def test_a_host_with_room_and_a_plan_alone_are_let_through(runs: Halfway) -> None:
    """A plan needs neither room nor a network on the host."""
    for name in ("whole", "planned"):
        assert runs.done.failure(name) == ""
        assert runs.ansible.lock_file(name).exists()


def test_a_lock_that_is_not_yet_the_hosts(runs: Halfway) -> None:
    """A rebuild's, or an update's: the same is looked for, after the host was judged."""
    told = runs.known.failure("planned")
    assert "There is too little space: " in told and f"Not reached: 127.0.0.1, port {runs.port}" in told
    assert runs.known.failure("whole") == ""
