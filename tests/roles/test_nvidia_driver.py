"""The role nvidia_driver on this machine, whose module is played: which phases run, and what stops a run.

What the phases do on a host is tested on whole hosts (tests/e2e); here it is the role's own decisions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import pytest

from ..example_hosts import observed
from .conftest import Ansible, Result

# Stands in for the module: it notes the phase it was asked for, and answers what the host's file says.
MODULE = """#!/usr/bin/python
import glob
import json
import os
from ansible.module_utils.basic import AnsibleModule

OPTIONS = "phase root driver boots distribution secure_boot file mok_password kept_only wait_s".split()
module = AnsibleModule({name: {"type": "raw"} for name in OPTIONS}, supports_check_mode=True)
phase, root = module.params["phase"], module.params["root"]
with open(root + "/asked", "a") as handle:
    handle.write(phase + "\\n")
with open(root + "/answers.json") as handle:
    answers = json.load(handle)
if phase == "enrol":  # who could read the password now?
    seen = {path: open(path, "rb").read() for path in glob.glob("/proc/[0-9]*/cmdline") if os.access(path, os.R_OK)}
    word = module.params["mok_password"].encode()
    with open(root + "/seen", "w") as handle:
        json.dump([len(seen), [path for path, text in seen.items() if word in text]], handle)
module.exit_json(**{"changed": phase not in ("check", "boot"), **answers.get(phase, {})})
"""
P2000 = observed("ubuntu1804-quadro-p2000")
SECURE = observed("ubuntu1804-rtx3090-secureboot")
ARCHIVE = {"source": "archive", "version": "525.105.17"}
IN_PLACE = {"in_place": True, "differences": []}
MISSING = {"in_place": False, "differences": ["x"]}
LOADED = {"reason": "", "enrolment": "", "pending": False}
WAITS = {"reason": "no NVIDIA module is loaded", "enrolment": "", "pending": False}
KEY = {"reason": "no NVIDIA module is loaded", "enrolment": "mokutil --import X", "pending": False}

# host -> observation, the plan's driver, answers by phase, and words of the message that ends the run ('' for none)
CASES: Dict[str, Any] = {
    "done": (P2000, ARCHIVE, {"check": IN_PLACE, "boot": LOADED}, ""),
    "bare": (P2000, ARCHIVE, {"check": MISSING, "boot": LOADED}, ""),
    "secure": (SECURE, ARCHIVE, {"check": MISSING, "boot": LOADED}, ""),
    "cpu": (P2000, None, {}, ""),
    "local": (P2000, ARCHIVE, {"check": IN_PLACE, "boot": WAITS}, "Reboot this host, then type the same command again"),
    "key": (SECURE, ARCHIVE, {"check": IN_PLACE, "boot": KEY}, "mokutil --import X"),
}


class Runs(NamedTuple):
    """A run and a dry run over all cases, and the phases that each asked for."""

    real: Result
    dry: Result
    asked: Dict[str, List[str]]
    asked_dry: Dict[str, List[str]]


def asked(folder: Path) -> Dict[str, List[str]]:
    """The phases by host; the notes begin anew."""
    found = {}
    for name in CASES:
        notes = folder / name / "asked"
        found[name] = notes.read_text(encoding="utf-8").split() if notes.exists() else []
        notes.unlink(missing_ok=True)
    return found


@pytest.fixture(scope="module")
def runs(ansible: Ansible) -> Runs:
    """Both runs over one inventory."""
    library = ansible.folder / "library"
    library.mkdir()
    (library / "gpuhost_driver.py").write_text(MODULE, encoding="utf-8")
    for name, (observation, driver, answers, _) in CASES.items():
        root = ansible.folder / name
        root.mkdir()
        (root / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
        ansible.host(
            name,
            __gpu_facts_observation={"observation": observation},
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


INSTALL = ["check", "preflight", "nouveau", "packages"]


@pytest.mark.parametrize(
    ("name", "phases"),
    [
        ("done", ["check", "boot"]),
        ("bare", [*INSTALL, "ready", "record", "boot"]),
        ("secure", [*INSTALL, "sign", "ready", "record", "boot"]),
        ("cpu", []),
        ("local", ["check", "boot"]),
    ],
)
def test_each_phase_in_its_turn(runs: Runs, name: str, phases: List[str]) -> None:
    """The record is last; a host whose driver is in place gets one question."""
    assert runs.asked[name] == phases


@pytest.mark.parametrize("name", CASES)
def test_what_ends_a_run(runs: Runs, name: str) -> None:
    """One sentence, and only where a person has to do something; a local host is never rebooted."""
    words = CASES[name][3]
    assert words in runs.real.failure(name)
    assert bool(runs.real.failure(name)) == bool(words)


def test_a_host_in_place_is_not_changed(runs: Runs) -> None:
    """changed=0."""
    assert runs.real.recap["done"]["changed"] == 0


def test_a_dry_run_asks_and_changes_nothing(runs: Runs) -> None:
    """Preflight and the file's difference; no phase that works, no word about a reboot."""
    assert runs.asked_dry["bare"] == ["check", "preflight", "nouveau"]
    assert runs.asked_dry["done"] == ["check"]
    assert all(runs.dry.failure(name) == "" for name in CASES)


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
    assert asked(ansible.folder)["key"] == ["enrol", "boot"]
    looked_at, showing = json.loads((ansible.folder / "key" / "seen").read_text(encoding="utf-8"))
    assert looked_at > 2 and showing == []
    loud = ansible.play([play], *arguments, "-e", "nvidia_driver_mok_password=a-loud-word")
    assert asked(ansible.folder)["key"] == []
    assert loud.rc != 0 and "-e @FILE" in loud.out and "a-loud-word" not in loud.out
