"""What a hostile target says runs nothing on the controller, writes nothing outside its lock, and moves no cursor.

Real runs of playbooks/plan.yml, twice: words that the first run keeps are rendered, if at all, by the second.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import stat
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import pytest
import yaml

from ..example_hosts import observed
from ..offered import offering
from .conftest import ROOT, Ansible, Result

pytestmark = pytest.mark.play

P2000 = offering(observed("ubuntu1804-quadro-p2000"))
Json = Dict[str, Any]


def template(marker: Path) -> str:
    """A template that runs a command on the controller, and an escape that clears the screen."""
    run = f"{{{{ lookup('pipe', 'id > {marker}') }}}}"
    return f"GPU-1{run}{{% for a in [1] %}}{run}{{% endfor %}}\x1b[2J"


def put(*path: Any) -> Callable[[Json, str], None]:
    """Set one place of the observation."""

    def change(observation: Json, value: str) -> None:
        inner: Any = observation
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


def key(name: str) -> Callable[[Json, str], None]:
    """Add a key to one of the observation's tables."""
    return lambda seen, value: seen[name].update({value: copy.deepcopy(next(iter(seen[name].values())))})


def several(*changes: Callable[[Json, str], None]) -> Callable[[Json, str], None]:
    """Make several changes to one host."""

    def change(observation: Json, value: str) -> None:
        for one in changes:
            one(observation, value)

    return change


#: What one host says: of the places that a lock or a plan reads one each, of free text several.
PLACES: Dict[str, Callable[[Json, str], None]] = {
    "uuid": put("gpus", 0, "uuid"),
    "address": put("gpus", 0, "pci_address"),
    "boots": put("kernel", "boots"),
    "unknown": put("surplus"),
    "text": several(
        put("gpus", 0, "name"),
        put("hostname"),
        put("kernel", "running"),
        put("platform", "pretty_name"),
        put("platform", "codename"),
        put("nvidia", "smi", "message"),
    ),
    "problem": lambda seen, value: seen["problems"].append({"what": "df", "error": value}),
    "packages": several(
        put("apt", "sources", 0, "file"),
        put("apt", "sources", 0, "uris", 0),
        key("packages"),
        lambda seen, value: seen["dpkg_audit"].append(value),
    ),
}


class Runs(NamedTuple):
    """Two runs over the same hosts."""

    ansible: Ansible
    results: List[Result]
    marker: Path


def hostile(ansible: Ansible, name: str, answers: Json) -> None:
    """A host whose Python gives these answers."""
    file, script = ansible.folder / f"{name}.json", ansible.folder / f"{name}.sh"
    file.write_text(json.dumps(answers), encoding="utf-8")
    start = f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/roles/hostile.py {file} "$@"\n'
    script.write_text(start, encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    ansible.host(name, ansible_python_interpreter=str(script))


@pytest.fixture(scope="module")
def runs(ansible: Ansible) -> Runs:
    """Plan for every hostile host, and once more."""
    marker = ansible.folder / "owned"
    for name, change in PLACES.items():
        observation = copy.deepcopy(P2000)
        change(observation, template(marker))
        hostile(ansible, name, {"gpuhost_facts": {"changed": False, "observation": observation}})
    inventory = {"gpu_hosts": {"hosts": ansible.hosts}}
    (ansible.inventory / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")
    command = ("-i", str(ansible.inventory / "hosts.json"), "playbooks/plan.yml")
    return Runs(ansible, [ansible.run(*command) for _ in range(2)], marker)


def test_no_word_of_a_host_runs_on_the_controller(runs: Runs) -> None:
    """Neither when it comes nor when it is read from the lock."""
    assert not runs.marker.exists()
    for result in runs.results:
        assert set(result.recap) == set(PLACES), result.out[-3000:]


def test_a_lock_holds_only_what_has_its_form(runs: Runs) -> None:
    """A uuid, an address, a kernel or a key of another form is refused; other free text does not get into the lock."""
    written = {name for name in PLACES if runs.ansible.lock_file(name).exists()}
    assert written & {"uuid", "address", "boots", "unknown", "problem"} == set()
    assert "text" in written, runs.results[0].failure("text") or runs.results[0].out[-3000:]
    for name in written:
        assert "lookup" not in runs.ansible.lock_file(name).read_text(encoding="utf-8"), name


def test_a_strange_answer_is_one_sentence(runs: Runs) -> None:
    """It names what is wrong, and the other hosts go on."""
    message = runs.results[0].failure("uuid")
    assert "The host's answer is not of the form that was asked for" in message
    assert "uuid" in message
    assert "Traceback" not in message


def test_every_filter_marks_what_it_returns() -> None:
    """A plain string in a variable is rendered again by Ansible whenever the variable is used."""
    spec = importlib.util.spec_from_file_location("gpuhost_filters", str(ROOT / "plugins" / "filter" / "gpuhost.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kept = module.told(lambda: {"a {{ b }}": ["{{ c }}"]})()
    ((name, (value,)),) = kept.items()
    assert hasattr(name, "__UNSAFE__") or hasattr(value, "__UNSAFE__")
    assert hasattr(value, "__UNSAFE__")
    for name, function in module.FilterModule().filters().items():
        assert function.__qualname__ == "told.<locals>.wrapped", name


def tasks(value: Any) -> Iterator[Json]:
    """Every task of a file, those in blocks too."""
    for one in value or []:
        yield one
        for inner in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
            yield from tasks(one.get(inner))


def test_every_stored_value_keeps_its_mark() -> None:
    """Only a value that is one expression stays marked; text put together by a template is a plain string again."""
    found = 0
    for file in [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/**/*.yml"), ROOT / "site.yml"]:
        for task in tasks(yaml.safe_load(file.read_text(encoding="utf-8"))):
            stored = task.get("ansible.builtin.set_fact") or {}
            inner = {key: one for value in stored.values() if isinstance(value, dict) for key, one in value.items()}
            for name, value in {**stored, **inner}.items():
                found += 1
                if not isinstance(value, str):
                    continue
                assert value.startswith("{{") and value.endswith("}}"), f"{file.name}: {name}"
                assert value.count("{{") == 1, f"{file.name}: {name}"
                assert " ~ " not in value, f"{file.name}: {name}"
    assert found > 10


def test_nothing_in_an_inventory_confirms_a_removal_or_a_rebuild(ansible: Ansible) -> None:
    """Only what a person types with -e does: a confirmation in a lock, in host_vars or on a group is passed over."""
    confirmed = {"removal_confirm": "sure", "rebuild_confirm": "sure"}
    sure = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **confirmed}
    file = ansible.inventory / "sure.json"
    file.write_text(json.dumps({"gpu_hosts": {"hosts": {"sure": sure}, "vars": confirmed}}), encoding="utf-8")
    done = ansible.run("-i", str(file), "playbooks/remove.yml", "-e", f"removal_root={ansible.folder}/store")
    assert done.rc != 0 and "Nothing was changed. Everything that gpuhost put on sure would go" in done.failure("sure")
    for playbook, name in (("remove", "removal_confirm"), ("rebuild", "rebuild_confirm")):
        plays = yaml.safe_load((ROOT / f"playbooks/{playbook}.yml").read_text(encoding="utf-8"))
        using = [play for play in plays if name in json.dumps(play) or playbook in json.dumps(play.get("tasks", ""))]
        assert using and all(play["vars"][name] == "" for play in using), playbook
