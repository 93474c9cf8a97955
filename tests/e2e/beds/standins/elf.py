"""Small real ELF files: kernel modules that modinfo and depmod read, libraries that ldconfig and dlopen take.

Also copied into the beds, as what "compiles" a kernel module there, so: Python 3.6, standard library only.
"""

import struct
import sys
from pathlib import Path

SIGNATURE_MARK = b"~Module signature appended~\n"
_PAGE = 0x1000
_BASE = 64 + 2 * 56


def module(name, version, kernel, licence="NVIDIA", alias=""):
    """A relocatable object with the .modinfo section of a kernel module, made for the kernel release `kernel`."""
    pairs = [("alias", alias)] if alias else []
    pairs += [("version", version)] if version else []
    pairs += [("license", licence), ("retpoline", "Y"), ("name", name)]
    pairs += [("vermagic", kernel + " SMP mod_unload ")]
    modinfo = b"".join(f"{key}={value}".encode("ascii") + b"\0" for key, value in pairs)
    # name, type, flags, data, link, entry size
    sections = [
        (".modinfo", 1, 2, modinfo, 0, 0),
        (".symtab", 2, 0, bytes(24), 3, 24),
        (".strtab", 3, 0, b"\0", 0, 0),
    ]
    names = b"\0" + b"".join(row[0].encode() + b"\0" for row in sections) + b".shstrtab\0"
    sections.append((".shstrtab", 3, 0, names, 0, 0))
    body, headers = b"", bytes(64)
    for label, kind, flags, data, link, entry in sections:
        body += bytes(-len(body) % 8)
        where = names.index(b"\0" + label.encode() + b"\0") + 1
        headers += struct.pack(
            "<IIQQQQIIQQ", where, kind, flags, 0, 64 + len(body), len(data), link, 1 if link else 0, 8, entry
        )
        body += data
    body += bytes(-len(body) % 8)
    start = _header(1, 0, 0, 64 + len(body), len(sections) + 1, len(sections))
    return start + body + headers


def library(soname, functions=None):
    """A shared library of that soname with these functions (name -> machine code)."""
    functions = functions or {}
    strings = b"\0" + soname.encode() + b"\0"
    symbols, code = bytes(24), b""
    offsets = []
    for name, text in sorted(functions.items()):
        offsets.append((len(strings), len(code), len(text)))
        strings += name.encode() + b"\0"
        code += text
    count = len(offsets) + 1
    code_at = _BASE
    symbols_at = code_at + len(code) + (-(code_at + len(code)) % 8)
    hash_at = symbols_at + 24 * count
    # One bucket: a chain through all symbols.
    chain = [0] + [number + 1 if number + 1 < count else 0 for number in range(1, count)]
    table = struct.pack(f"<{3 + count}I", 1, count, 1 if count > 1 else 0, *chain)
    strings_at = hash_at + len(table)
    dynamic_at = strings_at + len(strings) + (-(strings_at + len(strings)) % 8)
    for where, start, size in offsets:
        symbols += struct.pack("<IBBHQQ", where, 0x12, 0, 1, code_at + start, size)
    tags = [(14, 1), (4, hash_at), (5, strings_at), (6, symbols_at), (10, len(strings)), (11, 24), (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", tag, value) for tag, value in tags)
    body = code.ljust(symbols_at - code_at, b"\0") + symbols + table + strings
    body = body.ljust(dynamic_at - _BASE, b"\0") + dynamic
    total = _BASE + len(body)
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, 0, 0, total, total, _PAGE)
    found = struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8)
    return _header(3, 64, 2, 0, 0, 0) + load + found + body


def answer(number):
    """Machine code of `int f(void)` that returns the number."""
    return b"\xb8" + struct.pack("<I", number) + b"\xc3"


def store(number):
    """Machine code of `int f(int *where)` that writes the number there and returns 0."""
    return b"\xc7\x07" + struct.pack("<I", number) + b"\x31\xc0\xc3"


def modinfo(data):
    """The .modinfo pairs of a kernel module, as a dictionary; empty when the file is none."""
    if data[:4] != b"\x7fELF":
        return {}
    (sections_at,) = struct.unpack_from("<Q", data, 40)
    count, names = struct.unpack_from("<HH", data, 60)
    rows = [struct.unpack_from("<IIQQQQ", data, sections_at + 64 * number) for number in range(count)]
    for row in rows:
        label = data[rows[names][4] + row[0] :].split(b"\0", 1)[0]
        if label == b".modinfo":
            words = data[row[4] : row[4] + row[5]].decode("ascii").split("\0")
            return dict(word.split("=", 1) for word in words if "=" in word)
    return {}


def split_signature(data):
    """A module's own bytes and its PKCS#7 signature (None when it has none)."""
    if not data.endswith(SIGNATURE_MARK):
        return data, None
    end = len(data) - len(SIGNATURE_MARK) - 12
    (size,) = struct.unpack_from(">I", data, end + 8)
    return data[: end - size], data[end - size : end]


def with_signature(data, signature):
    """The module with the signature appended in the kernel's form (struct module_signature, PKCS#7)."""
    return data + signature + struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, len(signature)) + SIGNATURE_MARK


def _header(kind, programs_at, programs, sections_at, sections, names):
    """The ELF header of an x86-64 file."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    sizes = struct.pack("<HHHHHH", 64, 56 if programs else 0, programs, 64, sections, names)
    return ident + struct.pack("<HHIQQQI", kind, 62, 1, 0, programs_at, sections_at, 0) + sizes


def main():
    """`elf.py FOLDER KERNEL`: turn each FOLDER/NAME.modinfo ("name version licence") into FOLDER/NAME.ko."""
    for path in sorted(Path(sys.argv[1]).glob("*.modinfo")):
        name, version, licence = path.read_text().strip().split(" ", 2)
        path.with_suffix(".ko").write_bytes(module(name, version, sys.argv[2], licence))


if __name__ == "__main__":
    main()
