"""Putting the update guard in force, and letting go of it: the holds, the two files and the record.

The record is written first and taken away last. A run that is killed in between leaves a record that names every hold
which may be ours, so the next run, or a release, takes it from there. Runs on the target: Python 3.6, standard library.
"""

import json
import time
from typing import Callable, Dict, List, NamedTuple, Optional

from ...errors import EnvironmentProblem
from ...types import Json
from .. import files, store
from ..edges import Edges
from ..pairs.judge import UNDONE
from ..probe.guard import BESIDE_RECORD, DRIVER_RECORD, PAIR_RECORD, installed_packages
from ..probe.machine import read_kernel
from . import rules as rules

_TIMEOUT_S = 60.0
_PAUSE_S = 2.0
_BUSY = "lock"
#: A copy of the record that was proved.
PROOF = "state/guard.proved"
#: What to do about a record of the guard that is damaged.
LOST = (
    "Remove it and run the same command again; the holds that are set count as somebody else's then (apt-mark unhold)."
)


class Outcome(NamedTuple):
    """What was done, or would be: did anything change, is there a guard now, a line for the user, before and after."""

    changed: bool
    guarded: bool
    told: str
    diff: List[Dict[str, str]]


def _carried_out(edges: Edges, root: str, check: bool, doing: str, act: Callable[[bool], Outcome]) -> Outcome:
    """Look first (`act(True)` changes nothing), then act under the host's lock, unless it is a check."""
    seen = act(True)
    if check or not seen.changed:
        return seen
    with store.changing(edges.path(root), f"{doing} the driver's packages"):
        return act(False)


NOTHING = "There is no driver on this host by gpuhost, so there is nothing to guard."


def hold(edges: Edges, root: str, patience_s: float, check: bool) -> Outcome:
    """Hold the driver, its kernel and VirtualBox at what is installed; with neither, let go of what was held."""
    return _carried_out(edges, root, check, "holding", lambda only: _hold(edges, root, patience_s, only))


def _hold(edges: Edges, root: str, patience_s: float, check: bool) -> Outcome:
    """The same, with the lock where anything is changed."""
    driver = recorded(edges, f"{root}/{DRIVER_RECORD}", "./run ansible-playbook playbooks/driver.yml writes it again.")
    beside = recorded(
        edges, f"{root}/{BESIDE_RECORD}", "./run ansible-playbook playbooks/virtualbox.yml writes it again."
    )
    before = recorded(edges, f"{root}/{rules.RECORD}", LOST)
    if driver is None and beside is None:
        if before is None and not leftovers(edges):
            to_come = " One that this run would install would be held with its kernel, and pinned." if check else ""
            return Outcome(False, False, NOTHING + to_come, [])
        return _release(edges, root, patience_s, check)._replace(
            told="The driver is gone from this host, so its guard is released."
        )
    if driver is not None:
        refuse_other_kernel(edges, driver)
    packages = read(edges)
    kept = kernels_kept(edges, root) if driver is not None else []
    wanted = rules.record(packages, driver["kernel"] if driver else None, before, beside is not None, kept)
    families = (*(rules.FAMILY if driver else ()), *(rules.BESIDE if beside else ()))
    texts = {
        rules.PREFERENCES: rules.preferences(wanted["pins"], families),
        rules.UNATTENDED: rules.unattended(wanted["pins"]),
    }
    missing = rules.to_hold(packages, wanted)
    stale = rules.to_unhold(packages, before, wanted)
    diff = differences(edges, root, wanted, texts) + hold_diff(missing, stale)
    what = [f"the driver {driver['version']} and kernel {driver['kernel']}"] if driver else []
    what += [f"VirtualBox {beside['version']}"] if beside else []
    told = f"{len(wanted['pins'])} packages stay as they are: {' and '.join(what)}."
    if diff and not check:
        write(edges, root, wanted, texts)
        mark(edges, "unhold", stale, patience_s)
        mark(edges, "hold", missing, patience_s)
    return Outcome(bool(diff), True, told, diff)


def release(edges: Edges, root: str, patience_s: float, check: bool) -> Outcome:
    """Let go of exactly what the guard has set: its holds, its two files, its record."""
    return _carried_out(edges, root, check, "releasing", lambda only: _release(edges, root, patience_s, only))


def _release(edges: Edges, root: str, patience_s: float, check: bool) -> Outcome:
    """The same, with the lock where anything is changed."""
    before = recorded(edges, f"{root}/{rules.RECORD}", LOST)
    if before is None and not leftovers(edges):
        return Outcome(False, False, "There is no guard on this host, so there is nothing to release.", [])
    ours = rules.to_unhold(read(edges), before, None)
    texts = {name: edges.text(name) or "" for name in leftovers(edges)}
    diff = [{"before": text, "after": "", "before_header": name, "after_header": name} for name, text in texts.items()]
    diff += hold_diff([], ours)
    if not check:
        mark(edges, "unhold", ours, patience_s)
        for name in [*texts, f"{root}/{PROOF}", f"{root}/{rules.RECORD}"]:
            files.remove(edges.path(name))
    told = (
        f"THE GUARD IS RELEASED: the next update may replace {len((before or {}).get('pins', {}))} packages of the "
        "driver and its kernel. Upgrade now, then run site.yml, which holds again at what is then installed."
    )
    return Outcome(True, False, told, diff)


