"""A host that is its own controller, with its timer of updates, on a real systemd: it restarts itself and carries on.

There is no card and no lock on this bed, so what the services run ends with this project's own word for that. What a
proved update does around it is in `test_update_once.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterator

import pytest

from gpuhost.host.pairs import judge
from gpuhost.host.pairs.install import SERVICE as JUDGE
from gpuhost.host.pairs.keep import RECORD
from gpuhost.host.pairs.restart import MARK
from gpuhost.host.pairs.timer import RESUME, SERVICE, TIMER

from .beds import Bed
from .beds.base import PACKAGES
from .beds.bed import CLONE

pytestmark = pytest.mark.full

ROOT = "/opt/gpuhost"
HOSTS = """\
gpu_hosts:
  hosts:
    box: {ansible_connection: local, update_automatic: true, update_window: "00:00-00:00"}
"""
#: The step of playbooks/update.yml that comes once everything is armed.
STEP = """\
- hosts: gpu_hosts
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: update, tasks_from: restart}
      vars: {update_state: armed, update_reboot: true}
      become: true
"""
#: What playbooks/update.yml says on this host.
NO_LOCK = "has no lock, so there is nothing to update"
#: Stands for the program that judges: a while after the boot it has decided.
SLOW = "[Service]\nType=oneshot\nExecStart=/bin/sleep 5\n[Install]\nWantedBy=multi-user.target\n"


@pytest.fixture(scope="module")
def bed(bed_tools: None) -> Iterator[Bed]:
    """A bare host with a clone."""
    with Bed.fresh((*PACKAGES, "python3-venv", "sudo")) as made:
        made.clone_project()
        yield made


def written(bed: Bed, folder: Path, path: str, text: str) -> str:
    """Put a text there."""
    source = folder / "text"
    source.write_text(text, encoding="utf-8")
    bed.push(source, path)
    return path


def play(bed: Bed, *arguments: str) -> str:
    """Run a playbook; return what it said, the last line being the host's count."""
    argv = ["./run", "ansible-playbook", "-i", "/root/hosts.yml", *arguments]
    return bed.run(argv, check=False, timeout=900, cwd=CLONE).stdout


def shown(bed: Bed, unit: str, what: str) -> str:
    """What systemctl says of a unit."""
    return bed.run(["systemctl", "show", "--value", "-p", what, unit]).stdout.strip()


def test_it_restarts_itself_and_carries_on_once(bed: Bed, tmp_path: Path) -> None:
    """The timer is on; its command runs as a service; what is armed restarts the host, and the rest is run once."""
    written(bed, tmp_path, "/root/hosts.yml", HOSTS)
    assert "failed=0" in play(bed, "playbooks/automatic.yml")
    again = play(bed, "playbooks/automatic.yml")
    assert "changed=0" in again and "failed=0" in again, again
    assert TIMER in bed.run(["systemctl", "list-timers", "--no-pager"]).stdout
    bed.run(["systemctl", "start", SERVICE], check=False, timeout=600)
    said = bed.run(["journalctl", "--no-pager", "-u", SERVICE]).stdout
    assert NO_LOCK in said, said

    written(bed, tmp_path, f"/etc/systemd/system/{JUDGE}", SLOW)
    bed.run(["systemctl", "enable", "--quiet", JUDGE])
    old, new = {"kernel": "1", "version": "1"}, {"kernel": "2", "version": "1"}
    record = judge.armed(judge.fresh(old, new, "earlier"), "earlier")
    written(bed, tmp_path, f"{ROOT}/{RECORD}", json.dumps(record))
    written(bed, tmp_path, f"{CLONE}/playbooks/step.yml", STEP)
    before = bed.machine.boots
    told = play(bed, "playbooks/step.yml")
    assert "This machine restarts in a minute" in told and "failed=1" in told, told
    bed.machine.wait_for_boot(before)
    assert shown(bed, RESUME, "ConditionResult") == "yes"
    bed.run(["sh", "-c", f"while systemctl is-active --quiet {RESUME}; do sleep 1; done"], timeout=600)
    assert NO_LOCK in bed.run(["journalctl", "--no-pager", "-b", "-u", RESUME]).stdout
    judged = int(shown(bed, JUDGE, "ExecMainExitTimestampMonotonic"))
    assert 0 < judged <= int(shown(bed, RESUME, "ExecMainStartTimestampMonotonic"))
    assert bed.run(["ls", f"{ROOT}/{MARK}"], check=False).returncode != 0

    bed.reboot()
    assert shown(bed, RESUME, "ConditionResult") == "no"
    assert "failed=0" in play(bed, "playbooks/automatic.yml", "--tags", "remove")
    assert bed.run(["sh", "-c", "ls /etc/systemd/system | grep gpuhost-update"], check=False).stdout == ""
