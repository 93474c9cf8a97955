"""Join what the pictures of one event show into objects, by how much their boxes overlap. Pure.

The objects are a function of the set of pictures: a picture that comes again changes nothing, and one that comes late
gives what it would have given in its place. What this cannot know is in docs/how-to/service-cameras.md.
"""

from typing import Callable, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Set, Tuple

from .boxes import Box, is_inside, overlap, travelled
from .hook_settings import Rule

#: Detectors change their mind between these from one picture to the next.
FAMILIES = (frozenset({"car", "truck", "bus", "train"}), frozenset({"bicycle", "motorbike", "motorcycle"}))
#: Boxes of one object in two pictures share at least this; of different labels of one family, more.
SAME, SAME_FAMILY = 0.3, 0.5
#: An object that goes too far between two pictures is still as high or as wide, and is not far from where it was.
LEAP, SIZES = 0.15, 1.7
#: A box that shares so much with where the object began has not gone anywhere.
STILL = 0.6
#: How much of a place something shares that stands there: usually, so that it cannot be by chance, and so that it needs
#: no second picture to say so.
PLACED, CLOSE, VERY_CLOSE = 0.5, 0.7, 0.85
#: What is in a picture is looked for in so many pictures before it.
LIVE = 3
MOST_OBJECTS = 100
PASSED, STOOD, UNSURE = "passed", "stood", "unsure"
LEFT, RIGHT, UP, DOWN, NOWHERE = "left", "right", "up", "down", ""


class Seen(NamedTuple):
    """What a detector says of one object in one picture."""

    label: str
    score: float
    box: Box


class Picture(NamedTuple):
    """One picture of an event. `order` is comparable within the event."""

    order: Tuple[int, int]
    frame: str
    seen: Tuple[Seen, ...]


class Place(NamedTuple):
    """Where something stood when an event ended. It is `confirmed` when it stood there in two pictures, `told` when
    its alert was sent; `misses` counts the events that did not show it.
    """

    label: str
    box: Box
    confirmed: bool
    told: bool
    misses: int = 0


class Counted(NamedTuple):
    """One object as it is counted."""

    label: str
    how: str
    direction: str


def family(label: str) -> FrozenSet[str]:
    """Return the labels among which one object may change."""
    return next((names for names in FAMILIES if label in names), frozenset({label}))


def picture(order: Tuple[int, int], frame: str, seen: Sequence[Seen], rule: Rule) -> Picture:
    """Return a picture with what the rule's labels want of it, the surest first, in an order of its own."""
    wanted = [row for row in seen if rule.labels is None or row.label in rule.labels]
    wanted.sort(key=lambda row: (-row.score, row.label, row.box))
    return Picture(order, frame, tuple(wanted[:MOST_OBJECTS]))


