"""`gpuhost lock`: show a lock, say what two locks differ in, check locks, and upgrade those of earlier releases."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, List, Mapping

from rich.console import Console
from rich.text import Text

from ..errors import GpuhostError, LockError, UsageError
from ..planning import lock, lock_diff, lock_files, pylocks, specs, toolkits, words
from ..planning.candidates import COMPONENTS, NAMES
from ..report import terminal
from ..shapes.lock import Lock
from ..text import folder_name, printable
from .output import emit

EXIT_DIFFERENT = 1
WHICH = "a lock's file or folder, or a host's name in the inventory"


def add_parser(commands: Any) -> None:
    """The grammar of the command."""
    top = commands.add_parser(
        "lock",
        help="show, compare, check or upgrade locks",
        description="Read the locks of hosts. Nothing but `upgrade` changes a file.",
        epilog="Exit codes: 0 done, 1 the two locks differ (diff), 2 usage, 8 a lock is damaged or not closed.",
    )
    does = top.add_subparsers(dest="does", metavar="what", required=True)
    for name, help_, more in (
        ("show", "say what a lock installs", {"nargs": 1}),
        ("check", "hold locks against their schema, their hashes and themselves", {"nargs": "*"}),
        ("upgrade", "close locks of earlier releases from this release's catalog", {"nargs": "+"}),
    ):
        p = does.add_parser(name, help=help_, description=f"{help_[0].upper()}{help_[1:]}.")
        p.add_argument("locks", metavar="FILE|HOST", help=WHICH, **more)
        common(p)
    p = does.add_parser("diff", help="say in sentences what two locks differ in", description="OLD against NEW.")
    p.add_argument("locks", metavar="FILE|HOST", nargs=2, help=WHICH)
    common(p)
    top.set_defaults(run=lambda typed: RUN[typed.does](typed, terminal.console(), terminal.console(stderr=True)))


def common(p: argparse.ArgumentParser) -> None:
    """The options of every one of them."""
    p.add_argument("--locks", dest="folder", type=Path, default=Path("locks"), metavar="DIR", help="default: locks")
    p.add_argument("--json", action="store_true", help="print JSON")


MAKE = "./run ansible-playbook playbooks/plan.yml"


def place(text: str, folder: Path) -> Path:
    """Return the lock that a word of the command line means; a pylock file stands for the lock of its folder."""
    path = Path(text)
    if pylocks.NAME.fullmatch(path.name):
        return path.with_name(lock.FILE)
    if path.is_dir():
        return path / lock.FILE
    if "/" in text or path.exists() or path.suffix == ".json":
        return path
    path = folder / folder_name(text) / lock.FILE
    if not path.exists():
        step = f"Another inventory's locks: --locks DIR, the folder beside it. A new one: {MAKE}"
        raise LockError(f"There is no lock {path}.", step)
    return path


def places(arguments: argparse.Namespace) -> List[Path]:
    """Return the locks that a command line means, each once, with those of unfinished rebuilds; without words, all."""
    found = [place(text, arguments.folder) for text in arguments.locks] or sorted(
        arguments.folder.glob(f"*/{lock.FILE}")
    )
    if not found:
        raise UsageError(f"There is no lock in {arguments.folder}.", "Name one, or the folder of locks: --locks DIR")
    pending = [file.with_name(file.name + lock.PENDING) for file in found]
    return list(dict.fromkeys([*found, *(file for file in pending if file.exists())]))


def show(arguments: argparse.Namespace, out: Console, err: Console) -> int:
    """`gpuhost lock show`."""
    (file,) = [place(text, arguments.folder) for text in arguments.locks]
    found = lock.load(file)
    if arguments.json:
        emit(found)
        return 0
    for line in lines(found):
        out.print(Text(line), soft_wrap=True)
    return 0


def lines(found: Lock) -> List[str]:
    """Return what a lock installs, in lines for a person."""
    plan, contents = found["plan"], found["contents"]
    told = [f"lock of {', '.join(lock.hosts_of(found))}: {plan['platform']}, {words.cards(plan)}"]
    for name in COMPONENTS:
        part = plan[name]
        more = [words.came_from(name, part), words.remark(name, part)] if part else []
        told.append(f"{NAMES[name]}: {part['version'] if part else 'none'}" + "".join(f"; {m}" for m in more if m))
    driver: Mapping[str, Any] = plan["driver"] or {}
    if driver.get("packages"):
        told.append(f"driver: {len(driver['packages'])} packages of the archive, each by sha256")
    for row in contents["toolkits"]:
        told.append(f"{NAMES[row['name']]} {row['version']} {toolkits.TITLES[row['kind']]}")
    for named, environment in found["environments"].items():
        size = sum(row["size"] or 0 for row in environment["packages"]) / 1e6
        told.append(f"{named}: Python {environment['python']}, {len(environment['packages'])} packages, {size:.0f} MB")
    archive = [*(p for rows in contents["pythons"].values() for p in rows), *contents["opencv"]["packages"]]
    told.append(f"of the distribution's archive: {', '.join(dict.fromkeys(archive))}")
    if contents["weights"]:
        told.append(f"weights: {', '.join(row['name'] for row in contents['weights'])}")
    return told + [f"not closed: {text}" for text in specs.problems(found)]


def diff(arguments: argparse.Namespace, out: Console, err: Console) -> int:
    """`gpuhost lock diff`."""
    old, new = (lock.load(place(text, arguments.folder)) for text in arguments.locks)
    found = lock_diff.changes(old, new)
    if arguments.json:
        emit([change._asdict() for change in found])
    for change in found if not arguments.json else ():
        out.print(Text(printable(change.text)), soft_wrap=True)
    return EXIT_DIFFERENT if found else 0


def check(arguments: argparse.Namespace, out: Console, err: Console) -> int:
    """`gpuhost lock check`: every lock is judged, the first bad one does not end it."""
    bad, told = 0, []
    for file in places(arguments):
        wrong = ""
        try:
            lacking = specs.problems(lock.load(file))
            if lacking:
                raise LockError(f"The lock {file} is not closed. {' '.join(lacking)}")
        except GpuhostError as error:
            bad, wrong = error.exit_code, str(error)
        told.append({"file": str(file), "problem": wrong})
        if not arguments.json:
            (err if wrong else out).print(
                Text(f"error: {wrong}" if wrong else f"{file}: whole and closed"), soft_wrap=True
            )
    if arguments.json:
        emit(told)
    return bad


def upgrade(arguments: argparse.Namespace, out: Console, err: Console) -> int:
    """`gpuhost lock upgrade`."""
    told = []
    for file in places(arguments):
        done = lock_files.upgrade(file)
        told.append({"file": str(file), "upgraded": done})
        if not arguments.json:
            out.print(Text(f"{file}: {'upgraded' if done else 'is of this release'}"), soft_wrap=True)
    if arguments.json:
        emit(told)
    return 0


RUN = {"show": show, "diff": diff, "check": check, "upgrade": upgrade}
