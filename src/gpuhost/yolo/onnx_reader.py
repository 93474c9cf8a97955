"""What an ONNX file says about itself: its input, its metadata, and whether its weights lie where they may. Pure.

The field numbers are those of onnx.proto3. The file is somebody else's: every length in it is checked against what is
there, and of the weights themselves nothing is read.
"""

import ast
import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..errors import UsageError
from ..text import printable

FLOAT = 1
_NAME = re.compile(r"""(?:([0-9]{1,6})\s*:\s*)?('[^'\\\n]{0,200}'|"[^"\\\n]{0,200}")""")
"""A name in quotes, behind its number where the names are a dictionary of Python."""
_SIZE = re.compile(r"\[([1-9][0-9]{0,4}), ([1-9][0-9]{0,4})\]\Z")
LONGEST_TEXT = 1 << 20
MOST_NODES = 1 << 20


class Input(NamedTuple):
    """An input of the graph: its name, the type of its values, and its shape with None where a side is open."""

    name: str
    kind: int
    shape: Tuple[Optional[int], ...]


class OnnxModel(NamedTuple):
    """The inputs of a model that are not weights, its metadata, and the names of its outputs in their order."""

    inputs: List[Input]
    metadata: Dict[str, str]
    outputs: Tuple[str, ...] = ()

    @property
    def names(self) -> Optional[Tuple[str, ...]]:
        """The names of the classes as an export of Ultralytics has them, None without such ones."""
        said = self.metadata.get("names", "").strip()
        found = [(key, ast.literal_eval(name)) for key, name in _NAME.findall(said)]
        if said[:1] not in ("{", "[") or not found or not all(name for _, name in found):
            return None
        if said[0] == "{":
            # Somebody's data.yaml sets the order, and may have 10 before 2.
            found.sort(key=lambda pair: int(pair[0] or 0))
            if [key for key, _ in found] != [str(number) for number in range(len(found))]:
                return None
        return tuple(printable(name, 200) for _, name in found)

    @property
    def suppressed(self) -> bool:
        """Whether an export of Ultralytics gives finished boxes: its head makes them, or what `nms=True` put behind."""
        return self.metadata.get("end2end") == "True" or "'nms': True" in self.metadata.get("args", "")

    @property
    def size(self) -> Optional[Tuple[int, int]]:
        """The width and height of the input for which an export of Ultralytics was made, None without them."""
        said = _SIZE.match(self.metadata.get("imgsz", ""))
        return (int(said.group(2)), int(said.group(1))) if said else None


class _Damaged(ValueError):
    """Bytes that are not what they should be."""


def _number(data: memoryview, place: int) -> Tuple[int, int]:
    """A variable-length integer, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise _Damaged("it ends too early")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise _Damaged("a number in it is too long")


def _fields(data: memoryview) -> Iterator[Tuple[int, Any]]:
    """The fields of a message: their numbers, and an integer or the bytes."""
    place = 0
    while place < len(data):
        key, place = _number(data, place)
        kind = key & 7
        if kind == 0:
            value, place = _number(data, place)
            yield key >> 3, value
            continue
        if kind not in (1, 2, 5):
            raise _Damaged("a field in it is of no known kind")
        length, place = _number(data, place) if kind == 2 else ({1: 8, 5: 4}[kind], place)
        if length > len(data) - place:
            raise _Damaged("it ends too early")
        yield key >> 3, data[place : place + length]
        place += length


def _message(value: Any) -> memoryview:
    """A field's value where a message, a text or bytes belong."""
    if not isinstance(value, memoryview):
        raise _Damaged("a field in it has another type")
    return value


def _whole(value: Any) -> int:
    """A field's value where an integer belongs."""
    if not isinstance(value, int):
        raise _Damaged("a field in it has another type")
    return value


def _text(value: Any) -> str:
    """A field's value as text."""
    data = _message(value)
    if len(data) > LONGEST_TEXT:
        raise _Damaged("a text in it is too long")
    return bytes(data).decode("utf-8", errors="replace")


def _pair(entry: memoryview) -> Tuple[str, str]:
    """A StringStringEntryProto."""
    found = {number: _text(value) for number, value in _fields(entry) if number in (1, 2)}
    return found.get(1, ""), found.get(2, "")


def _input(value_info: memoryview) -> Input:
    """A ValueInfoProto."""
    name, kind, shape = "", 0, []  # type: Tuple[str, int, List[Optional[int]]]
    for number, value in _fields(value_info):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for of_type, tensor in _fields(_message(value)):
                for part, content in _fields(_message(tensor)) if of_type == 1 else ():
                    if part == 1:
                        kind = _whole(content)
                    elif part == 2:
                        sides = [dict(_fields(_message(side))) for tag, side in _fields(_message(content)) if tag == 1]
                        shape = [_whole(side[1]) if 1 in side else None for side in sides]
    return Input(name, kind, tuple(shape))


def _tensor(tensor: memoryview) -> Tuple[str, str]:
    """The name of a constant, and the file in which it lies ("" for the model itself)."""
    name, place = "", ""
    for number, value in _fields(tensor):
        if number == 8:
            name = _text(value)
        elif number == 13:
            key, said = _pair(_message(value))
            place = said if key == "location" else place
    return name, place


def read(data: memoryview, name: str) -> OnnxModel:
    """Return what the model says of itself; UsageError when it is none, or wants files of other folders."""
    inputs: List[Input] = []
    outputs: List[str] = []
    constants, metadata = set(), {}
    seen_graph = False
    try:
        for number, value in _fields(data):
            if number == 14:
                key, said = _pair(_message(value))
                metadata[key] = said
            elif number == 7:
                seen_graph = True
                for count, (part, content) in enumerate(_fields(_message(value))):
                    if count > MOST_NODES:
                        raise _Damaged("it has too many parts")
                    if part == 11:
                        inputs.append(_input(_message(content)))
                    elif part == 12:
                        outputs.append(_input(_message(content)).name)
                    elif part == 5:
                        constant, place = _tensor(_message(content))
                        constants.add(constant)
                        if "/" in place or "\\" in place or place == "..":
                            raise _Damaged("it wants weights from another folder")
        if not seen_graph or not inputs:
            raise _Damaged("it holds no network")
    except _Damaged as problem:
        raise UsageError(
            f"{printable(name, 300)} is not an ONNX model: {problem}.", next_step="Export it again."
        ) from problem
    return OnnxModel([one for one in inputs if one.name not in constants], metadata, tuple(outputs))
