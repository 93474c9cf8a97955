"""The booted machine: systemd-nspawn, its reboots and its death."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Sequence, Union

from .commands import BedError, wait_until
from .network import RUN

# systemd-nspawn's exit code when the machine asked to be rebooted (measured, version 252).
REBOOT = 133
BOOT_SECONDS = 90
# Moves itself into control groups of its own before it becomes systemd-nspawn: two machines under one group
# would fight over its children.
_ENTER_GROUPS = (
    'n=$1; shift; for d in $(echo "$1" | tr : " "); do '
    'mkdir -p "$d/$n" && echo $$ >"$d/$n/cgroup.procs" || exit 1; '
    'done; shift; exec "$@"'
)


class Hooks(NamedTuple):
    """What a kind of bed adds to each boot: before it, and when process 1 is there (its outer id)."""

    before: Callable[[], None] = lambda: None
    started: Callable[[int], None] = lambda leader: None


class Machine:
    """A root that is booted, rebooted when it asks for it, and killed; a thread holds the process."""

    def __init__(
        self,
        name: str,
        root: Path,
        prefix: Sequence[str],
        args: Sequence[str],
        console: Path,
        hooks: Hooks = Hooks(),  # noqa: B008 - a tuple, which nobody can change
    ) -> None:
        """Describe the machine.

        `prefix` is the command in front of systemd-nspawn, `args` are more options of it, and what the machine
        prints on its console is added to the file `console`. `hooks` are called at each boot.
        """
        self._hooks = hooks
        self.name = name
        self.console = console
        self._argv = [*_groups_of_its_own(name), *prefix, "systemd-nspawn", "--boot", f"--directory={root}"]
        self._argv += [f"--machine={name}", "--register=no", "--keep-unit", "--notify-ready=yes", *args]
        self._argv += ["--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only"]
        # A machine that is killed loses nothing of the page cache, which is the outer machine's: waiting for the disk,
        # as dpkg does for each file, would prove nothing here.
        self._argv += ["--suppress-sync=yes"]
        self._changed = threading.Condition()
        self._thread: Optional[threading.Thread] = None
        self._dying = False
        self._leader: Optional[int] = None
        self._end: Union[int, str, None] = None
        self.boots = 0
        self.boot_seconds = 0.0

    @property
    def leader(self) -> int:
        """The machine's process 1, by its id on the outer machine; BedError when it is off."""
        if self._leader is None:
            raise BedError(f"{self.name} is not running; boot() starts it again")
        return self._leader

    def start(self) -> None:
        """Boot, and return when systemd has finished its start-up; else BedError with the console's end."""
        if self._thread is not None and self._thread.is_alive():
            raise BedError(f"{self.name} is running already")
        self._dying, self._end = False, None
        before = self.boots
        self._thread = threading.Thread(target=self._hold, name=self.name, daemon=True)
        self._thread.start()
        self.wait_for_boot(before)

    def wait_for_boot(self, before: int) -> None:
        """Return when the machine has come up more often than `before` times."""
        with self._changed:
            ready = self._changed.wait_for(lambda: self.boots > before or self._end is not None, BOOT_SECONDS)
        if self.boots <= before:
            said = self.console.read_text(errors="replace")[-2000:] if self.console.exists() else ""
            why = f"ended with {self._end}" if ready else f"did not come up within {BOOT_SECONDS} s"
            raise BedError(f"{self.name} {why}; its console said:\n{said}")

    def kill(self) -> None:
        """SIGKILL everything in the machine, as a power cut would, and wait until nothing of it runs."""
        self._dying = True
        if self._leader is not None:
            # Process 1 first: the kernel ends the rest, and nspawn, which survives, cleans up after itself.
            _signal(self._leader)
        if self._thread is not None:
            self._thread.join(timeout=10)
        kill_group(self.name)
        if self._thread is not None:
            self._thread.join(timeout=10)
            self._thread = None

    def _hold(self) -> None:
        """Run systemd-nspawn until the machine is off, again after each reboot; the thread's whole work."""
        end: Union[int, str]
        try:
            end = self._boot_again_and_again()
        except Exception as error:  # noqa: BLE001 - whoever waits for the boot has to hear of it
            end = repr(error)
        with self._changed:
            self._end = end
            self._changed.notify_all()

    def _boot_again_and_again(self) -> int:
        """One boot after another while the machine asks for it; the exit code of the last."""
        code = 0
        address = RUN / f"{self.name}.notify"
        while not self._dying:
            self._hooks.before()
            address.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages, self.console.open("ab") as console:
                messages.bind(str(address))
                messages.settimeout(0.1)
                # TMPFS_TMP=0: /tmp stays on disk, as on a real Debian 12, and not in a tenth of the memory.
                env = dict(os.environ, NOTIFY_SOCKET=str(address), SYSTEMD_NSPAWN_TMPFS_TMP="0")
                process = subprocess.Popen(
                    self._argv, env=env, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT
                )
                code = self._listen(process, messages)
            address.unlink()
            if code != REBOOT:
                break
        return code

    def _listen(self, process: subprocess.Popen[bytes], messages: socket.socket) -> int:
        """Follow one boot through nspawn's notifications (sd_notify(3)); the exit code of the process."""
        started = time.monotonic()
        while process.poll() is None:
            try:
                message = messages.recv(4096).decode()
            except socket.timeout:
                continue
            leader = re.search(r"^X_NSPAWN_LEADER_PID=(\d+)", message, re.MULTILINE)
            if leader and self._leader is None:
                self._hooks.started(int(leader.group(1)))
            with self._changed:
                if leader:
                    self._leader = int(leader.group(1))
                if re.search(r"^READY=1", message, re.MULTILINE):
                    self.boots += 1
                    self.boot_seconds = time.monotonic() - started
                self._changed.notify_all()
        with self._changed:
            self._leader = None
        return int(process.returncode)


