"""Two locks side by side: a sentence for each thing that is installed otherwise. Pure.

Whatever is in a lock shows: what has no sentence of its own is named by its place.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

from ..checks.lock import other_cards
from ..shapes.lock import Lock, LockedVirtualbox, ToolkitRow, Weights
from .candidates import COMPONENTS, NAMES
from .toolkits import TITLES

#: Longer values are cut in a sentence; `--json` has them whole.
LONGEST = 70


class Change(NamedTuple):
    """One difference: of which part, what it was and is (None: it is not there), and the sentence."""

    part: str
    name: str
    before: Any
    after: Any
    text: str


def changes(old: Lock, new: Lock) -> List[Change]:
    """Return where two locks differ, in the order of a lock; empty for the same lock."""
    plans = old["plan"], new["plan"]
    found = [*machine(old, new)]
    for name in COMPONENTS:
        found += component(name, plans[0][name], plans[1][name])
    for title, before, after in rows(old, new):
        found += listed(title, before, after)
    for named in dict.fromkeys([*old["environments"], *new["environments"]]):
        found += environment(named, old["environments"].get(named), new["environments"].get(named))
    return found + others(old, new)


def machine(old: Lock, new: Lock) -> List[Change]:
    """What differs in the machine that a lock is for, and in what was asked."""
    found = []
    for part, before, after in (
        ("host", old["host"], new["host"]),
        ("platform", old["plan"]["platform"], new["plan"]["platform"]),
        ("own_platform", old.get("own_platform"), new.get("own_platform")),
        ("asked", old["plan"]["asked"], new["plan"]["asked"]),
    ):
        if before != after:
            found.append(Change(part, part, before, after, f"The {part} was {shown(before)} and is {shown(after)}."))
    told = other_cards(old["cards"], new["cards"])
    if told:
        text = told[0].replace("cards: ", "The cards: ").replace("locked", "before").replace("present", "now") + "."
    elif old["cards"] != new["cards"]:
        text = "The cards are of the same models, at other addresses or known by other ids."
    if old["cards"] != new["cards"]:
        found.append(Change("cards", "cards", old["cards"], new["cards"], text))
    return found


def component(name: str, before: Any, after: Any) -> List[Change]:
    """What differs in a component of the plan."""
    title = NAMES[name][0].upper() + NAMES[name][1:]
    debs = [{row["name"]: row for row in (part or {}).get("packages", ())} for part in (before, after)]
    alone = [part and {key: value for key, value in part.items() if key != "packages"} for part in (before, after)]
    found = one("plan", name, title, alone[0], alone[1], "version")
    if before is None or after is None:
        return found
    for package in dict.fromkeys([*debs[0], *debs[1]]):
        was, now = debs[0].get(package), debs[1].get(package)
        found += one("plan", f"{name}/{package}", f"{title}: {package}", was, now, "version")
    return found


def one(part: str, name: str, title: str, before: Any, after: Any, key: str) -> List[Change]:
    """The sentence about a thing that has a version (`key`), and files."""
    if before == after:
        return []
    if before is None or after is None:
        row, what = (after, "is added") if before is None else (before, "is no longer there")
        return [Change(part, name, before, after, f"{title} {row[key]} {what}.")]
    if before[key] != after[key]:
        return [Change(part, name, before, after, f"{title} goes from {before[key]} to {after[key]}.")]
    keys = [k for k in dict.fromkeys([*before, *after]) if before.get(k) != after.get(k)]
    told = "; ".join(f"{k} was {shown(before.get(k))} and is {shown(after.get(k))}" for k in keys)
    return [Change(part, name, before, after, f"{title} stays {after[key]}, and is another: {told}.")]


def rows(old: Lock, new: Lock) -> List[Any]:
    """The lists of a lock whose rows have a name: title, before and after by what tells one row from another."""

    def toolkits(lock: Lock) -> Mapping[str, ToolkitRow]:
        """The toolkits by their names for a person."""
        rows = lock["contents"]["toolkits"]
        return {f"{NAMES.get(r['name'])} {r['version']} {TITLES.get(r['kind'])}": r for r in rows}

    def weights(lock: Lock) -> Mapping[str, Weights]:
        """The published weights."""
        return {f"The file {r['name']}": r for r in lock["contents"]["weights"]}

    def beside(lock: Lock) -> Mapping[str, LockedVirtualbox]:
        """VirtualBox, where the lock has it."""
        held = lock["contents"].get("virtualbox")
        return {f"VirtualBox {held['version']}": held} if held else {}

    kinds = (("toolkits", toolkits), ("weights", weights), ("virtualbox", beside))
    return [(name, found(old), found(new)) for name, found in kinds]


def listed(
    part: str,
    before: Mapping[str, Mapping[str, Any]],  # Json: rows of any part
    after: Mapping[str, Mapping[str, Any]],  # Json: rows of any part
) -> List[Change]:
    """What differs in a list of rows."""
    found = []
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name), after.get(name)
        if was != now:
            what = (
                "is added" if was is None else "is no longer there" if now is None else f"is another: {keys(was, now)}"
            )
            found.append(Change(part, name, was, now, f"{name} {what}."))
    return found


def keys(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:  # Json: rows of any part
    """Name what differs in two rows."""
    told = [f"{k} was {shown(was.get(k))} and is {shown(now.get(k))}" for k in now if was.get(k) != now.get(k)]
    return "; ".join(told) or "it has fewer entries"


def environment(name: str, before: Any, after: Any) -> List[Change]:
    """What differs in the packages of an environment."""
    if before is None or after is None:
        row, what = (after, "is added") if before is None else (before, "is no longer there")
        text = f"The environment {name} ({len(row['packages'])} packages) {what}."
        return [Change("environments", name, before, after, text)]
    found = []
    if before["python"] != after["python"]:
        text = f"{name} goes from Python {before['python']} to {after['python']}."
        found.append(Change("environments", name, before["python"], after["python"], text))
    for key in ("environment", "version"):
        if before[key] != after[key]:
            text = f"{name}: its {key} was {shown(before[key])} and is {shown(after[key])}."
            found.append(Change("environments", name, before[key], after[key], text))
    was, now = ({row["name"]: row for row in one["packages"]} for one in (before, after))
    for package in dict.fromkeys([*was, *now]):
        title = f"{name}: {package}"
        found += one("environments", f"{name}/{package}", title, was.get(package), now.get(package), "version")
    return found


def others(old: Lock, new: Lock) -> List[Change]:
    """What differs and has no sentence of its own, by its place."""
    seen = {
        "plan": {*COMPONENTS, "platform", "asked"},
        "contents": {"toolkits", "weights", "virtualbox"},
    }
    found = []
    parts: Dict[str, Tuple[Mapping[str, Any], Mapping[str, Any]]] = {
        "plan": (old["plan"], new["plan"]),
        "contents": (old["contents"], new["contents"]),
    }
    for part, known in seen.items():
        before, after = parts[part]
        for key in dict.fromkeys([*before, *after]):
            was, now = before.get(key), after.get(key)
            if key not in known and was != now:
                text = f"{part}.{key} was {shown(was)} and is {shown(now)}."
                found.append(Change(part, key, was, now, text))
    return found


def shown(value: Any) -> str:
    """A value in a sentence: cut where it is long, and never empty."""
    if value in (None, "", [], {}):
        return "nothing"
    if isinstance(value, dict):
        text = ", ".join(f"{key} {inner}" for key, inner in value.items())
    elif isinstance(value, list):
        text = ", ".join(map(str, value))
    else:
        text = str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
