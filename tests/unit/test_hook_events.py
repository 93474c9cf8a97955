"""Motion events become alerts and counts: joined, told once, counted once, whatever comes twice, late or in a storm."""

from __future__ import annotations

import itertools
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuhost.service.boxes import Box, is_inside, overlap
from gpuhost.service.events import MOST_CAMERAS, MOST_PICTURES, Outcome, Watcher
from gpuhost.service.hook_settings import HookSettings, Rule
from gpuhost.service.queues import NewestWins
from gpuhost.service.tracks import Counted, Seen

from .street import Street, watched

PARKED = Seen("car", 0.8, Box(0.7, 0.5, 0.2, 0.15))


class Shot(NamedTuple):
    """A picture as the hook hands it on, without its time."""

    event: int
    frame: str
    order: Optional[int]
    seen: Tuple[Seen, ...]


def watcher(rule: Optional[Rule] = None, **settings: Any) -> Watcher:
    """A watcher that names its events 1, 2, 3."""
    numbers = itertools.count(1)
    return Watcher(HookSettings(rule=rule or Rule(), **settings), lambda: str(next(numbers)))


def fed(shots: Sequence[Shot], rule: Optional[Rule] = None, step_s: float = 1.0) -> List[Outcome]:
    """What one camera's pictures come to; those that came before come to nothing."""
    made = watcher(rule)
    found = [
        made.picture("door", "1", shot.event, shot.frame, shot.order, shot.seen, step_s * at)
        for at, shot in enumerate(shots)
    ]
    return [row for row in found if row is not None]


def at(left: float, label: str = "car", score: float = 0.9, top: float = 0.4, width: float = 0.2) -> Seen:
    """Something in a picture."""
    return Seen(label, score, Box(left, top, width, 0.2))


def event(*pictures: Sequence[Seen], number: int = 1, ordered: bool = True) -> List[Shot]:
    """The pictures of one event, in their order."""
    return [Shot(number, f"{number}-{at}", at if ordered else None, tuple(seen)) for at, seen in enumerate(pictures)]


def counted(shots: Sequence[Shot], rule: Optional[Rule] = None) -> Tuple[Counted, ...]:
    """The objects of the last event."""
    return fed(shots, rule)[-1].objects


def alerts(outcomes: Sequence[Outcome]) -> List[List[str]]:
    """The labels of each alert."""
    return [[row.label for row in one.alert] for one in outcomes if one.alert]


# What passes


@pytest.mark.parametrize(("step", "direction"), [(0.1, "right"), (-0.1, "left"), (0.25, "right")])
def test_a_vehicle_that_passes_is_counted_once_with_its_direction(step: float, direction: str) -> None:
    """Also where its boxes no longer overlap (a quarter of the width between two pictures)."""
    begin = 0.0 if step > 0 else 0.8
    shots = event(*([at(begin + step * number)] for number in range(4)))
    assert counted(shots) == (Counted("car", "passed", direction),)


def test_up_and_down_are_directions_too() -> None:
    """A gate seen from above."""
    assert counted(event([at(0.4, top=0.1)], [at(0.4, top=0.3)])) == (Counted("car", "passed", "down"),)
    assert counted(event([at(0.4, top=0.5)], [at(0.4, top=0.3)])) == (Counted("car", "passed", "up"),)


def test_one_picture_says_nothing_about_passing() -> None:
    """motionEye may be set to one picture an event."""
    assert counted(event([at(0.4)])) == (Counted("car", "unsure", ""),)


def test_what_stands_does_not_pass() -> None:
    """However many pictures show it."""
    assert counted(event(*([PARKED] for _ in range(5)))) == (Counted("car", "stood", ""),)


def test_more_pictures_may_be_wanted_but_who_goes_far_needs_two() -> None:
    """The rule's two ways to have passed."""
    rule = Rule(pictures=3, moved=0.3)
    assert counted(event([at(0.1)], [at(0.2)]), rule) == (Counted("car", "unsure", ""),)
    assert counted(event([at(0.1)], [at(0.2)], [at(0.3)]), rule) == (Counted("car", "passed", ""),)
    assert counted(event([at(0.1)], [at(0.45)]), rule) == (Counted("car", "passed", "right"),)


def test_a_car_in_front_of_a_parked_one_is_another() -> None:
    """The parked one is hidden for a picture, and is neither the one that passes nor a new one."""
    shots = event(
        [PARKED, at(0.1, top=0.5)], [PARKED, at(0.3, top=0.5)], [at(0.6, top=0.5)], [PARKED, at(0.85, top=0.5)]
    )
    assert counted(shots) == (Counted("car", "passed", "right"), Counted("car", "stood", ""))


