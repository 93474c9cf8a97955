"""`pytest verify/` as a user types it, on this machine, and as the action plugin calls it."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, List, Optional

import pytest

from gpuhost.diagnoses import verdict as checks

ROOT = Path(__file__).resolve().parents[2]
needs_pci = pytest.mark.skipif(
    not Path("/sys/bus/pci/devices").is_dir(), reason="this machine shows no PCI devices in sysfs"
)


def verify(
    *options: str, path: str = "", before: Optional[Callable[[], None]] = None
) -> subprocess.CompletedProcess[str]:
    """Run verify/ in a process of its own, apart from the pytest that runs this."""
    found = os.pathsep.join([*([path] if path else []), str(Path(sys.executable).parent), os.environ["PATH"]])
    # With CI set pytest's summary repeats a failure's whole text, and these tests count its words.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_", "CI", "BUILD_NUMBER"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "verify/", "-p", "no:cacheprovider", *options],
        cwd=ROOT,
        env={**kept, "PATH": found},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=before,
    )


@needs_pci
def test_a_host_without_a_lock_is_one_failure_and_a_report(tmp_path: Path) -> None:
    """In order, with the cause, what to type, no traceback, and the three files."""
    reports = tmp_path / "reports"
    lock = tmp_path / "no.json"
    done = verify(f"--gpuhost-lock={lock}", f"--gpuhost-root={tmp_path}", f"--gpuhost-reports={reports}")
    assert done.returncode == 1, done.stdout
    assert "localhost: not provisioned" in done.stdout
    assert "remedy    ./run ansible-playbook site.yml" in done.stdout
    assert "Traceback" not in done.stdout
    assert "def test_" not in done.stdout
    found = json.loads((reports / "localhost" / "report.json").read_text(encoding="utf-8"))
    assert [c["id"] for c in found["checks"]] == list(checks.BY_ID)
    red = [c["id"] for c in found["checks"] if c["status"] == "fail"]
    assert [name for name in red if not name.startswith("host.")] == ["lock.present"]
    assert (reports / "localhost" / "junit.xml").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["reports"]


@needs_pci
def test_a_fleet_is_verified_in_one_call(tmp_path: Path) -> None:
    """Each host has its own lock, verdict and report, by its name in the inventory."""
    inventory = tmp_path / "inventory" / "hosts.yml"
    inventory.parent.mkdir()
    hosts = {name: {"ansible_connection": "local"} for name in ("alpha-test", "beta-test")}
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
    wanted = ("--hosts=ansible://all", f"--ansible-inventory={inventory}", f"--gpuhost-reports={tmp_path}")
    done = verify(*wanted, "verify/test_lock.py", "-q")
    assert done.stdout.count("reading the host") == 2, done.stdout
    for name in hosts:
        found = json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8"))
        assert (found["host"], found["verdict"]) == (name, "not provisioned")
        remedy = f"./run ansible-playbook -i {inventory} --limit {name} site.yml"
        assert remedy in {row["remediation"] for row in found["checks"]}
        assert f"{tmp_path}/locks/{name}/stack.json" in " ".join(done.stdout.split()), "its lock beside its inventory"


def limited() -> None:
    """One GB of memory, and no more."""
    resource.setrlimit(resource.RLIMIT_DATA, (10**9, 10**9))


ENDLESS = "yes '\033[2J a line of an endless answer'"
NESTED = """printf 'gpuhost-answer: {"a": ['; yes '[],' | head -n 2700000 | tr -d '\\n'; printf '[]]}\\n'"""


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (ENDLESS, "It said more than 8 MB"),
        (ENDLESS + " >&2", "It said more than 8 MB"),
        ("tr -d '\\n' < /dev/zero", "It said more than 8 MB"),
        pytest.param(NESTED, "actual", marks=pytest.mark.full),
    ],
    ids=["lines", "errors", "one line", "nested"],
)
def test_a_host_that_says_too_much_takes_no_memory(tmp_path: Path, says: str, told: str) -> None:
    """An answer without end, or one that is huge when it is parsed: one failure, within one GB."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f"#!/bin/sh\n{says}\n", encoding="utf-8")
    ssh.chmod(0o755)
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"all": {"hosts": {"box": {}}}}), encoding="utf-8")
    wanted = ("--hosts=ansible://box", f"--ansible-inventory={inventory}", f"--gpuhost-reports={tmp_path}")
    done = verify(*wanted, "verify/test_host.py", path=str(ssh.parent), before=limited)
    assert done.returncode == 1, done.stdout + done.stderr
    assert told in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout + done.stderr and "MemoryError" not in done.stdout
    assert "\x1b" not in done.stdout


