"""For every role and playbook: README and defaults say what the argument_specs say, and the syntax is right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Set

import pytest
import yaml

from .conftest import ROOT, Ansible

ROLES = sorted(path.parent.parent for path in (ROOT / "roles").glob("*/tasks/main.yml"))


def options(role: Path) -> Dict[str, Dict[str, Any]]:
    """The variables of all entry points of a role."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    return {name: option for spec in specs.values() for name, option in spec["options"].items()}


def test_the_roles_are_there() -> None:
    """An empty parameter list would let the tests below pass."""
    assert {"gpu_facts", "gpu_stack", "environment", "generation", "opencv", "tensorflow", "yolo"} <= {
        r.name for r in ROLES
    }


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_are_what_the_specs_say(role: Path) -> None:
    """The documented default is the real one; a variable without one is required; no default is undocumented."""
    file = role / "defaults" / "main.yml"
    defaults = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}
    said = options(role)
    assert defaults == {name: option["default"] for name, option in said.items() if "default" in option}
    assert all(option.get("required") for name, option in said.items() if "default" not in option)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_public_variables_carry_the_role_s_name(role: Path) -> None:
    """So that two roles never read each other's variables."""
    assert all(name.startswith(f"{role.name}_") for name in options(role))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_reads_no_internal_variable_of_another(role: Path) -> None:
    """What it needs of another is one of its own inputs, which a user's playbook can give as well."""
    files = [file for folder in ("defaults", "tasks", "vars") for file in sorted((role / folder).glob("*.yml"))]
    named = {name for file in files for name in re.findall(r"\b__\w+", file.read_text(encoding="utf-8"))}
    assert {name for name in named if not re.match(rf"__{role.name}(_|$)", name)} == set()


def tasks_of(value: Any) -> Iterator[Dict[str, Any]]:
    """Return every task of a file, those in blocks too."""
    for task in value or ():
        yield task
        for inner in ("block", "rescue", "always"):
            yield from tasks_of(task.get(inner))


def outputs(role: Path) -> Set[str]:
    """Return the names of the facts that a role leaves for a playbook."""
    stored: Set[str] = set()
    for file in sorted((role / "tasks").glob("*.yml")):
        for task in tasks_of(yaml.safe_load(file.read_text(encoding="utf-8"))):
            stored.update(task.get("ansible.builtin.set_fact") or {}, [task["register"]] if "register" in task else [])
    return {name for name in stored if not name.startswith(f"__{role.name}")}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_what_a_role_leaves_for_a_playbook_is_documented(role: Path) -> None:
    """Under a public name, which is not one of the user's; everything else that it stores is internal."""
    specs = (role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    for name in outputs(role):
        assert name.startswith(f"{role.name}_") and name not in options(role), name
        assert f"C({name})" in specs, name


def test_roles_leave_something() -> None:
    """A change of the way in which facts are stored would let the test above pass."""
    found = {name for role in ROLES for name in outputs(role)}
    assert {"gpu_facts_observation", "gpu_stack_lock", "cuda_links", "opencv_folder", "rollback_result"} <= found


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_reads_no_output_of_another(role: Path) -> None:
    """The playbook hands it over, so that a user's playbook can hand over something else."""
    others = {name for other in ROLES if other != role for name in outputs(other)}
    files = [file for folder in ("defaults", "tasks", "vars") for file in sorted((role / folder).glob("*.yml"))]
    texts = "\n".join(file.read_text(encoding="utf-8") for file in files)
    assert {name for name in others if re.search(rf"(?<![\w.]){name}\b(?!:)", texts)} == set()


def test_playbooks_read_no_internal_variable_of_a_role() -> None:
    """They read what a user's playbook can read."""
    files = [ROOT / "site.yml", *sorted((ROOT / "playbooks").rglob("*.yml"))]
    named = {name for file in files for name in re.findall(r"\b__\w+", file.read_text(encoding="utf-8"))}
    assert {name for name in named for role in ROLES if re.match(rf"__{role.name}(_|$)", name)} == set()


def test_the_readmes_are_current() -> None:
    """They are written from the specs; an edit by hand or a forgotten run of the tool shows here."""
    check = [sys.executable, str(ROOT / "tools" / "role_readmes.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert all((role / "README.md").exists() for role in ROLES)


def test_the_syntax_of_every_playbook(ansible: Ansible) -> None:
    """Each playbook a user types can be loaded, with every role and module that it names."""
    playbooks = [ROOT / "site.yml", *sorted((ROOT / "playbooks").glob("*.yml"))]
    done = ansible.run("--syntax-check", *map(str, playbooks))
    assert done.rc == 0, done.out
    assert [line for line in done.out.splitlines() if "WARNING" in line] == []
    assert done.out.count("playbook: ") == len(playbooks)
