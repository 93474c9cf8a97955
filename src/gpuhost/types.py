"""The shapes of values that more than one room handles.

Python 3.6 and the standard library: modules that run on a target use it too.
"""

from typing import Any, Dict, Optional, TypeVar

#: A JSON object.
Json = Dict[str, Any]
T = TypeVar("T")


def present(part: Optional[T]) -> T:
    """Return a part that can be missing elsewhere, where whoever reads it has made sure that it is there.

    A missing one is the same error as reading a key of None.
    """
    if part is None:
        raise TypeError("a part was read that is not there")
    return part