def test_a_detector_that_changes_its_mind_sees_one_vehicle() -> None:
    """Car, truck, car; and a person beside it stays a person."""
    shots = event([at(0.1), at(0.1, "person")], [at(0.15, "truck", 0.6), at(0.15, "person")], [at(0.2)])
    assert [row.label for row in counted(shots)] == ["car", "person"]


def test_two_that_cross_are_two() -> None:
    """From either side."""
    shots = event(*([at(0.1 * n, top=0.2), at(0.8 - 0.1 * n, top=0.6)] for n in range(6)))
    assert counted(shots) == (Counted("car", "passed", "left"), Counted("car", "passed", "right"))


def test_a_parked_car_that_the_first_picture_misses_takes_no_passing_one_with_it() -> None:
    """The second picture shows it nearer to where the other was than the other itself."""
    shots = [*event([PARKED], [PARKED]), *event([at(0.45, top=0.5)], [PARKED, at(0.05, top=0.5)], number=2)]
    assert fed(shots, Rule(cooldown_s=0))[-1].objects == (Counted("car", "passed", "left"),)


# What is told


def test_an_object_is_told_once_in_an_event() -> None:
    """With no cooldown at all."""
    shots = event(*([at(0.1 * n)] for n in range(6)))
    assert alerts(fed(shots, Rule(cooldown_s=0))) == [["car"]]


def test_a_parked_car_is_told_once_over_many_events() -> None:
    """It flickers below the score, is hidden for a whole event, and somebody walks by in each."""
    rule = Rule(cooldown_s=0)
    shots: List[Shot] = []
    for number in range(1, 8):
        car = [] if number == 4 else [PARKED._replace(score=0.45 if number == 3 else 0.8)]
        shots += event(*([*car, at(0.1 * n, "person")] for n in range(4)), number=number)
    told = alerts(fed(shots, rule))
    assert sum(row.count("car") for row in told) == 1
    assert sum(row.count("person") for row in told) == 7
    objects = [row for outcome in fed(shots, rule) if outcome.episode != "1" for row in outcome.objects]
    assert "car" not in [row.label for row in objects], "what stood there before is not counted again"


def test_a_parked_car_in_a_camera_with_one_picture_an_event_is_told_once() -> None:
    """Nothing confirms that it stands but that it is in the same place the next time."""
    shots = [shot for number in range(1, 6) for shot in event([PARKED], number=number)]
    assert alerts(fed(shots, Rule(cooldown_s=0))) == [["car"]]


def test_a_parked_car_that_drives_off_is_told_and_counted() -> None:
    """It is news."""
    away = event(*([at(0.7 - 0.1 * n, top=0.5)] for n in range(5)), number=3)
    shots = [*event([PARKED], [PARKED], number=1), *event([PARKED], number=2), *away]
    found = fed(shots, Rule(cooldown_s=0))
    assert alerts(found) == [["car"], ["car"]] and found[-1].objects == (Counted("car", "passed", "left"),)


def test_a_parked_car_whose_alert_fell_into_the_cooldown_is_told_later() -> None:
    """Once does not mean never."""
    shots = [*event([at(0.1), PARKED], [at(0.3), PARKED]), *event([PARKED], number=2), *event([PARKED], number=3)]
    made = watcher(Rule(cooldown_s=10))
    times = [0.0, 1.0, 20.0, 40.0]
    told = []
    made.picture("door", "1", 9, "x", None, [at(0.1)], 0.0)
    for shot, now in zip(shots, times):
        outcome = made.picture("door", "1", shot.event, shot.frame, shot.order, shot.seen, now)
        told.append(len(outcome.alert) if outcome else 0)
    assert told == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (Rule(labels=frozenset({"person"})), []),
        (Rule(score=0.95), []),
        (Rule(score=0.9), [["car"]]),
        (Rule(polygon=((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5))), []),
        (Rule(polygon=((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0))), [["car"]]),
    ],
)
def test_the_rule_decides_by_label_score_and_where_it_stands(rule: Rule, told: List[List[str]]) -> None:
    """Its feet count: the head of somebody on the street may be over the garden."""
    found = fed(event([at(0.4)]), rule)
    assert alerts(found) == told and bool(found[0].objects) == bool(told)


