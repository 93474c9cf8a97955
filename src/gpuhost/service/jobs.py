"""From a photo to its boxes, by threads of which one alone touches the networks.

    event loop -> [decoders: header, pixels, blob] -> [inference: batches, forward] -> [finisher: boxes] -> event loop

One `cv2.dnn.Net` that two threads use at once answers wrongly and says nothing. So the inference thread opens the
networks, proves them, runs them and probes them while nobody asks. At most `depth` requests are inside, from before
their body is read until their last thread has let go of them; that bounds every queue here. What nobody waits for any
longer is dropped at the next step, before it costs a forward pass.
"""

import asyncio
import queue
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from ..errors import GpuhostError
from ..text import printable
from ..yolo.detector import Detection
from ..yolo.images import ImageError
from .decode import AT_ONCE, Budget, Prepared, limits_of, prepare
from .health import Health
from .metrics import Metrics
from .models import Served, padded, repeated
from .settings import Settings

#: So many forward passes in a row that fail end the process: CUDA does not recover within one.
MOST_FAILURES = 3
#: After a failure the next probe does not wait for a quiet minute.
SOON_S = 2.0
#: A forward pass that takes longer never ends.
STUCK_S = 120.0
#: How far a probe may be from what the device gave when it was proved, in parts of its largest value.
DRIFT = 1e-2
GONE, LATE = "gone", "late"


class Done(NamedTuple):
    """What a request came to; times in seconds."""

    found: List[Detection]
    width: int
    height: int
    decode_s: float
    queue_s: float
    forward_s: float


class Failed(Exception):
    """The forward pass failed; the message is one sentence."""


class Dropped(Exception):
    """Nobody waits for the answer any longer: `why` is GONE or LATE."""

    def __init__(self, why: str) -> None:
        """Keep why."""
        super().__init__(why)
        self.why = why


class Job:
    """One photo on its way. `over` says why it is dropped at the next step."""

    def __init__(self, data: bytes, model: Served, confidence: float, deadline: float, future: Any) -> None:
        """Begin with the encoded picture; `deadline` is on the clock time.monotonic."""
        self.data, self.model, self.confidence, self.deadline, self.future = data, model, confidence, deadline, future
        self.over = ""
        self.prepared: Optional[Prepared] = None
        self.heads: List[Any] = []
        self.begun = self.decoded = self.entered = time.monotonic()
        self.forward_s = 0.0

    def reason_to_drop(self) -> str:
        """Return why this is worth no more work; empty where it is."""
        if not self.over and time.monotonic() >= self.deadline:
            self.over = LATE
        return self.over


