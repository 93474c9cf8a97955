"""What a source says of the catalog, the difference that makes, and the catalog's files as they are written."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from gpuhost.text import printable

Json = Dict[str, Any]
#: A step to a row: the key of an object, or the fields that tell a row of a list from the others.
Step = Union[str, Tuple[Tuple[str, str], ...]]
Place = Tuple[Step, ...]

#: Which containers of a table have a line for each of their members; all others stand on one line. `*` is any key.
LINES: Mapping[str, Sequence[str]] = {
    "cuda": ("", "platforms", "platforms.*", "headers", "releases"),
    "cudnn": ("", "layouts", "packages"),
    "drivers": ("", "branches", "archives", "archives.*", "runfiles", "claimed_before"),
    "gpus": ("", "generations", "chips", "integrated_chips", "also_called", "virtual", "devices"),
    "opencv": ("", "releases"),
    "platforms": ("", "ansible_core", "codenames", "platforms"),
    "tensorflow": ("", "releases"),
    "virtualbox": ("", "kernels", "archives", "releases"),
}
_LONGEST = 160


@dataclass(frozen=True)
class Says:
    """The fields of a row that a source answers for; it says nothing of the row's others.

    `source` names it without the day. `where` orders the members after a new one was added: by fields of a list's
    rows, or "sorted" by an object's keys. `without` are fields that the facts do away with.
    """

    table: str
    place: Place
    facts: Json
    source: str
    where: str = "end"
    without: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Missing:
    """A row that the catalog has and its source no longer does."""

    table: str
    place: Place
    source: str


@dataclass(frozen=True)
class Person:
    """What is new in a source and cannot become a row without a person; `table` is where it belongs."""

    table: str
    text: str


Finding = Union[Says, Missing, Person]


def row(**fields: str) -> Step:
    """Return the step to the row of a list that has these fields."""
    return tuple(fields.items())


def name(table: str, place: Place) -> str:
    """Return the name of a row as people read and type it: drivers/archives/debian-13/nvidia-driver."""
    steps = [step if isinstance(step, str) else ",".join(value for _, value in step) for step in place]
    return printable("/".join([table, *steps]), _LONGEST)


def step_into(holder: Any, step: Step) -> Optional[Any]:
    """Return what a step leads to, or None."""
    if isinstance(step, str):
        return holder.get(step)
    return next((one for one in holder if all(one.get(key) == value for key, value in step)), None)


def at(table: Json, place: Place) -> Optional[Any]:
    """Return the row at a place, or None."""
    found: Any = table
    for step in place:
        found = step_into(found, step)
        if found is None:
            return None
    return found


@dataclass
class Difference:
    """What findings make of the tables: `tables` afterwards, and a line for everything that was found."""

    tables: Dict[str, Json]
    changed: List[str] = field(default_factory=list)
    kept: List[str] = field(default_factory=list)
    conflicts: List[str] = field(default_factory=list)
    people: List[str] = field(default_factory=list)
    dropped: List[str] = field(default_factory=list)


def difference(tables: Mapping[str, Json], findings: Sequence[Finding], today: str, drop: Sequence[str]) -> Difference:
    """Apply findings to copies of the tables; rows named in `drop` are removed if their source no longer has them."""
    made = Difference({name: copy.deepcopy(table) for name, table in tables.items()})
    for finding in findings:
        if isinstance(finding, Person):
            made.people.append(f"{finding.table}: {printable(finding.text)}")
        elif isinstance(finding, Missing):
            _missing(made, finding, drop)
        else:
            _says(made, finding, today)
    return made


def _missing(made: Difference, finding: Missing, drop: Sequence[str]) -> None:
    """Keep a row that its source no longer has, and say so; remove it when it was named."""
    where = name(finding.table, finding.place)
    if where not in drop:
        made.kept.append(f"{where}: no longer in {finding.source}")
        return
    holder = at(made.tables[finding.table], finding.place[:-1])
    last = finding.place[-1]
    if isinstance(holder, dict):
        del holder[last]
    elif holder is not None:
        holder.remove(step_into(holder, last))
    made.dropped.append(f"{where}: no longer in {finding.source}")


def _says(made: Difference, finding: Says, today: str) -> None:
    """Write what a source says into its row; a file that had another checksum before is a conflict and stays."""
    where = name(finding.table, finding.place)
    holder, found = at(made.tables[finding.table], finding.place[:-1]), at(made.tables[finding.table], finding.place)
    if found is None:
        if holder is None:
            raise AssertionError(f"{where} has no place")  # an importer's fault
        _add(holder, finding, {**finding.facts, "source": sourced("", finding.source, today)})
        made.changed.append(f"+ {where}: {short(finding.facts)}")
        return
    if clashes(found, finding.facts):
        made.conflicts.append(
            f"{where}: {finding.source} has the sha256 {printable(finding.facts['sha256'], 64)}, "
            f"the catalog {found['sha256']}"
        )
        return
    lines = [
        f"{key}: {told}"
        for key, value in finding.facts.items()
        for told in [changes(found.get(key), value)]
        if found.get(key) != value
    ]
    # A lock of wheels says for all of its files when it was made.
    if not lines and (found.get("source") or finding.table not in LINES):
        return
    found.update(finding.facts)
    for key in finding.without:
        found.pop(key, None)
    before = found.get("source", "")
    found["source"] = sourced(before, finding.source, today)
    made.changed.append(f"~ {where}: " + ("; ".join(lines) or f"source: {found['source']}"))


def _add(holder: Any, finding: Says, added: Json) -> None:
    """Put a new row where its finding wants it."""
    last = finding.place[-1]
    if isinstance(last, str):
        holder[last] = added
        ordered = sorted(holder.items()) if finding.where == "sorted" else list(holder.items())
        holder.clear()
        holder.update(ordered)
        return
    holder.append(added)
    if finding.where != "end":
        holder.sort(key=lambda one: tuple(str(one.get(key, "")) for key in finding.where.split(",")))


def clashes(found: Json, facts: Json) -> bool:
    """Return whether one file has two checksums: the name is the same and the sha256 is not."""
    same = all(found.get(key) == facts[key] for key in ("file", "url") if key in facts)
    return same and "sha256" in facts and "sha256" in found and facts["sha256"] != found["sha256"]


def sourced(before: str, source: str, today: str) -> str:
    """Return a row's sources with this one of today: its own parts are replaced, those of others stay."""
    first, *rest = source.split("; ")
    parts = [f"{first}, read {today}", *rest]

    def key(part: str) -> str:
        return part.partition(", read ")[0].partition(": ")[0]

    own = {key(part) for part in parts}
    return "; ".join([*parts, *(part for part in before.split("; ") if part and key(part) not in own)])