def kernels_kept(edges: Edges, root: str) -> List[str]:
    """The kernels of the last update that a boot has proved, or is to prove, that must not be removed as unused."""
    found = edges.record(f"{root}/{PAIR_RECORD}") or {}
    names = ("old",) if found.get("state") == UNDONE else ("old", "new")
    pairs = [found.get(name) for name in names]
    return sorted({str(one["kernel"]) for one in pairs if isinstance(one, dict) and "kernel" in one})


def is_proved(edges: Edges, root: str) -> bool:
    """Return whether the guard in force was proved. A run that was killed before that leaves one that was not."""
    proof = edges.text(f"{root}/{PROOF}")
    return proof is not None and proof == edges.text(f"{root}/{rules.RECORD}")


def note_proof(edges: Edges, root: str) -> None:
    """Note that the guard as its record says it was proved."""
    path = edges.path(f"{root}/{PROOF}")
    with store.changing(edges.path(root), "noting that the guard was proved"):
        try:
            files.write_whole(path, edges.text(f"{root}/{rules.RECORD}") or "")
        except OSError as error:
            raise store.unwritable(error, path.parent) from error


def refuse_other_kernel(edges: Edges, driver: Json) -> None:
    """Refuse where another kernel boots than the driver was made for: holding that would keep the fault (D08)."""
    boots = read_kernel(edges)["boots"]
    if boots != driver["kernel"]:
        raise EnvironmentProblem(
            f"D08: the kernel that will boot is {boots or 'not known'}, the driver was made for {driver['kernel']}.",
            "Run ./run ansible-playbook site.yml, which sees to the driver for that kernel, and then guards both.",
        )


def read(edges: Edges) -> Dict[str, rules.Package]:
    """The installed packages; what cannot be read must not be guarded half."""
    known = len(edges.problems)
    packages = installed_packages(edges)
    refuse_unread(edges, known, "Fix it: dpkg --audit")
    return packages


def recorded(edges: Edges, name: str, step: str) -> Optional[Json]:
    """A record, or None where there is none. A damaged one is refused: it is not the same as none."""
    known = len(edges.problems)
    found = edges.record(name)
    refuse_unread(edges, known, step)
    return found


def refuse_unread(edges: Edges, known: int, step: str) -> None:
    """Refuse where something could not be read since there were `known` problems."""
    for problem in edges.problems[known:]:
        raise EnvironmentProblem(f"{problem['what']} cannot be read: {problem['error']}", step)


def leftovers(edges: Edges) -> List[str]:
    """Our files that are there."""
    return [name for name in (rules.PREFERENCES, rules.UNATTENDED) if edges.exists(name)]


def written(content: Json) -> str:
    """The text of the record."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def differences(edges: Edges, root: str, wanted: Json, own: Dict[str, str]) -> List[Dict[str, str]]:
    """What the files and the record say, and will say, where that differs."""
    texts = dict(own, **{f"{root}/{rules.RECORD}": written(wanted)})
    return [
        {"before": edges.text(name) or "", "after": text, "before_header": name, "after_header": name}
        for name, text in sorted(texts.items())
        if edges.text(name) != text
    ]


def hold_diff(missing: List[str], stale: List[str]) -> List[Dict[str, str]]:
    """The holds to set and to take away, as a diff of `apt-mark showhold`."""
    if not missing and not stale:
        return []
    header = "apt-mark showhold"
    before, after = ("".join(name + "\n" for name in sorted(names)) for names in (stale, missing))
    return [{"before": before, "after": after, "before_header": header, "after_header": header}]


def write(edges: Edges, root: str, wanted: Json, own: Dict[str, str]) -> None:
    """Write the record, then both files."""
    texts = [(f"{root}/{rules.RECORD}", written(wanted)), *sorted(own.items())]
    for name, text in texts:
        path = edges.path(name)
        try:
            files.write_whole(path, text)
        except OSError as error:
            raise store.unwritable(error, path.parent) from error


def mark(edges: Edges, word: str, names: List[str], patience_s: float) -> None:
    """`apt-mark hold` or `unhold`, waiting for whoever has the package database locked (D35)."""
    if not names:
        return
    deadline = time.monotonic() + patience_s
    while True:
        code, out, err = edges.run(["apt-mark", word, *names], _TIMEOUT_S)
        if code == 0:
            return
        said = " ".join((err or out).split())
        if _BUSY not in said.lower() or time.monotonic() > deadline:
            raise EnvironmentProblem(
                f"apt-mark {word} failed: {said[-300:]}", "Fix that, then run the same command again."
            )
        time.sleep(_PAUSE_S)
