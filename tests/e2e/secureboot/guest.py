"""The emulated machine: QEMU with a Secure Boot firmware, a serial console that is read and typed at, and ssh."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Callable, List, Optional, Sequence, Tuple, Type

from ..beds.commands import BedError, CommandFailed, host
from .card import Card

CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
#: Variables with Microsoft's keys, and without any key: Setup Mode.
WITH_KEYS, SETUP_MODE = Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
#: Without KVM a boot takes minutes, longer on a machine that does other work.
BOOT_SECONDS = 1800
#: Without the extensions for virtual machines, so that no module for them is loaded.
CPU = "qemu64,-svm,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand"
_ESCAPES = re.compile(rb"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][0-9A-B]|[\x00\x07\x0e\x0f]")
_KEPT = 200_000
#: fcntl(2); Python knows it by name from 3.10 on.
F_SETPIPE_SZ = 1031


class Console:
    """The serial console: all that it said as text, and what a person would type.

    By pipes, whose size is a megabyte: a socket takes some 300 bytes that come one by one, and QEMU drops the others
    where the reader is late, so that half a screen is missing.
    """

    def __init__(self, place: Path, log: Path) -> None:
        """Make the pipes at `place`, for QEMU to open; what is said goes to the file `log` too, with its escapes."""
        ends = []
        for name in ("in", "out"):
            pipe = place.with_suffix("." + name)
            pipe.unlink(missing_ok=True)
            os.mkfifo(pipe)
            # Both ends, so that nobody waits for the other one.
            ends.append(os.open(pipe, os.O_RDWR))
        self._in, self._out = ends
        fcntl.fcntl(self._out, F_SETPIPE_SZ, 1 << 20)
        self._log = log.open("ab")
        self._raw = b""
        #: Whether the machine is on; its owner says so.
        self.is_on: Callable[[], bool] = lambda: True

    @property
    def said(self) -> str:
        """The console's text since the last `forget`, without escape sequences."""
        return _ESCAPES.sub(b"", self._raw).decode("utf-8", "replace")

    def forget(self) -> None:
        """Begin again: what was said before is not waited for."""
        self._raw = b""

    def listen(self, seconds: float) -> bool:
        """Read what comes within `seconds`; False when the machine is gone."""
        if not select.select([self._out], [], [], seconds)[0]:
            return self.is_on()
        data = os.read(self._out, 1 << 20)
        self._log.write(data)
        self._log.flush()
        self._raw = (self._raw + data)[-_KEPT:]
        return True

    def wait_for(self, pattern: str, seconds: float) -> str:
        """The first text that the pattern matches; BedError with the end of what was said when it does not come."""
        deadline = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.said)
            if found:
                return found.group(0)
            if time.monotonic() > deadline or not self.listen(0.5):
                raise BedError(f"the console did not say {pattern!r}; it ended with:\n{self.said[-1500:]}")

    def type(self, text: str) -> None:
        """Type it, a key after the other: the firmware drops what comes at once."""
        for key in re.findall(r"\x1b\[.|.|\r", text):
            os.write(self._in, key.encode())
            self.listen(0.3)

    def close(self) -> None:
        """Hang up."""
        os.close(self._in)
        os.close(self._out)
        self._log.close()


