"""The choice of a device: by time, among those that work, and said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Dict, List, Optional

import numpy as np
import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.yolo import auto, detector, devices
from gpuhost.yolo.models import class_names
from gpuhost.yolo.network import Network, Proof
from gpuhost.yolo.table import AUTO, DEVICES, Device, DeviceError, device_named

BLOB = np.zeros((1, 3, 64, 64), dtype=np.float32)


class Clock:
    """Seconds that pass only when a network runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed(Network):
    """A network that takes the times it is given, the last one again and again."""

    def __init__(self, device: Device, times: List[float], clock: Clock) -> None:
        super().__init__(device, 0.0)
        self.times, self.clock, self.runs = list(times), clock, 0
        self.proof = None if device.name == "cpu" else Proof(1e-6, 5e-4, "fp32")

    def forward_batch(self, blobs: Any) -> List[List[Any]]:
        self.runs += 1
        self.clock.now += self.times.pop(0) if len(self.times) > 1 else self.times[0]
        return [[]]

    def raw_heads(self, blob: Any) -> List[Any]:
        raise AssertionError("a trial asks for no other outputs")


class Shop:
    """Opens networks with known times; devices without times are refused. Counts how many are open at once."""

    def __init__(self, times: Dict[str, List[float]], clock: Clock) -> None:
        self.times, self.clock, self.opened = times, clock, []  # type: ignore[var-annotated]

    def __call__(self, row: Device) -> Network:
        if row.name not in self.times:
            raise DeviceError("no_package", f"{row.name} is not here.", "Install it.")
        self.opened.append(row.name)
        return Timed(row, self.times[row.name], self.clock)


def choose(times: Dict[str, List[float]], rows: Any = DEVICES) -> Any:
    """The choice among devices with these times: the network, and the shop."""
    clock = Clock()
    shop = Shop(times, clock)
    return auto.fastest(rows, shop, BLOB, clock), shop


@pytest.mark.parametrize(
    ("times", "winner"),
    [
        ({"cpu": [0.3], "openvino": [0.1], "onnxruntime": [0.2]}, "openvino"),
        ({"cpu": [0.3], "openvino": [0.4]}, "cpu"),
        ({"cpu": [0.3], "cuda": [5.0, 0.01]}, "cuda"),
        ({"cpu": [0.3, 0.3, 9.0, 0.3], "onnxruntime": [0.35]}, "cpu"),
        ({"cpu": [0.3], "cuda_fp16": [0.001], "openvino_npu": [0.001], "myriad": [0.001]}, "cpu"),
    ],
)
def test_the_fastest_is_taken(times: Dict[str, List[float]], winner: str) -> None:
    """The first forward pass does not count, nor one slow one; half precision is not chosen unasked."""
    chosen, _ = choose(times)
    assert chosen.device.name == winner
    assert [line["device"] for line in chosen.trials if line["chosen"]] == [winner]


def test_every_device_has_a_line_that_says_why() -> None:
    """A time, or a reason; and the table for people has both, the fastest first."""
    chosen, _ = choose({"cpu": [0.3], "openvino": [0.1]})
    lines = {line["device"]: line for line in chosen.trials}
    assert list(lines) == [row.name for row in DEVICES]
    assert lines["openvino"]["median_s"] == pytest.approx(0.1) and lines["openvino"]["rel2"] == 1e-6
    assert lines["cpu"]["median_s"] == pytest.approx(0.3) and lines["cpu"]["rel2"] is None
    assert lines["onnxruntime"]["reason"] == "onnxruntime is not here. Install it."
    assert "by name" in lines["cuda_fp16"]["reason"]
    assert all((line["median_s"] is None) == (line["reason"] is not None) for line in chosen.trials)
    said = auto.as_text(chosen.trials).splitlines()
    assert said[0] == "  openvino     100.0 ms, 1.0e-06 from the CPU, chosen" and said[1] == "  cpu          300.0 ms"
    assert len(said) == len(DEVICES)


def test_no_device_is_an_error_with_all_reasons() -> None:
    """And never a silent choice."""
    with pytest.raises(DeviceError, match=r"cuda is not here.*openvino is not here") as caught:
        choose({})
    assert caught.value.code == "none_works"


def test_a_mistake_in_the_code_is_not_taken_for_a_device_that_does_not_work() -> None:
    """Only what the package itself refuses becomes a line of the table."""

    def broken(row: Device) -> Network:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        auto.fastest(DEVICES, broken, BLOB)


