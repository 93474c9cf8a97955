"""A figure over time, in bounded memory."""

from array import array
from typing import Dict

MOST_KEPT = 4096


class Series:
    """A figure over time in bounded memory: when it is full, every second value goes and from then on half as many
    are kept. The extremes stay exact.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        """Keep at most `most` values."""
        self._values, self._most, self._stride, self.count = array("d"), most, 1, 0
        self._low, self._high = float("inf"), float("-inf")

    def add(self, value: float) -> None:
        """One more reading."""
        if self.count % self._stride == 0:
            if len(self._values) == self._most:
                self._values = self._values[::2]
                self._stride *= 2
            if self.count % self._stride == 0:
                self._values.append(value)
        self.count += 1
        self._low, self._high = min(self._low, value), max(self._high, value)

    def summary(self) -> Dict[str, float]:
        """Smallest, middle and largest value."""
        ordered = sorted(self._values)
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        return {"min": self._low, "median": median, "max": self._high}
