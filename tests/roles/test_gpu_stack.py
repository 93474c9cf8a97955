"""The role gpu_stack on example hosts: what it locks, what it refuses, and that a refusal changes nothing.

Two real runs over one inventory; each of its hosts is a case. The observation is what the role gpu_facts would leave.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import pytest

from gpuhost.planning import lock

from ..example_hosts import observed
from ..offered import offering
from .conftest import Ansible, Result

pytestmark = pytest.mark.play

P2000, FOREIGN = offering(observed("ubuntu1804-quadro-p2000")), observed("ubuntu1804-foreign-sources")
CPU = observed("debian12-no-gpu")
#: A derivative of Debian 12, as `gpu_stack_as` has it read.
TAKEN = {**CPU, "platform": {**CPU["platform"], "own": "linuxmint-6"}}


def with_card(pci_id: str) -> Dict[str, Any]:
    """The Quadro P2000's host with another card in the slot, no driver yet."""
    observation = copy.deepcopy(P2000)
    observation["gpus"][0].update(pci_id=pci_id, uuid=None, name=None)
    return observation


# name of the host -> observation, variables, and words of the message that ends its first run ('' for none)
CASES: Dict[str, Any] = {
    "p2000": (P2000, {}, ""),
    "cpu": (CPU, {}, ""),
    "wish": (P2000, {"gpu_stack_wanted": {"tensorflow": "2.13", "opencv": ">=4.5"}}, ""),
    "part": (P2000, {"gpu_stack_without": ["opencv", "tensorflow"]}, ""),
    "ignored": (P2000, {"gpu_stack_ignore_gpus": True}, ""),
    "taken": (TAKEN, {"gpu_stack_root_needed": True, "gpu_stack_untested": "linuxmint-6"}, ""),
    "untested": (TAKEN, {"gpu_stack_root_needed": True}, "-e gpu_stack_untested=linuxmint-6"),
    "swapped": (P2000, {}, ""),
    "relocked": (P2000, {}, ""),
    "damaged": (CPU, {}, ""),
    "remade": (CPU, {}, ""),
    "rewished": (CPU, {}, ""),
    "refused": (with_card("10de:2b85"), {}, "No stack fits this host"),
    "unknown": (observed("ubuntu1804-unknown-card"), {}, "10de:3fff, which the catalog does not know"),
    "foreign": (FOREIGN, {}, "rm /etc/apt/sources.list.d/cuda.list"),
    "half": (observed("ubuntu1804-half-configured"), {}, "dpkg --configure -a"),
    "required": (CPU, {"gpu_stack_require_gpu": True}, "gpu_stack_require_gpu is set"),
    "hidden": (P2000, {"gpu_stack_require_gpu": True, "gpu_stack_ignore_gpus": True}, "gpu_stack_require_gpu is set"),
    "mistyped": (P2000, {"gpu_stack_wanted": {"cuda": ">>3"}}, "'>>3' is not a version or a specifier for cuda."),
    "number": (P2000, {"gpu_stack_wanted": {"tensorflow": 2.1}}, "gpu_stack_wanted has tensorflow: 2.1 without quotes"),
    "nopart": (P2000, {"gpu_stack_without": ["cuda"]}, "value of gpu_stack_without must be one or more of"),
    "misspelt": (P2000, {"gpu_stack_wanted": {"tensorflaw": "2.13"}}, "gpu_stack_wanted names tensorflaw"),
}
#: By these names the roles are given it.
OBSERVATIONS = ("gpu_stack_observation", "rebuild_observation", "rollback_observation")
LOCKED = [name for name, case in CASES.items() if not case[2]]
REFUSED = [name for name, case in CASES.items() if case[2]]


class Runs(NamedTuple):
    """The two runs, the locks after the first, and where all this stands."""

    ansible: Ansible
    first: Result
    locks: Dict[str, str]
    second: Result


def host(ansible: Ansible, name: str, observation: Dict[str, Any], **variables: Any) -> None:
    """A host of the inventory with its observation."""
    ansible.host(name, **dict.fromkeys(OBSERVATIONS, observation), **variables)


def texts(ansible: Ansible) -> Dict[str, str]:
    """The lock files by host."""
    names = [name for name in ansible.hosts if ansible.lock_file(name).exists()]
    return {name: ansible.lock_file(name).read_text(encoding="utf-8") for name in names}


def beside(ansible: Ansible, name: str) -> List[str]:
    """The names of the files of a host's lock."""
    return sorted(path.name for path in ansible.lock_file(name).parent.iterdir())


