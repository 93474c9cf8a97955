"""The lock: a plan with everything that it installs, written down for one host, in git; the only thing the roles read.

It stands in `locks/<host>/stack.json` beside the inventory's folder, where Ansible loads nothing by itself, under the
one key `gpuhost_lock`, with a PEP 751 file beside it for each Python environment (`pylocks`). It holds no date and no
path, so that the same host and catalog give the same bytes. In memory, and in the record of a host's generation, it is
one object that has the environments in it.

A lock is input that others can change (a pull request, another host's folder, an editor), so `load` is the only way in:
it accepts exactly the keys of `lock.schema.json`, a form and a length for every string, files from the origins in
`origins.json` only, the PEP 751 files by their sha256, and a lock that names the host it is read for.
"""

from __future__ import annotations

import functools
import json
import shlex
from pathlib import Path
from typing import (
    Any,
    Collection,
    Dict,
    FrozenSet,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    cast,
)

import fastjsonschema

from .. import strict_json
from ..checks.lock import cards_of, other_cards
from ..errors import LockError, UsageError
from ..shapes.lock import Component, Framework, Lock, LockedEnvironment, Plan
from ..shapes.observation import Observation
from ..text import folder_name, printable
from ..types import Json, present
from . import contents, pylocks, toolkits
from .candidates import COMPONENTS, WITHOUT_GPU
from .catalog import DATA, shipped, validator

SCHEMA = 2
#: The schema of the locks that named environments and did not hold what is in them.
OPEN = 1
KEY = "gpuhost_lock"
FILE = "stack.json"
#: Added to the file's name: the lock that a rebuild is carrying out.
PENDING = ".new"
#: A lock has about 5 kB. A larger file is refused before it is read.
LARGEST = 1_000_000
AGAIN = "Restore it from git, or make it again: ./run ansible-playbook playbooks/plan.yml -e gpu_stack_relock=true"


class Place(NamedTuple):
    """Where a host's lock is kept, and where the earliest form stood (None where that is unknown)."""

    file: Path
    former: Optional[Path]


def place(host: str, inventory: Any, locks: Any = "", file: Any = "") -> Place:
    """Return the place of a host's lock.

    `inventory` is the folder of the inventory (Ansible's `inventory_dir`; None for an inventory on the command line),
    `locks` the folder of all locks when the user has set one (`gpu_stack_locks`), `file` the lock itself when the user
    has set it (`gpu_stack_lock_file`).
    """
    former = Path(inventory) / "host_vars" / host / FILE if inventory and "/" not in host else None
    if file:
        return Place(Path(file), former)
    if not locks and not inventory:
        raise UsageError(
            "This inventory is not a file, so it is not known where the locks are.",
            "Say where: -e gpu_stack_locks=/path/to/locks",
        )
    # The parent is resolved first: beside a link to an inventory are not the locks of what it leads to.
    folder = Path(locks) if locks else Path(inventory).resolve().parent / "locks"
    return Place(folder / folder_name(host) / FILE, former)


def make(host: str, observation: Observation, plan: Plan) -> Lock:
    """Return the lock of a host, in the form of data/lock.schema.json, with the environments in it.

    `observation` gives the cards that it is made for (gpus: address, id, and uuid where that can be read) and the
    platform's own name; `plan` is one that is not refused. `contents` and `environments` hold all that is installed.
    """
    cards = [] if not plan["gpus"] else cards_of(observation)
    own = observation["platform"].get("own")
    taken = {"own_platform": own} if own else {}
    made = {"schema": SCHEMA, "host": host, **taken, "cards": cards, "plan": plan, **contents.of(plan)}
    return cast(Lock, made)


def files(lock: Lock) -> Dict[str, str]:
    """The texts of a lock's PEP 751 files, by name."""
    texts = {name: pylocks.text(environment) for name, environment in lock["environments"].items()}
    return {pylocks.file_name(name, content): content for name, content in texts.items()}


def text(lock: Lock) -> str:
    """The content of stack.json."""
    named = {name: pylocks.digest(content) for name, content in files(lock).items()}
    told = {key: value for key, value in lock.items() if key != "environments"}
    return json.dumps({KEY: {**told, "pylocks": named}}, indent=2, ensure_ascii=False, sort_keys=False) + "\n"


def check(lock: Any, where: str, host: Optional[str] = None) -> Lock:
    """Return the lock if it is complete, else raise a `LockError` that says what is wrong and what to do.

    With `host` (its name in the inventory), the lock must be for that host.
    """
    found = formed(lock, where)
    wrong = next(mistaken_files(found), None) or next(misfits(found), None)
    if wrong:
        raise LockError(f"The lock {where} is refused: {wrong}.", AGAIN)
    if host is not None and host not in hosts_of(found):
        named = printable(", ".join(hosts_of(found)), 200)
        raise LockError(
            f"The lock {where} is for {named}, not for {printable(host)}.",
            f'Make one for {printable(host)} ({AGAIN.partition("make it again: ")[2]}), or list it under "host".',
        )
    return found


