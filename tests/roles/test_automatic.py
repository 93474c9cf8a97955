"""playbooks/automatic.yml, really run: the units on the controller, and what each host notes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Ansible, Result

pytestmark = pytest.mark.play

NIGHT = {"update_automatic": True, "update_window": "02:00-05:00"}


class Runs:
    """The playbook over two hosts that a timer updates, and one that it does not."""

    def __init__(self, ansible: Ansible) -> None:
        """`local` by its full name: a host that is called local to Ansible is the controller itself."""
        self.ansible, self.units = ansible, ansible.folder / "units"
        for name, more in (("zeta", NIGHT), ("alpha", NIGHT), ("beta", {})):
            root = ansible.folder / name
            root.mkdir()
            ansible.host(name, ansible_connection="ansible.builtin.local", update_root=str(root), **more)

    def run(self, *arguments: str) -> Result:
        """Run it."""
        folder = ("-e", f"update_timer_folder={self.units}")
        return self.ansible.run("-i", self.ansible.written(), "playbooks/automatic.yml", *folder, *arguments)

    def noted(self, host: str) -> Path:
        """The record on a host."""
        return self.ansible.folder / host / "state" / "automatic.json"


def changed(done: Result) -> int:
    """How many tasks changed something."""
    assert done.rc == 0, done.out
    return sum(counts["changed"] for counts in done.recap.values())


def test_it_is_written_once_and_taken_away(ansible: Ansible) -> None:
    """Check mode shows the units; the second run changes nothing; the tag takes all of it away."""
    runs = Runs(ansible)
    shown = runs.run("--check", "--diff")
    assert changed(shown) == 3 and "OnCalendar=*-*-* 02:00:00" in shown.out and not runs.units.exists()
    assert changed(runs.run()) == 3
    service = (runs.units / "gpuhost-update.service").read_text(encoding="utf-8")
    assert f"-i {ansible.written()} playbooks/update.yml --limit zeta,alpha -e update_once=true" in service
    assert json.loads(runs.noted("alpha").read_text(encoding="utf-8"))["window"] == "02:00-05:00"
    assert not runs.noted("beta").exists()
    assert changed(runs.run("--limit", "beta")) == 0 and changed(runs.run()) == 0
    kept = runs.ansible.run(
        "-i", ansible.written(), "playbooks/remove.yml", "--limit", "zeta", "-e", f"removal_root={ansible.folder}/zeta"
    )
    assert kept.rc != 0 and "A timer updates zeta" in kept.out
    ansible.host("beta", ansible_connection="local", update_root=str(ansible.folder / "beta"), **NIGHT)
    assert changed(runs.run()) == 2
    resume = (runs.units / "gpuhost-update-resume.service").read_text(encoding="utf-8")
    assert "--limit beta -e" in resume and f"ConditionPathExists={ansible.folder / 'beta'}/state/restarting" in resume
    ansible.host("beta", ansible_connection="ansible.builtin.local", update_root=str(ansible.folder / "beta"))
    assert changed(runs.run("--tags", "remove")) == 4
    assert list(runs.units.iterdir()) == [] and not runs.noted("alpha").exists()
