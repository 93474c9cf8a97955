"""The threads between a photo and its boxes, with networks whose forward pass is held and released by the test."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, List, Optional

import numpy as np
import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.service import jobs as jobs_module
from gpuhost.service import settings as service_settings
from gpuhost.service.health import Health
from gpuhost.service.jobs import GONE, LATE, Done, Dropped, Failed, Jobs
from gpuhost.service.metrics import Metrics
from gpuhost.service.models import Served, best_batch, chosen, padded
from gpuhost.yolo.detector import Detection
from gpuhost.yolo.images import ImageError

from .hostile_pictures import JPEG

NOISE = np.zeros((1, 3, 4, 4), np.float32)
PATIENCE_S = 30.0


class Network:
    """A network that gives back the mean of each input; it waits for `gate`, and fails while `broken`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.inside = threading.Event()
        self.broken = ""
        self.shift = 0.0
        self.batches: List[int] = []
        self.threads: set[int] = set()

    def forward_batch(self, blobs: Any) -> List[List[Any]]:
        self.threads.add(threading.get_ident())
        self.inside.set()
        assert self.gate.wait(PATIENCE_S)
        if self.broken:
            raise RuntimeError(self.broken)
        self.batches.append(len(blobs))
        return [[np.full((1, 1), blob.mean() + self.shift)] for blob in blobs]


class Detector:
    """A detector of one box, whose score is what the network gave."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def blob(self, pixels: Any) -> Any:
        return np.full((1, 3, 4, 4), pixels.mean(), np.float32)

    def boxes(self, heads: Any, width: int, height: int, confidence: float) -> List[Detection]:
        return [Detection((0, 0, width, height), 0, "all", float(heads[0][0, 0]))]


class Bed:
    """Jobs on such networks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, batch: int = 1, **changes: Any) -> None:
        monkeypatch.setattr(jobs_module, "SOON_S", 0.01)
        self.network, self.other = Network(), Network()
        settings = service_settings.checked(
            {
                "schema": 1, "device": "cpu", "default_model": "a", "work": "/w", "keys": None, "depth": 4,
                "models": [{"name": "a", "kind": "published", "weights": "synthetic"}], **changes,
            }
        )  # fmt: skip
        self.health, self.metrics = Health(Path("/nowhere")), Metrics()
        self.ended: List[str] = []
        self.models: Dict[str, Served] = {
            name: Served(name, Detector(network), batch, NOISE, [np.zeros((1, 1))])  # type: ignore[arg-type]
            for name, network in (("a", self.network), ("b", self.other))
        }
        self.problem: Optional[Exception] = None
        self.jobs = Jobs(settings, self.health, self.metrics, self.opened, self.ended.append)

    def opened(self, settings: Any) -> Dict[str, Served]:
        if self.problem is not None:
            raise self.problem
        return self.models

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Start the threads, run a test's work, stop them; they have all ended, and every place is free."""

        async def whole() -> Any:
            self.jobs.start()
            await self.until(lambda: self.health.state != "starting")
            try:
                return await asyncio.wait_for(work(), PATIENCE_S)
            finally:
                self.network.gate.set()
                self.other.gate.set()
                await self.until(lambda: self.jobs.inside == 0)
                self.jobs.stop()

        found = asyncio.run(whole())
        assert not [thread for thread in self.jobs._threads if thread.is_alive()]
        return found

    async def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)

    async def detect(self, data: bytes = JPEG, model: str = "a", deadline_s: float = 60, gone: Any = None) -> Done:
        assert self.jobs.enter()
        return await self.jobs.detect(data, self.models[model], 0.4, time.monotonic() + deadline_s, gone)

    async def held(self) -> asyncio.Task[Done]:
        """A photo whose forward pass has begun and does not end."""
        self.network.inside.clear()
        self.network.gate.clear()
        task = asyncio.ensure_future(self.detect())
        await self.until(self.network.inside.is_set)
        return task


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch) -> Bed:
    return Bed(monkeypatch)


