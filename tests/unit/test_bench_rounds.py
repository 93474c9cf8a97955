"""Ways measured in turns, the reference loop, constant memory over many photos, and what an interrupt leaves."""

from __future__ import annotations

import json
import threading
import tracemalloc
from pathlib import Path
from typing import Any, Callable, List, Sequence, Tuple

import cv2
import numpy as np
import pytest

from gpuhost.yolo import baseline, benchmark_rounds, benchmark_single, benchmark_text, commands, images, pipeline
from gpuhost.yolo.benchmark_single import Faults, Sample
from gpuhost.yolo.detector import CONFIDENCE, OVERLAP, decode, suppress, to_blob

PATHS = tuple(Path(f"{number}.jpg") for number in range(100))


class Way:
    """A way that notes what it was given and takes a time of its own for each photo."""

    def __init__(self, name: str, seconds: float, log: List[Tuple[str, Tuple[str, ...]]]) -> None:
        self.name, self._seconds, self._log = name, seconds, log

    def run(self, paths: Sequence[Path], tick: Callable[[int], None]) -> float:
        self._log.append((self.name, tuple(path.stem for path in paths)))
        tick(len(paths))
        return self._seconds * len(paths)

    def results(self, photos_per_pass: int) -> Any:
        return {self.name: photos_per_pass}


# ---- turns ----------------------------------------------------------------------------------------------------------


def test_parts_hold_every_photo_once_and_whole_batches() -> None:
    """At most so many rounds; each but the last a multiple of the batch."""
    for count in (1, 5, 96, 192, 1000):
        for multiple in (1, 8, 32):
            parts = list(benchmark_rounds.dealt(range(count), 24, multiple))  # type: ignore[arg-type]
            assert [n for part in parts for n in part] == list(range(count))
            assert len(parts) <= 24 and all(len(part) % multiple == 0 for part in parts[:-1])


def test_ways_take_turns_over_the_same_photos() -> None:
    """A B, then B A: each way gets every part, and each begins as often as the other."""
    log: List[Tuple[str, Tuple[str, ...]]] = []
    turns = benchmark_rounds.Turns([Way("offline", 1.0, log), Way("baseline", 3.0, log)], Faults(100))
    ticks: List[int] = []
    turns.run_pass(PATHS, 1, ticks.append)
    assert [name for name, _ in log[:6]] == ["offline", "baseline", "baseline", "offline", "offline", "baseline"]
    for name in ("offline", "baseline"):
        assert [stem for way, stems in log if way == name for stem in stems] == [path.stem for path in PATHS]
    assert sum(ticks) == 200
    found = turns.results(100)["faster"]["offline/baseline"]
    assert found["ratio"] == pytest.approx(3.0) and found["ci95"] == pytest.approx([3.0, 3.0])
    assert found["units"] == [20, 20]


def test_one_way_alone_is_not_cut_up() -> None:
    """Nothing to take turns with: a pass is one run, and there is no ratio."""
    log: List[Tuple[str, Tuple[str, ...]]] = []
    turns = benchmark_rounds.Turns([Way("single", 1.0, log)], Faults(100))
    turns.run_pass(PATHS, 1, lambda done: None)
    assert len(log) == 1 and turns.results(100)["faster"] == {}


def test_a_round_with_a_photo_found_bad_counts_for_no_ratio() -> None:
    """The way that came first had it still, the next one not: they did not do the same work."""
    faults, log = Faults(100), []  # type: ignore[var-annotated]

    class Finder(Way):
        """Finds photo 7 to be bad."""

        def run(self, paths: Sequence[Path], tick: Callable[[int], None]) -> float:
            if PATHS[7] in paths:
                faults.add(PATHS[7], images.ImageError("bad"))
            return super().run(paths, tick)

    turns = benchmark_rounds.Turns([Finder("offline", 1.0, log), Way("baseline", 2.0, log)], faults)
    turns.run_pass(PATHS, 1, lambda done: None)
    turns.run_pass(PATHS, 1, lambda done: None)
    assert len(turns.seconds["offline"]) == len(turns.seconds["baseline"]) == 39
    assert all("7" not in stems for _, stems in log[40:])


def test_photos_that_cannot_be_used_are_counted_and_the_first_are_named() -> None:
    """A folder of 50,000 bad ones does not fill the report."""
    faults = Faults(1000)
    for number in range(500):
        faults.add(Path(str(number % 250)), images.ImageError(f"The picture {number} is bad."))
    found = faults.as_json()
    assert found["count"] == 250 and len(found["first"]) == Faults.NAMED
    assert found["first"][0] == {"photo": "0", "problem": "The picture 0 is bad."}
    last = Faults(1)
    with pytest.raises(images.ImageError, match="bad"):
        last.add(Path("a"), images.ImageError("bad"))


# ---- the reference loop --------------------------------------------------------------------------------------------


def heads_with(rows: List[Tuple[float, float, float, float, int, float]]) -> List[Any]:
    """Two heads of 60 rows each, empty but for the given boxes (centre, extent, class, score)."""
    found = np.zeros((120, 85), dtype=np.float32)
    for place, (x, y, wide, high, class_id, score) in enumerate(rows):
        found[place * 7, :5] = x, y, wide, high, score
        found[place * 7, 5 + class_id] = score
    return [found[:60], found[60:]]


