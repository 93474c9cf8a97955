"""Geometry of boxes in fractions of a picture's sides: overlap, place in a polygon, how far something went. Pure."""

from typing import NamedTuple, Sequence, Tuple


class Box(NamedTuple):
    """A rectangle; (0, 0) is the picture's left upper corner and (1, 1) the opposite one."""

    left: float
    top: float
    width: float
    height: float

    @property
    def centre(self) -> Tuple[float, float]:
        """Return the middle."""
        return self.left + self.width / 2, self.top + self.height / 2

    @property
    def foot(self) -> Tuple[float, float]:
        """Return the middle of the lower edge: where an object stands on the ground."""
        return self.left + self.width / 2, self.top + self.height

    @property
    def area(self) -> float:
        """Return the area."""
        return self.width * self.height

    def grown(self, times: int = 1) -> "Box":
        """Return the box with its own width and height added on every side, so many times."""
        sides = 2 * times + 1
        return Box(
            self.left - times * self.width, self.top - times * self.height, self.width * sides, self.height * sides
        )

    def shifted(self, across: float, down: float) -> "Box":
        """Return the box somewhere else."""
        return Box(self.left + across, self.top + down, self.width, self.height)


def overlap(one: Box, other: Box) -> float:
    """Return the part of their union that two boxes share."""
    across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    return min(1.0, shared / (one.area + other.area - shared))


def travelled(start: Box, end: Box) -> Tuple[float, float]:
    """Return how far the middle went, across and down, in fractions of the picture's sides."""
    return end.centre[0] - start.centre[0], end.centre[1] - start.centre[1]


def is_inside(point: Tuple[float, float], polygon: Sequence[Tuple[float, float]]) -> bool:
    """Return whether a point lies in a polygon (by the even-odd rule); one without corners is the whole picture."""
    if not polygon:
        return True
    x, y = point
    inside = False
    for (left, top), (right, bottom) in zip(polygon, [*polygon[1:], polygon[0]]):
        if (top > y) != (bottom > y) and x < (right - left) * (y - top) / (bottom - top) + left:
            inside = not inside
    return inside