class Jobs:
    """The threads, and the queues between them."""

    def __init__(
        self,
        settings: Settings,
        health: Health,
        metrics: Metrics,
        opener: Callable[[Settings], Dict[str, Served]],
        end: Callable[[str], None],
    ) -> None:
        """Start nothing yet. `end` ends the process, with a sentence for the log."""
        self._settings, self._health, self._metrics, self._opener, self._end = settings, health, metrics, opener, end
        self.models: Dict[str, Served] = {}
        self.inside = 0
        self._limits, self._budget = limits_of(settings), Budget(AT_ONCE * settings.pixels)
        self._pending: queue.Queue[Optional[Job]] = queue.Queue()
        self._finished: queue.Queue[Optional[Job]] = queue.Queue()
        self._turn = threading.Condition()
        self._ready: Deque[Job] = deque()
        self._stopping = False
        self._failures = 0
        self._forward_since: Optional[float] = None
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._threads: List[threading.Thread] = []

    # In the event loop

    def start(self) -> None:
        """Start the threads; the networks are opened by the one that will run them."""
        self._loop = asyncio.get_running_loop()
        work = [self._decode_all] * self._settings.decoders + [self._infer_all, self._finish_all]
        self._threads = [threading.Thread(target=one, name=one.__name__.strip("_"), daemon=True) for one in work]
        for thread in self._threads:
            thread.start()

    def stop(self, patience_s: float = 5.0) -> None:
        """Let the threads end what they do and wait for them, but not for ever."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()
        for _ in range(self._settings.decoders):
            self._pending.put(None)
        self._finished.put(None)
        until = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def enter(self) -> bool:
        """Take one of the `depth` places; False where all are taken. Who enters has to `leave` or to `detect`."""
        if self.inside >= self._settings.depth:
            return False
        self.inside += 1
        return True

    def leave(self) -> None:
        """Release the place that a request has taken."""
        self.inside -= 1

    async def detect(
        self, data: bytes, model: Served, confidence: float, deadline: float, gone: Optional["asyncio.Task[Any]"] = None
    ) -> Done:
        """Return what a photo shows; the place that was entered is given back when its last thread has let go of it.

        Raises images.ImageError, Failed, or Dropped when the `deadline` passes or the task `gone` ends before.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Done] = loop.create_future()
        job = Job(data, model, confidence, deadline, future)
        self._pending.put(job)
        try:
            waited = {future} if gone is None else {future, gone}
            await asyncio.wait(
                waited, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            job.over = GONE
            raise
        if future.done():
            return future.result()
        future.add_done_callback(_forget)
        job.over = GONE if gone is not None and gone.done() else LATE
        raise Dropped(job.over)

    def is_stuck(self) -> bool:
        """Return whether a forward pass has taken longer than any that ends."""
        since = self._forward_since
        return since is not None and time.monotonic() - since > STUCK_S

    def _out(self, job: Job, outcome: Any) -> None:
        """Hand a job's outcome to the event loop."""
        job.data = b""
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._settle, job, outcome)
            except RuntimeError:  # the loop has ended, and everybody who waited with it
                return

    def _settle(self, job: Job, outcome: Any) -> None:
        """Give the place back, and the outcome to whoever still waits."""
        self.leave()
        if isinstance(outcome, Dropped):
            self._metrics.dropped(outcome.why)
        if job.future.done():
            return
        if isinstance(outcome, BaseException):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)

    # In the decoders

    def _decode_all(self) -> None:
        """Prepare one picture after the other."""
        while True:
            job = self._pending.get()
            if job is None:
                return
            why = job.reason_to_drop()
            if why:
                self._out(job, Dropped(why))
                continue
            begun = time.monotonic()
            try:
                job.prepared = prepare(job.data, job.model.detector, self._limits, self._budget)
            except ImageError as problem:
                self._out(job, problem)
                continue
            except Exception as problem:  # noqa: BLE001 - whatever a stranger's picture does, the thread serves the next
                self._out(job, Failed(f"The picture could not be decoded: {type(problem).__name__}."))
                continue
            job.data = b""
            job.begun, job.decoded = begun, time.monotonic()
            with self._turn:
                self._ready.append(job)
                self._turn.notify()

    # In the inference thread

    def _infer_all(self) -> None:
        """Open the networks, then run batches, and the probe where nobody asks."""
        try:
            self.models = self._opener(self._settings)
        except GpuhostError as problem:
            self._health.refuse(problem)
            return
        except Exception as problem:  # noqa: BLE001 - whatever the device's libraries raise is a refusal, not a dead thread
            self._health.refuse(GpuhostError(f"The network cannot be opened: {told(problem)}."))
            return
        self._health.prove()
        while True:
            batch = self._next()
            if batch is None:
                return
            if batch:
                self._run(batch)
            else:
                self._probe()

    def _next(self) -> Optional[List[Job]]:
        """Return the next batch, of one network; an empty one when it is time to probe, None at the end."""
        until = time.monotonic() + (SOON_S if self._failures else self._settings.probe_s)
        with self._turn:
            while True:
                # After a failure a probe has to go well before anybody's photo is trusted to the device.
                live = [] if self._failures else self._live()
                if live:
                    return live
                left = until - time.monotonic()
                if self._stopping:
                    return None
                if left <= 0:
                    return []
                self._turn.wait(left)

    def _live(self) -> List[Job]:
        """Take the jobs of one batch out of the queue, the oldest first, and those that are over."""
        taken: List[Job] = []
        kept: Deque[Job] = deque()
        for job in self._ready:
            why = job.reason_to_drop()
            if why:
                self._out(job, Dropped(why))
            elif not taken or (job.model is taken[0].model and len(taken) < job.model.batch):
                taken.append(job)
            else:
                kept.append(job)
        self._ready = kept
        return taken

    def _run(self, jobs: Sequence[Job]) -> None:
        """Send a batch through its network."""
        model = jobs[0].model
        blobs = padded([job.prepared.blob for job in jobs if job.prepared is not None], model.batch)
        begun = time.monotonic()
        try:
            heads = self._forward(model, blobs)
        except Exception as problem:  # noqa: BLE001 - each library has exceptions of its own, and all mean the same here
            self._fail(problem)
            for job in jobs:
                self._out(job, Failed("The forward pass failed on the device."))
            return
        spent = time.monotonic() - begun
        self._metrics.forward(model.name, spent, len(jobs))
        for job, own in zip(jobs, heads):
            if job.prepared is not None:
                job.prepared = job.prepared._replace(blob=None)
            job.heads, job.entered, job.forward_s = own, begun, spent
            self._finished.put(job)

    def _forward(self, model: Served, blobs: Any) -> List[List[Any]]:
        """Run a network, and see that what it gives are numbers."""
        self._forward_since = time.monotonic()
        try:
            heads = model.detector.network.forward_batch(blobs)
            if not all(np.isfinite(head).all() for own in heads for head in own):
                raise Failed("the device returned values that are not numbers")
        finally:
            self._forward_since = None
        return heads

    def _fail(self, problem: Exception) -> None:
        """Count a forward pass that failed; the third in a row ends the process."""
        self._failures += 1
        self._metrics.failed()
        said = told(problem)
        self._health.fail(said)
        if self._failures >= MOST_FAILURES:
            self._end(f"{MOST_FAILURES} forward passes in a row failed on the device: {said}")

    def _probe(self) -> None:
        """Run what the device was proved with: a card that is lost shows before somebody needs it."""
        for model in self.models.values():
            try:
                heads = self._forward(model, repeated(model.noise, model.batch))[0]
                for now, before in zip(heads, model.expected):
                    if np.abs(now - before).max(initial=0.0) > DRIFT * max(1.0, float(np.abs(before).max(initial=0.0))):
                        raise Failed("the device computes otherwise than when it was proved")
            except Exception as problem:  # noqa: BLE001 - as in _run
                self._fail(problem)
                return
        self._failures = 0
        self._metrics.probed()
        self._health.prove()

    # In the finisher

    def _finish_all(self) -> None:
        """Make boxes of one photo after the other."""
        while True:
            job = self._finished.get()
            if job is None:
                return
            why = job.reason_to_drop()
            if why or job.prepared is None:
                self._out(job, Dropped(why or GONE))
                continue
            width, height = job.prepared.width, job.prepared.height
            try:
                found = job.model.detector.boxes(job.heads, width, height, job.confidence)
            except Exception as problem:  # noqa: BLE001 - whatever a photo's boxes do, the thread serves the next
                self._out(job, Failed(f"The boxes could not be made: {type(problem).__name__}."))
                continue
            job.heads = []
            times = (job.decoded - job.begun, job.entered - job.decoded, job.forward_s)
            self._metrics.stages(*times)
            self._out(job, Done(found, width, height, *times))


def _forget(future: "asyncio.Future[Any]") -> None:
    """Take the outcome that nobody waits for, or asyncio complains of it."""
    if not future.cancelled():
        future.exception()


def told(problem: Exception) -> str:
    """Return what a library said, in one line without its full stop."""
    return printable(problem, 300).rstrip(".") or type(problem).__name__