def test_a_host_that_does_not_answer_is_one_failure(tmp_path: Path) -> None:
    """With ssh's own words, and not the program to be sent; it is unreachable, and its history stays as it is."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    said = "ssh: connect to host box: No route to host"
    ssh.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 255\n", encoding="utf-8")
    ssh.chmod(0o755)
    done = verify("--hosts=ssh://box", f"--gpuhost-reports={tmp_path}", "-q", path=str(ssh.parent))
    assert done.returncode == 1, done.stdout
    assert f"ended with status 255: {said}" in done.stdout
    assert "zlib" not in done.stdout
    assert "box: unreachable (the host did not answer" in done.stdout
    assert sorted(path.name for path in (tmp_path / "box").iterdir()) == ["junit.xml", "report.html", "report.json"]
    assert "unreachable" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert done.stdout.count("remedy") == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--benchmark-photos=0"], "at least 1"),
        (["--benchmark-seconds=nan"], "above 0"),
        (["--benchmark-full", "--benchmark-seconds=3"], "exclude each other"),
        (["--no-benchmark", "--benchmark"], "excludes"),
        (["--hosts=ansible://nobody", "--ansible-inventory=localhost,"], "names no host"),
        (["--ansible-inventory=localhost,"], "gpu_hosts matches none"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(options: List[str], told: str) -> None:
    """pytest's exit code for usage, and no traceback."""
    done = verify(*options)
    assert done.returncode == 4, done.stdout
    assert told in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    """The action plugin, loaded from its file as Ansible does."""
    file = ROOT / "plugins" / "action" / "gpuhost_verify.py"
    spec = importlib.util.spec_from_file_location("gpuhost_verify", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_plugin_calls_verify_for_the_present_host(plugin: Any) -> None:
    """With this Python, the inventory of the play, and the task's options."""
    arguments = {"benchmark": "none", "require_gpu": True, "photos": 24, "images": "/my photos"}
    command, extra = plugin.pytest_command("box", ["/inv/hosts.yml"], arguments)
    assert command[:4] == [sys.executable, "-I", "-u", "-m"] and command[4:6] == ["pytest", "verify/"]
    assert {"--hosts=ansible://box", "--ansible-inventory=/inv/hosts.yml", "--no-benchmark"} <= set(command)
    assert {"--require-gpu", "--benchmark-photos=24", "--images=/my photos"} <= set(command)
    assert extra["PATH"].startswith(str(Path(sys.executable).parent))


def test_several_inventories_reach_verify(plugin: Any) -> None:
    """testinfra takes one file; Ansible's own variable takes all."""
    command, extra = plugin.pytest_command("box", ["/a", "/b"], {})
    assert not [word for word in command if word.startswith("--ansible-inventory")]
    assert extra["ANSIBLE_INVENTORY"] == "/a,/b"
    assert "--no-benchmark" not in command
    assert "--require-gpu" not in command


def test_the_plugin_finds_the_report(plugin: Any) -> None:
    """In the last line that names one."""
    assert plugin.report_of(["x", "report: /r/box/report.html", "1 passed"]) == Path("/r/box/report.html")
    assert plugin.report_of(["error: no space"]) is None


def test_the_plugin_shows_lines_as_they_come(plugin: Any) -> None:
    """And passes the exit status on."""
    shown: List[str] = []
    said = "print('a'); print('  b\\x1b[2J\\rPLAY RECAP'); raise SystemExit(3)"
    code, lines = plugin.stream([sys.executable, "-c", said], {}, shown.append)
    assert (code, lines) == (3, ["a", "  b\ufffd[2J\ufffdPLAY RECAP"])
    assert shown == lines
