"""The wire format of Protocol Buffers, as far as a writer needs it.

After its public description ("Encoding", version 3): a message is a row of fields, each a key (field
number and wire type as one variable-length integer) and a value.
"""

import struct

_VARINT, _LENGTH, _FIXED32 = 0, 2, 5


def varint(value: int) -> bytes:
    """An integer, seven bits a byte, lowest first; a negative one as its 64-bit two's complement."""
    rest, coded = value & 0xFFFFFFFFFFFFFFFF, bytearray()
    while rest > 0x7F:
        coded.append(rest & 0x7F | 0x80)
        rest >>= 7
    coded.append(rest)
    return bytes(coded)


def integer(field: int, value: int) -> bytes:
    """A field of the type int32, int64 or enum."""
    return varint(field << 3 | _VARINT) + varint(value)


def single(field: int, value: float) -> bytes:
    """A field of the type float."""
    return varint(field << 3 | _FIXED32) + struct.pack("<f", value)


def block(field: int, content: bytes) -> bytes:
    """A field of the type bytes, string (as UTF-8) or message (already encoded)."""
    return varint(field << 3 | _LENGTH) + varint(len(content)) + content


def text(field: int, value: str) -> bytes:
    """A field of the type string."""
    return block(field, value.encode("utf-8"))
