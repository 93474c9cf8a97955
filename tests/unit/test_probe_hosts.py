"""The probe on every example host, on this machine, and under an old Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence

import fastjsonschema
import pytest

from gpuhost.host.probe.machine import observe

from ..example_hosts import NAMES, answers_of, expected, folder_of, made
from ..hosts.make_hosts import make_all
from ..old_python import old_python

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
HOSTS = [folder_of(name) for name in NAMES]
SCHEMA_FILE = SOURCE / "gpuhost" / "data" / "observation.schema.json"
validate = fastjsonschema.compile(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


class Replay:
    """Answers commands as a host does; a command that it does not know fails the test."""

    def __init__(self, host: Path) -> None:
        """Read the answers."""
        self.answers = answers_of(host)
        self.asked: set[tuple[str, ...]] = set()

    def __call__(self, argv: Sequence[str], timeout: float) -> tuple[int, str, str]:
        """Answer, and keep what was asked."""
        assert timeout > 0
        self.asked.add(tuple(argv))
        return self.answers[tuple(argv)]


def differences(expected: Any, seen: Any, place: str = "") -> list[str]:
    """Where `seen` lacks what `expected` names; lists have the same length, objects may have more keys."""
    if isinstance(expected, dict) and isinstance(seen, dict):
        found = [f"{place}.{key}: missing" for key in expected if key not in seen]
        return found + [
            line for key in expected if key in seen for line in differences(expected[key], seen[key], f"{place}.{key}")
        ]
    if isinstance(expected, list) and isinstance(seen, list):
        if len(expected) != len(seen):
            return [f"{place}: {len(expected)} items expected, {len(seen)} seen"]
        return [
            line
            for number, pair in enumerate(zip(expected, seen))
            for line in differences(pair[0], pair[1], f"{place}[{number}]")
        ]
    return [] if expected == seen and type(expected) is type(seen) else [f"{place}: {expected!r} != {seen!r}"]


def test_the_example_hosts_are_there() -> None:
    """An empty parameter list would let every test below pass."""
    assert len(HOSTS) >= 12


def test_the_made_hosts_are_the_same_each_time(tmp_path: Path) -> None:
    """They are in no commit, so nothing but this shows a change that depends on the time or the machine."""
    make_all(tmp_path)
    assert content(tmp_path) == content(made())


def content(folder: Path) -> dict[str, str | bytes]:
    """Return what every file of a folder holds and where every link leads."""
    names = [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes() for path in names
    }


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_example_host_gives_its_expected_observation(host: Path) -> None:
    """What a host's folder says comes out, in the schema's form, from exactly its commands."""
    replay = Replay(host)
    observation = observe(str(host / "fs"), replay)
    validate(observation)
    assert differences(expected(host.name), observation) == []
    assert replay.asked == set(replay.answers), "the host answers commands that the probe no longer runs"


def test_passwords_in_sources_do_not_reach_the_observation() -> None:
    """An observation is shown, logged and written into the lock's neighbourhood."""
    host = folder_of("ubuntu1804-foreign-sources")
    assert "hunter2" in (host / "fs/etc/apt/sources.list.d/private.list").read_text(encoding="utf-8")
    text = json.dumps(observe(str(host / "fs"), Replay(host)))
    assert "hunter2" not in text
    assert "robot" not in text


def test_the_sound_function_and_other_makers_cards_are_no_gpus() -> None:
    """The synthetic hosts have an Intel display and an NVIDIA sound device, which must not be counted."""
    host = folder_of("ubuntu1804-quadro-p2000")
    devices = host / "fs/sys/bus/pci/devices"
    assert (devices / "0000:00:02.0/class").read_text(encoding="utf-8").startswith("0x0300")
    assert (devices / "0000:01:00.1/vendor").read_text(encoding="utf-8").strip() == "0x10de"
    assert [card["pci_address"] for card in observe(str(host / "fs"), Replay(host))["gpus"]] == ["0000:01:00.0"]


def test_this_machine_can_be_observed() -> None:
    """A real run: Linux with /sys/bus/pci, whatever else it has or lacks."""
    if not Path("/sys/bus/pci/devices").is_dir():
        pytest.skip("this machine shows no PCI devices in sysfs")
    observation = observe()
    validate(observation)
    assert observation["kernel"]["running"] == os.uname().release
    assert observation["machine"] == os.uname().machine
    assert observation["memory_mib"] > 0
    assert observation["cpu"]["count"] >= 1
    assert observation["disk"]["/"]["total_mib"] >= observation["disk"]["/"]["free_mib"]


REPLAY_PROGRAM = """
import json, sys
from gpuhost.host.probe.machine import observe
folder = sys.argv[1]
with open(folder + "/commands.json", encoding="utf-8") as file:
    answers = {tuple(one["argv"]): (one["rc"], one["out"], one["err"]) for one in json.load(file)}
print(json.dumps(observe(folder + "/fs", lambda argv, timeout: answers[tuple(argv)]), sort_keys=True))
"""


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_an_old_python_observes_the_same(host: Path) -> None:
    """Ubuntu 18.04's own Python is 3.6, and it must see what a new one sees."""
    done = subprocess.run(
        [old_python(), "-B", "-c", REPLAY_PROGRAM, str(host)],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == observe(str(host / "fs"), Replay(host))


def test_an_old_python_observes_this_machine() -> None:
    """The real edges under the old Python: subprocess and pathlib differ between versions."""
    if not Path("/sys/bus/pci/devices").is_dir():
        pytest.skip("this machine shows no PCI devices in sysfs")
    program = "import json; from gpuhost.host.probe.machine import observe; print(json.dumps(observe()))"
    done = subprocess.run(
        [old_python(), "-B", "-c", program],
        env=dict(os.environ, PYTHONPATH=str(SOURCE)),
        capture_output=True,
        text=True,
        check=True,
    )
    validate(json.loads(done.stdout))


def test_target_side_files_keep_to_python_3_6() -> None:
    """The floor, held by vermin, for exactly the files that travel to a target for the probe."""
    pytest.importorskip("vermin", reason="vermin is a lint tool and not part of every environment")
    program = (
        "import sys, gpuhost.host.probe.machine; "
        "print(*(module.__file__ for name, module in sys.modules.items() if name.startswith('gpuhost')), sep='\\n')"
    )
    listed = subprocess.run(
        [sys.executable, "-c", program],
        env=dict(os.environ, PYTHONPATH=str(SOURCE)),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"machine.py", "edges.py", "errors.py"} <= {Path(name).name for name in listed}
    check = [sys.executable, "-c", "import vermin; vermin.main()", "-t=3.6-", "--violations", "--no-tips"]
    module = str(ROOT / "plugins" / "modules" / "gpuhost_facts.py")
    done = subprocess.run([*check, module, *listed], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