def test_the_loop_finds_what_the_detector_finds(tmp_path: Path) -> None:
    """Both ends of the comparison do the same work: as many boxes from the same heads, above the same threshold."""
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.zeros((120, 200, 3), dtype=np.uint8))
    rows = [(0.3, 0.3, 0.2, 0.2, 4, 0.9), (0.31, 0.3, 0.2, 0.2, 4, 0.8), (0.7, 0.7, 0.2, 0.2, 9, 0.6)]
    heads = heads_with([*rows, (0.5, 0.5, 0.2, 0.2, 1, 0.4), (0.9, 0.2, 0.1, 0.1, 2, 0.51)])
    seen: List[Any] = []

    class Net:
        """Answers with the heads."""

        def forward(self, blob: Any) -> Any:
            seen.append(blob.shape)
            return heads

    ours = suppress(*decode(heads, 200, 120, CONFIDENCE), OVERLAP)
    assert baseline.detect(Net(), path, 64, CONFIDENCE, OVERLAP) == len(ours) == 3
    assert seen == [(1, 3, 64, 64)]
    heads = heads_with([])
    assert baseline.detect(Net(), path, 64, CONFIDENCE, OVERLAP) == 0
    with pytest.raises(images.ImageError, match="nothing"):
        baseline.detect(Net(), tmp_path / "nothing.jpg", 64, CONFIDENCE, OVERLAP)


# ---- memory ---------------------------------------------------------------------------------------------------------


class Device:
    """A row of the device table."""

    name = "cpu"


class FakeDetector:
    """A detector whose work is a few bytes."""

    size, confidence, overlap = 32, CONFIDENCE, OVERLAP

    def __init__(self) -> None:
        self.network = self
        self.device = Device

    def blob(self, image: Any) -> Any:
        return to_blob(image, self.size)

    def forward(self, blob: Any) -> List[Any]:
        return []

    def boxes(self, heads: Any, width: int, height: int) -> List[Any]:
        return [0]


class Tiny:
    """Photos that exist only while they are read: JPEGs of 8 x 8 pixels in 251 greys."""

    def __init__(self) -> None:
        self.read = 0
        greys = (np.full((8, 8, 3), grey, dtype=np.uint8) for grey in range(251))
        self._files = [bytes(cv2.imencode(".jpg", image)[1]) for image in greys]

    def read_bytes(self, path: Path) -> bytes:
        self.read += 1
        return self._files[int(path.name) % 251]