def test_cameras_and_devices_do_not_share_anything() -> None:
    """Each has its own events, cooldown and parked cars."""
    made = watcher(Rule(cooldown_s=1000))
    found = [made.picture(d, c, 1, "same", None, [PARKED], 0.0) for d in ("a", "b") for c in ("1", "2")]
    assert len({row.episode for row in found if row}) == 4 and all(row.alert for row in found if row)


# Numbers and clocks that cannot be trusted


def test_a_number_that_comes_again_much_later_is_another_event() -> None:
    """motionEye begins again at 1 when it restarts."""
    made = watcher(event_gap_s=120)
    episodes = []
    for at_s, number in [(0, 7), (60, 7), (100, 1), (150, 7), (400, 1), (10000, 1)]:
        outcome = made.picture("door", "1", number, f"{at_s}", None, [], float(at_s))
        episodes.append(outcome.episode if outcome else "")
    assert episodes == ["1", "1", "2", "1", "3", "4"]


def test_a_late_picture_goes_to_its_own_event() -> None:
    """curl is started for each picture, and they overtake one another."""
    shots = [*event([at(0.1)], [at(0.3)]), *event([at(0.8, "person")], number=2)]
    late = Shot(1, "late", 2, (at(0.5),))
    found = fed([shots[0], shots[2], late, shots[1]])
    assert [row.episode for row in found] == ["1", "2", "1", "1"]
    assert found[-1].objects == (Counted("car", "passed", "right"),)


def test_memory_is_bounded_whatever_is_sent() -> None:
    """A stolen key sends any camera's name, and an event may never end."""
    made = watcher()
    for number in range(MOST_CAMERAS + 50):
        made.picture("door", str(number), 1, "x", None, [PARKED], 0.0)
    for number in range(50):
        made.picture("door", "many", number, "x", None, [], 0.0)
    assert len(made._cameras) == MOST_CAMERAS
    assert all(len(camera.events) <= 8 for camera in made._cameras.values())
    outcomes = [made.picture("door", "long", 1, str(n), n, [PARKED], 0.0) for n in range(MOST_PICTURES + 1)]
    assert len({row.episode for row in outcomes if row}) == 2
    assert sum(len(row.alert) for row in outcomes if row) == 1, "the parked car is known in the second half"


# Laws

SIDES = st.floats(0.0, 0.7)
THINGS = st.builds(
    lambda label, score, left, top, width, height: Seen(label, score, Box(left, top, width, height)),
    st.sampled_from(["car", "truck", "person"]),
    st.floats(0.3, 1.0),
    SIDES,
    SIDES,
    st.floats(0.05, 0.3),
    st.floats(0.05, 0.3),
)
EVENTS = st.lists(st.lists(THINGS, max_size=4), min_size=1, max_size=6).map(lambda rows: event(*rows))


@given(EVENTS, st.data())
def test_replays_and_the_order_of_arrival_change_nothing(shots: List[Shot], data: st.DataObject) -> None:
    """The objects of an event are a function of its set of pictures, when they say where they stand in it."""
    again = data.draw(st.lists(st.sampled_from(shots), max_size=6))
    mixed = data.draw(st.permutations([*shots, *again]))
    assert fed(mixed)[-1].objects == fed(shots)[-1].objects
    assert len(fed(mixed)) == len(shots), "a replay is recognised"


@given(EVENTS, st.data())
def test_without_frame_numbers_replays_change_nothing(shots: List[Shot], data: st.DataObject) -> None:
    """They are recognised by the picture alone."""
    bare = [shot._replace(order=None) for shot in shots]
    repeated = [again for at, shot in enumerate(bare) for again in [shot, *bare[: data.draw(st.integers(0, at + 1))]]]
    assert fed(repeated) == fed(bare)


@given(st.integers(1, 4), st.integers(2, 8), st.floats(0.03, 0.12), st.booleans(), st.data())
@example(4, 8, 0.12, True, None)
def test_nothing_is_counted_twice(lanes: int, pictures: int, step: float, to_right: bool, data: Any) -> None:
    """Vehicles in lanes of their own, each in all pictures: as many as there are, however the pictures arrive."""
    scene = [
        [
            Seen("car", 0.9, Box(0.02 + step * n if to_right else 0.98 - 0.15 - step * n, 0.22 * lane, 0.15, 0.15))
            for lane in range(lanes)
        ]
        for n in range(pictures)
    ]
    shots = event(*scene)
    if data is not None:
        shots = data.draw(st.permutations([*shots, *data.draw(st.lists(st.sampled_from(shots), max_size=5))]))
    found = fed(shots)[-1].objects
    assert len(found) == lanes
    if step * (pictures - 1) > 0.1001:
        assert set(found) == {Counted("car", "passed", "right" if to_right else "left")}


