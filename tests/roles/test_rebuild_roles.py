"""The roles rebuild and rollback on example hosts: what they write, refuse and show."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import pytest

from gpuhost.host import generations, store
from gpuhost.planning import lock

from .conftest import Ansible, Result
from .test_gpu_stack import CPU, P2000, beside, host, texts, with_card

pytestmark = pytest.mark.play

SWAPPED = with_card("10de:2204")
REBUILD: List[Dict[str, Any]] = [
    {"import_role": {"name": "rebuild"}},
    {"import_role": {"name": "rebuild", "tasks_from": "begin"}},
]


class Runs(NamedTuple):
    """What the roles said, by what was asked of them."""

    ansible: Ansible
    shown: Result
    confirmed: Result
    resumed: Result
    adopted: Result
    pending: Dict[str, str]
    back: Result
    good: Result


def pending(ansible: Ansible) -> Dict[str, str]:
    """The locks that lie beside the locks, by host."""
    files = {name: ansible.lock_file(name).with_name("stack.json.new") for name in ansible.hosts}
    return {name: file.read_text(encoding="utf-8") for name, file in files.items() if file.exists()}


def generation(root: Path, ansible: Ansible) -> None:
    """A store with a generation that carries out the lock of `swapped`."""
    stack = lock.load(ansible.lock_file("swapped"))
    store.write_tree(root / "store/yolo-1", {"f": ""}, "1")
    generations.note(root, store.switch(root, stack, {"yolo": "store/yolo-1"}), generations.SWITCH)


@pytest.fixture(scope="module")
def runs(ansible: Ansible) -> Runs:
    """A lock for each host; then other cards; then what a person types, one after another."""
    root = ansible.folder / "root"
    more = {"rebuild_root": str(root), "rollback_root": str(root)}
    for name in ("swapped", "same", "confirmed", "future", "impossible"):
        host(ansible, name, P2000, **more)
    host(ansible, "cpu", CPU, **more)
    ansible.play([{"hosts": "gpu_hosts", "roles": [{"role": "gpu_stack"}]}])
    generation(root, ansible)
    host(ansible, "swapped", SWAPPED, **more)
    host(ansible, "confirmed", SWAPPED, **more, rebuild_confirm="confirmed")
    host(ansible, "future", P2000, **more, rebuild_confirm="future", rebuild_future_gpu=["RTX 3090"])
    host(ansible, "impossible", with_card("10de:2b85"), **more, rebuild_confirm="impossible")
    shown = ansible.play([{"hosts": "swapped:same:cpu:future:impossible", "tasks": REBUILD}])
    confirmed = ansible.play([{"hosts": "confirmed", "tasks": REBUILD}])
    left = pending(ansible)
    resumed = ansible.play([{"hosts": "confirmed", "tasks": REBUILD}])
    adopt = {
        "import_role": {"name": "rebuild", "tasks_from": "adopt"},
        "vars": {"rebuild_lock": lock.load(ansible.lock_file("confirmed").with_name("stack.json.new"))},
    }
    adopted = ansible.play([{"hosts": "confirmed", "tasks": [adopt]}])
    back = ansible.play(
        [
            {"hosts": "swapped", "roles": [{"role": "rollback", "rollback_to": 1}]},
            {"hosts": "same", "roles": [{"role": "rollback", "rollback_to": 7}]},
        ]
    )
    store.write_tree(root / "store/cuda-9", {"f": ""}, "9")
    keep = {"import_role": {"name": "rebuild", "tasks_from": "good"}}
    good = ansible.play([{"hosts": "swapped", "tasks": [keep]}])
    return Runs(ansible, shown, confirmed, resumed, adopted, left, back, good)


def test_without_a_confirmation(runs: Runs) -> None:
    """The difference and the reason are shown, the command to type is the last word, and no file is written."""
    told = runs.shown.failure("swapped")
    assert "rebuild.yml --limit swapped -e rebuild_confirm=swapped" in told
    assert "built for 6.1, needed is 8.6" in runs.shown.out
    assert runs.shown.recap["swapped"]["changed"] == 0 and "swapped" not in runs.pending


@pytest.mark.parametrize("name", ["same", "cpu"])
def test_nothing_to_rebuild(runs: Runs, name: str) -> None:
    """A host as locked ends well, without a word of confirmation."""
    assert runs.shown.failure(name) == "" and runs.shown.recap[name]["changed"] == 0
    assert f"{name} has the cards of its lock" in runs.shown.out


def test_a_card_that_is_not_in(runs: Runs) -> None:
    """It is never carried out, confirmed or not; nor is what no stack fits."""
    assert "not in this host" in runs.shown.failure("future")
    assert "No stack fits the cards of this host" in runs.shown.failure("impossible")
    assert not {"future", "impossible"} & set(runs.pending)


def test_the_new_lock_lies_beside_the_old_one(runs: Runs) -> None:
    """Until it is adopted; a second run keeps it as it is."""
    assert runs.confirmed.failure("confirmed") == "" and runs.confirmed.recap["confirmed"]["changed"] == 1
    made = lock.load(runs.ansible.lock_file("confirmed"))
    assert made["plan"]["opencv"]["cuda_arch_bin"] == ["8.6"]
    assert runs.resumed.recap["confirmed"]["changed"] == 0
    assert "goes on with the lock it made" in " ".join(runs.resumed.out.split())
    assert runs.adopted.recap["confirmed"]["changed"] == 1
    assert texts(runs.ansible)["confirmed"] == runs.pending["confirmed"]
    assert "confirmed" not in pending(runs.ansible)
    assert beside(runs.ansible, "confirmed") == sorted([*lock.files(made), "stack.json"]), (
        "nothing of the old lock stays"
    )


def test_going_back_is_shown(runs: Runs) -> None:
    """Which generation, and that its card is not the one in the machine; one that is not there is refused."""
    assert runs.back.failure("swapped") == "" and "going back to generation 1" in runs.back.out
    assert "ATTENTION cards: locked 10de:1c30, present 10de:2204" in runs.back.out
    assert "no generation 7" in runs.back.failure("same")


def test_what_is_good_is_kept(runs: Runs) -> None:
    """It is written down, and what no generation needs is gone and named."""
    root = runs.ansible.folder / "root"
    assert runs.good.recap["swapped"]["changed"] == 2 and generations.good(root) == [1]
    assert "store/cuda-9 deleted" in runs.good.out
    assert [path.name for path in (root / "store").iterdir()] == ["yolo-1"]


def test_a_host_is_looked_at_before_anybody_confirms(ansible: Ansible) -> None:
    """What would end it halfway is told with the comparison; a card is prefetched for no other way."""
    steps = (
        "Refuse a host that is not in order",
        "Show what is locked, what is there",
        "Look for too little space",
        "Refuse a host that is not in order",
        "Stop until a person confirms",
        "Write the new lock beside the old one",
        "Install exactly the locked driver",
    )
    assert ansible.lacks("playbooks/rebuild.yml", steps) == []
    ahead = (*steps[1:4], "Check that there is something to prefetch for")
    assert ansible.lacks("playbooks/rebuild.yml", ahead, "--tags", "prefetch") == []


@pytest.mark.parametrize(
    ("playbook", "former", "name"),
    [
        ("rebuild", "future_gpu", "rebuild_future_gpu"),
        ("rollback", "to", "rollback_to"),
        ("remove", "remove_confirm", "removal_confirm"),
    ],
)
def test_a_former_name_is_answered_with_the_present_one(
    ansible: Ansible, playbook: str, former: str, name: str
) -> None:
    """Passed over, it would mean a card, a generation or a host that nobody named."""
    ansible.host("anybody")
    hosts = ("-i", ansible.written(), "--limit", "anybody")
    done = ansible.run(*hosts, f"playbooks/{playbook}.yml", "--check", "-e", f"{former}=anybody")
    assert f"Nothing was changed. The variable {former} is called {name} now: -e {name}=" in done.failure("anybody")


def test_a_role_that_was_given_nothing_observed_says_so(ansible: Ansible) -> None:
    """As a user's own play has it that left the role gpu_facts out."""
    ansible.host("unseen", gpu_stack_observation={}, rollback_observation={}, rollback_root=str(ansible.folder / "no"))
    for role in ("gpu_stack", "rollback"):
        done = ansible.play([{"hosts": "unseen", "roles": [{"role": role}]}])
        assert "Nothing was observed of this host. Run the role gpu_facts before this one" in done.failure("unseen")
