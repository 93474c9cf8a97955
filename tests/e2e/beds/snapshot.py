"""The state of a bed's files and packages, to prove that something changed nothing, or just what."""

from __future__ import annotations

import hashlib
from typing import Callable, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

FOLDERS = ("/boot", "/etc", "/opt", "/root", "/usr")


class Entry(NamedTuple):
    """One file, folder or link: `size` in bytes (a folder: 0), `digest` the sha256 of content or target."""

    path: str
    mode: str
    size: int
    digest: str


class Snapshot(NamedTuple):
    """All entries below the folders asked for, and every installed package as "name version status"."""

    entries: FrozenSet[Entry]
    packages: FrozenSet[str]

    def changes_to(self, later: Snapshot) -> List[str]:
        """One line for each path and package that `later` has otherwise; empty when nothing changed."""
        before, after = _by_path(self.entries), _by_path(later.entries)
        lines = [
            f"{'added' if path not in before else 'removed' if path not in after else 'changed'} {path}"
            for path in sorted(before.keys() | after.keys())
            if before.get(path) != after.get(path)
        ]
        lines += [f"package gone: {row}" for row in sorted(self.packages - later.packages)]
        return lines + [f"package new: {row}" for row in sorted(later.packages - self.packages)]


#: What was read of a file: its inode, size and time of change (ctime), and the sha256 of its content then.
Known = Dict[str, Tuple[str, str]]


def take(read: Callable[..., bytes], folders: Sequence[str] = FOLDERS, known: Optional[Known] = None) -> Snapshot:
    """Read a snapshot through `read`, which runs a command in the bed and returns its standard output.

    A folder that does not exist counts as empty, so that its later arrival is a change. Other file systems mounted
    below a folder are left out. `known` is what earlier snapshots of this bed have read, and is brought up to date: a
    file whose inode, size and ctime, which no program can set, are as they were is not read again.
    """
    known = {} if known is None else known
    there = [name for name in folders if read(["sh", "-c", 'test -d "$1" && echo yes || true', "sh", name]).strip()]
    entries: FrozenSet[Entry] = frozenset()
    if there:
        listing = read(["find", *there, "-xdev", "-printf", r"%y\t%#m\t%s\t%i %C@\t%p\t%l\0"])
        rows = [row.split("\t", 4) for row in listing.decode("utf-8", "surrogateescape").split("\0") if row]
        stamps = {row[4].rpartition("\t")[0]: f"{row[2]} {row[3]}" for row in rows if row[0] == "f"}
        unread = [path for path, stamp in stamps.items() if known.get(path, ("",))[0] != stamp]
        names = "".join(path + "\0" for path in unread).encode("utf-8", "surrogateescape")
        sums = read(["xargs", "--null", "--no-run-if-empty", "sha256sum", "--zero", "--"], stdin=names)
        for row in filter(None, sums.decode("utf-8", "surrogateescape").split("\0")):
            known[row[66:]] = (stamps[row[66:]], row[:64])
        entries = frozenset(entry(row, known) for row in rows)
    packages = read(["dpkg-query", "--show", "--showformat", r"${Package}:${Architecture} ${Version} ${Status}\n"])
    return Snapshot(entries, frozenset(packages.decode().splitlines()))


def entry(row: Sequence[str], known: Known) -> Entry:
    """The entry of a row of find's listing (type, mode, size, inode and ctime, path and link target)."""
    kind, mode, size, _, rest = row
    path, _, target = rest.rpartition("\t")
    digest = known[path][1] if kind == "f" else ""
    if kind == "l":
        digest = hashlib.sha256(target.encode("utf-8", "surrogateescape")).hexdigest()
    # The size of a folder is the file system's business and differs between an overlay and a copy.
    return Entry(path, kind + mode, 0 if kind == "d" else int(size), digest)


def _by_path(entries: FrozenSet[Entry]) -> Dict[str, Entry]:
    """The entries, to be looked up by path."""
    return {entry.path: entry for entry in entries}
