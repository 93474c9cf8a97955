"""Counts of what the cameras saw, in one SQLite file: per hour, camera, label and direction.

A picture is recorded with the objects of its event in one transaction, and at most once, so a replay, a crash or a
repeated write never counts anything twice. What cannot be written because the disk is full waits, within a bound, for
the next write. The file has a bound in days and one in megabytes; the latter also holds while the former cannot be
judged, because a clock that leaps by years must not delete what it calls old.
"""

import contextlib
import sqlite3
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import EnvironmentProblem
from ..host import files
from ..text import printable
from .tracks import Counted

SCHEMA = 1
HOUR_S, DAY_S = 3600, 86400
#: After every hour that there can be.
LAST = (1 << 63) - 1
#: Events whose objects wait for a disk that is full.
MOST_WAITING = 1000
PAGE = 4096
_JOURNAL_BYTES = 1 << 20
#: Deleting in pieces keeps a transaction, and so the journal, small.
_PIECE = 500
_PRUNE_EVERY = 200
_TABLES = """
CREATE TABLE frames (device TEXT, camera TEXT, event INTEGER, frame TEXT, hour INTEGER,
    PRIMARY KEY (device, camera, event, frame)) WITHOUT ROWID;
CREATE INDEX frames_by_hour ON frames (hour);
CREATE TABLE objects (episode TEXT, number INTEGER, hour INTEGER, device TEXT, camera TEXT, label TEXT, how TEXT,
    direction TEXT, PRIMARY KEY (episode, number)) WITHOUT ROWID;
CREATE INDEX objects_by_hour ON objects (hour);
CREATE TABLE clock (believed INTEGER);
CREATE VIEW counts AS SELECT datetime(hour, 'unixepoch') AS hour, device, camera, label, how, direction,
    count(*) AS objects FROM objects GROUP BY 1, 2, 3, 4, 5, 6;
"""


class CountsProblem(EnvironmentProblem):
    """The counts cannot be written or read now."""


class Picture(NamedTuple):
    """What tells one picture from all others."""

    device: str
    camera: str
    event: int
    frame: str


class Row(NamedTuple):
    """A count: `hour` is its beginning, in seconds since 1970."""

    hour: int
    device: str
    camera: str
    label: str
    how: str
    direction: str
    objects: int


class _Event(NamedTuple):
    """What is to be written of an event."""

    picture: Picture
    hour: int
    objects: Tuple[Counted, ...]


