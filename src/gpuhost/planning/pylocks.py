"""The packages of a Python environment as a lock keeps them: one PEP 751 file for each environment, beside stack.json.

A file's name ends with the first digits of its sha256, so that writing another lock never changes the files of the one
that is there. It names each package's file and no address: any index that has the file will do, and pip takes it only
by its sha256.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any, List, Mapping

from packaging.markers import Marker
from packaging.pylock import Package, PackageSdist, PackageWheel, Pylock, PylockValidationError
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ..reading import content
from ..shapes.lock import LockedEnvironment, LockedPackage
from ..types import Json

#: Larger than any: one package takes about 250 bytes.
LARGEST = 200_000
#: Longer than any line that is written here. A key of many parts would take memory by the square of its length.
LONGEST_LINE = 300
NAME = re.compile(r"pylock\.([a-z0-9_]{1,40})-([0-9a-f]{12})\.toml")
CREATED_BY = "gpuhost"
PLATFORM = "sys_platform == 'linux' and platform_machine == 'x86_64'"
_PYTHON = re.compile(r"==(3\.[0-9]{1,2})\.\*")

toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


class UnfitPylock(ValueError):
    """A file that is not taken; the message is one sentence about it that begins with "It"."""


def file_name(environment: str, text: str) -> str:
    """Name the file of an environment by its content, e.g. `pylock.dl4cv-0123456789ab.toml`."""
    return f"pylock.{environment}-{digest(text)[:12]}.toml"


def digest(text: str) -> str:
    """Return the SHA-256 of a text, as hex digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def text(environment: LockedEnvironment) -> str:
    """Write an environment as a PEP 751 file; the same environment gives the same bytes."""
    return "\n".join(lines(pylock(environment).to_dict())) + "\n"


def pylock(environment: LockedEnvironment) -> Pylock:
    """Return an environment as PEP 751 has it."""
    return Pylock(
        lock_version=Version("1.0"),
        environments=[Marker(PLATFORM)],
        requires_python=SpecifierSet(f"=={environment['python']}.*"),
        created_by=CREATED_BY,
        packages=[package(row) for row in environment["packages"]],
        tool={"gpuhost": {"environment": environment["environment"], "version": environment["version"]}},
    )


def package(row: LockedPackage) -> Package:
    """Return one package: its file by name, size and sha256."""
    file: Json = {"path": row["file"], "size": row["size"], "hashes": {"sha256": row["sha256"]}}
    name: Any = row["name"]
    if row["kind"] == "wheel":
        return Package(name=name, version=Version(row["version"]), wheels=[PackageWheel(**file)])
    return Package(name=name, version=Version(row["version"]), sdist=PackageSdist(**file))


def lines(value: Mapping[str, Any]) -> List[str]:  # Json: a PEP 751 file, as packaging writes it
    """Write what `pylock` makes as lines of TOML."""
    told = pairs({key: inner for key, inner in value.items() if key not in ("packages", "tool")})
    for row in value["packages"]:
        told += ["", "[[packages]]", *pairs({"name": row["name"], "version": row["version"]})]
        for wheel in row.get("wheels", ()):
            told += ["", "[[packages.wheels]]", *pairs(wheel)]
        if "sdist" in row:
            told += ["", "[packages.sdist]", *pairs(row["sdist"])]
    return [*told, "", "[tool.gpuhost]", *pairs(value["tool"]["gpuhost"])]


def pairs(table: Mapping[str, Any]) -> List[str]:  # Json: any table of TOML
    """Write the entries of a table."""
    return [f"{key} = {inline(value)}" for key, value in table.items()]


def inline(value: Any) -> str:
    """Write a text, a number, a list or a small table on one line. A text in ASCII is written in TOML as in JSON."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(pairs(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)


def read(path: Path, sha256: str) -> LockedEnvironment:
    """Return the environment in a file; `OSError`, or `UnfitPylock` where it is not the file of that sha256."""
    if path.is_symlink():
        raise UnfitPylock("It is a symbolic link and not a file.")
    try:
        data = content(path, LARGEST)
    except ValueError as error:
        raise UnfitPylock(str(error)) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UnfitPylock("Its sha256 is not the one in the lock.")
    return parsed(data)


def parsed(data: bytes) -> LockedEnvironment:
    """Return the environment that the bytes of a file describe.

    What is not written here (an address, a marker, an extra, an unknown key) is refused, because nobody would read it.
    """
    try:
        told = data.decode("utf-8")
        if max(map(len, told.split("\n"))) > LONGEST_LINE:
            raise UnfitPylock(f"It has a line of more than {LONGEST_LINE} characters.")
        value = toml.loads(told)
        Pylock.from_dict(value)
        found = environment_of(value)
        same = pylock(found).to_dict() == value
    except UnfitPylock:
        raise
    except UnicodeDecodeError:
        raise UnfitPylock("It is not UTF-8 text.") from None
    except PylockValidationError as error:
        raise UnfitPylock(f"It breaks PEP 751: {error}.") from None
    except RecursionError:
        raise UnfitPylock("It is nested too deeply.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnfitPylock(f"It is not a pylock file of this project: {error or type(error).__name__}.") from None
    if not same:
        raise UnfitPylock("It holds more than the packages of an environment: an address, a marker or an unknown key.")
    return found


def environment_of(value: Mapping[str, Any]) -> LockedEnvironment:  # Json: a PEP 751 file, which packaging has checked
    """Return the environment of a PEP 751 file that is valid."""
    python = _PYTHON.fullmatch(value["requires-python"])
    if python is None:
        raise ValueError("requires-python is not of the form ==3.8.*")
    tool = value["tool"]["gpuhost"]
    return {
        "environment": tool["environment"],
        "version": tool["version"],
        "python": python.group(1),
        "packages": [row_of(one) for one in value["packages"]],
    }


def row_of(one: Mapping[str, Any]) -> LockedPackage:  # Json: a package of a PEP 751 file
    """Return a package as an environment has it."""
    (file,) = one["wheels"] if "wheels" in one else [one["sdist"]]
    return {
        "name": one["name"],
        "version": one["version"],
        "file": file["path"],
        "kind": "wheel" if "wheels" in one else "sdist",
        "sha256": file["hashes"]["sha256"],
        "size": file.get("size"),
    }