@given(
    st.lists(st.tuples(st.floats(0.0, 50.0), st.integers(1, 3), st.lists(THINGS, max_size=3)), max_size=25),
    st.floats(0.0, 100.0),
)
def test_alerts_of_a_label_keep_their_distance(rows: List[Any], cooldown_s: float) -> None:
    """Whatever moves, at most one alert a label in a cooldown; time is the monotonic clock's, which never goes back."""
    made = watcher(Rule(cooldown_s=cooldown_s))
    now, last = 0.0, {}
    for number, (pause, event_number, seen) in enumerate(rows):
        now += pause
        outcome = made.picture("door", "1", event_number, str(number), number, seen, now)
        for label in {row.label for row in outcome.alert} if outcome else ():
            assert now - last.get(label, float("-inf")) >= cooldown_s
            last[label] = now


@given(THINGS, THINGS)
def test_overlap_is_a_share(one: Seen, other: Seen) -> None:
    """Of both alike, and all of itself."""
    assert 0.0 <= overlap(one.box, other.box) == overlap(other.box, one.box) <= 1.0
    assert overlap(one.box, one.box) == pytest.approx(1.0)


def test_a_polygon_may_be_concave() -> None:
    """A garden with a corner cut out."""
    garden = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 1.0)]
    assert is_inside((0.5, 0.3), garden) and not is_inside((0.5, 0.8), garden) and is_inside((0.1, 0.7), garden)


# A street


@pytest.mark.parametrize(
    ("street", "twice", "never"),
    [
        (Street(0.2, 0.6, 0.08), 0.02, 0.02),
        (Street(0.5, 1.0, 0.08), 0.02, 0.02),
        (Street(1.0, 1.5, 0.08), 0.02, 0.08),
        (Street(0.3, 0.4, 0.05, vehicles=4, behind=1.1), 0.02, 0.02),
        (Street(0.3, 0.8, 0.05, vehicles=4, behind=3), 0.02, 0.02),
        (Street(2.3, 3.5, 0.0), 0.02, 1.0),
    ],
)
def test_a_street_is_counted_as_the_page_says(street: Street, twice: float, never: float) -> None:
    """At most 2 % twice; who is too fast for the pictures is missed and not made up. The parked car is told once."""
    found = watched(street, 60, seed=1)
    assert found.twice <= twice and found.never <= never and found.parked == 1


@pytest.mark.full
@pytest.mark.parametrize("seed", range(8))
def test_many_streets(seed: int) -> None:
    """The same with other chances, and 400 events each."""
    for street in (Street(0.2, 0.6, 0.08), Street(0.5, 1.0, 0.08), Street(0.3, 0.8, 0.05, vehicles=4, behind=3)):
        found = watched(street, 400, seed)
        assert found.twice <= 0.02 and found.never <= 0.02 and found.parked <= 2


# The queue


PUTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.booleans()), max_size=60)


@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 20), PUTS)
def test_the_newest_of_each_camera_stays(depth: int, per_camera: int, most: int, rows: List[Any]) -> None:
    """The bounds hold, order is kept, and of each camera it is the oldest that goes."""
    queue: NewestWins[Tuple[str, int, int]] = NewestWins(depth, per_camera, most)
    model: List[Tuple[str, int, int]] = []
    for number, (camera, size, take) in enumerate(rows):
        for gone in queue.put(camera, (camera, number, size), size):
            assert gone == next(row for row in model if row[0] == gone[0])
            model.remove(gone)
        model.append((camera, number, size))
        assert len(queue) == len(model) <= depth
        assert max(sum(row[0] == name for row in model) for name in "abc") <= per_camera
        assert not most or len(model) == 1 or sum(row[2] for row in model) <= most
        if take:
            assert queue.get() == model.pop(0)
    assert [queue.get() for _ in range(len(model) + 1)] == [*model, None]


def test_a_storm_of_one_camera_leaves_the_others_their_places() -> None:
    """200 pictures in a moment."""
    queue: NewestWins[str] = NewestWins(8, 100)
    queue.put("quiet", "quiet")
    for number in range(200):
        queue.put("storm", str(number))
    assert queue.get() == "quiet" and [queue.get() for _ in range(7)] == [str(n) for n in range(193, 200)]
    assert queue.dropped == 193
