"""The packages that this project has brought onto a host, so that its removal takes these away and no others.

`state/packages.json` names what was not installed when it was asked for, and, once, what was there before the first of
them. It is written before apt runs: a run that is killed leaves a name too many, never one too few. What came along as
a dependency is found by apt itself, which marks it as automatically installed.

Runs on the target: Python 3.6, standard library.
"""

from pathlib import Path
from typing import List, Sequence, Set

from ...types import Json
from .. import store
from ..commands import Run
from .packages import parse_simulation

RECORD = "state/packages.json"
_READ_S = 180.0
_PURGE = ("-o", "APT::Get::AutomaticRemove=false")


def read(root: Path) -> Json:
    """The record: `added`, and `before`, what was installed when gpuhost came."""
    return store.read_json(root / RECORD) or {"schema": 1, "added": [], "before": []}


def note(root: Path, names: Sequence[str], installed: Sequence[str]) -> bool:
    """Write down names that are about to be installed; `installed` is what is there now. Return whether any was new."""
    with store.changing(root, "noting packages"):
        content = read(root)
        fresh = [name for name in names if name not in content["added"] and name not in installed]
        if not fresh and content["before"]:
            return False
        content["before"] = content["before"] or sorted(installed)
        content["added"] = sorted({*content["added"], *fresh})
        store.write_record(root / RECORD, content)
    return True


def disown(root: Path, names: Sequence[str]) -> None:
    """Forget that packages came with gpuhost, because something else on the host uses them by now."""
    with store.changing(root, "noting packages"):
        content = read(root)
        content["added"] = [name for name in content["added"] if name not in names]
        store.write_record(root / RECORD, content)


def purged(run: Run, names: Sequence[str], options: Sequence[str]) -> Set[str]:
    """What apt would remove together with these packages."""
    if not names:
        return set()
    code, out, _ = run(["apt-get", *options, "--simulate", "purge", *names], _READ_S)
    return {change.name for change in parse_simulation(out)[1]} if code == 0 else set()


def removable(root: Path, run: Run, installed: Sequence[str]) -> List[str]:
    """What can go: the packages brought here, and what apt brought along with them, that nothing else needs.

    What was there before gpuhost came never goes, nor does a package of ours that others depend on by now.
    """
    content = read(root)
    ours = [name for name in content["added"] if name in installed]
    ours = [name for name in ours if purged(run, [name], _PURGE) <= {*content["added"]}]
    orphans = purged_alone(run)
    along = purged(run, ours, ["--auto-remove"]) - orphans
    return sorted(({*ours} | along) - {*content["before"]})


def purged_alone(run: Run) -> Set[str]:
    """What `apt-get autoremove` would take away as the host is: nobody's concern here."""
    code, out, _ = run(["apt-get", "--simulate", "autoremove"], _READ_S)
    return {change.name for change in parse_simulation(out)[1]} if code == 0 else set()