def processes(name: str) -> List[int]:
    """The ids of all processes in the control groups of the machine `name`, dead ones left out."""
    found: List[int] = []
    mark = re.compile(rf"(?m)/{re.escape(name)}(\.scope)?(/|$)")
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                alive = "\nState:\tZ" not in (folder / "status").read_text()
                if alive and mark.search((folder / "cgroup").read_text()):
                    found.append(int(folder.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def kill_group(name: str) -> None:
    """SIGKILL what is in the machine's control groups, also when its owner is gone, and remove them."""

    def none_left() -> bool:
        """Kill what is there now; true when nothing was."""
        left = processes(name)
        for pid in left:
            _signal(pid)
        return not left

    wait_until(none_left, 20, f"ending the processes of {name}")
    for parent in _hierarchies():
        top = parent / name
        wait_until(lambda top=top: _remove_group(top), 20, f"removing {top}")  # type: ignore[misc]


def _remove_group(top: Path) -> bool:
    """Remove a control group and those in it; false while the kernel still counts an ended process in one."""
    groups = [path for path in top.rglob("*") if path.is_dir()] if top.is_dir() else []
    try:
        for folder in sorted(groups, reverse=True):
            folder.rmdir()
        if top.is_dir():
            top.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _signal(pid: int) -> None:
    """SIGKILL a process; one that is gone already is as good."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _groups_of_its_own(name: str) -> List[str]:
    """The command in front of systemd-nspawn that puts it into control groups named after the machine."""
    if Path("/run/systemd/system").is_dir():
        scope = [
            "systemd-run",
            "--scope",
            "--quiet",
            "--collect",
            f"--unit={name}",
            "--property=Delegate=yes",
        ]
        return [*scope, "--"]
    return ["sh", "-c", _ENTER_GROUPS, "sh", name, ":".join(str(path) for path in _hierarchies())]


def _hierarchies() -> List[Path]:
    """Where systemd's own control group trees are mounted: version 2, the named one of version 1, or both."""
    found: List[Path] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(before.split()[4]))
    return found
