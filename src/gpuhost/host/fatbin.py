"""Which GPU code a library holds, read from the file itself: the fat binaries in its ELF section `.nv_fatbin`.

Layout after published descriptions (the decoders of cuda-fatbin-decompression and of Mesa's and ZLUDA's tools), checked
against cuobjdump on this project's own wheels: a container has a magic number and its length; inside, each entry has a
kind (1 PTX, 2 real code), a header length, a payload length and the architecture as a number (90).

Runs on the target: Python 3.6, standard library.
"""

import mmap
import struct
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

MAGIC = 0xBA55ED50
KINDS = {1: "compute", 2: "sm"}
#: Dynamic tags of ELF: names of needed libraries, and where they are looked for.
NEEDED, RPATH, RUNPATH, STRTAB, STRSZ = 1, 15, 29, 5, 10


class Section(NamedTuple):
    """A section of an ELF file."""

    offset: int
    size: int
    address: int


class Library(NamedTuple):
    """What a library says of itself: GPU code by name ('sm_90') with how often, needed libraries, search path."""

    code: Dict[str, int]
    needed: List[str]
    runpath: str


def sections(data: Any, path: Path) -> Dict[str, Section]:
    """The sections of a 64-bit little-endian ELF file by name; ValueError for another file."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{path} is not an x86-64 library")
    table, size, count, names = struct.unpack_from("<Q", data, 40)[0], *struct.unpack_from("<HHH", data, 58)
    rows = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    base = rows[names][4]
    found = {}
    for name, _, _, address, offset, length in rows:
        end = data.find(b"\0", base + name)
        found[data[base + name : end].decode("ascii")] = Section(offset, length, address)
    return found


def fat_binaries(data: Any, section: Section) -> Dict[str, int]:
    """The codes in a section of fat binaries, each with how often it is there."""
    found: Dict[str, int] = {}
    at, end = section.offset, section.offset + section.size
    while at + 16 <= end:
        magic, _, header, length = struct.unpack_from("<IHHQ", data, at)
        if magic != MAGIC:
            at += 8  # padding between containers
            continue
        entry, stop = at + header, at + header + length
        while entry + 32 <= stop:
            kind, _, head, size = struct.unpack_from("<HHIQ", data, entry)
            arch = struct.unpack_from("<I", data, entry + 28)[0]
            if kind in KINDS:
                name = f"{KINDS[kind]}_{arch}"
                found[name] = found.get(name, 0) + 1
            entry += head + size
        at = stop
    return found


def dynamic(data: Any, found: Dict[str, Section]) -> Tuple[List[str], str]:
    """The needed libraries and the search path of an ELF file."""
    section, strings = found.get(".dynamic"), found.get(".dynstr")
    if section is None or strings is None:
        return [], ""
    needed, path = [], ""
    for at in range(section.offset, section.offset + section.size, 16):
        tag, value = struct.unpack_from("<QQ", data, at)
        if tag in (NEEDED, RPATH, RUNPATH):
            begin = strings.offset + value
            text = data[begin : data.find(b"\0", begin)].decode("utf-8", "replace")
            if tag == NEEDED:
                needed.append(text)
            elif tag == RUNPATH or not path:
                path = text
    return needed, path


def read(path: Path) -> Library:
    """What a library holds; ValueError where it is none for x86-64, OSError where it cannot be read."""
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        there = sections(data, path)
        fat = there.get(".nv_fatbin")
        code = fat_binaries(data, fat) if fat else {}
        needed, runpath = dynamic(data, there)
    return Library(dict(sorted(code.items())), needed, runpath)