@pytest.fixture(scope="module")
def runs(ansible: Ansible) -> Runs:
    """Run the role on every case, change some hosts, and run it again."""
    for name, (observation, variables, _) in CASES.items():
        host(ansible, name, observation, **variables)
    host(ansible, "checked", P2000)
    ansible.host("mistaken", gpu_stack_as="ubuntu-99")
    role: List[Dict[str, Any]] = [{"role": "gpu_stack"}]
    first = ansible.play(
        [
            {"hosts": "gpu_hosts:!checked:!mistaken", "roles": role},
            {"hosts": "checked", "roles": role, "check_mode": True, "diff": True},
            {"hosts": "cpu", "tasks": [{"import_role": {"name": "gpu_stack", "tasks_from": "controller"}}]},
            {
                "hosts": "part",
                "tasks": [
                    {"import_role": {"name": name}, "vars": {f"{name}_lock": "{{ gpu_stack_lock }}"}}
                    for name in ("opencv", "tensorflow")
                ],
            },
            # The last: a play whose every host fails ends the run.
            {"hosts": "mistaken", "roles": [{"role": "gpu_facts"}]},
        ]
    )
    locks = texts(ansible)
    host(ansible, "swapped", with_card("10de:2204"))
    host(ansible, "relocked", with_card("10de:2204"), gpu_stack_relock=True)
    host(ansible, "rewished", CPU, gpu_stack_wanted={"opencv": "4.10"})
    for name in ("damaged", "remade"):
        ansible.lock_file(name).write_text(locks[name][:300], encoding="utf-8")
        host(ansible, name, CPU, gpu_stack_relock=name == "remade")
    before = [name for name in ansible.hosts if name in LOCKED]
    second = ansible.play(
        [
            {"hosts": ":".join(before), "roles": role},
        ]
    )
    return Runs(ansible, first, locks, second)


def saved(runs: Runs, name: str) -> Path:
    """The lock after the first run, as a file beside the present one."""
    file = runs.ansible.lock_file(name).with_name("first.json")
    file.write_text(runs.locks[name], encoding="utf-8")
    return file


@pytest.mark.parametrize("name", LOCKED)
def test_a_host_in_order_gets_its_lock(runs: Runs, name: str) -> None:
    """A whole lock, of this host and its cards."""
    assert runs.first.failure(name) == ""
    held = lock.load(saved(runs, name))
    assert runs.locks[name] == lock.text(held), "the file is not in the form that git can compare line by line"
    assert held["host"] == name
    cards = [] if CASES[name][1].get("gpu_stack_ignore_gpus") else CASES[name][0]["gpus"]
    assert [c["pci_id"] for c in held["cards"]] == [c["pci_id"] for c in cards]
    assert (held["plan"]["driver"] is None) == (not cards)
    assert held["plan"]["without"] == CASES[name][1].get("gpu_stack_without", [])
    assert held["plan"]["asked"] == CASES[name][1].get("gpu_stack_wanted", {})
    assert runs.first.recap[name]["changed"] >= 1


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_host_is_told_why_and_nothing_is_written(runs: Runs, name: str) -> None:
    """One message with the reason; no lock, no change."""
    message = runs.first.failure(name)
    assert CASES[name][2] in message
    assert "Traceback" not in message
    assert name not in runs.locks
    assert not runs.ansible.lock_file(name).parent.exists()
    assert runs.first.recap[name] == {**runs.first.recap[name], "changed": 0, "failed": 1}


def test_the_roles_of_what_is_left_out_leave_the_host_alone(runs: Runs) -> None:
    """They say why, and a later run finds nothing different."""
    assert "leaves OpenCV out" in runs.first.out
    assert "leaves TensorFlow out" in runs.first.out
    assert runs.first.recap["part"]["changed"] == runs.first.recap["p2000"]["changed"]


def test_a_plan_that_is_refused_shows_its_reasons(runs: Runs) -> None:
    """The rules with their figures stand above the message."""
    assert "refused: no stack keeps all the rules" in runs.first.out
    assert "would do:" in runs.first.out


def test_every_foreign_source_is_in_the_message(runs: Runs) -> None:
    """All at once, not one a run."""
    message = runs.first.failure("foreign")
    for words in ("xenial.list", "cuda.list", "private.list", "Nothing was changed."):
        assert words in message
    assert "hunter2" not in runs.first.out


def test_check_mode_writes_nothing_and_says_what_it_would(runs: Runs) -> None:
    """On a host without a lock: changed, the lock's text as a difference, and no file."""
    assert runs.first.failure("checked") == ""
    assert runs.first.recap["checked"]["changed"] >= 1
    assert not runs.ansible.lock_file("checked").parent.exists()
    assert '+  "gpuhost_lock": {' in runs.first.out


