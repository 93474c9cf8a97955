"""Make alerts and counts of what a detector sees in the pictures of motion events. Pure: no clock, no disk, no network.

Time is what the caller's monotonic clock says, so no change of the wall clock repeats or loses an alert. A device's own
clock and its event numbers are not trusted: motionEye begins again at 1 when it restarts, so a number means an event
only until no picture of it has come for a while.
"""

from collections import OrderedDict
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from .boxes import Box
from .hook_settings import HookSettings, Rule
from .tracks import Counted, Object, Place, Seen, Tracks, picture

#: Bounds of memory: a key that was stolen can send any camera's name and any number.
MOST_CAMERAS = 256
MOST_EVENTS = 8
MOST_PICTURES = 500


class Told(NamedTuple):
    """One object of an alert."""

    label: str
    score: float
    box: Box


class Outcome(NamedTuple):
    """What a picture has changed: the event's objects, all of them, and what is worth an alert now. `episode` is a name
    for the event that no other has.
    """

    episode: str
    objects: Tuple[Counted, ...]
    alert: Tuple[Told, ...]


class _Event:
    """An event that may still get pictures."""

    def __init__(self, episode: str, rule: Rule, places: Sequence[Place]) -> None:
        """Begin without a picture."""
        self.episode = episode
        self.tracks = Tracks(rule, places)
        self.told: Set[Tuple[str, int]] = set()
        self.last = 0.0
        self.settled = False

    def was_told(self, one: Object) -> bool:
        """Return whether an object has had its alert; objects may be joined again, so its sightings are asked."""
        if one.is_known and one.place is not None and one.place.told:
            return True
        return not self.told.isdisjoint(one.sightings)


class _Camera:
    """What is remembered of one camera."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.events: OrderedDict[int, _Event] = OrderedDict()
        self.newest: Optional[_Event] = None
        self.places: List[Place] = []
        self.told_at: Dict[str, float] = {}

    def settle(self) -> None:
        """Remember where things stood at the end of the newest event."""
        if self.newest is not None and not self.newest.settled:
            self.newest.settled = True
            self.places = self.newest.tracks.settled(self.newest.was_told)


class Watcher:
    """Takes the pictures of all cameras."""

    def __init__(self, settings: HookSettings, new_episode: Callable[[], str]) -> None:
        """Begin without a memory; `new_episode` makes a name that was never given before."""
        self._settings, self._new_episode = settings, new_episode
        self._cameras: OrderedDict[Tuple[str, str], _Camera] = OrderedDict()
        self._arrived = 0

    def picture(
        self, device: str, camera: str, event: int, frame: str, order: Optional[int], seen: Sequence[Seen], now: float
    ) -> Optional[Outcome]:
        """Return what a picture changes; None for one that came before. Without an `order` pictures are taken in the
        order in which they come.
        """
        rule = self._settings.rule_of(device, camera)
        state = self._camera(device, camera)
        found = self._event(state, event, rule, now)
        if frame in found.tracks:
            return None
        self._arrived += 1
        place = (order, 0) if order is not None else (0, self._arrived)
        found.tracks.add(picture(place, frame, seen, rule))
        found.last = max(found.last, now)
        alert = self._alert(state, found, frame, rule, now)
        counted = [one.counted() for one in found.tracks.objects]
        return Outcome(found.episode, tuple(sorted(row for row in counted if row is not None)), alert)

    def places(self, device: str, camera: str) -> Sequence[Place]:
        """Return where things are known to stand at a camera."""
        return tuple(self._camera(device, camera).places)

    def _camera(self, device: str, camera: str) -> _Camera:
        """Return the memory of a camera; the one that was silent longest makes room."""
        found = self._cameras.setdefault((device, camera), _Camera())
        self._cameras.move_to_end((device, camera))
        if len(self._cameras) > MOST_CAMERAS:
            self._cameras.popitem(last=False)
        return found

    def _event(self, state: _Camera, number: int, rule: Rule, now: float) -> _Event:
        """Return the event of a number: the open one, or a new one."""
        for old in [n for n, one in state.events.items() if now - one.last > self._settings.event_gap_s]:
            del state.events[old]
        found = state.events.get(number)
        if found is None or len(found.tracks) >= MOST_PICTURES:
            state.settle()
            found = state.newest = _Event(self._new_episode(), rule, state.places)
            found.last = now
            state.events.pop(number, None)
            state.events[number] = found
            if len(state.events) > MOST_EVENTS:
                state.events.popitem(last=False)
        return found

    def _alert(self, state: _Camera, event: _Event, frame: str, rule: Rule, now: float) -> Tuple[Told, ...]:
        """Return what of a picture is worth an alert, and remember that it was sent."""
        shown = {one: sighting for one in event.tracks.objects for sighting in one.sightings if sighting[0] == frame}
        news = [one for one in shown if one.counts and not event.was_told(one)]
        due = {
            label
            for label in {one.label for one in news}
            if label not in state.told_at or now - state.told_at[label] >= rule.cooldown_s
        }
        telling = [one for one in news if one.label in due]
        for one in telling:
            event.told.add(shown[one])
        state.told_at.update((label, now) for label in due)
        return tuple(sorted(Told(one.label, one.best, one.last) for one in telling))