def test_a_file_that_may_not_be_written_is_a_reason() -> None:
    """In a read-only folder an engine lacks its file; the others still stand."""
    clock = Clock()

    def opened(row: Device) -> Network:
        if row.name == "cpu":
            return Timed(row, [1.0], clock)
        raise EnvironmentProblem("a.onnx is missing.", "Run `prepare` again.")

    chosen = auto.fastest(DEVICES, opened, BLOB, clock)
    assert chosen.device.name == "cpu" and "Run `prepare` again" in chosen.trials[4]["reason"]


@pytest.mark.parametrize(
    ("seconds", "runs"), [(0.001, auto.WARM + auto.MOST), (0.5, auto.WARM + 4), (30.0, auto.WARM + 3)]
)
def test_a_trial_ends(seconds: float, runs: int) -> None:
    """After a few forward passes, or sooner when they are slow, but never with fewer than three."""
    clock = Clock()
    timed = Timed(device_named("cpu"), [seconds], clock)
    assert auto.trial(timed, BLOB, clock) == pytest.approx(seconds)
    assert timed.runs == runs


def test_auto_opens_a_real_network(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Here the CPU's three ways are tried, one of them is chosen, and it is proved like any other."""
    files = devices.probe_files(tmp_path_factory.mktemp("auto"))
    opened = devices.open_network(files, "auto")
    tried = [line["device"] for line in opened.trials if line["median_s"] is not None]
    assert tried == ["cpu", "onnxruntime", "openvino"] and opened.device.name in tried
    assert opened.forward(devices.noise_blob(64))[0].shape == (192, 85)


def test_auto_is_no_row_of_the_table() -> None:
    """It can be asked for, and is not a place where anything runs."""
    assert device_named("auto") is AUTO and AUTO not in DEVICES


class Counting:
    """A network whose answer to a picture tells which picture it was; it notes the size of each batch."""

    def __init__(self) -> None:
        self.batches: List[int] = []

    def forward(self, blob: Any) -> List[Any]:
        return self.forward_batch(blob)[0]  # type: ignore[no-any-return]

    def forward_batch(self, blobs: Any) -> Any:
        self.batches.append(len(blobs))
        answers = []
        for blob in blobs:
            row = np.zeros((1, 85), dtype=np.float32)
            row[0, :6] = (0.5, 0.5, 0.5, 0.5, 0.9, 0.9)
            row[0, 5 + round(float(blob[0, 0, 0]) * 255)] = 0.95
            answers.append([row])
        return answers


@pytest.fixture(name="counting")
def counting_detector(monkeypatch: pytest.MonkeyPatch) -> detector.Detector:
    """A detector that names a picture by its colour: the class number is the value of its pixels."""
    files = SimpleNamespace(size=64, labels=class_names(), letter_box=False)
    monkeypatch.setattr(detector, "files_of", lambda *_: files)
    monkeypatch.setattr(detector, "open_network", lambda *_: Counting())
    return detector.Detector("yolov3-tiny", size=64)


def pictures(count: int, taken: Optional[List[int]] = None) -> Any:
    """Pictures of one colour each, and of different sizes; `taken` notes how many were asked for."""
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield np.full((30 + number, 50, 3), number % 80, dtype=np.uint8)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 50])
def test_a_run_answers_for_each_picture_in_order(batch: int, counting: detector.Detector) -> None:
    """Whatever the batch, also when the last one is not full; boxes fit each picture's own size."""
    found = list(counting.run(pictures(10), batch))
    assert [one.class_id for (one,) in found] == list(range(10))
    assert [round(one.box[3]) for (one,) in found] == [round((30 + number) / 2) for number in range(10)]
    assert counting.network.batches == [batch] * (10 // batch) + ([10 % batch] if 10 % batch else [])
    assert list(counting.run([], batch)) == []


def test_a_run_takes_no_more_pictures_than_a_batch_needs(counting: detector.Detector) -> None:
    """So memory does not grow with the number of pictures."""
    taken: List[int] = []
    answers = counting.run(pictures(10**9, taken), batch=4)
    for number in range(9):
        next(answers)
        assert len(taken) == 4 * (number // 4 + 1)


def test_a_bad_picture_ends_a_run_after_those_before_it(counting: detector.Detector) -> None:
    """Nothing that was found is lost, and the picture is named."""
    found = []
    with pytest.raises(detector.images.ImageError, match="not there"):
        for one in counting.run([*pictures(2), "missing.jpg", *pictures(1)], batch=8):
            found.append(one)
    assert [one.class_id for (one,) in found] == [0, 1]


def test_an_impossible_batch_is_refused_at_once(counting: detector.Detector) -> None:
    """Not at the first picture."""
    with pytest.raises(detector.UsageError, match="batch of 0"):
        counting.run([], 0)
