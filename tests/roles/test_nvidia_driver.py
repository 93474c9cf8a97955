"""The role nvidia_driver on this machine, whose module is played: what it asks for, and what stops a run.

What the module does on a host is tested on whole hosts (tests/e2e); here it is the role's own decisions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import pytest

from .conftest import Ansible, Result

pytestmark = pytest.mark.play

# Stands in for the module: it notes the state it was asked for, and answers what the host's file says. What is lacking
# is there once `present` was asked for in earnest.
MODULE = """#!/usr/bin/python
import glob
import json
import os
from ansible.module_utils.basic import AnsibleModule

OPTIONS = "state root driver kernel kept_only mok_password with_key wait_s progress".split()
module = AnsibleModule({name: {"type": "raw"} for name in OPTIONS}, supports_check_mode=True)
state, root = module.params["state"], module.params["root"]
with open(root + "/asked", "a+") as handle:
    handle.seek(0)
    before = handle.read().splitlines()
    handle.write(state + (" dry" if module.check_mode else "") + "\\n")
with open(root + "/answers.json") as handle:
    answer = json.load(handle)
if "present" in before:
    answer["differences"] = []
if state == "enrolled":  # who could read the password now?
    seen = {path: open(path, "rb").read() for path in glob.glob("/proc/[0-9]*/cmdline") if os.access(path, os.R_OK)}
    word = module.params["mok_password"].encode()
    with open(root + "/seen", "w") as handle:
        json.dump([len(seen), [path for path, text in seen.items() if word in text]], handle)
module.exit_json(changed=state == "enrolled" or bool(answer["differences"]), **answer)
"""
ARCHIVE = {"source": "archive", "version": "525.105.17"}
RUNFILE = {"source": "runfile", "version": "550.163.01"}
LOADED = {"differences": [], "reboot_required": "", "console_required": ""}
MISSING = {**LOADED, "differences": ["it was not installed"]}
WAITS = {**LOADED, "reboot_required": "no NVIDIA module is loaded"}
KEY = {**WAITS, "console_required": "mokutil --import X"}

# host -> the plan's driver, the module's answer, and words of the message that ends the run ('' for none)
CASES: Dict[str, Any] = {
    "done": (ARCHIVE, LOADED, ""),
    "bare": (ARCHIVE, MISSING, ""),
    "runfile": (RUNFILE, LOADED, ""),
    "cpu": (None, {}, ""),
    "local": (ARCHIVE, WAITS, "Reboot this host, then type the same command again"),
    "key": (ARCHIVE, KEY, "mokutil --import X"),
}


class Runs(NamedTuple):
    """A run and a dry run over all cases, and the states that each asked for."""

    real: Result
    dry: Result
    asked: Dict[str, List[str]]
    asked_dry: Dict[str, List[str]]


def asked(folder: Path) -> Dict[str, List[str]]:
    """What was asked for, by host; the notes start over."""
    found = {}
    for name in CASES:
        notes = folder / name / "asked"
        found[name] = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
    return found


@pytest.fixture(scope="module")
def runs(ansible: Ansible) -> Runs:
    """Both runs over one inventory."""
    library = ansible.folder / "library"
    library.mkdir()
    (library / "gpuhost_driver.py").write_text(MODULE, encoding="utf-8")
    for name, (driver, answer, _) in CASES.items():
        root = ansible.folder / name
        root.mkdir()
        (root / "answers.json").write_text(json.dumps(answer), encoding="utf-8")
        ansible.host(
            name,
            nvidia_driver_lock={"plan": {"driver": driver}},
            nvidia_driver_root=str(root),
            # A local connection is never rebooted, whatever is asked for.
            nvidia_driver_reboot=True,
        )
    play = {
        "hosts": "gpu_hosts",
        "tasks": [
            {"import_role": {"name": "nvidia_driver"}},
            {"import_role": {"name": "nvidia_driver", "tasks_from": "reboot"}},
        ],
    }
    arguments = ["--module-path", str(library)]
    real = ansible.play([play], *arguments)
    first = asked(ansible.folder)
    dry = ansible.play([play], *arguments, "--check", "--diff")
    return Runs(real, dry, first, asked(ansible.folder))


LOOK = "present dry"


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("done", [LOOK, LOOK]),
        ("bare", [LOOK, "present", LOOK]),
        ("runfile", [LOOK, LOOK, LOOK]),
        ("cpu", []),
        ("local", [LOOK, LOOK]),
    ],
)
def test_only_what_lacks_a_driver_is_worked_on(runs: Runs, name: str, states: List[str]) -> None:
    """A host whose driver is in place is only looked at, and NVIDIA's own file is not fetched for it again."""
    assert runs.asked[name] == states


@pytest.mark.parametrize("name", CASES)
def test_what_ends_a_run(runs: Runs, name: str) -> None:
    """One sentence, and only where a person has to do something; a local host is never rebooted."""
    words = CASES[name][2]
    assert words in runs.real.failure(name)
    assert bool(runs.real.failure(name)) == bool(words)


def test_a_host_in_place_is_not_changed(runs: Runs) -> None:
    """changed=0."""
    assert runs.real.recap["done"]["changed"] == 0


def test_a_dry_run_asks_and_changes_nothing(runs: Runs) -> None:
    """One look at the host, which has the difference; no word about a reboot."""
    assert runs.asked_dry["bare"] == runs.asked_dry["done"] == [LOOK]
    assert runs.dry.recap["bare"]["changed"] == 1 and runs.dry.recap["done"]["changed"] == 0
    assert all(runs.dry.failure(name) == "" for name in CASES)


def test_a_driver_that_was_altered_meanwhile_is_no_reason_to_reboot(ansible: Ansible, runs: Runs) -> None:
    """The host is asked again, in the words of now, and nothing is installed past the guard."""
    play = {"hosts": "bare", "tasks": [{"import_role": {"name": "nvidia_driver", "tasks_from": "reboot"}}]}
    asked(ansible.folder)
    done = ansible.play([play], "--module-path", str(ansible.folder / "library"))
    assert "no longer in place: it was not installed" in done.failure("bare")
    assert asked(ansible.folder)["bare"] == [LOOK]


def test_the_password_of_the_key_is_not_in_ps(ansible: Ansible, runs: Runs) -> None:
    """From a file it comes through, and no process shows it meanwhile; on the command line it is refused."""
    secret = ansible.folder / "secret.yml"
    secret.write_text("nvidia_driver_mok_password: a-quiet-word\n", encoding="utf-8")
    play = {
        "hosts": "key",
        "tasks": [{"import_role": {"name": "nvidia_driver", "tasks_from": "reboot"}}],
    }
    arguments = ["--module-path", str(ansible.folder / "library")]
    asked(ansible.folder)
    quiet = ansible.play([play], *arguments, "-e", f"@{secret}", "-vvv")
    assert "a-quiet-word" not in quiet.out
    assert asked(ansible.folder)["key"] == ["enrolled", LOOK]
    looked_at, showing = json.loads((ansible.folder / "key" / "seen").read_text(encoding="utf-8"))
    assert looked_at > 2 and showing == []
    loud = ansible.play([play], *arguments, "-e", "nvidia_driver_mok_password=a-loud-word")
    assert asked(ansible.folder)["key"] == []
    assert loud.rc != 0 and "-e @FILE" in loud.out and "a-loud-word" not in loud.out
