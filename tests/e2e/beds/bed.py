"""The bed: a bare Debian machine, booted for one test and gone after it."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Dict, List, Mapping, Optional, Sequence, Type

from . import settings, snapshot
from .base import PACKAGES, QUICK_INITRAMFS, BaseRoot, Copy, cache_root, remove_work, require_tools
from .commands import BedError, CommandFailed, host, stream
from .machine import Hooks, Machine, kill_group, processes
from .network import HostNetwork, Slot, VethNetwork

# What a login shell of root has on Debian, beside what settings.environment() takes over.
ROOT_ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LOGNAME": "root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL": "/bin/bash",
    "TERM": "dumb",
    "USER": "root",
}
PROJECT = Path(__file__).resolve().parents[3]
CLONE = "/root/gpuhost"


class Bed:
    """A throw-away machine, as a context manager: entering it builds and boots, leaving it removes all."""

    def __init__(
        self,
        packages: Sequence[str] = PACKAGES,
        network: str = "veth",
        binds: Optional[Mapping[str, str]] = None,
        logs: Optional[Path] = None,
        codename: str = settings.CODENAME,
    ) -> None:
        """Describe a bed; nothing is made before the `with` block.

        `packages`: what the base root holds beside the essential packages. `network`: "veth" for an address
        of its own behind NAT, "host" to share the outer machine's. `binds`: folders of the outer machine to
        show read-only in the bed, to where they stand there. `logs`: a folder for what commands and the
        console say. `codename`: the release of Debian.
        """
        if network not in ("veth", "host"):
            raise BedError(f"network is 'veth' or 'host', not {network!r}")
        self.packages = tuple(packages)
        self.network_kind = network
        self.binds = dict(binds or {})
        self._logs = logs
        self.codename = codename
        self._known: snapshot.Known = {}
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count(1)

    @classmethod
    def fresh(
        cls,
        packages: Sequence[str] = PACKAGES,
        network: str = "veth",
        binds: Optional[Mapping[str, str]] = None,
        logs: Optional[Path] = None,
        codename: str = settings.CODENAME,
    ) -> Bed:
        """A bed with a fresh copy of the base root; see __init__ for the arguments."""
        return cls(packages, network, binds, logs, codename)

    def __enter__(self) -> Bed:
        """Take a slot, clear what a killed owner left in it, copy the base root, connect it and boot it."""
        require_tools()
        with contextlib.ExitStack() as stack:
            self.slot = Slot()
            stack.callback(self.slot.release)
            self.name = self.slot.name
            kill_group(self.name)
            VethNetwork(self.slot).down()
            if self.slot.stale_work:
                remove_work(Path(self.slot.stale_work))
            self.logs = self._logs or cache_root() / "logs" / self.name
            if self._logs is None and self.logs.exists():
                shutil.rmtree(self.logs)
            self.logs.mkdir(parents=True, exist_ok=True)
            self._log = stack.enter_context((self.logs / "commands.log").open("a"))
            self.base = self._base_root()
            lower = stack.enter_context(self.base.lease())
            work = Path(tempfile.mkdtemp(prefix=self.name + "-", dir="/var/tmp"))
            self.slot.owns(work)
            stack.callback(self.slot.owns, None)
            stack.callback(remove_work, work)
            self.copy = Copy(lower, work)
            self.network = VethNetwork(self.slot) if self.network_kind == "veth" else HostNetwork()
            stack.callback(self.network.down)
            self.network.up()
            self._furnish(self.copy.root)
            args = [f"--bind-ro={outer}:{inner}" for outer, inner in self.binds.items()] + self._hardware(work)
            hooks = Hooks(self._power_on, self._started)
            console = self.logs / "console.log"
            self.machine = Machine(self.name, self.copy.root, self.network.prefix, args, console, hooks)
            stack.callback(self.machine.kill)
            self.boot()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Kill the machine and remove its network, its folder and its slot, whatever happened inside."""
        self._stack.close()

    def boot(self) -> None:
        """Start the machine, after kill() again, and wait until systemd has finished its start-up."""
        self.machine.start()

    def kill(self) -> None:
        """SIGKILL everything in the machine; its disk stays for the next boot()."""
        self.machine.kill()

    def reboot(self) -> None:
        """Reboot from the inside, as an administrator does, and wait until the machine is up again."""
        before = self.machine.boots
        host([*self._enter(), "systemctl", "reboot"], check=False)
        self.machine.wait_for_boot(before)

    def state(self) -> str:
        """systemd's word for the machine: "running", or another one with the names of the failed units."""
        word = self._read(["systemctl", "is-system-running"], check=False).decode().strip()
        if word == "running":
            return word
        failed = self._read(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).decode()
        return f"{word}: {', '.join(line.split()[0] for line in failed.splitlines())}"

    def processes(self) -> List[int]:
        """The machine's processes, by their ids on the outer machine."""
        return processes(self.name)

    def run(
        self,
        argv: Sequence[str],
        check: bool = True,
        timeout: float = 300,
        env: Optional[Mapping[str, str]] = None,
        cwd: str = "/root",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in the machine, in a unit of its own; what it says is logged and shown.

        CommandFailed when it exits with another code than 0 and `check` is set (a command ended by a signal
        counts as 255); subprocess.TimeoutExpired after `timeout` seconds, when all its processes are killed.
        A background process outlives the command that started it, as after a login. `env` adds variables.
        """
        unit = f"bed-run-{next(self._numbers)}.service"
        call = [*self._enter(), "systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={unit}"]
        call += ["--service-type=exec", "--property=KillMode=process", f"--working-directory={cwd}"]
        call += [f"--setenv={key}={value}" for key, value in {**self._environment(), **(env or {})}.items()]
        # systemd.service(5), "Command lines": variables are substituted in arguments, $$ is one dollar.
        call += ["--", "/usr/bin/env", "--", *(word.replace("$", "$$") for word in argv)]
        self._log.write(f"\n{self.name}:{cwd}# {' '.join(argv)}\n")

        def end() -> None:
            """Kill every process of the unit, not only the first."""
            kill = ["systemctl", "kill", "--kill-whom=all", "--signal=KILL", unit]
            host([*self._enter(), *kill], check=False)

        try:
            done = stream(call, log=self._log, timeout=timeout, on_timeout=end)
        except subprocess.TimeoutExpired as late:
            raise subprocess.TimeoutExpired(list(argv), timeout, late.output, late.stderr) from None
        if check and done.returncode != 0:
            raise CommandFailed(done.returncode, list(argv), done.stdout, done.stderr)
        return subprocess.CompletedProcess(list(argv), done.returncode, done.stdout, done.stderr)

    def push(self, source: Path, target: str) -> None:
        """Copy a file or a folder into the machine, to exactly the path `target`, owned by root."""
        parent, name = os.path.split(target.rstrip("/"))
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(str(source), arcname=name, filter=_as_root)
        self._read(["mkdir", "-p", parent])
        self._read(["tar", "--extract", "--preserve-permissions", "--directory", parent], stdin=packed.getvalue())

    def pull(self, path: str, into: Optional[Path] = None) -> Path:
        """Copy a file or a folder out of the machine into a folder (`logs`/pulled); the copy's path."""
        parent, name = os.path.split(path.rstrip("/"))
        folder = into or self.logs / "pulled"
        folder.mkdir(parents=True, exist_ok=True)
        packed = self._read(["tar", "--create", "--directory", parent, "--", name], timeout=600)
        host(["tar", "--extract", "--no-same-owner", "--directory", str(folder)], stdin=packed, timeout=600)
        return folder / name

    def read(self, path: str) -> str:
        """The text of a file in the machine."""
        return self._read(["cat", "--", path]).decode()

    def snapshot(self, folders: Sequence[str] = snapshot.FOLDERS) -> snapshot.Snapshot:
        """All files below `folders` with mode, size and sha256, and the installed packages."""
        return snapshot.take(functools.partial(self._read, timeout=300), folders, self._known)

    def clone_project(self, source: Path = PROJECT) -> str:
        """Put a fresh `git clone` of the repository's HEAD at /root/gpuhost; the commit's name.

        Work that is not committed does not come along, as in any clone.
        """
        git = ["git", "-C", str(source)]
        head = host([*git, "rev-parse", "--verify", "--quiet", "HEAD"], check=False).stdout.decode().strip()
        if not head:
            raise BedError(f"{source} has no commit to clone; commit first")
        if host([*git, "rev-parse", "--is-shallow-repository"]).stdout.strip() == b"true":
            raise BedError(f"{source} is a shallow clone, which cannot be cloned on; run: git fetch --unshallow")
        branch = host([*git, "symbolic-ref", "--quiet", "HEAD"], check=False).stdout.decode().strip()
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder) / "project.bundle"
            host([*git, "bundle", "create", str(bundle), "HEAD", *([branch] if branch else [])])
            self.push(bundle, "/root/project.bundle")
        self.run(["git", "clone", "--quiet", "/root/project.bundle", CLONE])
        self.run(["rm", "/root/project.bundle"])
        return head

    def _environment(self) -> Dict[str, str]:
        """The variables that each command gets."""
        return {**ROOT_ENVIRONMENT, **settings.environment(os.environ, self._visible())}

    def _visible(self) -> List[str]:
        """The outer machine's folders that stand at the same path in the bed."""
        return [outer for outer, inner in self.binds.items() if outer == inner]

    def _furnish(self, root: Path) -> None:
        """Write the machine's own name, name servers and pip settings into its root, before it boots."""
        if self.network_kind == "veth":
            proxies = settings.loopback_proxies(self._environment())
            if proxies:
                raise BedError(f"{', '.join(proxies)} names this machine itself; use network='host'")
        servers = "".join(f"nameserver {server}\n" for server in self.network.nameservers())
        (root / "etc/resolv.conf").write_text(servers)
        (root / "etc/hostname").write_text(self.name + "\n")
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n::1 localhost\n")
        initramfs = root / "etc/initramfs-tools/conf.d/bed"
        initramfs.parent.mkdir(parents=True, exist_ok=True)
        initramfs.write_text(QUICK_INITRAMFS)
        texts = [path.read_text() for path in _pip_files() if path.is_file()]
        conf = settings.pip_conf(texts, self._visible())
        if conf:
            (root / "etc/pip.conf").write_text(conf)

    def _base_root(self) -> BaseRoot:
        """The root that this bed is a copy of."""
        return BaseRoot(self.packages, self.codename)

    def _hardware(self, work: Path) -> List[str]:
        """More options of systemd-nspawn, for a kind of bed that shows other hardware; files go below `work`."""
        return []

    def _power_on(self) -> None:
        """Before each boot, also one asked for from inside: nothing, in a plain bed."""

    def _started(self, leader: int) -> None:
        """When process 1, by its outer id, has been made and does nothing yet: nothing, in a plain bed."""

    def _enter(self) -> List[str]:
        """What stands before a command to run it in the machine: its namespaces, a clean environment."""
        path = ROOT_ENVIRONMENT["PATH"]
        return [
            "nsenter",
            f"--target={self.machine.leader}",
            "--all",
            "env",
            "-i",
            f"PATH={path}",
            "LANG=C.UTF-8",
        ]

    def _read(self, argv: Sequence[str], stdin: bytes = b"", check: bool = True, timeout: float = 120) -> bytes:
        """The standard output of a short command in the machine, unlogged."""
        return host([*self._enter(), *argv], stdin=stdin, check=check, timeout=timeout).stdout


def _pip_files() -> List[Path]:
    """Where pip reads its configuration on the outer machine, weakest first (pip's documented order)."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), Path.home() / ".pip/pip.conf"]
    files.append(config / "pip/pip.conf")
    named = os.environ.get("PIP_CONFIG_FILE")
    return [*files, Path(named)] if named else files


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The archive member, owned by root."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


__all__ = ["CLONE", "PROJECT", "Bed"]
