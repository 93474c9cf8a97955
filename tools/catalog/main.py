"""The command `tools/catalog/refresh`: ask the sources, show the difference, write the catalog."""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from gpuhost.errors import GpuhostError, UsageError
from gpuhost.host import files
from gpuhost.planning import catalog

from . import cards, debian, index, redistrib, runfiles, virtualbox
from .fetch import Fetch
from .rows import LINES, Difference, Finding, Json, difference, written

Importer = Callable[[Fetch, Mapping[str, Json], argparse.Namespace], Iterator[Finding]]
#: Every source: its name, the tables that it says anything of, and its importer.
SOURCES: Sequence[Tuple[str, Sequence[str], Importer]] = (
    ("Debian's signed indices", ("platforms", "drivers"), lambda f, t, o: debian.read(f, t, o.keyring)),
    ("the Python package index", ("tensorflow", "opencv", "wheels"), lambda f, t, o: index.read(f, t, index.address())),
    ("pci.ids", ("gpus",), lambda f, t, o: cards.read(f, t, o.keyring)),
    ("the open kernel modules", ("gpus",), lambda f, t, _: cards.read_table(f, t)),
    ("two sources of .run checksums", ("drivers",), lambda f, t, _: runfiles.read(f, t)),
    ("NVIDIA's manifests", ("cudnn",), lambda f, t, _: redistrib.read(f, t)),
    ("Oracle's checksums", ("virtualbox",), lambda f, t, _: virtualbox.read(f, t)),
)
FILES = tuple(sorted({name for _, names, _ in SOURCES for name in names}))


def parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="tools/catalog/refresh", description="Renew the catalog from its sources.")
    add = parser.add_argument
    add("file", nargs="*", metavar="FILE", help=f"what to renew, all of it by default: {', '.join(FILES)}")
    add("--check", action="store_true", help="write nothing; exit with 1 when something would change")
    add("--drop", action="append", default=[], metavar="ROW", help="remove this row, which its source no longer has")
    add("-o", "--output", type=Path, metavar="DIR", help="write a whole renewed catalog there, for GPUHOST_CATALOG")
    add("--recorded", type=Path, metavar="DIR", help="read HOST/PATH below this folder in place of the network")
    add("--keyring", type=Path, default=debian.KEYRING, help="the keys of Debian's archive")
    options = parser.parse_args(arguments)
    options.file = [name[: -len(".json")] if name.endswith(".json") else name for name in options.file]
    for name in options.file:
        if name not in FILES:
            parser.error(f"{name} has no source that can be asked; these have: {', '.join(FILES)}")
    return options


def tables(folder: Path) -> Dict[str, Json]:
    """Return every table that an importer knows, and every lock of NVIDIA's wheels, by name."""
    found = {name: catalog.load(name, folder) for name in LINES}
    for path in sorted((folder / "wheels").glob("*.json")):
        found[f"wheels/{path.stem}"] = catalog.checked(path, "wheels")
    return found


def ask(known: Mapping[str, Json], options: argparse.Namespace) -> Tuple[List[Finding], List[str]]:
    """Return what the sources say of the wanted files, and of each source that did not answer, why."""
    wanted = set(options.file or FILES)
    findings: List[Finding] = []
    silent = []
    for source, names, importer in SOURCES:
        if not wanted & set(names):
            continue
        print(f"asking {source} ...", file=sys.stderr)
        try:
            said = list(importer(Fetch(options.recorded), known, options))
        except GpuhostError as error:
            silent.append(f"{source}: {error}")
            continue
        findings += [one for one in said if one.table.partition("/")[0] in wanted]
    return findings, silent


def write(made: Difference, known: Mapping[str, Json], folder: Path, output: Optional[Path]) -> None:
    """Write the tables that differ, each checked against its schema before any is written."""
    changed = {name: value for name, value in made.tables.items() if value != known[name]}
    for name, value in changed.items():
        catalog.fits(value, f"{name}.json", name.partition("/")[0])
    if output is not None:
        for name in (*catalog.TABLES, "environments/*", "wheels/*"):
            for path in folder.glob(f"{name}.json"):
                target = output / path.relative_to(folder)
                files.make_folder(target.parent)
                files.write_whole(target, path.read_bytes())
    for name, value in changed.items():
        files.write_whole((output or folder) / f"{name}.json", written(name, value))


def told(made: Difference, silent: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the report."""
    for title, lines in (
        ("changed", made.changed),
        ("dropped", made.dropped),
        ("gone from its source, and kept (--drop ROW removes it)", made.kept),
        ("one file with two checksums: left as it was, look which is right", made.conflicts),
        ("needs a person", made.people),
        ("did not answer", silent),
    ):
        if lines:
            yield f"{title}:"
            yield from (f"  {line}" for line in lines)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Renew the catalog: 0 done, 1 something would change, 6 two checksums, 7 a source did not answer."""
    options = parse(arguments)
    try:
        known = tables(catalog.FOLDER)
        findings, silent = ask(known, options)
        made = difference(known, findings, datetime.date.today().isoformat(), options.drop)
        unused = [one for one in options.drop if not any(line.startswith(f"{one}:") for line in made.dropped)]
        if unused:
            raise UsageError(
                f"--drop {unused[0]} names no row that its source no longer has.", "Run it without --drop."
            )
        differs = bool(made.changed or made.dropped)
        if not options.check and (differs or options.output):
            write(made, known, catalog.FOLDER, options.output)
    except GpuhostError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("\n".join(told(made, silent)))
    print(f"{len(made.changed)} changed, {len(made.dropped)} dropped" + (", nothing written" if options.check else ""))
    return 7 if silent else 6 if made.conflicts else 1 if options.check and differs else 0
