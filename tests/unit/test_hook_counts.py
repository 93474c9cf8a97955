"""The counts in SQLite: once each, whole after a kill, on a full disk and under a bound; clocks may be years off."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuhost.service.counts import DAY_S, HOUR_S, MOST_WAITING, Counts, CountsProblem, Picture
from gpuhost.service.tracks import Counted

from .mounts import mount, mounted

NOON = 1796040000 // HOUR_S * HOUR_S
RIGHT, LEFT = Counted("car", "passed", "right"), Counted("car", "passed", "left")


class Clock:
    """Two clocks that stand until they are set."""

    def __init__(self) -> None:
        """It is noon."""
        self.wall, self.steady = float(NOON), 5000.0

    def go(self, seconds: float) -> None:
        """Let time pass, as both clocks see it."""
        self.wall, self.steady = self.wall + seconds, self.steady + seconds


@pytest.fixture
def clock() -> Clock:
    """Noon."""
    return Clock()


@pytest.fixture
def counts(tmp_path: Path, clock: Clock) -> Iterator[Counts]:
    """Counts of 30 days and 4 MB."""
    made = opened(tmp_path / "state" / "counts.db", clock)
    yield made
    made.close()


def opened(path: Path, clock: Clock, days: int = 30, megabytes: int = 4) -> Counts:
    """Counts with a clock of our own."""
    return Counts(path, days, megabytes, lambda: clock.wall, lambda: clock.steady)


def shot(frame: object, event: int = 1, camera: str = "1") -> Picture:
    """A picture."""
    return Picture("door", camera, event, str(frame))


def totals(counts: Counts) -> List[Tuple[int, str, str, str, int]]:
    """The hours since noon, labels, ways, directions and numbers."""
    return [((r.hour - NOON) // HOUR_S, r.label, r.how, r.direction, r.objects) for r in counts.by_hour()]


def test_an_event_is_counted_as_its_last_picture_leaves_it(counts: Counts, clock: Clock) -> None:
    """In the hour in which it began; what an earlier picture said of it is replaced."""
    clock.wall += HOUR_S - 1
    counts.record(shot(1), "e1", [Counted("car", "unsure", "")])
    clock.go(10)
    counts.record(shot(2), "e1", [RIGHT, LEFT])
    counts.record(shot(1, event=2), "e2", [RIGHT])
    assert totals(counts) == [
        (0, "car", "passed", "left", 1),
        (0, "car", "passed", "right", 1),
        (1, "car", "passed", "right", 1),
    ]
    assert counts.by_hour(NOON + HOUR_S) == counts.by_hour()[2:]


def test_a_picture_counts_once_whatever_else_is_said_of_it(counts: Counts) -> None:
    """A replay after a restart comes as another event."""
    counts.record(shot(1), "e1", [RIGHT])
    counts.record(shot(1), "e2", [RIGHT, RIGHT])
    assert totals(counts) == [(0, "car", "passed", "right", 1)]
    assert counts.has(shot(1)) and not counts.has(shot(2)) and not counts.has(shot(1, event=2))
    assert not counts.has(shot(1, camera="2"))


def test_it_is_there_after_a_restart_and_only_its_owner_reads_it(tmp_path: Path, clock: Clock) -> None:
    """Where somebody goes by is nobody else's business. A person reads the view."""
    path = tmp_path / "counts.db"
    first = opened(path, clock)
    first.record(shot(1), "e1", [RIGHT])
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    first.close()
    again = opened(path, clock)
    assert again.has(shot(1)) and totals(again) == [(0, "car", "passed", "right", 1)]
    again.close()
    assert modes == {0o600}
    with sqlite3.connect(str(path)) as file:
        rows = file.execute("SELECT * FROM counts").fetchall()
    file.close()
    assert rows == [("2026-11-30 12:00:00", "door", "1", "car", "passed", "right", 1)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3)), max_size=20))
def test_any_series_of_records_counts_each_event_by_its_last_new_picture(
    rows: List[Tuple[int, int, int]], tmp_path_factory: pytest.TempPathFactory, clock: Clock
) -> None:
    """Whatever is repeated: the model is a dictionary."""
    made = opened(tmp_path_factory.mktemp("counts") / "c.db", clock)
    seen, model = set(), {}
    for frame, event, objects in rows:
        made.record(shot(frame, event), f"e{event}", [RIGHT] * objects)
        if (frame, event) not in seen:
            seen.add((frame, event))
            model[event] = objects
    total = sum(row.objects for row in made.by_hour())
    made.close()
    assert total == sum(model.values())


# Kills and full disks

WRITER = """
import sys
from pathlib import Path
from gpuhost.service.counts import Counts, Picture
from gpuhost.service.tracks import Counted
counts = Counts(Path(sys.argv[1]), 30, 64)
for number in range(10 ** 6):
    counts.record(Picture("door", "1", number, "x"), str(number), [Counted("car", "passed", "right")] * 3)
    print(number, flush=True)
"""


