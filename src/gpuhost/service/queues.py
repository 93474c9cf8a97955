"""A bounded queue in which the newest entry of a camera wins. Pure; whoever uses it brings the lock or the loop.

A storm of one camera must not displace what the others have sent: the oldest entry of the camera that has most waiting
is the one that goes.
"""

from collections import Counter, OrderedDict
from typing import Generic, List, NamedTuple, Optional, TypeVar

Item = TypeVar("Item")


class _Entry(NamedTuple):
    """What waits."""

    camera: str
    item: object
    size: int


class NewestWins(Generic[Item]):
    """At most `depth` entries, `per_camera` of one camera, and `most_bytes` in all; the oldest comes out first."""

    def __init__(self, depth: int, per_camera: int, most_bytes: int = 0) -> None:
        """Begin empty; without `most_bytes` sizes do not count."""
        self._depth, self._per_camera, self._most = depth, per_camera, most_bytes
        self._waiting: OrderedDict[int, _Entry] = OrderedDict()
        self._of: Counter[str] = Counter()
        self._next = self._bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def put(self, camera: str, item: Item, size: int = 0) -> List[Item]:
        """Take an entry; return those that had to go for it."""
        gone: List[Item] = []
        if self._of[camera] >= self._per_camera:
            gone.append(self._drop(camera))
        while self._waiting and (len(self._waiting) >= self._depth or 0 < self._most < self._bytes + size):
            gone.append(self._drop(max(self._of, key=lambda name: (self._of[name], name == camera))))
        self._waiting[self._next] = _Entry(camera, item, size)
        self._of[camera] += 1
        self._bytes += size
        self._next += 1
        return gone

    def get(self) -> Optional[Item]:
        """Return the oldest entry, or None where there is none."""
        return self._take(next(iter(self._waiting))) if self._waiting else None

    def _drop(self, camera: str) -> Item:
        """Take away the oldest entry of a camera."""
        self.dropped += 1
        return self._take(next(number for number, one in self._waiting.items() if one.camera == camera))

    def _take(self, number: int) -> Item:
        """Take an entry out; a camera of which nothing waits takes no memory."""
        found = self._waiting.pop(number)
        self._bytes -= found.size
        self._of[found.camera] -= 1
        if not self._of[found.camera]:
            del self._of[found.camera]
        return found.item  # type: ignore[return-value]
