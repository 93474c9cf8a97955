"""The one reader of JSON from outside: what a host, a file or an index says, refused in one sentence or taken whole.

Python's own reader takes NaN and numbers without end, keeps the last of two equal keys, and lets through text that
cannot be written again; each has been a traceback or a wrong answer somewhere behind it.

Python 3.6 and the standard library: modules that run on a target use it too.
"""

import collections
import itertools
import json
import math
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Union

from .reading import content
from .text import printable

#: More than any file or answer of this project holds.
LIMIT = 8 << 20
#: Objects and arrays in one another. The deepest of this project's own are below 12.
DEPTH = 64
_BITS = 63
_LONGEST_NUMBER = 40


class StrictJsonError(ValueError):
    """A text that is not taken; the message is one sentence about it that begins with "It"."""


def loads(data: Union[bytes, str], limit: int = LIMIT) -> Any:
    """Return the value of a JSON text of at most `limit` bytes (characters, of a `str`).

    Refused are: another encoding than UTF-8, NaN and the infinities, integers beyond 64 bits with a sign, numbers that
    a float cannot hold, an object with one key twice, half a surrogate pair, and more than DEPTH levels.
    """
    if len(data) > limit:
        raise StrictJsonError(f"It is larger than {limit} bytes.")
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        value = json.loads(
            text, parse_int=_integer, parse_float=_float, parse_constant=_constant, object_pairs_hook=_object
        )
    except UnicodeDecodeError:
        raise StrictJsonError("It is not UTF-8 text.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise StrictJsonError(f"It is not JSON ({where}: {printable(error.msg, 80)}).") from None
    except RecursionError:
        raise StrictJsonError(f"It has more than {DEPTH} levels.") from None
    _must_be_plain(value)
    return value


def load(path: Path, limit: int = LIMIT) -> Any:
    """Return the value in a regular JSON file; `OSError`, or a `ValueError` with one sentence about the file."""
    return loads(content(path, limit), limit)


def _must_be_plain(value: Any) -> None:
    """Refuse what is nested too deeply, and text that has no UTF-8 form."""
    levels: List[Iterator[Any]] = [iter([value])]
    while levels:
        item = next(levels[-1], levels)
        if item is levels:
            levels.pop()
        elif isinstance(item, str):
            try:
                item.encode("utf-8")
            except UnicodeEncodeError:
                raise StrictJsonError("It holds half of a surrogate pair, which is not a character.") from None
        elif isinstance(item, (dict, list)):
            if len(levels) > DEPTH:
                raise StrictJsonError(f"It has more than {DEPTH} levels.")
            levels.append(itertools.chain(item, item.values()) if isinstance(item, dict) else iter(item))


def _integer(digits: str) -> int:
    """Return an integer that 64 bits with a sign hold; the length is asked first, because reading digits takes time."""
    value = int(digits) if len(digits) <= _LONGEST_NUMBER else None
    if value is None or not -(1 << _BITS) <= value < 1 << _BITS:
        raise StrictJsonError(f"It holds an integer of more than 64 bits ({printable(digits, 24)}).")
    return value


def _float(text: str) -> float:
    """Return a number with a point or an exponent; what is too large for a float would be read as infinite."""
    value = float(text)
    if math.isinf(value):
        raise StrictJsonError(f"It holds a number that is too large ({printable(text, 24)}).")
    return value


def _constant(name: str) -> float:
    """Refuse NaN and the infinities, which Python reads in JSON and the standard does not have."""
    raise StrictJsonError(f"It holds {name}, which is not JSON.")


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    """Return an object in which no key stands twice."""
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = collections.Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise StrictJsonError(f"It holds the key '{printable(twice, 40)}' twice.")
    return value