def test_one_thread_alone_runs_the_networks(bed: Bed) -> None:
    async def work() -> List[Done]:
        return list(await asyncio.gather(*[bed.detect(model=name) for name in "abab"]))

    found = bed.run(work)
    assert [(one.width, one.height, len(one.found)) for one in found] == [(640, 480, 1)] * 4
    assert len(bed.network.threads | bed.other.threads) == 1
    assert threading.get_ident() not in bed.network.threads


def test_there_are_as_many_places_as_the_depth(bed: Bed) -> None:
    async def work() -> None:
        tasks = [await bed.held()]
        tasks += [asyncio.ensure_future(bed.detect()) for _ in range(3)]
        await asyncio.sleep(0)
        assert bed.jobs.inside == 4 and not bed.jobs.enter()
        bed.network.gate.set()
        await asyncio.gather(*tasks)
        assert bed.jobs.inside == 0 and bed.jobs.enter()
        bed.jobs.leave()

    bed.run(work)


def test_a_client_that_has_gone_costs_no_forward_pass_and_keeps_its_place_until_it_is_out(bed: Bed) -> None:
    async def work() -> None:
        first = await bed.held()
        leaving = asyncio.ensure_future(asyncio.sleep(0))
        with pytest.raises(Dropped) as caught:
            await bed.detect(gone=leaving)
        assert caught.value.why == GONE
        assert bed.jobs.inside == 2
        bed.network.gate.set()
        await first

    bed.run(work)
    assert bed.network.batches == [1]
    assert 'dropped_total{why="gone"} 1' in bed.metrics.text(True, 0, 4, {})


def test_what_is_late_costs_no_forward_pass(bed: Bed) -> None:
    async def work() -> None:
        first = await bed.held()
        with pytest.raises(Dropped) as caught:
            await bed.detect(deadline_s=0.05)
        assert caught.value.why == LATE
        bed.network.gate.set()
        await first

    bed.run(work)
    assert bed.network.batches == [1]