class Object:
    """Something that the pictures of one event show, as far as they have come."""

    def __init__(self, seen: Seen, sighting: Tuple[str, int], number: int, rule: Rule, place: Optional[Place]) -> None:
        """Begin with the first picture that shows it; `place` is what already stood there."""
        self.first = self.last = self.before = seen.box
        self.number = number
        self._speed = (0.0, 0.0)
        self.sightings: List[Tuple[str, int]] = []
        self.best, self.inside, self.place = 0.0, False, place
        self._scores: Dict[str, float] = {}
        self._rule = rule
        self.add(seen, sighting, number)

    def add(self, seen: Seen, sighting: Tuple[str, int], number: int) -> None:
        """Take one more picture, the event's `number`."""
        across, down = travelled(self.last, seen.box)
        went = max(1, number - self.number)
        self._speed = across / went, down / went
        self.before, self.last, self.number = self.last, seen.box, number
        self.sightings.append(sighting)
        self.best = max(self.best, seen.score)
        self.inside = self.inside or is_inside(seen.box.foot, self._rule.polygon)
        self._scores[seen.label] = self._scores.get(seen.label, 0.0) + seen.score

    def expected(self, number: int) -> Box:
        """Return where it is in a later picture of the event if it goes on as it went."""
        went = number - self.number
        return self.last.shifted(self._speed[0] * went, self._speed[1] * went)

    @property
    def label(self) -> str:
        """Return the label that most speaks for."""
        return max(sorted(self._scores), key=lambda name: self._scores[name])

    @property
    def pictures(self) -> int:
        """Return how many pictures show it."""
        return len(self.sightings)

    @property
    def moved(self) -> float:
        """Return how far it went, in fractions of the picture's width or height, whichever is more."""
        across, down = travelled(self.first, self.last)
        return max(abs(across), abs(down))

    @property
    def is_still(self) -> bool:
        """Return whether it is where it began."""
        return overlap(self.first, self.last) >= STILL

    @property
    def stands(self) -> bool:
        """Return whether it is known to stay where it is: by a second picture, or from the events before."""
        return self.is_still and (self.pictures > 1 or (self.place is not None and self.place.confirmed))

    @property
    def is_known(self) -> bool:
        """Return whether the object was already standing there before this event, and has not moved away since."""
        return self.place is not None and (self.is_still or self.moved < self._rule.moved)

    @property
    def counts(self) -> bool:
        """Return whether the camera's rule wants it."""
        return self.inside and self.best >= self._rule.score

    def counted(self) -> Optional[Counted]:
        """Return how it is counted; None for what the rule does not want, and for what stood there before."""
        if not self.counts or self.is_known:
            return None
        if self.pictures == 1:
            return Counted(self.label, UNSURE, NOWHERE)
        if self.is_still:
            return Counted(self.label, STOOD, NOWHERE)
        if self.pictures >= self._rule.pictures or self.moved >= self._rule.moved:
            return Counted(self.label, PASSED, self.direction)
        return Counted(self.label, UNSURE, NOWHERE)

    @property
    def direction(self) -> str:
        """Return the side of the picture that it went to, or NOWHERE where it went too little."""
        across, down = travelled(self.first, self.last)
        if self.moved < self._rule.moved:
            return NOWHERE
        if abs(across) >= abs(down):
            return RIGHT if across > 0 else LEFT
        return DOWN if down > 0 else UP


#: How surely something in the picture of a number is an object.
Alike = Callable[[Object, Seen, int], float]