def short(value: Any) -> str:
    """Return a value as one line that fits a terminal."""
    return printable(json.dumps(value, ensure_ascii=False), _LONGEST)


def changes(before: Any, after: Any) -> str:
    """Tell how a field changes: of a list, what is new in it and what is gone."""
    if isinstance(before, list) and isinstance(after, list):
        more, less = [one for one in after if one not in before], [one for one in before if one not in after]
        told = [f"+{short(one)}" for one in more] + [f"-{short(one)}" for one in less]
        return printable(" ".join(told) or "another order", _LONGEST)
    return f"{short(before)} -> {short(after)}" if before is not None else short(after)


def written(table: str, value: Json) -> str:
    """Return the text of a table's file: a row a line."""
    if table not in LINES:
        return json.dumps(value, indent=2) + "\n"
    return "".join(_written(value, "", "", LINES[table])) + "\n"


def _written(value: Any, path: str, indent: str, lines: Sequence[str]) -> Iterator[str]:
    """Yield the pieces of a value's text."""
    if not (isinstance(value, (dict, list)) and value and path in lines):
        yield json.dumps(value, ensure_ascii=False)
        return
    deeper = indent + "  "
    known = isinstance(value, dict)
    yield "{\n" if known else "[\n"
    members = list(value.items()) if isinstance(value, dict) else [("", one) for one in value]
    for i, (key, one) in enumerate(members):
        yield deeper + (json.dumps(key, ensure_ascii=False) + ": " if known else "")
        below = f"{path}.{key}" if path else str(key)
        yield from _written(one, below if below in lines else _any(path), deeper, lines)
        yield ",\n" if i + 1 < len(members) else "\n"
    yield indent + ("}" if known else "]")


def _any(path: str) -> str:
    """Return the name that stands for any member of a container; the outermost has none."""
    return f"{path}.*" if path else "-"
