"""What a client sends, taken apart: a multipart form with a picture in it, or the picture alone.

The body is in memory whole and its size is bounded. Every search here runs over it once: a boundary can begin only at a
carriage return, which no boundary holds, so that near misses cost no second look. Headers, fields and the number of
parts are bounded, and what stands behind the last boundary is not looked at.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

from ..text import printable

PICTURE = "image"
MOST_PARTS = 32
LONGEST_HEADER = 4096
LONGEST_FIELD = 4096
LONGEST_BOUNDARY = 70
#: RFC 2046, section 5.1.1; a space may not be the last one.
_BOUNDARY = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'()+_,-./:=? ")
_RAW = ("", "application/octet-stream")
_PLAIN = ("", "binary", "8bit", "7bit")
_HOW = "Send multipart/form-data with the picture in the field image, or the picture alone as image/jpeg."
_AGAIN = "Send it again, or look at the client that made it."


class Unfit(ValueError):
    """A body that is not understood: the HTTP status, what is wrong, and what to do."""

    def __init__(self, problem: str, next_step: str = _AGAIN, status: int = 400) -> None:
        """Keep all three."""
        super().__init__(problem)
        self.problem, self.next_step, self.status = problem, next_step, status


class Form(NamedTuple):
    """The picture, the name of its file if it has one, and the other fields."""

    picture: Optional[bytes]
    file_name: str
    fields: Dict[str, str]


def parse(body: bytes, content_type: str, wanted: Tuple[str, ...]) -> Form:
    """Return what a body holds; of the fields those that are `wanted`. Raises `Unfit`."""
    kind, parameters = value_of(content_type)
    if kind == "multipart/form-data":
        return _multipart(body, _boundary(parameters), wanted)
    if kind.startswith("image/") or kind in _RAW:
        return Form(body, "", {})
    if kind == "application/x-www-form-urlencoded":
        how = "With curl: -F image=@photo.jpg, or --data-binary @photo.jpg -H 'Content-Type: image/jpeg'."
        raise Unfit("The body is said to be a form without files.", how, 415)
    raise Unfit(f"A body of the type {printable(kind, 80)} is not taken.", _HOW, 415)


def value_of(header: str) -> Tuple[str, Dict[str, str]]:
    """Return the value of a header in small letters, and its parameters; of two equal ones the first.

    Values stand in quotation marks or not, as some clients leave them out. One pass over the characters.
    """
    value, _, rest = header.partition(";")
    found: Dict[str, str] = {}
    at, end = 0, len(rest)
    while at < end:
        mark = rest.find("=", at)
        if mark < 0:
            break
        name, at = rest[at:mark].rpartition(";")[2].strip(" \t").lower(), mark + 1
        while at < end and rest[at] in " \t":
            at += 1
        if at < end and rest[at] == '"':
            text, at = _quoted(rest, at + 1)
        else:
            stop = rest.find(";", at)
            stop = end if stop < 0 else stop
            text, at = rest[at:stop].strip(" \t"), stop
        found.setdefault(name, text)
        stop = rest.find(";", at)
        at = end if stop < 0 else stop + 1
    return value.strip(" \t").lower(), found


def _quoted(text: str, at: int) -> Tuple[str, int]:
    """Return what stands up to the closing quotation mark, and the place behind it.

    A backslash makes a quotation mark or a backslash plain; before anything else it is itself, as in a path of Windows.
    """
    kept: List[str] = []
    while at < len(text) and text[at] != '"':
        if text[at] == "\\" and text[at + 1 : at + 2] in ('"', "\\"):
            at += 1
        kept.append(text[at])
        at += 1
    return "".join(kept), at + 1


def _boundary(parameters: Dict[str, str]) -> bytes:
    """Return the boundary that the header names."""
    boundary = parameters.get("boundary", "")
    if not boundary:
        raise Unfit("The form names no boundary.", _HOW)
    if len(boundary) > LONGEST_BOUNDARY or not set(boundary) <= _BOUNDARY or boundary.endswith(" "):
        raise Unfit(f"The form's boundary is longer than {LONGEST_BOUNDARY} characters, or has others than it may.")
    return boundary.encode("ascii")


def _multipart(body: bytes, boundary: bytes, wanted: Tuple[str, ...]) -> Form:
    """Take a form apart, part after part."""
    first, delimiter = b"--" + boundary, b"\r\n--" + boundary
    if not body.startswith(first):
        raise Unfit("The form does not begin with its boundary.")
    at = len(first)
    picture: Optional[bytes] = None
    file_name, fields = "", {}  # type: Tuple[str, Dict[str, str]]
    for _ in range(MOST_PARTS + 1):
        if body.startswith(b"--", at):
            return Form(picture, file_name, fields)
        at = _line_end(body, at)
        header, at = _header(body, at)
        stop = body.find(delimiter, at)
        if stop < 0:
            raise Unfit("The form is cut off: its last boundary is missing.")
        name, sent_name = _names(header)
        if name == PICTURE:
            if picture is not None:
                raise Unfit("The form has the field image twice.", "Send one picture in a request.")
            picture, file_name = body[at:stop], sent_name
        elif name in wanted:
            if name in fields:
                raise Unfit(f"The form has the field {name} twice.")
            fields[name] = _field(body, at, stop, name)
        at = stop + len(delimiter)
    raise Unfit(f"The form has more than {MOST_PARTS} parts.")


def _line_end(body: bytes, at: int) -> int:
    """Return the place behind the line of a boundary, on which nothing but blanks may stand."""
    stop = body.find(b"\r\n", at, at + LONGEST_BOUNDARY)
    if stop < 0 or body[at:stop].strip(b" \t"):
        raise Unfit("The form is damaged behind a boundary.")
    return stop + 2


def _header(body: bytes, at: int) -> Tuple[Dict[str, str], int]:
    """Return the header of a part by its names in small letters, and the place of its content."""
    if body.startswith(b"\r\n", at):
        return {}, at + 2
    stop = body.find(b"\r\n\r\n", at, at + LONGEST_HEADER)
    if stop < 0:
        raise Unfit(f"A part of the form has no end of its header, or one of more than {LONGEST_HEADER} bytes.")
    found: Dict[str, str] = {}
    for line in body[at:stop].decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        found.setdefault(name.strip(" \t").lower(), value.strip(" \t"))
    if found.get("content-transfer-encoding", "").lower() not in _PLAIN:
        raise Unfit("A part of the form is encoded.", "Send the picture's bytes as they are.")
    return found, stop + 4


def _names(header: Dict[str, str]) -> Tuple[str, str]:
    """Return the field's name and the file's."""
    _, parameters = value_of(header.get("content-disposition", ""))
    return parameters.get("name", ""), parameters.get("filename", "")


def _field(body: bytes, at: int, stop: int, name: str) -> str:
    """Return the text of a field."""
    if stop - at > LONGEST_FIELD:
        raise Unfit(f"The field {name} is longer than {LONGEST_FIELD} bytes.")
    try:
        return body[at:stop].decode("utf-8")
    except UnicodeDecodeError as problem:
        raise Unfit(f"The field {name} is not UTF-8 text.") from problem
