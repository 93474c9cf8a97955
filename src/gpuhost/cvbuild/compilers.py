"""The host compiler: the newest one of this machine that the toolkit accepts, or the package that would bring one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

from .commands import ask
from .failures import failure


class Compiler(NamedTuple):
    """A pair of compilers of one version."""

    cxx: str
    c: str
    major: int
    said: str  # the first line of --version without the program's own name, part of the cache key


def parse_major(said: str) -> int:
    """12 from 'g++ (Debian 12.2.0-14) 12.2.0'; 0 when it is not gcc.

    The version is the first number after the program's name and what stands in parentheses, who packaged it; a date,
    the packager again, or "(experimental)" may follow.
    """
    first = said.splitlines()[0] if said.strip() else ""
    bare, count = first.partition(" ")[2], 1
    while count:  # parentheses stand in parentheses
        bare, count = re.subn(r"\([^()]*\)", " ", bare)
    match = re.match(r"\s*([0-9]{1,3})(\.[0-9]+)*(\s|$)", bare)
    return int(match.group(1)) if match and "clang" not in first.lower() else 0


def unnamed(said: str) -> str:
    """The first line of a compiler's --version, called g++ by whatever name it was: g++-12 is the same one."""
    return re.sub(r"^\S+", "g++", said.splitlines()[0])


def found_on(path: str) -> List[Compiler]:
    """Every g++ of the folders of a PATH that has its gcc beside it, newest first."""
    found: Dict[int, Compiler] = {}
    for folder in path.split(os.pathsep):
        try:
            names = sorted(p.name for p in Path(folder).iterdir() if re.match(r"^g\+\+(-\d+)?$", p.name))
        except OSError:
            continue
        for name in names:
            cxx, c = Path(folder) / name, Path(folder) / name.replace("g++", "gcc")
            said = ask([str(cxx), "--version"])
            major = parse_major(said)
            if major and c.exists() and major not in found:
                found[major] = Compiler(str(cxx), str(c), major, unnamed(said))
    return sorted(found.values(), key=lambda one: -one.major)


def choose(there: Sequence[Compiler], bounds: Mapping[str, Any], packages: Sequence[str], cuda: str) -> Compiler:
    """Return the newest compiler within the toolkit's bounds: min and max are majors, None is unbounded."""
    low, high = bounds.get("min") or 0, bounds.get("max") or 10**6
    fit = [one for one in there if low <= one.major <= high]
    if fit:
        return max(fit, key=lambda one: one.major)
    suits = [p for p in packages if low <= int(p.rpartition("-")[2]) <= high]
    step = f"Install one: apt-get install {suits[0]}" if suits else "Install a g++ of those versions."
    span = f"{low or 'any'} to {high}" if bounds.get("max") else f"{low} or newer"
    if not there:
        raise failure("D22-no-compiler", "There is no g++ on this machine.", step)
    have = ", ".join(str(one.major) for one in there)
    raise failure("D22-gcc-too-new", f"CUDA {cuda} accepts gcc {span}; this machine has {have}.", step)
