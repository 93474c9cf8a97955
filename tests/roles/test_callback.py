"""What a host says is shown as its words: a module that answers with escape codes, false recaps and secrets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.play

EVIL = """#!/usr/bin/python
import json, os, sys
from ansible.module_utils.basic import AnsibleModule

ESC = "\\x1b[2J\\x1b[1;32mPLAY RECAP *****\\x1b]0;title\\x07\\r\\u202e\\x9b31m"
mode = AnsibleModule({"mode": {}}, supports_check_mode=True).params["mode"]
false = "one\\nPLAY RECAP *****\\nhost : ok=99 failed=0" + ESC
answer = {"changed": True, "msg": false, "stdout": false, "key" + ESC: "https://jo:hunter2@h/x?token=hunter2"}
answer["warnings"] = ["w" * 69 + " PLAY RECAP ***** and more words that go on and on\\nPLAY RECAP" + ESC]
answer["deprecations"] = [{"msg": false, "version": "99", "date": None, "collection_name": None}]
if mode == "diff":
    answer["diff"] = [{"before": "old\\n", "after": "new" + ESC + "\\nPLAY RECAP", "after_header": false}]
    answer["diff"].append({"prepared": "PLAY RECAP" + ESC + "\\nPLAY RECAP"})
if mode == "fail":
    answer.update(failed=True, exception="Traceback\\nPLAY RECAP" + ESC)
if mode == "garbage":
    sys.stderr.write(false)
    answer = {}
sys.stdout.write(json.dumps(answer, ensure_ascii=False) if answer else false)
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)
"""
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - {evil: {mode: plain}, register: __said}
    - {debug: {msg: ["{{ __said.msg }}", "{{ __said.stdout }}"]}}
    - {debug: {var: __said}}
    - {evil: {mode: diff}}
    - {evil: {mode: plain}, loop: ["{{ __said.msg }}"]}
    - {evil: {mode: fail}, ignore_errors: true}
    - {evil: {mode: garbage}, ignore_errors: true}
    - {evil: {mode: plain}, async: 60, poll: 1, when: not ansible_check_mode}
    - {assert: {that: false, fail_msg: "{{ __said.msg }}"}, ignore_errors: true}
    - {copy: {content: "new\\n", dest: "{{ file }}"}}
"""
COLOUR = re.compile("\x1b\\[[0-9;]*m")


