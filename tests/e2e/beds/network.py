"""A bed's network: a namespace, a veth pair and a masquerade rule of its own, or the outer machine's network.

A bed has a numbered slot. All its names on the outer machine follow from the number, so whoever gets a slot
next can clear away what a killed owner left. The kernel drops the lock on a slot when its owner dies.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import IO, List, Optional, Tuple

from . import settings
from .commands import BedError, host

RUN = Path("/run/gpuhost-e2e")
SLOTS = 64
# RFC 2544 sets 198.18.0.0/15 apart for tests between devices, so no real network is hidden. Slot n has the
# /30 that starts at 198.18.0.0 + 4n.
RANGE = "198.18.0.0/15"


class Slot:
    """A number that is this bed's alone while the object is held."""

    def __init__(self) -> None:
        """Take the lowest free number; BedError when all are in use."""
        RUN.mkdir(parents=True, exist_ok=True)
        for number in range(SLOTS):
            handle = _try_lock(RUN / f"slot-{number}")
            if handle is not None:
                self._handle: IO[str] = handle
                self.number = number
                self.name = f"gpuhost-bed-{number}"
                self.stale_work = handle.read().strip()
                return
        raise BedError(f"all {SLOTS} bed slots under {RUN} are in use")

    def owns(self, work: Optional[Path]) -> None:
        """Write down the folder the bed lives in (None: no more), for whoever finds the slot after a kill."""
        self._handle.seek(0)
        self._handle.truncate()
        self._handle.write(str(work or ""))
        self._handle.flush()

    def release(self) -> None:
        """Let others have the number."""
        self._handle.close()


def first_address(number: int) -> str:
    """The outer machine's address in the /30 of a slot."""
    return f"198.18.{4 * number // 256}.{4 * number % 256 + 1}"


class ServiceAddress:
    """An address on the outer machine that it and all beds reach, for a server that a test runs there.

    It takes a bed's slot, and so cannot meet a bed's address, and is cleared away like what a killed bed left.
    """

    def __init__(self) -> None:
        """Take a slot and put its address on the loopback link."""
        self._slot = Slot()
        VethNetwork(self._slot).down()
        self.address = first_address(self._slot.number)
        host(["ip", "address", "add", f"{self.address}/32", "dev", "lo"])

    def close(self) -> None:
        """Take the address away."""
        host(["ip", "address", "delete", f"{self.address}/32", "dev", "lo"])
        self._slot.release()


class HostNetwork:
    """No network of its own: the bed shares the outer machine's addresses and ports."""

    address = ""
    prefix: Tuple[str, ...] = ()

    def up(self) -> None:
        """Nothing to make."""

    def down(self) -> None:
        """Nothing to remove."""

    def nameservers(self) -> List[str]:
        """The outer machine's name servers, as its resolv.conf gives them."""
        return settings.nameservers(Path("/etc/resolv.conf").read_text())


class VethNetwork:
    """One address behind NAT, reached from the outer machine and from other beds, gone with `down()`."""

    def __init__(self, slot: Slot) -> None:
        """Derive every name and address from the slot; nothing is made yet."""
        first = 4 * slot.number
        self.gateway = first_address(slot.number)
        self.address = f"198.18.{first // 256}.{first % 256 + 2}"
        self.name = slot.name
        self.link = f"gpuhost-bed{slot.number}"
        self.table = f"gpuhost_bed_{slot.number}"
        # What starts the machine in the namespace. systemd-nspawn's own --network-namespace-path would leave the
        # outer machine's links in the bed's /sys (measured, version 252).
        self.prefix = ("nsenter", f"--net=/run/netns/{self.name}")

    def up(self) -> None:
        """Make the namespace, the pair (`host0` inside) and the rule; allow forwarding on two links."""
        uplink, mtu = _uplink()
        host(["ip", "netns", "add", self.name])
        inside = ["ip", "-n", self.name]
        host(
            [
                "ip",
                "link",
                "add",
                self.link,
                "mtu",
                mtu,
                "type",
                "veth",
                "peer",
                "host0",
                "mtu",
                mtu,
                "netns",
                self.name,
            ]
        )
        host(["ip", "addr", "add", f"{self.gateway}/30", "dev", self.link])
        host(["ip", "link", "set", self.link, "up"])
        host([*inside, "addr", "add", f"{self.address}/30", "dev", "host0"])
        host([*inside, "link", "set", "lo", "up"])
        host([*inside, "link", "set", "host0", "up"])
        host([*inside, "route", "add", "default", "via", self.gateway])
        rule = (
            f"table ip {self.table} {{ chain postrouting {{ type nat hook postrouting priority srcnat; "
            f"ip saddr {self.address} ip daddr != {RANGE} masquerade; }}; }}\n"
        )
        host(["nft", "--file", "-"], stdin=rule.encode())
        _forwarding(self.link).write_text("1")
        _allow_forwarding(uplink)

    def down(self) -> None:
        """Remove all of it, whether complete or not; the last bed restores forwarding as it was."""
        if (Path("/run/netns") / self.name).exists():
            host(["ip", "netns", "delete", self.name])
        if f" {self.gateway}/32 " in host(["ip", "address", "show", "dev", "lo"]).stdout.decode():
            host(["ip", "address", "delete", f"{self.gateway}/32", "dev", "lo"])
        # The pair goes with its namespace, but only when the last process in there is gone permanently.
        if (Path("/sys/class/net") / self.link).exists():
            host(["ip", "link", "delete", self.link], check=False)
        if host(["nft", "list", "table", "ip", self.table], check=False).returncode == 0:
            host(["nft", "delete", "table", "ip", self.table])
        _restore_forwarding()

    def nameservers(self) -> List[str]:
        """Name servers that can be reached from behind NAT; BedError when the machine only names itself."""
        for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
            found = settings.nameservers(path.read_text()) if path.is_file() else []
            usable = [server for server in found if not server.startswith("127.") and server != "::1"]
            if usable:
                return usable
        raise BedError("this machine's resolv.conf names no server that a bed could reach; use network='host'")


def _try_lock(path: Path) -> Optional[IO[str]]:
    """The file, open and locked, or None when another process holds it."""
    handle = path.open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    handle.seek(0)
    return handle


def _uplink() -> tuple[str, str]:
    """The link of the default route and its MTU."""
    routes = json.loads(host(["ip", "-json", "-4", "route", "show", "default"]).stdout or b"[]")
    if not routes:
        raise BedError("this machine has no IPv4 default route, so a bed could reach no archive")
    link = str(routes[0]["dev"])
    return link, (Path("/sys/class/net") / link / "mtu").read_text().strip()


def _forwarding(link: str) -> Path:
    """The kernel's switch that lets packets arriving on `link` be routed on."""
    return Path("/proc/sys/net/ipv4/conf") / link / "forwarding"


def _allow_forwarding(uplink: str) -> None:
    """Switch forwarding on for the uplink, keeping the first value seen until the last bed is gone."""
    with (RUN / "forwarding.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        saved = RUN / "forwarding"
        if not saved.exists():
            saved.write_text(f"{uplink} {_forwarding(uplink).read_text().strip()}")
        _forwarding(uplink).write_text("1")


def _restore_forwarding() -> None:
    """Set the uplink back as it was found, if no other bed's link is there."""
    with (RUN / "forwarding.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        saved = RUN / "forwarding"
        others = [name for name in os.listdir("/sys/class/net") if name.startswith("gpuhost-bed")]  # noqa: PTH208 - names only
        if saved.exists() and not others:
            link, value = saved.read_text().split()
            _forwarding(link).write_text(value)
            saved.unlink()
