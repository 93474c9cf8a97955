"""The pipeline: order, bounds, what goes wrong, and that nothing is left behind."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import pytest

from gpuhost.yolo import images, pipeline

BAD = 7


class Net:
    """A network that answers with the mean of its input; `at` counts its forward passes, `fail_at` ends one."""

    def __init__(self, batched: bool = False, fail_at: int = -1, error: Any = None) -> None:
        self.shapes: List[Any] = []
        self.fail_at, self.error = fail_at, error
        if batched:
            self.forward_batch = lambda blobs: [self._one(blob) for blob in self._seen(blobs)]

    def _seen(self, blobs: Any) -> Any:
        self.shapes.append(blobs.shape)
        if len(self.shapes) == self.fail_at:
            raise self.error
        return blobs

    @staticmethod
    def _one(blob: Any) -> List[Any]:
        return [np.full((1, 85), blob.mean(), dtype=np.float32)]

    def forward(self, blob: Any) -> List[Any]:
        return self._one(self._seen(blob))


class FakeDetector:
    """As much of a detector as the pipeline uses."""

    size = 32

    def __init__(self, network: Any) -> None:
        self.network = network

    def boxes(self, heads: Any, width: int, height: int) -> List[Any]:
        return [(round(float(heads[0][0, 0]) * 1e4), width, height)]


def prepared(path: Path, detector: Any, *_: Any) -> pipeline.Prepared:
    """A made photo whose value is its number; numbers that end in BAD are not pictures."""
    number, size = int(path.name), detector.size
    if number % 10 == BAD:
        return pipeline.Prepared(path, None, 0, 0, images.ImageError(f"The picture {number} is bad."))
    return pipeline.Prepared(path, np.full((1, 3, size, size), number / 1e4, dtype=np.float32), number + 1, 5, None)


@pytest.fixture(autouse=True)
def made_photos(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Photos that need no file, and no thread that outlives a test."""
    monkeypatch.setattr(pipeline, "prepare", prepared)
    before = threading.active_count()
    yield
    gc.collect()
    assert threading.active_count() == before


def paths(count: int) -> Iterator[Path]:
    """So many photos, one by one."""
    return (Path(str(number)) for number in range(count))


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
def test_every_photo_gets_its_own_boxes_in_order(batch: int, batched: bool) -> None:
    """Also behind photos that cannot be used, and in a last batch that is not full."""
    net = Net(batched)
    groups = list(pipeline.detect_all(FakeDetector(net), paths(50), batch, decoders=3))  # type: ignore[arg-type]
    found = [(path.name, rows) for group in groups for path, rows in group.found]
    good = [number for number in range(50) if number % 10 != BAD]
    assert found == [(str(number), [(number, number + 1, 5)]) for number in good]
    assert [p.path.name for group in groups for p in group.problems] == ["7", "17", "27", "37", "47"]
    shapes = {shape[0] for shape in net.shapes}
    assert shapes == {batch if batched else 1}, "another shape makes a library set the network up again"


def test_no_more_is_begun_than_fits() -> None:
    """While the consumer waits, only so many items are drawn; then one for one."""
    drawn: List[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            drawn.append(number)
            yield number

    results = pipeline.ordered(items(), lambda number: number * 2, workers=2, ahead=5)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    assert len(drawn) == 7
    results.close()  # type: ignore[attr-defined]
    assert len(drawn) == 7


def test_work_is_done_by_several_threads_at_once() -> None:
    """Two workers meet at a barrier, which one alone could never pass; the order stays."""
    barrier = threading.Barrier(2, timeout=30)

    def work(number: int) -> int:
        barrier.wait()
        return number

    assert list(pipeline.ordered(range(6), work, workers=2, ahead=4)) == list(range(6))


def test_closed_early_it_begins_nothing_more_and_has_ended() -> None:
    """What waits is dropped, what runs is waited for: when close returns, no thread is left."""
    before, started, never = threading.active_count(), [], threading.Event()

    def work(number: int) -> None:
        started.append(number)
        never.wait(0.05 if number else 0)

    results = pipeline.ordered(range(1000), work, workers=1, ahead=100)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert len(started) < 100


def test_a_fault_in_a_thread_is_raised_here_at_its_turn() -> None:
    """What is before it comes out first; the threads end (the fixture looks)."""

    def work(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError("of number 3")
        return number

    results, seen = pipeline.ordered(range(100), work, workers=4, ahead=8), []
    with pytest.raises(ZeroDivisionError, match="of number 3"):
        for value in results:
            seen.append(value)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_an_end_in_the_forward_pass_ends_the_threads_and_keeps_the_count(error: BaseException) -> None:
    """Ctrl-C and a fault of the library alike: what was finished before is in the pace."""
    pace = pipeline.Pace()
    detector: Any = FakeDetector(Net(batched=True, fail_at=6, error=error))
    with pytest.raises(type(error)):
        pipeline.time_all(detector, paths(1000), 4, 3, pace)
    assert 12 <= sum(pace.photos) <= 20 and len(pace.photos) == len(pace.seconds)


def test_the_pace_adds_up() -> None:
    """Every photo once; the batches' seconds are the whole; unusable photos' time is nobody's loss."""
    pace = pipeline.Pace()
    told: List[pipeline.Finished] = []
    took = pipeline.time_all(FakeDetector(Net(True)), paths(30), 4, 2, pace, told.append)  # type: ignore[arg-type]
    assert sum(pace.photos) == pace.boxes == 27
    assert told[-1].at_s - told[0].at_s <= sum(pace.seconds) <= took and all(seconds >= 0 for seconds in pace.seconds)
    assert 0 < pace.forward_s < sum(pace.seconds)


def test_a_group_without_a_photo_lends_its_time_to_the_next() -> None:
    """So that photos per second is not off by what bad files cost."""
    pace = pipeline.Pace()
    for photos, seconds in ((0, 1.0), (2, 3.0), (1, 0.5), (0, 0.25)):
        found: Any = [(Path("a"), [])] * photos
        pace.add(pipeline.Finished(found, [], 0.0, 0.0), seconds)
    assert (list(pace.photos), list(pace.seconds)) == ([2, 1, 0], [4.0, 0.5, 0.25])


def peak(count: int) -> int:
    """The largest number of bytes in use while so many photos go through."""
    names = list(paths(count))  # the caller's
    tracemalloc.start()
    pipeline.time_all(FakeDetector(Net(True)), names, 8, 2, pipeline.Pace())  # type: ignore[arg-type]
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_memory_does_not_grow_with_the_number_of_photos() -> None:
    """From 1,000 photos to 20,000: the blobs would be 240 MB more, what is kept of each is a few bytes."""
    peak(200)
    assert peak(20_000) - peak(1_000) < 1_000_000