def played(folder: Path, *options: str, **environment: str) -> str:
    """All that a run of the play prints, with this project's settings."""
    (folder / "library").mkdir()
    (folder / "library" / "evil.py").write_text(EVIL, encoding="utf-8")
    (folder / "play.yml").write_text(PLAY, encoding="utf-8")
    (folder / "file").write_text("old\n", encoding="utf-8")
    command: List[str] = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}", "-e", f"file={folder / 'file'}"]
    settings = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LIBRARY": str(folder / "library"),
        "COLUMNS": "80",
    }
    done = subprocess.run(
        [*command, *options, str(folder / "play.yml")],
        env={**os.environ, **settings, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    text = done.stdout.decode("utf-8")
    assert done.returncode == 0, text
    return text


@pytest.mark.parametrize("options", [("--diff",), ("--diff", "-vvv"), ("--diff", "--check")], ids=" ".join)
def test_no_host_moves_the_cursor_or_makes_a_line_of_ansible_s(tmp_path: Path, options: List[str]) -> None:
    """One recap, Ansible's own; every character printable; no secret. A diff is still a diff."""
    text = played(tmp_path, *options)
    assert re.findall(r"(?m)^PLAY RECAP.*$", text) == ["PLAY RECAP " + "*" * 69]
    assert {char for char in text if not char.isprintable()} == {"\n"}
    assert "hunter2" not in text
    assert "\n-old\n+new" in text and "+PLAY RECAP\n" in text
    assert text.count("host : ok=99 failed=0") > 5
    assert ("assertion:" in text) == ("-vvv" in options), "of a refusal, the sentence alone"
    assert (tmp_path / "file").read_text(encoding="utf-8") == ("old\n" if "--check" in options else "new\n")


def test_ansible_s_own_colours_stay(tmp_path: Path) -> None:
    """On a terminal only they do."""
    text = played(tmp_path, "--diff", ANSIBLE_FORCE_COLOR="1")
    assert "\x1b[0;33mchanged: [localhost]" in text
    assert {char for char in COLOUR.sub("", text) if not char.isprintable()} == {"\n"}
    assert "\x1b[1;32mPLAY RECAP" not in text


def test_what_each_task_needs_is_loaded_before_the_first() -> None:
    """Ansible forks a process for every task: what the callback has loaded by then no task loads again."""
    program = (
        "import runpy, sys; runpy.run_path(sys.argv[1])['load'](); from gpuhost.planning.catalog import shipped; "
        "print(shipped.cache_info().currsize, *sorted(n for n in sys.modules if n.startswith('gpuhost.')))"
    )
    file = ROOT / "plugins/callback/gpuhost.py"
    said = subprocess.run([sys.executable, "-c", program, str(file)], stdout=subprocess.PIPE, check=True, text=True)
    count, *loaded = said.stdout.split()
    assert count == "1" and {"gpuhost.planning.specs", "gpuhost.report.terminal", "gpuhost.shipping.action"} <= set(
        loaded
    )


COUNTED = """
import os
with open(os.environ["LOADED_BY"], "a") as log:
    log.write(f"{os.getpid()}\\n")
class FilterModule:
    def filters(self):
        return {"same": lambda value: value}
"""


def test_filters_are_loaded_once_for_all_tasks(tmp_path: Path) -> None:
    """And not by each of the processes that Ansible forks."""
    (tmp_path / "filter_plugins").mkdir()
    (tmp_path / "filter_plugins" / "counted.py").write_text(COUNTED, encoding="utf-8")
    task = {"debug": {"msg": "{{ 'told' | same }}"}}
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [task, task, task]}]
    (tmp_path / "play.json").write_text(json.dumps(play), encoding="utf-8")
    settings = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_FILTER_PLUGINS": str(tmp_path / "filter_plugins"),
        "LOADED_BY": str(tmp_path / "loaded"),
        "PYTHONPATH": str(ROOT / "src"),
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local"]
    command.append(str(tmp_path / "play.json"))
    done = subprocess.run(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count("told") == 3, done.stdout
    assert len((tmp_path / "loaded").read_text().split()) == 1


QUIET = """
- hosts: localhost
  gather_facts: false
  tasks:
    - {name: in order, command: "true", changed_when: false}
    - {name: left out, command: "true", when: false}
    - {name: told, debug: {msg: this is told}}
    - {name: told of each, debug: {msg: "told of {{ item }}"}, loop: [one, two]}
    - {name: done, command: "true"}
    - {name: broken, command: "false", ignore_errors: true}
"""


def quiet(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start the play in which most is in order."""
    (folder / "play.yml").write_text(QUIET, encoding="utf-8")
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}", *options, str(folder / "play.yml")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
    environment["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("options", "hidden"), [((), ["in order", "left out"]), (("-v",), ["left out"])])
def test_what_is_in_order_is_not_shown(tmp_path: Path, options: List[str], hidden: List[str]) -> None:
    """What changes, what fails and what a task is there to say is; -v shows the rest."""
    out, _ = quiet(tmp_path, *options).communicate()
    names = ("in order", "left out", "told", "done", "broken")
    assert [name for name in names if f"TASK [{name}]" not in out] == hidden
    assert (
        "this is told" in out
        and "told of two" in out
        and "changed: [localhost]" in out
        and "fatal: [localhost]: FAILED!" in out
    )


def test_a_reader_that_leaves_does_not_stop_the_run(tmp_path: Path) -> None:
    """As `| head -1` does: the run goes on to its end, which without a reader it did not find."""
    run = quiet(tmp_path)
    assert run.stdout is not None
    run.stdout.close()
    assert run.wait(timeout=60) == 0