class Counts:
    """The file of the counts. One process writes it; any thread of it may call."""

    def __init__(
        self,
        path: Path,
        days: int,
        megabytes: int,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open nothing yet: a file that cannot be used must not keep the service from starting."""
        self._path, self._days, self._pages = path, days, megabytes * (1 << 20) // PAGE
        self._wall, self._monotonic = wall, monotonic
        self._turn = threading.Lock()
        self._file: Optional[sqlite3.Connection] = None
        self._waiting: OrderedDict[Tuple[str, Picture], _Event] = OrderedDict()
        self._clock: Optional[Tuple[float, float]] = None
        self._since = monotonic()
        self._writes = 0
        self.lost = 0
        self.problem: Optional[CountsProblem] = None

    def has(self, picture: Picture) -> bool:
        """Return whether a picture is recorded, or waits to be."""
        with self._turn:
            if any(known == picture for _, known in self._waiting):
                return True
            with self._using() as file:
                found = file.execute(
                    "SELECT 1 FROM frames WHERE device = ? AND camera = ? AND event = ? AND frame = ?", picture
                )
                return found.fetchone() is not None

    def record(self, picture: Picture, episode: str, objects: Sequence[Counted]) -> None:
        """Record a picture with all objects of its event, in place of what was recorded of the event before.

        Raises `CountsProblem` where it has to wait; it is written with the next one that can be.
        """
        with self._turn:
            hour = int(self._wall()) // HOUR_S * HOUR_S
            self._waiting[episode, picture] = _Event(picture, hour, tuple(objects))
            if len(self._waiting) > MOST_WAITING:
                self._waiting.popitem(last=False)
                self.lost += 1
            self._flush()
            self._writes += 1
            if self._writes % _PRUNE_EVERY == 1:
                self._prune()

    def flush(self) -> None:
        """Write what waits; `CountsProblem` where that still cannot be."""
        with self._turn:
            self._flush()

    @property
    def waiting(self) -> int:
        """Return how many pictures wait for the disk."""
        return len(self._waiting)

    def by_hour(self, since: int = 0, until: int = LAST, most: int = -1) -> List[Row]:
        """Return the counts of the hours that begin in a time, in order; `most` bounds the rows."""
        with self._turn, self._using() as file:
            rows = file.execute(
                "SELECT hour, device, camera, label, how, direction, count(*) FROM objects "
                "WHERE hour >= ? AND hour < ? GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6 LIMIT ?",
                (since, until, most),
            )
            return [Row(*row) for row in rows]

    def prune(self) -> None:
        """Keep the bounds in days and megabytes."""
        with self._turn:
            self._prune()

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._close()

    def _close(self) -> None:
        """Close the file, whatever state it is in."""
        if self._file is not None:
            with contextlib.suppress(sqlite3.Error):
                self._file.close()
            self._file = None

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Give the open file; an error of SQLite becomes a `CountsProblem`, which stays until something is written."""
        try:
            if self._file is None:
                self._file = self._opened()
            yield self._file
        except (sqlite3.Error, OSError) as error:
            self._close()
            self.problem = _problem(self._path, error)
            raise self.problem from error

    def _opened(self) -> sqlite3.Connection:
        """Open the file, and make it where it is missing; only its owner may read it."""
        files.appended(self._path, files.PRIVATE).close()
        file = sqlite3.connect(str(self._path), timeout=5, isolation_level=None, check_same_thread=False)
        try:
            file.execute(f"PRAGMA page_size = {PAGE}")
            file.execute("PRAGMA auto_vacuum = INCREMENTAL")
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("PRAGMA synchronous = FULL")
            file.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
            file.execute(f"PRAGMA wal_autocheckpoint = {_JOURNAL_BYTES // PAGE // 2}")
            file.execute(f"PRAGMA max_page_count = {self._pages}")
            version = file.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                file.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")
            elif version != SCHEMA:
                raise sqlite3.DatabaseError(f"its schema is {version}, and this release writes {SCHEMA}")
        except BaseException:
            file.close()
            raise
        return file

    def _flush(self) -> None:
        """Write what waits, the oldest first."""
        while self._waiting:
            (episode, picture), event = next(iter(self._waiting.items()))
            try:
                self._write(episode, event)
            except CountsProblem as problem:
                if not _is_full(problem.__cause__) or not self._make_room():
                    raise
                self._write(episode, event)
            self.problem = None
            del self._waiting[episode, picture]

    def _write(self, episode: str, event: _Event) -> None:
        """Write a picture and its event's objects, both or neither; a picture that is there already changes nothing."""
        where = event.picture
        with self._using() as file, _transaction(file):
            added = file.execute("INSERT OR IGNORE INTO frames VALUES (?, ?, ?, ?, ?)", (*where, event.hour))
            if added.rowcount != 1:
                return
            # The whole event stays in the hour of its first picture.
            first = file.execute("SELECT min(hour) FROM objects WHERE episode = ?", (episode,)).fetchone()[0]
            hour = event.hour if first is None else first
            file.execute("DELETE FROM objects WHERE episode = ?", (episode,))
            file.executemany(
                "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(episode, at, hour, where.device, where.camera, *row) for at, row in enumerate(event.objects)],
            )

    def _make_room(self) -> bool:
        """Return whether the bound in megabytes was in the way, and no longer is; a full disk is not helped by it."""
        try:
            with self._using() as file:
                if _used(file) < self._pages - 16:
                    return False
                return self._shrink(file, self._pages * 9 // 10)
        except CountsProblem:
            return False

    def _prune(self) -> None:
        """Delete what is older than the bound, and shrink the file to nine tenths of its own."""
        with self._using() as file:
            edge = self._edge(file)
            if edge is not None:
                for table in ("frames", "objects"):
                    while self._delete_before(file, table, edge):
                        pass
            if _used(file) > self._pages * 9 // 10:
                self._shrink(file, self._pages * 8 // 10)
            file.execute("PRAGMA incremental_vacuum").fetchall()

    def _edge(self, file: sqlite3.Connection) -> Optional[int]:
        """Return the hour before which rows are too old; None while the wall clock is not believed.

        It is believed where it is near the last time that was believed, or has run for a day beside the monotonic
        clock: when a host starts it may be years off, and so it may be after somebody has set it.
        """
        wall, steady = self._wall(), self._monotonic()
        if self._clock is not None and abs((wall - self._clock[0]) - (steady - self._clock[1])) > DAY_S:
            self._since = steady
        self._clock = (wall, steady)
        believed = file.execute("SELECT believed FROM clock").fetchone()
        near = believed is not None and abs(wall - believed[0]) <= max(2, self._days / 2) * DAY_S
        if believed is not None and not near and steady - self._since < DAY_S:
            return None
        with _transaction(file):
            file.execute("DELETE FROM clock")
            file.execute("INSERT INTO clock VALUES (?)", (int(wall),))
        return int(wall) // HOUR_S * HOUR_S - self._days * DAY_S

    def _shrink(self, file: sqlite3.Connection, pages: int) -> bool:
        """Delete the oldest rows until the file uses no more than `pages`: first those that only recognise replays."""
        for table in ("frames", "objects"):
            while _used(file) > pages:
                oldest = file.execute(f"SELECT hour FROM {table} ORDER BY hour LIMIT 1").fetchone()  # noqa: S608 - ours
                if oldest is None:
                    break
                self._delete_before(file, table, oldest[0] + 1)
        file.execute("PRAGMA incremental_vacuum").fetchall()
        return _used(file) <= pages

    def _delete_before(self, file: sqlite3.Connection, table: str, hour: int) -> int:
        """Delete a piece of what is older than an hour; return how many rows that were."""
        key = "device, camera, event, frame" if table == "frames" else "episode, number"
        query = f"SELECT {key} FROM {table} WHERE hour < ? ORDER BY hour LIMIT {_PIECE}"  # noqa: S608 - ours
        with _transaction(file):
            return file.execute(f"DELETE FROM {table} WHERE ({key}) IN ({query})", (hour,)).rowcount  # noqa: S608 - ours


@contextlib.contextmanager
def _transaction(file: sqlite3.Connection) -> Iterator[None]:
    """Make what the block does happen as one, or not at all."""
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
        file.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled it back already
            file.execute("ROLLBACK")
        raise


def _used(file: sqlite3.Connection) -> int:
    """Return how many pages of the file hold something."""
    return int(_one(file, "page_count")) - int(_one(file, "freelist_count"))


def _one(file: sqlite3.Connection, name: str) -> Any:
    """Return the value of a pragma."""
    return file.execute(f"PRAGMA {name}").fetchone()[0]


def _is_full(error: Optional[BaseException]) -> bool:
    """Return whether SQLite says that there is no room: on the disk, or below the bound of the file."""
    return isinstance(error, sqlite3.OperationalError) and "full" in str(error)


def _problem(path: Path, error: Exception) -> CountsProblem:
    """Return the sentence about an error of the file."""
    name, said = printable(path, 200), printable(error, 200)
    if _is_full(error) or "disk I/O" in said:
        return CountsProblem(f"The counts in {name} cannot be written: {said}.", "Make room on that disk.")
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        step = "Move the file away: a new one is begun. What it holds may be read with sqlite3's .recover."
        return CountsProblem(f"The counts in {name} cannot be read: {said}.", step)
    return CountsProblem(f"The counts in {name} cannot be used: {said}.", "Look at the folder's rights and its disk.")