class Tracks:
    """The objects of one event."""

    def __init__(self, rule: Rule, places: Sequence[Place] = ()) -> None:
        """Begin without a picture; `places` are where things stood before."""
        self._rule, self._places = rule, tuple(places)
        self._pictures: List[Picture] = []
        self._frames: Set[str] = set()
        self.objects: List[Object] = []

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self._pictures)

    def __contains__(self, frame: str) -> bool:
        """Return whether a picture is among them."""
        return frame in self._frames

    def add(self, shown: Picture) -> None:
        """Take a picture that is not among them; a late one has everything joined again."""
        late = bool(self._pictures) and shown.order < self._pictures[-1].order
        self._pictures.append(shown)
        self._frames.add(shown.frame)
        if not late:
            self._join(shown, len(self._pictures) - 1)
            return
        self._pictures.sort(key=lambda one: one.order)
        self.objects = []
        for number, one in enumerate(self._pictures):
            self._join(one, number)

    def _join(self, shown: Picture, number: int) -> None:
        """Give each thing that a picture shows to the object that it is, or make it a new one."""
        left = dict(enumerate(shown.seen))
        live = [one for one in self.objects if number - one.number <= LIVE]
        stale = [one for one in self.objects if number - one.number > LIVE and one.stands]
        leaping = [one for one in live if not one.stands]
        for objects, alike in ((live, _same), (live, _same_family), (stale, _same_place)):
            self._give(left, objects, alike, shown.frame, number)
        # What fits closely to a place where something stood is not a vehicle that leapt there.
        for at in [at for at, seen in left.items() if self._place_of(seen, CLOSE) is not None]:
            self._begin(left.pop(at), (shown.frame, at), number)
        self._give(left, leaping, _leapt, shown.frame, number)
        for at, seen in left.items():
            self._begin(seen, (shown.frame, at), number)

    def _give(self, left: Dict[int, Seen], objects: Sequence[Object], alike: Alike, frame: str, number: int) -> None:
        """Give what is left of a picture to those objects that have nothing of it yet."""
        free = [one for one in objects if one.number != number]
        for at, one in _pairs(left, free, alike, number):
            one.add(left.pop(at), (frame, at), number)

    def _begin(self, seen: Seen, sighting: Tuple[str, int], number: int) -> None:
        """Begin a new object."""
        self.objects.append(Object(seen, sighting, number, self._rule, self._place_of(seen, PLACED)))

    def _place_of(self, seen: Seen, least: float) -> Optional[Place]:
        """Return the place where something already stood; one that nothing confirms must fit closely."""
        fitting = [
            (overlap(place.box, seen.box), place.confirmed, place)
            for place in self._places
            if seen.label in family(place.label)
            and overlap(place.box, seen.box) >= (least if place.confirmed else VERY_CLOSE)
        ]
        return max(fitting)[2] if fitting else None

    def settled(self, told: Callable[[Object], bool]) -> List[Place]:
        """Return where things stand now that the event is over; a place that two events have not shown is given up."""
        found: List[Place] = []
        last = len(self._pictures) - 1
        for one in self.objects:
            if one.number == last or one.is_known:
                stands = one.is_known or (one.pictures > 1 and overlap(one.before, one.last) >= CLOSE)
                found.append(Place(one.label, one.last, stands, told(one)))
        shown = {one.place for one in self.objects if one.place is not None}
        for place in self._places:
            if place not in shown and place.misses + 1 < 2:
                found.append(place._replace(misses=place.misses + 1))
        return found[:MOST_OBJECTS]


def _same(one: Object, seen: Seen, number: int) -> float:
    """Return how much one of the same label shares with where an object was, or should be by now."""
    found = max(overlap(one.last, seen.box), overlap(one.expected(number), seen.box))
    return found if seen.label == one.label and found >= SAME else 0.0


def _same_family(one: Object, seen: Seen, number: int) -> float:
    """Return the same for labels that a detector mixes up."""
    found = max(overlap(one.last, seen.box), overlap(one.expected(number), seen.box))
    return found if seen.label in family(one.label) and found >= SAME_FAMILY else 0.0


def _same_place(one: Object, seen: Seen, number: int) -> float:
    """Return the same for what stood still and was not seen for a while."""
    found = overlap(one.last, seen.box)
    return found if seen.label in family(one.label) and found >= SAME_FAMILY else 0.0


def _leapt(one: Object, seen: Seen, number: int) -> float:
    """Return how near a box of about the same size is that shares nothing with the last one."""
    if seen.label not in family(one.label) or not _is_as_large(one.last, seen.box):
        return 0.0
    near = one.expected(number).grown() if one.pictures > 1 else one.last.grown(number - one.number)
    found = overlap(near, seen.box.grown())
    return found if found >= LEAP else 0.0


def _is_as_large(one: Box, other: Box) -> bool:
    """Return whether two boxes are about as high or as wide: the picture's edge cuts one side only."""
    return any(max(sides) <= SIZES * min(sides) for sides in ((one.width, other.width), (one.height, other.height)))


def _pairs(left: Dict[int, Seen], objects: Sequence[Object], alike: Alike, number: int) -> List[Tuple[int, Object]]:
    """Return which thing is which object: the surest pair first, each of either kind once."""
    rated = [(-alike(one, seen, number), at, which) for at, seen in left.items() for which, one in enumerate(objects)]
    used_at: Set[int] = set()
    used: Set[int] = set()
    pairs = []
    for _, at, which in sorted(row for row in rated if row[0] < 0):
        if at not in used_at and which not in used:
            used_at.add(at)
            used.add(which)
            pairs.append((at, objects[which]))
    return pairs
