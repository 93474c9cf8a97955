"""Which packages a removal takes away: those that were brought here and what came along, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Sequence, Set, Tuple

from gpuhost.host.driver import added


class Host:
    """An apt whose simulations are computed from a table of dependencies, as apt-get prints them."""

    def __init__(self, depends: Dict[str, List[str]], manual: Set[str]) -> None:
        """`depends`: every installed package with what it depends on; `manual`: those that somebody asked for."""
        self.depends, self.manual = depends, manual

    def run(self, argv: Sequence[str], _: float) -> Tuple[int, str, str]:
        """apt-get --simulate purge or autoremove."""
        names = set(argv[argv.index("purge") + 1 :]) if "purge" in argv else set()
        gone = set(names)
        while True:
            more = {n for n, needs in self.depends.items() if set(needs) & gone} - gone
            if not more:
                break
            gone |= more
        if "--auto-remove" in argv or "autoremove" in argv:
            gone |= self.orphans(gone)
        return 0, "".join(f"Purg {name} [1]\n" for name in sorted(gone)), ""

    def orphans(self, gone: Set[str]) -> Set[str]:
        """What nobody asked for and nobody needs any more."""
        needed = {n for n in self.manual if n not in gone}
        while True:
            more = {d for n in needed for d in self.depends.get(n, [])} - needed
            if not more:
                return set(self.depends) - needed - gone
            needed |= more


BEFORE = ["apt", "libc6", "libold", "leftover"]
DEPENDS = {
    "apt": ["libc6"], "libc6": [], "libold": ["libc6"], "leftover": [],
    "python3.8": ["libpython", "libc6", "libold"], "libpython": ["libc6"], "ccache": [], "users": ["ccache"],
    "orphan": [],
}  # fmt: skip


def test_only_ours_go(tmp_path: Path) -> None:
    """With their dependencies; not what was there, not orphans of others, not what a user's package needs by now."""
    host = Host(DEPENDS, {"apt", "python3.8", "ccache", "users"})
    added.note(tmp_path, ["python3.8", "apt"], BEFORE)
    added.note(tmp_path, ["ccache"], [*BEFORE, "python3.8", "libpython"])
    assert added.removable(tmp_path, host.run, list(DEPENDS)) == ["libpython", "python3.8"]


def test_the_account_is_kept(tmp_path: Path) -> None:
    """What was there is written down once; what was there is never ours; a second note of the same is not news."""
    assert added.note(tmp_path, ["a", "libc6"], BEFORE)
    assert not added.note(tmp_path, ["a"], [*BEFORE])
    assert added.note(tmp_path, ["b"], [*BEFORE, "a", "theirs"])
    assert added.read(tmp_path) == {"schema": 1, "added": ["a", "b"], "before": sorted(BEFORE)}


def test_nothing_is_removed_without_an_account(tmp_path: Path) -> None:
    """A host that gpuhost brought no package to."""
    assert added.removable(tmp_path, Host(DEPENDS, set(DEPENDS)).run, list(DEPENDS)) == []