def formed(lock: Any, where: str) -> Lock:
    """Return a lock that has the form of one, whatever it names; a `LockError` as `check`."""
    if not isinstance(lock, dict):
        raise LockError(f"The lock {where} is not a JSON object.", AGAIN)
    refuse_open(lock, where)
    if isinstance(lock.get("plan"), dict) and lock["plan"].get("status") == "refused":
        raise LockError(f"The lock {where} holds no plan.", AGAIN)
    try:
        validator(DATA / "lock.schema.json")(lock)
    except fastjsonschema.JsonSchemaException as error:
        raise LockError(f"The lock {where} is damaged: {printable(error, 300)}.", AGAIN) from None
    except RecursionError:
        raise LockError(f"The lock {where} is damaged: it is nested too deeply.", AGAIN) from None
    missing: List[str] = [name for name in needed(lock["plan"]) if lock["plan"][name] is None]
    built = lock["plan"]["opencv"] is not None and "environment" not in lock["plan"]["opencv"]
    if not missing and built and not can_be_built(lock["plan"]):
        missing = ["source to build OpenCV from, or no CUDA to build it with"]
    if missing:
        raise LockError(f"The lock {where} is damaged: its plan has no {' and no '.join(missing)}.", AGAIN)
    more = [name for name in left_out(lock["plan"]) if lock["plan"][name] is not None]
    if more:
        raise LockError(f"The lock {where} is damaged: its plan leaves {more[0]} out and has one.", AGAIN)
    own = lock["plan"]["tensorflow"] or {}
    if bool(own.get("cuda")) != bool(own.get("cudnn")):
        raise LockError(f"The lock {where} is damaged: TensorFlow has half a toolkit of its own.", AGAIN)
    return cast(Lock, dict(lock))


def hosts_of(lock: Lock) -> List[str]:
    """Return the hosts that a lock is for."""
    return [lock["host"]] if isinstance(lock["host"], str) else list(lock["host"])


def refuse_open(lock: Mapping[str, Any], where: str) -> None:  # Json: nothing of it is known yet
    """Refuse a lock of an earlier release, with the command that upgrades it."""
    if lock.get("schema") == OPEN and not isinstance(lock["schema"], bool):
        text = f"The lock {where} is of an earlier release (schema {OPEN}) and does not hold what is to be installed."
        raise LockError(text, f"Upgrade it: ./run gpuhost lock upgrade {shlex.quote(where)}")


def files_of(lock: Lock) -> Iterator[Tuple[str, str, Mapping[str, Any]]]:  # Json: a file of any component
    """Name every file with an address or a checksum of its own: component, version and the file."""
    plan = lock["plan"]
    for name in COMPONENTS:
        part: Mapping[str, Any] = plan[name] or {}
        for file in [part, *part.get("artifacts", ())]:
            yield name, str(part.get("version")), file
    for row in lock["contents"]["toolkits"]:
        if row["kind"] != "wheels" and "file" in row:
            yield row["name"], row["version"], {**row["file"], "file": row["file"]["name"]}
    for one in lock["contents"]["weights"]:
        yield "weights", one["name"], {**one, "file": one["url"].rpartition("/")[2]}
    held: Mapping[str, Any] = lock["contents"].get("virtualbox") or {}
    for file in filter(None, (held.get("file"), held.get("extension_pack"))):
        yield "virtualbox", held["version"], {**file, "file": file["name"]}


def mistaken_files(lock: Lock) -> Iterator[str]:
    """Say for each file of a lock why it cannot be what the lock says it is: its origin, its name or its checksum.

    The catalog does not have to know a file, since a lock outlives the catalog that it was made from. It must not know
    the file's address or checksum as those of something else.
    """
    yield from mistaken_debs(lock["plan"]["driver"] or {}, "driver")
    yield from mistaken_debs(lock["contents"].get("virtualbox") or {}, "VirtualBox")
    for name, version, file in files_of(lock):
        url, said = file.get("url"), f"its {name} comes from {printable(file.get('url'), 200)}"
        if url is not None and not url.startswith(origins(name)):
            yield f"{said}, which is not one of the known origins ({', '.join(origins(name)) or 'it has none'})"
        if url is not None and "file" in file and url.rpartition("/")[2] != file["file"]:
            yield f"{said}, which is not the file {file['file']}"
        for value in (url, file.get("sha256")):
            known = owners().get(str(value), frozenset())
            if known and (name, version) not in known:
                other, of = min(known)
                yield f"{printable(value, 200)} of its {name} {version} belongs to {other} {of}"


