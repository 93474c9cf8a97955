"""A Darknet configuration file as sections with their options and line numbers. Pure.

Read as Darknet reads it: white space within a line means nothing, the first of two equal keys counts, and a line
without a value is passed over. What Darknet would take in silence is kept as a note.
"""

import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import UsageError
from ..text import printable

LARGEST_FILE = 4 << 20
MOST_SECTIONS = 4000
_LINE_END = re.compile(r"\r\n|\n|\r")
_SECTION = re.compile(r"\[([^\[\]]*)\](.*)")
_WHOLE = re.compile(r"([+-]?[0-9]{1,12})(?:\.0*)?(?![0-9.])")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?(?![0-9.])")
_COMMENT = re.compile("[#;]")


class Wrong(UsageError):
    """A configuration that cannot be used: the file, the line, and what is wrong there."""


def wrong(name: str, line: int, problem: str, next_step: str) -> Wrong:
    """Return the error for a line of the file `name`."""
    return Wrong(f"{printable(name, 300)}:{line}: {problem}", next_step=next_step)


class Option(NamedTuple):
    """A value as it was written (without white space), and its line."""

    value: str
    line: int


class Section(NamedTuple):
    """One section: its kind without the brackets, its line, and its options. `file` is for messages."""

    file: str
    kind: str
    line: int
    options: Dict[str, Option]

    def fail(self, problem: str, next_step: str, key: Optional[str] = None) -> Wrong:
        """Return the error for this section, or for one option of it."""
        line = self.options[key].line if key in self.options else self.line
        return wrong(self.file, line, problem, next_step)

    def text(self, key: str, default: str) -> str:
        """Return the value of `key` as it was written."""
        return self.options[key].value if key in self.options else default

    def whole(self, key: str, default: int) -> int:
        """Return the whole number of `key`."""
        if key not in self.options:
            return default
        value = _without_comment(self.options[key].value)
        found = _WHOLE.fullmatch(value)
        if found is None or abs(int(found.group(1))) >= 1 << 31:
            raise self.fail(f"{key}={printable(value, 40)} is not a whole number of 32 bits.", f"Correct {key}=.", key)
        return int(found.group(1))

    def number(self, key: str, default: float) -> float:
        """Return the number of `key`."""
        return self.numbers(key, [default], 1)[0]

    def numbers(self, key: str, default: Sequence[float], most: int) -> List[float]:
        """Return the list of numbers of `key`, separated by commas; the last may have a comma behind it."""
        if key not in self.options:
            return list(default)
        parts = _without_comment(self.options[key].value).split(",")
        if not parts[-1]:
            parts.pop()
        if not 1 <= len(parts) <= most or not all(_NUMBER.fullmatch(part) for part in parts):
            written = printable(self.options[key].value, 40)
            raise self.fail(f"{key}={written} is not a list of 1 to {most} numbers.", f"Correct {key}=.", key)
        return [float(part) for part in parts]

    def wholes(self, key: str, default: Sequence[int], most: int) -> List[int]:
        """Return the list of whole numbers of `key`."""
        values = self.numbers(key, default, most)
        if any(value != int(value) or abs(value) >= 1 << 31 for value in values):
            raise self.fail(f"{key} is not a list of whole numbers.", f"Correct {key}=.", key)
        return [int(value) for value in values]


def _without_comment(value: str) -> str:
    """Return a value without what stands behind # or ;."""
    return _COMMENT.split(value, 1)[0]


def _lines(data: bytes, name: str) -> Iterator[Tuple[int, str]]:
    """Yield each line that says something, with its number and without its white space."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        number = len(_LINE_END.split(data.split(b"\0", 1)[0].decode("latin-1")))
        raise wrong(name, number, "It holds zero bytes: it is UTF-16, or not a text.", "Save it as UTF-8 text.")
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    for number, raw in enumerate(_LINE_END.split(data.decode("latin-1")), start=1):
        line = "".join(raw.split())
        if not line or line[0] in "#;":
            continue
        said = _without_comment(line)
        if not all(" " < char <= "~" for char in said):
            raise wrong(name, number, f"{printable(said, 40)!r} is not a line of a Darknet configuration.",
                        "Name the network's .cfg file.")  # fmt: skip
        yield number, line


def sections_of(data: bytes, name: str) -> Tuple[List[Section], List[str]]:
    """Return the sections of a configuration, [net] first, and notes about lines that are passed over."""
    found: List[Section] = []
    notes: List[str] = []
    for number, line in _lines(data, name):
        if line[0] == "[":
            parts = _SECTION.fullmatch(line)
            if parts is None or (parts.group(2) and parts.group(2)[0] not in "#;"):
                raise wrong(name, number, f"{printable(line, 40)} is not a section.", "Write it as [name].")
            found.append(Section(name, parts.group(1), number, {}))
            if len(found) > MOST_SECTIONS:
                raise wrong(name, number, f"It has more than {MOST_SECTIONS} sections.", "Name another file.")
            continue
        if not found:
            raise wrong(name, number, "An option stands before the first section.", "Begin the file with [net].")
        key, equals, value = line.partition("=")
        if not equals or not key or not _without_comment(value):
            notes.append(f"{printable(name, 300)}:{number}: {printable(line, 40)!r} has no value; it is passed over.")
            continue
        options = found[-1].options
        if key not in options:
            options[key] = Option(value, number)
        elif options[key].value != value:
            notes.append(
                f"{printable(name, 300)}:{number}: {printable(key, 40)} stands in this section twice; the value of "
                f"line {options[key].line} counts, as in Darknet."
            )
    if not found:
        raise wrong(name, 1, "It has no section: it is empty, or not a configuration.", "Name the network's .cfg file.")
    if found[0].kind not in ("net", "network"):
        raise found[0].fail(f"The first section is [{printable(found[0].kind, 40)}].", "Begin the file with [net].")
    return found, notes