def test_what_waits_goes_together_and_is_filled_up_to_the_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch holds photos of one network; another number of them would make OpenCV set the network up again."""
    bed = Bed(monkeypatch, batch=4, depth=16)

    async def work() -> None:
        first = await bed.held()
        rest = [asyncio.ensure_future(bed.detect(model=name)) for name in "aabaaa"]
        await bed.until(lambda: len(bed.jobs._ready) == 6)
        bed.network.gate.set()
        await asyncio.gather(first, *rest)

    bed.run(work)
    assert bed.network.batches == [4, 4, 4] and bed.other.batches == [4]
    assert 'batches_total{model="a",photos="4"} 1' in bed.metrics.text(True, 0, 4, {})


def test_a_picture_that_cannot_be_used_is_told_and_costs_nothing(bed: Bed) -> None:
    async def work() -> None:
        with pytest.raises(ImageError, match="not a picture"):
            await bed.detect(b"an apple")
        await bed.detect()

    bed.run(work)
    assert bed.network.batches == [1]


def test_whatever_a_picture_does_the_next_one_is_served(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    real = jobs_module.prepare

    def prepare(data: bytes, *rest: Any) -> Any:
        if data == b"boom":
            raise MemoryError
        return real(data, *rest)

    monkeypatch.setattr(jobs_module, "prepare", prepare)

    async def work() -> None:
        for _ in range(3):
            with pytest.raises(Failed, match="MemoryError"):
                await bed.detect(b"boom")
        await bed.detect()

    bed.run(work)


def test_three_forward_passes_that_fail_end_the_process(bed: Bed) -> None:
    """The first on a photo, the others on probes; nobody is told that all is well in between."""

    async def work() -> None:
        bed.network.broken = "CUDA error: unspecified launch failure"
        with pytest.raises(Failed):
            await bed.detect()
        assert bed.health.state == "failing"
        await bed.until(lambda: bool(bed.ended))

    bed.run(work)
    assert "3 forward passes in a row" in bed.ended[0] and "unspecified launch failure" in bed.ended[0]


def test_a_failure_that_passes_is_forgotten_after_a_probe(bed: Bed) -> None:
    async def work() -> None:
        bed.network.broken = "out of memory"
        with pytest.raises(Failed):
            await bed.detect()
        bed.network.broken = ""
        await bed.until(lambda: bed.health.is_ready)
        await bed.detect()

    bed.run(work)
    assert not bed.ended


def test_an_idle_card_that_is_lost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(monkeypatch, probe_s=1)

    async def work() -> None:
        bed.other.broken = "no CUDA-capable device is detected"
        await bed.until(lambda: bool(bed.ended))
        assert bed.health.answer(detail=True)["state"] == "failing"

    bed.run(work)


@pytest.mark.parametrize("shift", [1.0, float("nan")])
def test_a_device_that_begins_to_compute_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch, shift: float) -> None:
    bed = Bed(monkeypatch, probe_s=1)

    async def work() -> None:
        bed.network.shift = shift
        await bed.until(lambda: bool(bed.ended))

    bed.run(work)


def test_a_forward_pass_that_does_not_end_is_noticed(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        first = await bed.held()
        assert not bed.jobs.is_stuck()
        monkeypatch.setattr(jobs_module, "STUCK_S", 0.0)
        assert bed.jobs.is_stuck()
        bed.network.gate.set()
        await first
        assert not bed.jobs.is_stuck()

    bed.run(work)


def test_no_photo_is_trusted_to_a_device_whose_last_pass_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes otherwise and raises nothing: only the probe can tell."""
    bed = Bed(monkeypatch, probe_s=1)
    monkeypatch.setattr(jobs_module, "SOON_S", 0.5)

    async def work() -> None:
        bed.network.shift = 1.0
        await bed.until(lambda: bed.health.state == "failing")
        photo = asyncio.ensure_future(bed.detect())
        await bed.until(lambda: bool(bed.ended))
        assert not photo.done()
        bed.network.shift = 0.0
        await photo

    bed.run(work)


@pytest.mark.parametrize("problem", [EnvironmentProblem("No card.", "Look."), RuntimeError("cuInit: 999")])
def test_what_cannot_be_opened_is_a_refusal(bed: Bed, problem: Exception) -> None:
    bed.problem = problem

    async def work() -> None:
        found = bed.health.answer(detail=True)
        assert (found["ready"], found["state"]) == (False, "refused")
        assert str(getattr(problem, "message", problem)).rstrip(".") in found["reason"]

    bed.run(work)


@pytest.mark.parametrize(
    ("times", "size"),
    [
        ({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}, 1),
        ({1: 1.0, 2: 0.6, 4: 0.4, 8: 0.39}, 4),
        ({1: 1.0, 2: 0.96, 4: 0.98, 8: 1.2}, 1),
        ({1: 1.0, 2: 0.7, 4: 0.5, 8: 0.3}, 8),
    ],
)
def test_the_smallest_batch_near_the_best(times: Dict[int, float], size: int) -> None:
    assert chosen(times) == size


def test_the_batch_is_measured() -> None:
    """With a clock on which a pass takes 1 and 0.15 more for each further photo."""
    now = [0.0]

    def forward(blobs: Any) -> None:
        now[0] += 1 + 0.15 * (len(blobs) - 1)

    assert best_batch(forward, NOISE, lambda: now[0]) == 8
    assert best_batch(lambda blobs: now.__setitem__(0, now[0] + len(blobs)), NOISE, lambda: now[0]) == 1


def test_inputs_are_filled_up_with_the_last() -> None:
    one, two = np.zeros((1, 2)), np.ones((1, 2))
    assert padded([one, two], 4).tolist() == [[0, 0], [1, 1], [1, 1], [1, 1]]
    assert padded([one], 1) is one
