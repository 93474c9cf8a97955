"""What becomes of a picture of a motion event behind its answer: detect, join, count, alert. Without a server.

A picture is answered as soon as it waits in a bounded queue; whoever sends it has a connection and a process open for
it. One picture is worked on at a time, because the network is one as well.
"""

import asyncio
import concurrent.futures
import secrets
import time
from typing import Any, Awaitable, Callable, Dict, List, NamedTuple, Optional

from ..errors import GpuhostError
from ..text import printable
from ..yolo import picture_header
from . import hook_forms
from .alerts import Alert, Say, Sender, senders
from .boxes import Box
from .counts import Counts, CountsProblem, Picture
from .events import Outcome, Watcher
from .form import Form, Unfit
from .hook_forms import Sent
from .hook_settings import HookSettings
from .queues import NewestWins
from .tracks import Seen

#: `detect(data, model)` finds the objects in an encoded picture: `found`, in pixels of the `width` and `height` beside.
Detect = Callable[[bytes, Optional[str]], Awaitable[Any]]


class _Job(NamedTuple):
    """A picture that waits."""

    device: str
    sent: Sent


class Hooks:
    """Takes pictures and works on them; `close` ends that."""

    def __init__(
        self,
        settings: HookSettings,
        detect: Detect,
        say: Say,
        limits: picture_header.Limits = picture_header.DEFAULT,
        meaningful: bool = True,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet: the file, the threads and the work begin with the first picture."""
        self._settings, self._detect, self._say, self._limits = settings, detect, say, limits
        self._meaningful, self._wall, self._monotonic = meaningful, wall, monotonic
        self._queue: NewestWins[_Job] = NewestWins(
            settings.depth, settings.per_camera, settings.waiting_megabytes << 20
        )
        self._watcher = Watcher(settings, lambda: secrets.token_hex(8))
        self.counts = Counts(settings.database, settings.days, settings.megabytes, wall, monotonic)
        self.senders: List[Sender] = senders(settings.alerts, settings.alert_depth, say, wall)
        # SQLite waits for the disk; the loop must not.
        self._disk = concurrent.futures.ThreadPoolExecutor(1, "counts")
        self._working: Optional[asyncio.Task[None]] = None
        self._told_problem = ""
        self.taken = self.again = self.failed = self.looked_at = 0

    def checked(self, form: Form) -> Sent:
        """Return the picture in a form; `Unfit` also for what no decoder should see. Takes time with large pictures:
        not for the event loop.
        """
        found = hook_forms.sent(form)
        try:
            picture_header.read(found.data, self._limits)
        except picture_header.Unfit as problem:
            raise Unfit(f"The picture {problem}.", problem.next_step) from problem
        return found

    def take(self, device: str, sent: Sent) -> int:
        """Have a picture worked on; return how many wait."""
        self._queue.put(f"{device}/{sent.camera}", _Job(device, sent), len(sent.data))
        self.taken += 1
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work())
        return len(self._queue)

    def numbers(self) -> Dict[str, int]:
        """Return what has been done so far, by names for metrics."""
        return {
            "pictures_taken": self.taken,
            "pictures_waiting": len(self._queue),
            "pictures_dropped": self._queue.dropped,
            "pictures_repeated": self.again,
            "pictures_failed": self.failed,
            "pictures_looked_at": self.looked_at,
            "counts_waiting": self.counts.waiting,
            "counts_lost": self.counts.lost,
            "alerts_sent": sum(one.sent for one in self.senders),
            "alerts_failed": sum(one.failed for one in self.senders),
            "alerts_dropped": sum(one.dropped for one in self.senders),
            "alerts_waiting": sum(one.waiting for one in self.senders),
        }

    async def idle(self) -> None:
        """Wait until no picture waits."""
        if self._working is not None:
            await self._working

    async def close(self) -> None:
        """End: what waits is given up, what was counted is on the disk."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        await asyncio.get_running_loop().run_in_executor(self._disk, self.counts.close)
        self._disk.shutdown(wait=False)
        for one in self.senders:
            one.close(0)

    async def _work(self) -> None:
        """Work on what waits, the oldest first, until nothing does."""
        job = self._queue.get()
        while job is not None:
            await self._look(job)
            job = self._queue.get()

    async def _look(self, job: _Job) -> None:
        """Work on one picture; whatever is wrong with it, the next one has its turn."""
        picture = Picture(job.device, job.sent.camera, job.sent.event, job.sent.frame)
        if await self._is_known(picture):
            self.again += 1
            return
        try:
            looked = await self._detect(job.sent.data, self._settings.model)
        except Exception as problem:  # noqa: BLE001 - whatever a picture does, the next one has its turn
            self.failed += 1
            said = problem if isinstance(problem, GpuhostError) else type(problem).__name__
            self._say(f"A picture of camera {job.device}/{job.sent.camera} was not looked at: {said}")
            return
        self.looked_at += 1
        seen = [_seen(row, looked.width, looked.height) for row in looked.found]
        outcome = self._watcher.picture(
            job.device, job.sent.camera, job.sent.event, job.sent.frame, job.sent.order, seen, self._monotonic()
        )
        if outcome is None:
            self.again += 1
            return
        if outcome.alert:
            self._tell(job, outcome)
        await self._record(picture, outcome)

    def _tell(self, job: _Job, outcome: Outcome) -> None:
        """Hand an alert to every receiver."""
        alert = Alert(
            job.device,
            job.sent.camera,
            job.sent.event,
            outcome.episode,
            self._wall(),
            outcome.alert,
            self._meaningful,
        )
        for one in self.senders:
            one.put(alert)

    async def _is_known(self, picture: Picture) -> bool:
        """Return whether a picture was recorded before; while the file cannot be read nothing is known."""
        try:
            return bool(await asyncio.get_running_loop().run_in_executor(self._disk, self.counts.has, picture))
        except CountsProblem as problem:
            self._say_once(str(problem))
            return False

    async def _record(self, picture: Picture, outcome: Outcome) -> None:
        """Have the counts written; those that cannot be wait in memory."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._disk, self.counts.record, picture, outcome.episode, outcome.objects)
        except CountsProblem as problem:
            self._say_once(f"{problem} {self.counts.waiting} pictures wait to be counted.")
        else:
            self._told_problem = ""

    def _say_once(self, text: str) -> None:
        """Say a problem of the counts when it begins, and not for every picture."""
        if not self._told_problem:
            self._told_problem = printable(text, 500)
            self._say(self._told_problem)


def _seen(row: Any, width: int, height: int) -> Seen:
    """Return a detection with its box in fractions of the picture's sides."""
    left, top, wide, high = row.box
    return Seen(str(row.label), float(row.score), Box(left / width, top / height, wide / width, high / height))
