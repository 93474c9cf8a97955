"""A bounded queue in which the newest entry of a camera wins. Pure; whoever uses it brings the lock or the loop.

A storm of one camera must not displace what the others have sent: the oldest entry of the camera that has most waiting
is the one that goes.
"""

from collections import Counter, OrderedDict
from typing import Generic, Optional, Tuple, TypeVar

Item = TypeVar("Item")


class NewestWins(Generic[Item]):
    """At most `depth` entries, and at most `per_camera` of one camera; they come out in the order they came in."""

    def __init__(self, depth: int, per_camera: int) -> None:
        """Begin empty."""
        self._depth, self._per_camera = depth, per_camera
        self._waiting: OrderedDict[int, Tuple[str, Item]] = OrderedDict()
        self._of: Counter[str] = Counter()
        self._next = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def put(self, camera: str, item: Item) -> Optional[Item]:
        """Take an entry; return the one that had to go for it, which may be any camera's oldest."""
        gone = None
        if self._of[camera] >= self._per_camera:
            gone = self._drop(camera)
        elif len(self._waiting) >= self._depth:
            gone = self._drop(max(self._of, key=lambda name: (self._of[name], name == camera)))
        self._waiting[self._next] = (camera, item)
        self._of[camera] += 1
        self._next += 1
        return gone

    def get(self) -> Optional[Item]:
        """Return the oldest entry, or None where there is none."""
        if not self._waiting:
            return None
        camera, item = self._waiting.popitem(last=False)[1]
        self._forget(camera)
        return item

    def _drop(self, camera: str) -> Item:
        """Take away the oldest entry of a camera."""
        number = next(number for number, (name, _) in self._waiting.items() if name == camera)
        item = self._waiting.pop(number)[1]
        self._forget(camera)
        self.dropped += 1
        return item

    def _forget(self, camera: str) -> None:
        """Count one less; a camera of which nothing waits takes no memory."""
        self._of[camera] -= 1
        if not self._of[camera]:
            del self._of[camera]
