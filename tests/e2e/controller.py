"""A controller outside the beds: it runs the project's playbooks over ssh, with an inventory and locks of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

from gpuhost.planning import lock

from .beds.bed import PROJECT

Json = Dict[str, Any]
RECAP = re.compile(r"^(\S+)\s+: (ok=.*)$", re.MULTILINE)
PROFILE = re.compile(r"^profile: (\d+) tasks \(.*\), ([\d.]+) s in tasks, ([\d.]+) s in all$", re.MULTILINE)


class Run:
    """What one run of ansible-playbook said and how it ended."""

    def __init__(self, rc: int, out: str, seconds: float) -> None:
        """Take the output apart."""
        self.rc, self.out, self.seconds = rc, out, seconds
        self.recap: Dict[str, Dict[str, int]] = {
            host: {key: int(value) for key, value in (item.split("=") for item in counts.split())}
            for host, counts in RECAP.findall(out)
        }

    def changed(self, host: str) -> int:
        """How many tasks changed the host."""
        return self.recap[host]["changed"]

    def failure(self, host: str) -> str:
        """The message by which a host's run was ended, on one line; '' when it was not."""
        found = re.findall(rf"^fatal: \[{host}[\] ].*?(?=^(?:\w.*: \[|TASK|PLAY|fatal)|\Z)", self.out, re.M | re.S)
        return " ".join(" ".join(found).split()).replace("''", "'")  # YAML doubles a quote inside quotes

    @property
    def tasks(self) -> int:
        """How many tasks there were; only in a profiled run."""
        found = PROFILE.search(self.out)
        assert found, self.out[-2000:]
        return int(found.group(1))


class Controller:
    """An inventory of beds, and the playbooks run over it."""

    def __init__(self, folder: Path, env: Mapping[str, str], **variables: Any) -> None:
        """Make the folders; `env` is added to the environment of every run, `variables` are those of all hosts."""
        self.folder, self._env = folder, dict(env)
        self.inventory = folder / "inventory"
        self.inventory.mkdir(parents=True)
        self.variables = variables
        self.hosts: Dict[str, Json] = {}
        #: The checkout that is run; a test of an upgrade begins with another one.
        self.project = PROJECT
        self._number = 0

    def add(self, name: str, variables: Mapping[str, Any]) -> None:
        """A host, with how to reach it."""
        self.hosts[name] = dict(variables)

    def lock_file(self, name: str) -> Path:
        """Where a host's lock is."""
        if self.project != PROJECT:
            return self.inventory / "host_vars" / name / "stack.json"
        return self.folder / "locks" / name / "stack.json"

    def lock(self, name: str) -> Json:
        """A host's lock, with its files, as a generation keeps it."""
        return lock.load(self.lock_file(name))

    def edit_lock(self, name: str, edit: Callable[[Json], None], suffix: str = "") -> None:
        """Change a host's lock in place, or with a suffix the one beside it; its files stay."""
        file = self.lock_file(name).with_name("stack.json" + suffix)
        value = dict(json.loads(file.read_text(encoding="utf-8"))["gpuhost_lock"])
        edit(value)
        file.write_text(json.dumps({"gpuhost_lock": value}, indent=2) + "\n", encoding="utf-8")

    def start(self, playbook: str, *arguments: str, env: Optional[Mapping[str, str]] = None) -> subprocess.Popen[bytes]:
        """Start ansible-playbook in a process group of its own, with its output in a file; see `finish`."""
        group = {"gpu_hosts": {"hosts": self.hosts, "vars": self.variables}}
        file = self.inventory / "hosts.json"
        file.write_text(json.dumps(group), encoding="utf-8")
        self._number += 1
        self.log = self.folder / f"run-{self._number:03}.log"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PIP_", "PYTEST_"))}
        environment.update(
            ANSIBLE_CONFIG=str(self.project / "ansible.cfg"),
            PYTHONPATH=str(self.project / "src"),
            ANSIBLE_LOCAL_TEMP=str(self.folder / "local"),
            ANSIBLE_HOME=str(self.folder / "home"),
            # A connection of a host that was killed meanwhile must not be taken up again.
            ANSIBLE_SSH_CONTROL_PATH_DIR=str(self.folder / f"ssh-{self._number}"),
            ANSIBLE_NOCOLOR="1",
            ANSIBLE_DISPLAY_OK_HOSTS="1",
            ANSIBLE_FORKS="5",
            ANSIBLE_CALLBACKS_ENABLED="gpuhost_profile",
            XDG_CACHE_HOME=str(self.folder / "cache"),
            **self._env,
            **(env or {}),
        )
        with self.log.open("wb") as out:
            command = [sys.executable, "-m", "ansible", "playbook", "-i", str(file), str(self.project / playbook)]
            return subprocess.Popen(
                [*command, *arguments],
                cwd=str(self.project),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self, process: subprocess.Popen[bytes], begun: float, timeout: float) -> Run:
        """Wait for a run; it is killed with all its processes after `timeout` seconds."""
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill(process)
            raise AssertionError(f"no end after {timeout} s:\n{self.said()[-3000:]}") from None
        return Run(process.returncode, self.said(), time.monotonic() - begun)

    def run(self, playbook: str, *arguments: str, timeout: float = 900, env: Optional[Mapping[str, str]] = None) -> Run:
        """Run a playbook of the project over the inventory to its end."""
        begun = time.monotonic()
        return self.finish(self.start(playbook, *arguments, env=env), begun, timeout)

    def ok(self, playbook: str, *arguments: str, timeout: float = 900) -> Run:
        """The same, and it must succeed on every host."""
        done = self.run(playbook, *arguments, timeout=timeout)
        assert done.rc == 0, done.out[-6000:]
        return done

    def said(self) -> str:
        """The output of the last run so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @staticmethod
    def kill(process: subprocess.Popen[bytes]) -> None:
        """SIGKILL a run with all its processes."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def verify(self, *arguments: str, only: Optional[str] = None, timeout: float = 600) -> Dict[str, Json]:
        """Run `pytest verify/` over the inventory, or one host of it; each host's report."""
        folder = self.folder / "reports"
        wanted = [only] if only else list(self.hosts)
        # A bare name is one of the inventory, as the runbook has it.
        names = only or ",".join(f"ansible://{name}" for name in wanted)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "verify/",
                "-p",
                "no:cacheprovider",
                f"--hosts={names}",
                f"--ansible-inventory={self.inventory / 'hosts.json'}",
                f"--gpuhost-reports={folder}",
                *arguments,
            ],
            cwd=str(PROJECT),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
        self.verified = done.stdout
        found = {}
        for name in wanted:
            file = folder / name / "report.json"
            assert file.exists(), done.stdout[-4000:]
            found[name] = dict(json.loads(file.read_text(encoding="utf-8")))
        return found


def with_status(report: Json, status: str) -> List[str]:
    """The ids of a report's checks that ended so."""
    return [str(check["id"]) for check in report["checks"] if check["status"] == status]