def peak(count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """The largest number of bytes in use while both ways go over so many photos, with the report that is made."""
    tiny = Tiny()
    monkeypatch.setattr(images, "read_bytes", tiny.read_bytes)
    paths = [Path(str(number)) for number in range(count)]
    detector: Any = FakeDetector()
    tracemalloc.start()
    faults = Faults(count)
    ways = [benchmark_rounds.Single(detector, faults), benchmark_rounds.Offline(detector, faults, 1, 2)]
    turns = benchmark_rounds.Turns(ways, faults)
    turns.run_pass(paths, 1, lambda done: None)
    text = json.dumps(turns.results(count), allow_nan=False)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tiny.read == 2 * count
    assert len(text) < 300_000, "the lists of the report are capped"
    return found


@pytest.mark.parametrize("count", [3_500, pytest.param(20_000, marks=pytest.mark.full)])
def test_a_long_run_keeps_a_few_bytes_of_each_photo(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 1,000 photos on, the peak grows by what the figures take, 64 bytes each and copies of them: some 200 bytes,
    a little more or less by how the threads meet. The decoded picture and blob of one photo would be 12 kB.
    """
    peak(2_500, monkeypatch)  # CPython keeps up to 2,000 free tuples of each length, which belong to no photo
    assert peak(count, monkeypatch) - peak(1_000, monkeypatch) < 420 * (count - 1_000)


# ---- interrupt ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["offline", "both"])
def test_an_interrupt_in_the_pipeline_leaves_a_valid_report_and_no_thread(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of the pipeline: exit 130, what was finished is in the report."""
    real, calls = pipeline.forward_batch, []

    def until_the_fifth(network: Any, blobs: Any) -> Any:
        calls.append(blobs.shape)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(network, blobs)

    monkeypatch.setattr(pipeline, "forward_batch", until_the_fifth)
    monkeypatch.setattr(benchmark_single, "warm_up", lambda _: {"runs": 0, "seconds": 0.0, "settled": False})
    target, before = tmp_path / "report.json", threading.active_count()
    line = ["bench", "--model", "yolov4-tiny", "--size", "64", "--work", str(tmp_path / "work"), "--count", "8"]
    assert commands.main([*line, "--mode", mode, "--json", str(target)]) == 130
    assert threading.active_count() == before
    report = json.loads(target.read_text("utf-8"))
    (entry,) = report["models"]
    assert report["stopped_by"] == "interrupt" and not report["complete"] and not entry["complete"]
    assert 1 <= entry["offline"]["photos"] <= 4
    assert entry["sampled"]["looks"] >= 1


# ---- words ----------------------------------------------------------------------------------------------------------


def whole_entry() -> Any:
    """A result with every part, of known times."""
    samples = benchmark_single.Samples()
    for number in range(192):
        samples.add(Sample((0.001, 0.004, 0.001, 0.2 + (number % 2) * 0.04, 0.004), 1))
    entry = benchmark_single.results(samples, 192)
    each = {"mean": 0.3, "mean_ci95": [0.29, 0.31], "p50": 0.3, "p90": 0.33, "p95": 0.34, "p99": None}
    entry.update(
        model="yolov3",
        size=416,
        device="cpu",
        weights={"kind": "synthetic", "sha256": "ab" * 32},
        load_s=0.5,
        first_forward_s=1.25,
        warm_up={"runs": 6, "seconds": 1.5, "settled": True},
        gate={"rel2": [1e-6, 9e-5], "limit": 5e-4},
        usage={"cpu_s_per_wall_s": 1.9, "peak_memory_mib": 700},
        offline={
            "photos": 192,
            "total_s": 38.4,
            "mean_s": 0.2,
            "batch": 8,
            "decoders": 2,
            "photos_per_s": 5.0,
            "photos_per_s_ci95": [4.9, 5.1],
            "outside_forward": 0.015,
        },
        baseline={"device": "cpu", "per_photo_s": each, "photos_per_s": 3.33},
        faster={"offline/baseline": {"ratio": 1.5, "ci95": [1.45, 1.55]}, "single/baseline": None},
        sampled={
            "machine": {"load_1min": {"min": 1.0, "median": 2.0, "max": 3.0}},
            "stolen_share": 0.031,
            "cards": [{"index": 0, "figures": {"sm_mhz": {"median": 1980}, "watt": {"median": 310.4}}}],
            "flags": {"throttled": True, "power_capped": False, "stolen": True},
            "absent": {"temperature": "no sensor"},
        },
    )
    return entry


GOLDEN = """\
[INFO] 192 photos in 44.16 s (0.230 s each): yolov3 at 416 on cpu, synthetic weights
  each    p50 230.0 ms, p90 250.0 ms, p95 250.0 ms, mean 230.0 ms (227.1 to 232.7), 4.3 photos/s
  mean    read 1.00 ms, decode 4.00 ms, blob 1.00 ms, forward 220.00 ms, post 4.00 ms
  outside 4.3 % of the time is outside the forward pass
[INFO] 192 photos in 38.40 s (0.200 s each): yolov3 at 416 on cpu, synthetic weights, pipeline, batch 8
  each    5.0 photos/s (4.9 to 5.1), 2 decoders, 1.5 % outside the forward pass
  loop    on cpu: p50 300.0 ms, p90 330.0 ms, p95 340.0 ms, mean 300.0 ms (290.0 to 310.0), 3.3 photos/s
  faster  offline is 1.50 times as fast as baseline (1.45 to 1.55)
  once    load 0.50 s, first forward 1.25 s, warm-up 6 photos in 1.5 s
  right   9.0e-05 from the reference at most (limit 5e-04); weights abababababab
  machine load 2.0, 3.1 % stolen, 1.90 processors used, 700 MiB at most, card 0: 1980 MHz 310 W, \
attention: STOLEN, THROTTLED, not seen: temperature"""


def test_the_result_in_words() -> None:
    """The line of the log to the letter, then everything that stands behind it."""
    assert benchmark_text.as_text(whole_entry()) == GOLDEN
    silent = whole_entry()
    silent["usage"]["peak_memory_mib"] = None
    assert benchmark_text.as_text(silent) == GOLDEN.replace("700 MiB at most, ", "")


def test_the_table() -> None:
    """One line per way, in columns."""
    assert benchmark_text.table_text([whole_entry()]).splitlines() == [
        "model   device  way           mean    p50    p90    p95  photos/s  outside forward",
        "yolov3  cpu     single       230.0  230.0  250.0  250.0       4.3            4.3 %",
        "yolov3  cpu     loop         300.0  300.0  330.0  340.0       3.3                -",
        "yolov3  cpu     pipeline x8  200.0      -      -      -       5.0            1.5 %",
    ]


def test_what_auto_tried_is_told() -> None:
    """A choice is never silent: each device with its time or its reason, and the one that was taken."""
    entry = whole_entry()
    entry["trials"] = [
        {"device": "cpu", "median_s": 0.2, "rel2": None, "reason": None, "chosen": False},
        {"device": "openvino", "median_s": 0.1, "rel2": 2e-5, "reason": None, "chosen": True},
        {"device": "cuda", "median_s": None, "rel2": None, "reason": "No card.", "chosen": False},
    ]
    lines = benchmark_text.as_text(entry).splitlines()
    assert lines[0].strip() == "auto tried every device:"
    assert [line.split() for line in lines[1:4]] == [
        ["openvino", "100.0", "ms,", "2.0e-05", "from", "the", "CPU,", "chosen"],
        ["cpu", "200.0", "ms"],
        ["cuda", "No", "card."],
    ]
    assert "\n".join(lines[4:]) == GOLDEN