@pytest.mark.parametrize("name", ["p2000", "cpu", "wish", "part", "ignored"])
def test_the_second_run_changes_nothing(runs: Runs, name: str) -> None:
    """With a lock the role only compares."""
    assert runs.second.failure(name) == ""
    assert runs.second.recap[name]["changed"] == 0
    assert texts(runs.ansible)[name] == runs.locks[name]


def test_an_option_of_a_role_is_taken_into_the_lock_once(runs: Runs) -> None:
    """Another toolkit and the published weights are added, the rest stays, and a third run changes nothing; one that
    this release does not have stops the run, and the lock stays as it was.
    """
    role: List[Dict[str, Any]] = [{"role": "gpu_stack"}]
    before = lock.load(runs.ansible.lock_file("p2000"))
    host(runs.ansible, "p2000", P2000, cuda_extra=["10.0.130"], yolo_weights="published")
    host(runs.ansible, "ignored", P2000, gpu_stack_ignore_gpus=True, opencv_engines="true", cuda_extra=["10.0.130"])
    host(runs.ansible, "wish", P2000, gpu_stack_wanted=CASES["wish"][1]["gpu_stack_wanted"], cuda_extra=["10.9"])
    plays = [{"hosts": "p2000:ignored:wish", "roles": role}]
    done, again = runs.ansible.play(plays), runs.ansible.play(plays)
    after = lock.load(runs.ansible.lock_file("p2000"))
    assert done.recap["p2000"]["changed"] == 1 and again.recap["p2000"]["changed"] == 0
    assert [row["version"] for row in after["contents"]["toolkits"]][-1] == "10.0.130" and after["contents"]["weights"]
    assert {**after, "contents": None} == {**before, "contents": None}
    assert any(name.startswith("pylock.opencv_cuda_engines-") for name in beside(runs.ansible, "ignored")) or (
        "No locked environment joins" in done.failure("ignored")
    )
    assert "knows no CUDA 10.9" in done.failure("wish") and texts(runs.ansible)["wish"] == runs.locks["wish"]


def test_another_card_stops_the_run(runs: Runs) -> None:
    """The message says what was locked, what is there and what to type; the lock stays as it was."""
    message = runs.second.failure("swapped")
    typed = f"-i {runs.ansible.inventory / 'hosts.json'}"
    for words in (
        "cards: locked 10de:1c30, present 10de:2204",
        "docs/runbooks/rebuild.md",
        f"./run ansible-playbook {typed} playbooks/plan.yml -e gpu_stack_relock=true",
        "Nothing was changed",
    ):
        assert words in message
    assert texts(runs.ansible)["swapped"] == runs.locks["swapped"]
    assert runs.second.recap["swapped"]["changed"] == 0


def test_relock_plans_for_the_new_card(runs: Runs) -> None:
    """Typed by a person, it writes the lock again."""
    assert runs.second.failure("relocked") == ""
    held = lock.load(runs.ansible.lock_file("relocked"))
    assert [c["pci_id"] for c in held["cards"]] == ["10de:2204"]
    assert runs.second.recap["relocked"]["changed"] == 1


def test_another_wish_is_a_difference(runs: Runs) -> None:
    """The lock is not quietly passed over."""
    assert "locked for nothing in particular, now opencv 4.10" in runs.second.failure("rewished")
    assert texts(runs.ansible)["rewished"] == runs.locks["rewished"]


def test_a_damaged_lock_is_one_sentence(runs: Runs) -> None:
    """It is neither obeyed nor overwritten."""
    message = runs.second.failure("damaged")
    assert "cannot be read" in message
    assert "Restore it from git" in message and "-e gpu_stack_relock=true" in message
    assert "Traceback" not in message


def test_a_damaged_lock_is_made_anew_as_the_message_says(runs: Runs) -> None:
    """One that was never committed can be restored from nowhere."""
    assert runs.second.failure("remade") == "" and texts(runs.ansible)["remade"] == runs.locks["remade"]


def test_this_controller_is_accepted(runs: Runs) -> None:
    """The entry point `controller` ran on this machine: package, os-release and Python were found."""
    assert "Check that the target has a Python" in runs.first.out
    assert runs.first.failure("cpu") == ""


def test_a_platform_to_take_a_host_for_is_one_that_is_known(runs: Runs) -> None:
    """It is looked at when the host is read, before anything is planned."""
    assert "The platform 'ubuntu-99' is not in the catalog" in runs.first.failure("mistaken")