class Guest:
    """One emulated machine; its disk is a layer over `image`, its variables a copy of `variables`."""

    def __init__(self, work: Path, image: Path, variables: Path, key: Path) -> None:
        """Make disk and variables in the new folder `work`; the machine stays off. `key` is root's ssh key."""
        work.mkdir(parents=True)
        self.work, self.key = work, key
        #: The card that is in at the next start; the machine's own end of it lives as long as QEMU.
        self.has_card = False
        #: Whether it has a watchdog, which restarts it when nobody has asked it for long enough not to.
        self.has_watchdog = False
        self.card: Optional[Card] = None
        self.console: Optional[Console] = None
        self._process: Optional[subprocess.Popen[bytes]] = None
        self.boots: List[float] = []
        host(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", _kind(image), str(work / "disk")])
        self.variables = work / "variables"
        shutil.copyfile(variables, self.variables)

    def __enter__(self) -> Guest:
        """Nothing is started yet."""
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Pull the plug."""
        self.kill()

    def start(self) -> None:
        """Switch the machine on; `console` is there from the firmware's first word on."""
        self.port = _free_port()
        place = self.work / "console"
        self.console = Console(place, self.work / "console.log")
        argv = ["qemu-system-x86_64", "-machine", "q35,smm=on", "-accel", "tcg,thread=multi"]
        argv += ["-cpu", CPU, "-smp", "2", "-m", "2048", "-nodefaults", "-display", "none"]
        argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
        argv += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={CODE}"]
        argv += ["-drive", f"if=pflash,format=raw,unit=1,file={self.variables}"]
        argv += ["-drive", f"if=none,id=disk,format=qcow2,cache=unsafe,file={self.work / 'disk'}"]
        argv += ["-device", "virtio-blk-pci,drive=disk,bootindex=1"]
        # Shared, so that the process that plays the card may have it.
        argv += ["-object", "memory-backend-memfd,id=memory,size=2048M,share=on", "-machine", "memory-backend=memory"]
        argv += ["-device", "virtio-rng-pci", "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22"]
        argv += ["-device", "virtio-net-pci,netdev=net,romfile="]
        argv += ["-chardev", f"pipe,id=console,path={place}", "-serial", "chardev:console"]
        if self.has_card:
            self.card = Card()
            argv += self.card.arguments
        if self.has_watchdog:
            # systemd takes the one that shows up first, and the board's own does nothing unless it is told so here.
            argv += ["-device", "i6300esb", "-global", "ICH9-LPC.noreboot=false", "-action", "watchdog=reset"]
        kept = [self.card.descriptor] if self.card else []
        with (self.work / "qemu.log").open("ab") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=kept)
        self._process = process
        self.console.is_on = lambda: process.poll() is None
        self._started = time.monotonic()

    def wait_up(self) -> None:
        """Return when the machine answers by ssh: where it is slow, the console's login may have been given up."""
        assert self.console is not None
        deadline = self._started + BOOT_SECONDS
        while self.run(["true"], check=False)[0] != 0:
            if time.monotonic() > deadline or not self.console.listen(5):
                raise BedError(f"no ssh; the console ended with:\n{self.console.said[-1500:]}")
        self.boots.append(time.monotonic() - self._started)

    def boot(self) -> None:
        """Switch on and wait until it can be used."""
        self.start()
        self.wait_up()

    def run(
        self, argv: Sequence[str], check: bool = True, stdin: bytes = b"", timeout: float = 600
    ) -> Tuple[int, str, str]:
        """A command as root, in English: exit status, output, error output; CommandFailed when it fails."""
        words = "LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin " + " ".join(shlex.quote(word) for word in argv)
        done = subprocess.run(
            [*self.ssh(), "root@127.0.0.1", words], input=stdin, capture_output=True, timeout=timeout, check=False
        )
        out, err = (data.decode("utf-8", "replace") for data in (done.stdout, done.stderr))
        if check and done.returncode != 0:
            raise CommandFailed(done.returncode, list(argv), out, err)
        return done.returncode, out, err

    def ssh(self) -> List[str]:
        """ssh with what reaches this machine, one connection for all commands."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
        options += ["ControlMaster=auto", "ControlPersist=600", f"ControlPath={self.work / 'ssh'}"]
        options += ["ConnectTimeout=20", "ServerAliveInterval=30"]
        words = [word for option in options for word in ("-o", option)]
        return ["ssh", "-F", "/dev/null", "-i", str(self.key), "-p", str(self.port), *words]

    def off(self, seconds: float = 300) -> None:
        """Shut the machine down as an administrator does."""
        assert self._process is not None and self.console is not None
        self.run(["systemctl", "poweroff"], check=False)
        deadline = time.monotonic() + seconds
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                raise BedError(f"it does not switch off; its console ended with:\n{self.console.said[-1500:]}")
            self.console.listen(1)
        self.kill()

    def hang_up(self) -> None:
        """Close the connection that the commands share: one to a machine that has restarted only hangs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([*self.ssh(), "-O", "exit", "root@127.0.0.1"], capture_output=True, timeout=10, check=False)

    def kill(self) -> None:
        """End QEMU, and what hangs on it."""
        self.hang_up()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self.card is not None:
            self.card.close()
            self.card = None
        if self.console is not None:
            self.console.close()
            self.console = None


def _kind(image: Path) -> str:
    """The format of an image: a layer over another, or the plain disk."""
    with image.open("rb") as opened:
        return "qcow2" if opened.read(4) == b"QFI\xfb" else "raw"


def _free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])
