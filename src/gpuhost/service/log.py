"""The log: one JSON line a request, for the journal. No file names, no keys, no pictures, no query strings."""

import json
import os
from typing import Any, Callable


class Log:
    """Writes lines to a descriptor of its own, because decoding leads the error stream elsewhere for a moment."""

    def __init__(self, descriptor: int, lost: Callable[[], None]) -> None:
        """Copy the descriptor; `lost` is called for each line that could not be written."""
        self._descriptor, self._lost = os.dup(descriptor), lost

    def write(self, **values: Any) -> None:
        """Write one line. A journal that does not take it keeps nobody from an answer."""
        line = json.dumps({key: value for key, value in values.items() if value is not None}, separators=(",", ":"))
        try:
            os.write(self._descriptor, line.encode("utf-8") + b"\n")
        except OSError:
            self._lost()
