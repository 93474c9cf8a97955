"""The state of a bed's files and packages, to prove that something changed nothing, or just what."""

from __future__ import annotations

import hashlib
from typing import Callable, Dict, FrozenSet, List, NamedTuple, Sequence

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


def take(read: Callable[[Sequence[str]], bytes], folders: Sequence[str] = FOLDERS) -> Snapshot:
    """Read a snapshot through `read`, which runs a command in the bed and returns its standard output.

    A folder that does not exist counts as empty, so that its later arrival is a change. Other file systems
    mounted below a folder are left out.
    """
    there = [name for name in folders if read(["sh", "-c", 'test -d "$1" && echo yes || true', "sh", name]).strip()]
    entries: FrozenSet[Entry] = frozenset()
    if there:
        listing = read(["find", *there, "-xdev", "-printf", r"%y\t%#m\t%s\t%p\t%l\0"])
        sums = read(["find", *there, "-xdev", "-type", "f", "-exec", "sha256sum", "--zero", "{}", "+"])
        entries = parse(listing.decode("utf-8", "surrogateescape"), sums.decode("utf-8", "surrogateescape"))
    rows = read(["dpkg-query", "--show", "--showformat", r"${Package}:${Architecture} ${Version} ${Status}\n"])
    return Snapshot(entries, frozenset(rows.decode().splitlines()))


def parse(listing: str, sums: str) -> FrozenSet[Entry]:
    """Entries from find's listing (type, mode, size, path, link target) and sha256sum's, ended by NULs."""
    digests = {row[66:]: row[:64] for row in sums.split("\0") if row}
    entries = set()
    for row in filter(None, listing.split("\0")):
        kind, mode, size, rest = row.split("\t", 3)
        path, _, target = rest.rpartition("\t")
        digest = hashlib.sha256(target.encode("utf-8", "surrogateescape")).hexdigest() if kind == "l" else ""
        # The size of a folder is the file system's business and differs between an overlay and a copy.
        entries.add(Entry(path, kind + mode, 0 if kind == "d" else int(size), digests.get(path, digest)))
    return frozenset(entries)


def _by_path(entries: FrozenSet[Entry]) -> Dict[str, Entry]:
    """The entries, to be looked up by path."""
    return {entry.path: entry for entry in entries}
