"""The playbook of updates, and what the role rebuild shows before one: what it says, refuses and leaves alone."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple

import pytest

from ..unit.test_update import FIRST, LATER, NEW, NEXT, NOW, OLD
from .conftest import ROOT, Ansible, Result
from .test_gpu_stack import CPU, host, texts

pytestmark = pytest.mark.play

UPDATE: Dict[str, Any] = {"import_role": {"name": "rebuild", "tasks_from": "update"}}
STEPS: Dict[str, Any] = {"import_tasks": str(ROOT / "playbooks" / "tasks" / "update.yml")}
# Stands in for the module: it notes what it was asked for.
MODULE = """#!/usr/bin/python
import json
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({name: {"type": "raw"} for name in "state root driver kernel kept_only wait_s".split()},
                       supports_check_mode=True)
asked = [module.params["state"], module.check_mode, module.params["kernel"], module.params["driver"]["version"]]
with open(module.params["root"] + "/asked", "a") as handle:
    handle.write(json.dumps(asked) + "\\n")
module.exit_json(changed=True, differences=["it is another"], reboot_required="", console_required="")
"""


class Runs(NamedTuple):
    """What was said, and the locks before and after."""

    shown: Result
    dry: Result
    before: Dict[str, str]
    after: Dict[str, str]
    asked: List[str]


@pytest.fixture(scope="module")
def runs(ansible: Ansible) -> Runs:
    """A lock for each host; then the archive moves on."""
    more = {"nvidia_driver_root": str(ansible.folder)}
    for name in ("newer", "same", "rewished"):
        host(ansible, name, FIRST, **more)
    host(ansible, "cpu", CPU)
    ansible.play([{"hosts": "gpu_hosts", "roles": [{"role": "gpu_stack"}]}])
    before = texts(ansible)
    host(ansible, "newer", LATER, **more)
    host(ansible, "bare", LATER)
    host(ansible, "rewished", LATER, gpu_stack_wanted={"tensorflow": "2.13"})
    shown = ansible.play([{"hosts": "gpu_hosts", "tasks": [UPDATE]}])
    library = ansible.folder / "library"
    library.mkdir()
    (library / "gpuhost_driver.py").write_text(MODULE, encoding="utf-8")
    dry = ansible.play(
        [{"hosts": "newer:same", "tasks": [UPDATE, STEPS]}], "--check", "--diff", "--module-path", str(library)
    )
    asked = (ansible.folder / "asked").read_text(encoding="utf-8").splitlines()
    return Runs(shown, dry, before, texts(ansible), asked)


def test_it_is_told_in_a_few_lines(runs: Runs) -> None:
    """The kernel and the driver, before and after."""
    assert runs.shown.failure("newer") == ""
    assert f"kernel: {NOW} -> {NEXT}" in runs.shown.out and f"driver: {OLD} -> {NEW}" in runs.shown.out


@pytest.mark.parametrize("name", ["same", "cpu"])
def test_nothing_newer(runs: Runs, name: str) -> None:
    """A host that has the newest, and one without a driver, end well."""
    assert runs.shown.failure(name) == "" and runs.shown.recap[name]["changed"] == 0
    assert f"{name} has the newest kernel and driver" in " ".join(runs.shown.out.split())


def test_what_is_refused(runs: Runs) -> None:
    """A host without a lock, and one of which something else is asked than its lock says."""
    assert "site.yml" in runs.shown.failure("bare")
    assert "no longer matches its lock" in runs.shown.failure("rewished")


def test_a_dry_run_asks_for_the_driver_with_its_kernel_and_writes_nothing(runs: Runs) -> None:
    """One question to the host that has something to gain; no lock, guard or generation."""
    assert runs.dry.failure("newer") == "" and runs.dry.recap["newer"]["changed"] == 1
    (asked,) = runs.asked
    assert (
        asked.startswith('["present", true, {') and f'"release": "{NEXT}"' in asked and asked.endswith('"525.125.06"]')
    )
    assert runs.after == runs.before


def test_the_steps_stand_in_their_order(ansible: Ansible) -> None:
    """What can refuse comes before what changes, the guard at once after the driver, nothing in force before the
    reboot, the lock last; then verify/.
    """
    steps = (
        "Let apt read the archives' lists again",
        "Read the cards, the driver",
        "Refuse a host that is not in order",
        "Show what would change",
        "Look for too little space",
        "Refuse a host that is not in order",
        "Prove that apt can do it",
        "Write the new lock beside the old one",
        "Install exactly the locked driver",
        "Hold, pin and blacklist",
        "Simulate the next updates",
        "Stop where a reboot is needed",
        "Put the generation in force",
        "Write the lock",
        "Run verify/",
        "Remember that verify/ has passed",
    )
    assert ansible.lacks("playbooks/update.yml", steps) == []
