"""A run for no host is an error that says what to type: Ansible itself ends with 0, and pytest passes over the name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import List, Set

import pytest

from .conftest import ROOT, Ansible

pytestmark = pytest.mark.play

#: The play that is for nobody, were it not for the mistake; without a mistake it changes nothing.
GUARD = ("playbooks/guard.yml", "--check", "--tags", "none")
HOSTS = {
    "right.yml": "gpu_hosts: {hosts: {alpha: {ansible_connection: local}}}\nothers: {hosts: {beta: {}}}\n",
    "typo.yml": "gpu_host: {hosts: {alpha: {ansible_connection: local}}}\n",
    "empty.yml": "gpu_hosts: {hosts: {}}\nothers: {hosts: {beta: {}}}\n",
}


@pytest.fixture(name="inventories", scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inventories as files."""
    folder = tmp_path_factory.mktemp("inventories")
    for name, text in HOSTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("inventory", "playbook", "words"),
    [
        (["x,"], "site.yml", ["matches gpu_hosts, so nothing was done", "Its groups: none", "inventory/hosts.yml"]),
        (["typo.yml"], "playbooks/remove.yml", ["matches gpu_hosts, so", "Its groups: gpu_host.", "-i FILE"]),
        (["empty.yml"], "playbooks/rebuild.yml", ["matches gpu_hosts, so", "Its groups: gpu_hosts, others."]),
        (["none.yml"], "playbooks/verify.yml", ["none.yml"]),
        (["right.yml", "none.yml"], "playbooks/watch.yml", ["none.yml"]),
    ],
)
def test_an_inventory_without_the_group_is_an_error(
    ansible: Ansible, inventories: Path, inventory: List[str], playbook: str, words: List[str]
) -> None:
    """Whatever the playbook. All of them were green."""
    sources = [arg for name in inventory for arg in ("-i", name if name == "x," else str(inventories / name))]
    done = ansible.run(*sources, playbook, "--check")
    assert done.rc != 0
    (told,) = [line for line in done.out.splitlines() if line.startswith("ERROR! ")]
    assert all(word in told for word in words), told
    assert "TASK" not in done.out


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("beta", "matches gpu_hosts and --limit beta, so nothing was done"),
        ("alpha,alhpa", "--limit names 'alhpa', which no host of the inventory matches. Hosts: alpha, beta."),
        ("all:!betta", "--limit names 'betta'"),
        ("alpha:gpu[1:2]", "--limit names 'gpu[1:2]'"),
        ("alpha,\x1b[31mx", "--limit names '\ufffd[31mx'"),
    ],
)
def test_a_limit_that_names_nobody_is_an_error(ansible: Ansible, inventories: Path, limit: str, words: str) -> None:
    """Also where other names of it are right: a mistyped exclusion would even do what was to be left out."""
    done = ansible.run("-i", str(inventories / "right.yml"), *GUARD, "--limit", limit)
    assert done.rc == 5 and words in done.out
    assert "TASK" not in done.out


@pytest.mark.parametrize("limit", [[], ["--limit", "alpha"], ["--limit", "gpu_hosts:!beta"], ["--limit", "al*,~alp.a"]])
def test_a_right_name_goes_through(ansible: Ansible, inventories: Path, limit: List[str]) -> None:
    """The counterpart of the tests above."""
    done = ansible.run("-i", str(inventories / "right.yml"), *GUARD, *limit)
    assert done.rc == 0 and "ERROR" not in done.out


def test_commands_that_are_told_carry_the_user_s_own_inventory_and_limit(ansible: Ansible, inventories: Path) -> None:
    """Typed as it is printed, a command that names neither means this machine."""
    inventory = inventories / "right.yml"
    done = ansible.run("-i", str(inventory), "playbooks/benchmark.yml", "--check", "--limit", "alpha")
    assert done.rc == 2
    assert f"./run ansible-playbook -i {inventory} --limit alpha site.yml" in " ".join(done.out.split())


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ("typo", "ansible://typo matches none. `./run ansible-inventory --graph`"),
        ("ansible://typo", "ansible://typo matches none"),
        ("ansible://alpha,ansible://typo", "ansible://typo matches none"),
        ("ansible://typo*,local://", "ansible://typo* matches none"),
        ("", "holds an empty name"),
    ],
)
def test_verify_refuses_a_name_of_no_host(inventories: Path, hosts: str, words: str) -> None:
    """Beside a right one it was passed over, and the run was green."""
    command = [sys.executable, "-m", "pytest", "verify/", "-q", f"--hosts={hosts}", "-p", "no:cacheprovider"]
    command.append(f"--ansible-inventory={inventories / 'right.yml'}")
    done = subprocess.run(command, cwd=str(ROOT), capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert words in re.sub(r"\s+", " ", done.stderr), done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("hosts", "met"), [("alpha", {"alpha"}), ("all", {"alpha", "beta"}), ("beta,local://", {"beta"})]
)
def test_verify_takes_a_bare_name_for_one_of_the_inventory(inventories: Path, hosts: str, met: Set[str]) -> None:
    """As people type it."""
    command = [sys.executable, "-m", "pytest", "verify/test_lock.py", "--collect-only", "-q", f"--hosts={hosts}"]
    command += [f"--ansible-inventory={inventories / 'right.yml'}", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=str(ROOT), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"\[ansible://(\w+)-", done.stdout)) == met
