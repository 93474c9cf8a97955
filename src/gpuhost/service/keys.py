"""Who may ask: the clients' keys, of which the host keeps only the SHA-256.

The file is read again when it has changed, so that a key that was revoked opens nothing from the next request on. A
file that cannot be read lets nobody in.
"""

import hashlib
import hmac
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Tuple

from .. import strict_json
from ..reading import UnfitFile
from ..text import printable

SCHEMA = 1
DETECT, HOOK = "detect", "hook"
#: Ours have 43 characters; nothing longer is hashed.
LONGEST = 256


class KeysProblem(Exception):
    """The file of the keys cannot be used; the message is one sentence."""


class Key(NamedTuple):
    """A client's key: its name, the SHA-256 of its text, and what it opens."""

    name: str
    sha256: str
    kinds: Tuple[str, ...]


class Keys:
    """The keys in a file."""

    def __init__(self, path: Optional[Path]) -> None:
        """Read nothing yet; without a file nobody needs a key."""
        self._path = path
        self._seen: Optional[Tuple[int, int, int]] = None
        self._rows: List[Key] = []

    @property
    def are_needed(self) -> bool:
        """Whether a key is asked for at all."""
        return self._path is not None

    def name_of(self, text: str, kind: str) -> Optional[str]:
        """Return the name of the client whose key this is, if it opens `kind`; None for any other text.

        Every row is compared, so that the time does not tell which one is near. Raises `KeysProblem`.
        """
        self._refresh()
        if not text or len(text) > LONGEST:
            return None
        digest, name = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(), None
        for row in self._rows:
            if hmac.compare_digest(row.sha256, digest) and kind in row.kinds:
                name = row.name
        return name

    def _refresh(self) -> None:
        """Read the file if it is not the one that was read."""
        if self._path is None:
            return
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_ino, found.st_size)
            if seen != self._seen:
                self._seen, self._rows = None, []
                self._rows, self._seen = rows_of(strict_json.load(self._path)), seen
        except (OSError, UnfitFile, ValueError) as problem:
            self._seen, self._rows = None, []
            said = problem.strerror if isinstance(problem, OSError) else str(problem)
            raise KeysProblem(f"The keys {printable(self._path, 200)} cannot be read: {said}") from problem


def rows_of(found: Any) -> List[Key]:
    """Return the keys in a value read from JSON; ValueError for another form."""
    rows = found.get("keys") if isinstance(found, dict) and found.get("schema") == SCHEMA else None
    if not isinstance(rows, list):
        raise ValueError(f"It is not a list of keys of schema {SCHEMA}.")
    keys = []
    for row in rows:
        kinds = row.get("kinds") if isinstance(row, dict) else None
        texts: List[Any] = [row.get("name"), row.get("sha256"), *kinds] if isinstance(kinds, list) else [None]
        if not all(isinstance(text, str) and text.isascii() for text in texts):
            raise ValueError("It holds a key without a name, a sha256 or its kinds.")
        keys.append(Key(texts[0], texts[1].lower(), tuple(texts[2:])))
    return keys
