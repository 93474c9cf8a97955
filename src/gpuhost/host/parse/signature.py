"""The signature at the end of a kernel module: whether one is there, and who signed.

modinfo before kmod 26 does not read the PKCS#7 message that modules have been signed with since Linux 4.3: it prints an
empty signer. The message is read here as far as the name of its signer's certificate. Every function is pure and total.
Form: include/linux/module_signature.h, scripts/sign-file.c of Linux; RFC 5652. Runs on the target: Python 3.6 and the
standard library only.
"""

from typing import List, NamedTuple, Optional, Tuple

MAGIC = b"~Module signature appended~\n"
#: Bytes at the end of a module in which its signature is looked for; one has less than 1,000 without certificates.
END = 64 << 10
_INFO = 12
_PKCS7 = 2
_COMMON_NAME = b"\x55\x04\x03"
_SEQUENCE, _SET, _INTEGER, _OID, _FIRST = 0x30, 0x31, 0x02, 0x06, 0xA0
_LONGEST = 200


class Signature(NamedTuple):
    """Whether a module is signed, and the common name of the signing certificate; "" where it cannot be determined."""

    there: bool
    signer: str


def at_the_end(data: bytes) -> Signature:
    """The signature of a module from its last bytes."""
    if not data.endswith(MAGIC):
        return Signature(False, "")
    body = data[: -len(MAGIC)]
    info, body = body[-_INFO:], body[:-_INFO]
    size = int.from_bytes(info[8:12], "big") if len(info) == _INFO else 0
    if len(info) < _INFO or info[2] != _PKCS7 or not 0 < size <= len(body):
        return Signature(True, "")
    return Signature(True, signer_in(body[-size:]))


def signer_in(message: bytes) -> str:
    """The common name of the issuer that a PKCS#7 message's first signer gives; "" where it has none."""
    signed = inside(inside(message, _SEQUENCE), _FIRST)
    fields = parts(inside(signed, _SEQUENCE))
    # Version, digest algorithms (a set), content, maybe certificates and lists, and last the set of signers.
    sets = [value for tag, value in fields[2:] if tag == _SET]
    signer = parts(inside(sets[-1], _SEQUENCE)) if sets else []
    names = [value for tag, value in signer[1:2] if tag == _SEQUENCE]
    issuer = parts(inside(names[0], _SEQUENCE)) if names else []
    for _, relative in issuer:
        for pair in parts(relative):
            named = parts(pair[1])
            if len(named) == 2 and named[0] == (_OID, _COMMON_NAME):
                return named[1][1].decode("utf-8", "replace")[:_LONGEST]
    return ""


def element(data: bytes) -> Optional[Tuple[int, bytes, bytes]]:
    """The first DER element: its tag, its content, and what follows it; None for anything else."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4 or len(data) < 2 + count:
            return None
        size, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if len(data) < start + size:
        return None
    return data[0], data[start : start + size], data[start + size :]


def parts(data: bytes) -> List[Tuple[int, bytes]]:
    """The elements that a constructed element holds, each with its tag, as far as they can be read."""
    found = []
    while data:
        one = element(data)
        if one is None:
            break
        found.append((one[0], one[1]))
        data = one[2]
    return found


def inside(data: bytes, tag: int) -> bytes:
    """The content of the first element with this tag; nothing where there is none."""
    return next((value for kind, value in parts(data) if kind == tag), b"")