@pytest.mark.parametrize("after", [1, 40, 333])
def test_a_killed_process_leaves_a_whole_file_with_all_that_was_recorded(after: int, tmp_path: Path) -> None:
    """kill -9 in the middle of writing: each event is there with its three objects, or not at all."""
    path = tmp_path / "counts.db"
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": source}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        told = -1
        while told < after:
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        for line in child.stdout:
            told = int(line) if line.endswith("\n") else told
    again = Counts(path, 30, 64)
    assert all(again.has(Picture("door", "1", number, "x")) for number in range(told + 1))
    total = sum(row.objects for row in again.by_hour())
    again.record(Picture("door", "1", 10**7, "x"), "after", [RIGHT])
    again.close()
    with sqlite3.connect(str(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        events = file.execute("SELECT count(*) FROM frames WHERE event < 10000000").fetchone()[0]
    file.close()
    assert total == 3 * events >= 3 * (told + 1)


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path, clock: Clock) -> None:
    """What could not be written is written when there is room; nothing twice."""
    with mounted(tmp_path / "small", "size=400k,mode=0755") as folder:
        made = opened(folder / "counts.db", clock)
        refused, last = 0, -1
        try:
            while refused < 5:
                last += 1
                try:
                    made.record(shot(last, event=last), f"e{last}", [RIGHT] * 20)
                except CountsProblem as problem:
                    assert "full" in problem.message and "Make room" in problem.next_step
                    refused += 1
            assert made.waiting == 5 and made.lost == 0 and made.problem is not None
            assert made.has(shot(last, event=last)), "what waits is known"
            with pytest.raises(CountsProblem):
                made.flush()
            mount(folder, "remount,size=8m")
            made.flush()
            assert made.waiting == 0 and made.problem is None
            assert sum(row.objects for row in made.by_hour()) == 20 * (last + 1)
            assert all(made.has(shot(number, event=number)) for number in range(last + 1))
        finally:
            made.close()


def test_what_waits_is_bounded_and_what_is_lost_is_counted(tmp_path: Path, clock: Clock) -> None:
    """A disk that stays full."""
    blocked = tmp_path / "a file"
    blocked.touch()
    made = opened(blocked / "counts.db", clock)
    for number in range(MOST_WAITING + 7):
        with pytest.raises(CountsProblem):
            made.record(shot(number), f"e{number}", [RIGHT])
    assert (made.waiting, made.lost) == (MOST_WAITING, 7)


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be read as one" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_file_is_named_and_left_as_it_is(content: bytes, tmp_path: Path, clock: Clock) -> None:
    """Somebody may want to recover it."""
    path = tmp_path / "counts.db"
    path.write_bytes(content)
    made = opened(path, clock)
    with pytest.raises(CountsProblem, match=r"counts\.db cannot be read") as told:
        made.record(shot(1), "e1", [RIGHT])
    assert "Move the file away" in told.value.next_step and path.read_bytes() == content
    path.rename(tmp_path / "old")
    made.record(shot(2), "e2", [RIGHT])
    assert sum(row.objects for row in made.by_hour()) == 2, "a new file is begun, with what waited"
    made.close()


def test_a_file_of_a_later_release_is_not_touched(counts: Counts, tmp_path: Path, clock: Clock) -> None:
    """A rollback meets what the newer one wrote."""
    counts.record(shot(1), "e1", [RIGHT])
    counts.close()
    path = tmp_path / "state" / "counts.db"
    with sqlite3.connect(str(path)) as file:
        file.execute("PRAGMA user_version = 2")
    file.close()
    with pytest.raises(CountsProblem, match="schema is 2"):
        opened(path, clock).record(shot(2), "e2", [RIGHT])


# Bounds


def test_what_is_older_than_the_bound_goes(counts: Counts, clock: Clock) -> None:
    """With its pictures: what old replays would count is bounded by the same days."""
    for day in range(40):
        counts.record(shot(day), f"e{day}", [RIGHT])
        counts.prune()
        clock.go(DAY_S)
    counts.prune()
    hours = [row.hour for row in counts.by_hour()]
    assert len(hours) == 30 and min(hours) == clock.wall - 30 * DAY_S
    assert not counts.has(shot(9)) and counts.has(shot(10))


@pytest.mark.parametrize("years", [12, -30])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_leaps_by_years_deletes_nothing(years: int, restarts: bool, tmp_path: Path, clock: Clock) -> None:
    """Nor does one that is years off when the host starts; after a day it is believed."""
    path = tmp_path / "counts.db"
    made = opened(path, clock)
    made.record(shot(1), "e1", [RIGHT])
    made.prune()
    clock.go(2 * DAY_S)  # the process has run long enough to believe it
    made.prune()
    for _ in range(2):
        clock.wall += years * 365 * DAY_S
        if restarts:
            made.close()
            made = opened(path, clock)
        clock.go(60)
        made.record(shot(clock.wall), "e2", [RIGHT])
        made.prune()
        assert made.has(shot(1)), "the leap and its end"
        clock.wall -= years * 365 * DAY_S
        made.prune()
        assert made.has(shot(1))
    clock.wall += 12 * 365 * DAY_S
    made.prune()
    clock.go(DAY_S + HOUR_S)
    made.prune()
    assert not made.has(shot(1)), "it has run like this for a day"
    made.close()


def test_the_file_keeps_its_bound_in_megabytes(tmp_path: Path, clock: Clock) -> None:
    """The oldest go first: those that only recognise replays, then counts. The file itself shrinks."""
    made = opened(tmp_path / "counts.db", clock, megabytes=1)
    for number in range(1500):
        clock.go(60)
        made.record(shot(f"{number:064}", event=number), f"{number:016}", [RIGHT] * 15)
        assert (tmp_path / "counts.db").stat().st_size <= 1 << 20
    assert (tmp_path / "counts.db-wal").stat().st_size <= (1 << 20) + 65536, "the journal beside it"
    assert made.has(shot(f"{1499:064}", event=1499)) and not made.has(shot(f"{0:064}", event=0))
    assert made.lost == 0 and made.waiting == 0 and made.by_hour()[-1].hour == int(clock.wall) // HOUR_S * HOUR_S
    made.close()


def test_threads_share_it(counts: Counts) -> None:
    """The service writes in one thread, and answers questions in another."""
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: counts.record(shot(n, event=n), f"e{n}", [RIGHT]), range(100)))
        sums: List[Any] = list(pool.map(lambda _: sum(row.objects for row in counts.by_hour()), range(4)))
    assert sums == [100] * 4
