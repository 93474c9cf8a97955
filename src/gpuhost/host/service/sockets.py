"""Who listens on which TCP port of a host, from /proc. Runs on the target: Python 3.6, standard library. Reads only."""

import contextlib
import ipaddress
import os
import re
import socket
import struct
from typing import Any, Dict, Iterator, List, NamedTuple, Set

from ..edges import Edges

_LISTENS = "0A"
_TABLES = (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6))
_INODE = re.compile(r"socket:\[([0-9]+)\]")


class Listening(NamedTuple):
    """A socket that listens: its address and port, and the names of the programs that have it (root sees all)."""

    address: str
    port: int
    programs: List[str]


def decoded(text: str, family: Any) -> str:
    """Return an address of /proc/net/tcp, which is written in words of the machine's byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))


def listening(edges: Edges) -> List[Listening]:
    """Return every TCP socket that listens, with the programs behind it."""
    rows = table(edges)
    holders = owners(edges, {row.inode for row in rows})
    found = []
    for row in rows:
        names = {(edges.text(f"/proc/{pid}/comm") or "?").strip() for pid in holders.get(row.inode, ())}
        found.append(Listening(row.address, row.port, sorted(names)))
    return found


class Row(NamedTuple):
    """A socket that listens, as the kernel lists it."""

    address: str
    port: int
    inode: str


def table(edges: Edges) -> List[Row]:
    """Return the sockets that listen, without who has them."""
    rows = []
    for file, family in _TABLES:
        for line in (edges.text(file) or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENS:
                where, _, port = fields[1].partition(":")
                rows.append(Row(decoded(where, family), int(port, 16), fields[9]))
    return rows


def owners(edges: Edges, inodes: Set[str]) -> Dict[str, Set[str]]:
    """Return the process numbers that hold each of these sockets."""
    found: Dict[str, Set[str]] = {}
    for pid in filter(str.isdigit, edges.names("/proc") or []):
        for target in opened(edges, pid):
            match = _INODE.fullmatch(target)
            if match and match.group(1) in inodes:
                found.setdefault(match.group(1), set()).add(pid)
    return found


def opened(edges: Edges, pid: str) -> Iterator[str]:
    """Return what the descriptors of a process lead to; nothing of another user's, or of one that has ended."""
    try:
        links = list(edges.path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return
    for link in links:
        with contextlib.suppress(OSError):  # closed meanwhile, as the one by which this folder is read
            yield os.readlink(str(link))


def meets(one: str, other: str) -> bool:
    """Return whether two addresses cannot both be listened on with the same port: they are the same, or one is all."""
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if first.version != second.version:
        # [::] takes IPv4's connections too, unless it was opened otherwise.
        return str(first) == "::" or str(second) == "::"
    return first == second or first.is_unspecified or second.is_unspecified


def taken(rows: List[Listening], address: str, port: int) -> List[Listening]:
    """Return what listens where a new socket at this address would."""
    return [row for row in rows if row.port == port and meets(row.address, address)]