def misfits(lock: Lock) -> Iterator[str]:
    """Say where the contents of a lock are not those of its plan."""
    plan = lock["plan"]
    for row in lock["contents"]["toolkits"]:
        known = row["kind"] == "wheels" or "file" in row
        if plan[row["name"]] is None or not (known or toolkits.planned(plan, row["name"], row["version"], row["kind"])):
            yield f"its {row['name']} {row['version']} ({row['kind']}) has no file"
    if plan["opencv"] and plan["opencv"]["source"] != "wheel" and lock["contents"]["opencv"]["build"] is None:
        yield "it does not say what OpenCV is to be built with"
    for name, environment in lock["environments"].items():
        part: Optional[Mapping[str, Any]] = plan["tensorflow"] if name == "dl4cv" else plan["opencv"]
        if part is None:
            yield f"its environment {name} is of a part that its plan leaves out"
            continue
        if environment["environment"] != name:
            yield f"its environment {name} is that of {environment['environment']}"
        if environment["python"] != part["python"]:
            yield f"its environment {name} is for Python {environment['python']}, its plan for {part['python']}"
        if name == "dl4cv" or (name == "opencv_cuda" and part["source"] == "wheel"):
            held = [row["sha256"] for row in environment["packages"] if row["file"] == part["file"]]
            if held != [part["sha256"]]:
                yield f"its environment {name} does not hold the planned {part['file']}"


def mistaken_debs(
    part: Mapping[str, Any],  # Json: a driver or VirtualBox, wherever it comes from
    title: str,
) -> Iterator[str]:
    """Say for each .deb of a part why it cannot be what the lock says it is; the part's own must be among them."""
    debs = part.get("packages", [])
    names = [deb["name"] for deb in debs]
    for deb in debs:
        if names.count(deb["name"]) > 1:
            yield f"its {title} names {deb['name']} twice"
        same = "package" not in part or (deb["version"], deb["sha256"]) == (part["package_version"], part["sha256"])
        if deb["name"] == part.get("package") and not same:
            yield f"its {title} names {deb['name']} with two different contents"
        if deb["snapshot"] is None:
            continue
        said = f"its {deb['name']} is kept at {printable(deb['snapshot'], 300)}"
        if not deb["snapshot"].startswith(origins("debs")):
            yield f"{said}, which is not one of the known origins ({', '.join(origins('debs'))})"
        if deb["snapshot"].rpartition("/")[2] != deb["file"]:
            yield f"{said}, which is not the file {deb['file']}"
    if names and part.get("package", names[0]) not in names:
        yield f"its {title}'s packages leave out {part['package']}"


@functools.lru_cache(maxsize=None)
def origins(component: str) -> Tuple[str, ...]:
    """Return the address prefixes from which the files of a component may come."""
    return tuple(row["prefix"] for row in shipped().origins["origins"] if component in row["components"])


@functools.lru_cache(maxsize=None)
def owners() -> Dict[str, FrozenSet[Tuple[str, str]]]:
    """Return what the catalog knows each address and checksum as: a set of (component, version)."""
    found: Dict[str, FrozenSet[Tuple[str, str]]] = {}
    known = shipped()
    rows = [("driver", row, [row]) for rows in known.drivers["archives"].values() for row in rows]
    rows += [("driver", row, [row]) for row in known.drivers["runfiles"]]
    rows += [("cuda", row, [row["runfile"]]) for row in known.cuda["releases"] if row.get("runfile")]
    rows += [("cudnn", row, [row]) for row in known.cudnn["packages"]]
    rows += [("opencv", row, row["artifacts"]) for row in known.opencv["releases"]]
    rows += [("tensorflow", row, row["wheels"]) for row in known.tensorflow["releases"]]
    rows += [("weights", {"version": f"{row['name']}.weights"}, [row["weights"]]) for row in known.yolo["models"]]
    rows += [
        ("virtualbox", row, [row["installer"], row["extension_pack"] or {}]) for row in known.virtualbox["releases"]
    ]
    for component, row, files in rows:
        for value in (file.get(key) for file in files for key in ("url", "sha256")):
            if value:
                found[value] = found.get(value, frozenset()) | {(component, row["version"])}
    return found


def can_be_built(plan: Plan) -> bool:
    """Return whether a plan names the sources and the CUDA to build an OpenCV with that no environment holds."""
    return plan["cuda"] is not None and bool(present(plan["opencv"]).get("artifacts"))


def needed(plan: Plan) -> List[Component]:
    """Return the components that a plan must name."""
    names: Sequence[Component] = COMPONENTS if plan["gpus"] else WITHOUT_GPU
    return [name for name in names if name not in left_out(plan)]


