"""The keys of the detection service's clients: made and revoked on the host, kept as hashes, each shown once.

    sudo gpuhost-keys add NAME [--for detect] [--for hook]
    sudo gpuhost-keys list
    sudo gpuhost-keys revoke NAME

The service reads the file again when it has changed, so a revoked key is refused at once. Runs on the target: Python
3.6, standard library.
"""

import argparse
import grp
import hashlib
import json
import re
import secrets
import sys
import time
from pathlib import Path
from typing import List, Optional, Sequence

from ... import strict_json
from ...errors import EnvironmentProblem, GpuhostError, UsageError
from ...types import Json
from .. import files, store
from .places import FOLDER, KEYS, USER

KINDS = ("detect", "hook")
#: Held while the file is read and written again.
LOCK = "keys.lock"
#: What verify/ posts its photo with.
OF_VERIFY = "gpuhost-verify"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_BYTES = 32


def read(path: Path) -> List[Json]:
    """Return the keys in a file; none where there is no file. A damaged one is an error: it must not lose keys."""
    try:
        value = strict_json.load(path)
    except FileNotFoundError:
        return []
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(
            f"{path} cannot be read: {error}", "Fix it, or delete it and make the keys again."
        ) from None
    rows = value.get("keys") if isinstance(value, dict) and value.get("schema") == 1 else None
    if not isinstance(rows, list) or not all(is_key(row) for row in rows):
        raise EnvironmentProblem(f"{path} does not hold keys.", "Fix it, or delete it and make the keys again.")
    return rows


def is_key(row: object) -> bool:
    """Return whether a value is a key as the file has it."""
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(name), str) for name in ("name", "sha256", "created"))
        and isinstance(row.get("kinds"), list)
    )


def write(path: Path, rows: List[Json], group: Optional[int]) -> None:
    """Write the keys: root writes, the service reads, nobody else does either."""
    text = json.dumps({"schema": 1, "keys": rows}, indent=1, sort_keys=True) + "\n"
    try:
        files.write_whole(path, text, 0o640, group)
    except OSError as error:
        raise store.unwritable(error, path.parent) from error


def service_group() -> int:
    """Return the group of the service's user."""
    try:
        return grp.getgrnam(USER).gr_gid
    except KeyError:
        step = "Install it: ./run ansible-playbook site.yml -e service_enabled=true"
        raise EnvironmentProblem("There is no detection service on this host.", step) from None


def add(path: Path, name: str, kinds: Sequence[str], group: Optional[int]) -> str:
    """Make a key and return its text, which stands nowhere else."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot be a key's name.", "Use up to 40 letters, digits and . _ -")
    with files.held(path.with_name(LOCK), "changing the keys", say):
        rows = read(path)
        if any(row["name"] == name for row in rows):
            raise UsageError(
                f"There is a key named {name}.", f"Revoke it first, or choose another name: gpuhost-keys revoke {name}"
            )
        text = secrets.token_hex(_BYTES)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        row = {"name": name, "sha256": digest(text), "created": created, "kinds": list(kinds)}
        write(path, [*rows, row], group)
    return text


def revoke(path: Path, name: str, group: Optional[int]) -> None:
    """Take a key away; its client is refused from now on."""
    with files.held(path.with_name(LOCK), "changing the keys", say):
        rows = read(path)
        left = [row for row in rows if row["name"] != name]
        if len(left) == len(rows):
            there = ", ".join(row["name"] for row in rows) or "none"
            raise UsageError(f"There is no key named {name}.", f"There are: {there}.")
        write(path, left, group)


def digest(text: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def say(text: str) -> None:
    """Tell who is waited for."""
    sys.stderr.write(text + "\n")


def listed(rows: Sequence[Json]) -> str:
    """Return the keys as lines: name, kinds, since when."""
    return "".join("{:<40} {:<12} {}\n".format(r["name"], ",".join(r["kinds"]), r["created"]) for r in rows)


def main(argv: List[str], path: str = KEYS) -> int:
    """Add, list or revoke keys; 0, or the error's exit code."""
    parser = argparse.ArgumentParser(prog="gpuhost-keys", description="The keys of the service's clients.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    adding = commands.add_parser("add", help="make a key and print it, once")
    adding.add_argument("name", help="whose key it is: phone, camera-2")
    adding.add_argument(
        "--for", dest="kinds", action="append", choices=KINDS, help="what it may be used for (default: detect)"
    )
    commands.add_parser("list", help="show the names of all keys")
    revoking = commands.add_parser("revoke", help="take a key away")
    revoking.add_argument("name")
    given = parser.parse_args(argv)
    if given.command is None:  # Python 3.6 cannot require a command
        parser.error("add, list or revoke?")
    try:
        if given.command == "list":
            sys.stdout.write(listed(read(Path(path))))
        elif given.command == "add":
            sys.stdout.write(add(Path(path), given.name, given.kinds or ["detect"], service_group()) + "\n")
        else:
            revoke(Path(path), given.name, service_group())
    except PermissionError:
        sys.stderr.write(f"error: only root may read {FOLDER}. Type sudo before the command.\n")
        return EnvironmentProblem.exit_code
    except GpuhostError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