def left_out(plan: Plan) -> List[Framework]:
    """Return the components that were left out by choice; a lock of an earlier release leaves none out."""
    return list(plan.get("without", ()))


def load(path: Path, host: Optional[str] = None, former: Optional[Path] = None) -> Lock:
    """Read a lock file and the PEP 751 files that it names; missing, damaged, foreign or at its former place, it is a
    `LockError`.

    `host` is the host that the lock must be for; None where only the file was named.
    """
    refuse_former(path, former)
    lock = written(path)
    refuse_open(lock, str(path))
    named = lock.pop("pylocks", None)
    return check({**lock, "environments": environments(path, named)}, str(path), host)


def written(path: Path) -> Json:  # Json: nothing of it is known yet
    """Return what stands in a lock file; nothing of it is known to be right but that it is an object."""
    try:
        value = strict_json.load(path, LARGEST)
    except FileNotFoundError:
        raise LockError(f"There is no lock {path}.", "Make one: ./run ansible-playbook playbooks/plan.yml") from None
    except (OSError, ValueError) as error:
        raise LockError(f"The lock {path} cannot be read: {printable(error, 200)}.", AGAIN) from None
    if not isinstance(value, dict) or set(value) != {KEY} or not isinstance(value[KEY], dict):
        raise LockError(f"The lock {path} is damaged: it is not an object with the one key {KEY}.", AGAIN)
    return dict(value[KEY])


def environments(path: Path, named: Any) -> Dict[str, LockedEnvironment]:
    """Read the PEP 751 files that a lock file names by their sha256, beside it."""
    found = {}
    for name, sha256 in named.items() if isinstance(named, dict) else [("pylocks", named)]:
        form = pylocks.NAME.fullmatch(str(name))
        if form is None or not isinstance(sha256, str) or sha256[:12] != form.group(2) or form.group(1) in found:
            raise LockError(f"The lock {path} is damaged: {printable(name, 100)} names no pylock file.", AGAIN)
        beside = path.resolve().with_name(name)
        try:
            found[form.group(1)] = pylocks.read(beside, sha256)
        except (OSError, pylocks.UnfitPylock) as error:
            why = "It is not there." if isinstance(error, FileNotFoundError) else printable(error, 300)
            raise LockError(f"The file {beside}, which is part of the lock, cannot be used. {why}", AGAIN) from None
    return found


def read(file: Path, host: str, former: Optional[Path] = None) -> Lock:
    """Return the lock of a host, `{}` where it has none; a `LockError` as `load`."""
    refuse_former(file, former)
    return load(file, host) if file.exists() else cast(Lock, {})


def pending(file: Path, host: str) -> Optional[Lock]:
    """Return the lock of a rebuild that is under way, which lies beside the lock's file; None when none is."""
    beside = file.with_name(file.name + PENDING)
    return load(beside, host) if beside.exists() else None


def refuse_former(path: Path, former: Optional[Path]) -> None:
    """Refuse a lock in host_vars, whose every key Ansible takes for a variable, with the command that moves it."""
    if former is None or not former.exists():
        return
    old, new = shlex.quote(str(former)), shlex.quote(str(path.parent))
    if path.exists():
        step = f"Compare the two, then remove the old one: rm {old}"
    else:
        step = f"Move it: mkdir -p {new} && mv {old}* {new}/"
    what = f"The lock {former} is in a folder that Ansible loads by itself."
    raise LockError(f"{what} Locks are kept in {path.parent} now.", step)


def former_problem(host: str, inventory: Any, locks: Any = "") -> str:
    """Return what is wrong with a lock where earlier releases kept it; "" where there is none.

    A host that was typed on the command line has no host_vars.
    """
    try:
        if inventory:
            refuse_former(*place(host, inventory, locks))
    except LockError as error:
        return str(error)
    return ""


def differences(
    lock: Lock,
    observation: Observation,
    asked: Dict[str, str],
    ignore_gpus: bool = False,
    without: Collection[str] = (),
) -> List[str]:
    """Where the host, or what is asked of it, is no longer what the lock was made for; empty when all agrees."""
    found = []
    plan = lock["plan"]
    if plan["platform"] != observation["platform"]["id"]:
        found.append(f"platform: locked {plan['platform']}, present {observation['platform']['id']}")
    present = [] if ignore_gpus else cards_of(observation)
    found += other_cards(lock["cards"], present)
    locked, now = demands(plan["asked"], left_out(plan)), demands(asked, without)
    if locked != now:
        found.append(f"asked: locked for {locked}, now {now}")
    return found


def demands(asked: Dict[str, str], without: Collection[str]) -> str:
    """What is asked of the components, and which are left out, in words."""
    told = [f"{name} {text}" for name, text in sorted(asked.items())] + [f"no {name}" for name in sorted(without)]
    return ", ".join(told) or "nothing in particular"
