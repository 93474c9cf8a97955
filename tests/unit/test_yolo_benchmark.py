"""The benchmark: statistics, photos, the report, and what a user's mistake looks like."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuhost
from gpuhost.errors import UsageError
from gpuhost.yolo import benchmark_single, commands, environment, models, photos, stats
from gpuhost.yolo.progress import Progress

SOURCE = Path(gpuhost.__file__).resolve().parent.parent
#: SHA-256 of the pixels of the first four generated photos.
PIXELS = ["1768ed70da97", "8fc315b79e6d", "f631e8b06962", "74ed20ba9238"]


@pytest.fixture(name="work", scope="module")
def work_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One work folder for this module, so that weights are made once."""
    return tmp_path_factory.mktemp("work")


def bench(work: Path, *more: str) -> int:
    """`bench` with the smallest network at the smallest sensible size."""
    return commands.main(["bench", "--model", "yolov4-tiny", "--size", "64", "--work", str(work), *more])


def test_a_budget_ends_the_measurement(work: Path, tmp_path: Path) -> None:
    """No further photo is begun once the time has passed, one is always measured, and the report is complete."""
    file = tmp_path / "report.json"
    assert bench(work, "--count", "4", "--budget", "1e-9", "--json", str(file)) == 0
    entry = json.loads(file.read_text(encoding="utf-8"))["models"][0]
    assert (entry["headline"]["photos"], entry["budget_s"], entry["complete"]) == (1, 1e-9, True)
    assert bench(work, "--count", "4", "--budget", "1e9", "--json", str(file)) == 0
    assert json.loads(file.read_text(encoding="utf-8"))["models"][0]["headline"]["photos"] == 4


@pytest.mark.parametrize("more", [["--budget", "0"], ["--budget", "nan"], ["--budget", "3", "--mode", "both"]])
def test_a_budget_that_cannot_be_meant(work: Path, more: List[str]) -> None:
    """Is refused before anything is measured."""
    assert bench(work, *more) == 2


# ---- statistics -----------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.001, 10.0), min_size=1, max_size=60))
def test_a_summary_is_consistent(values: List[float]) -> None:
    """Total, order of the percentiles, and the mean inside its interval's possible range."""
    found = stats.summary(values)
    low, high = found["mean_ci95"]
    assert found["total"] == pytest.approx(sum(values))
    assert found["min"] <= found["p50"] <= found["p90"] <= max(values)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_percentiles_of_a_known_sample() -> None:
    """Linear interpolation; the order of the values does not matter."""
    assert [stats.percentile([4, 1, 3, 2], percent) for percent in (0, 50, 90, 100)] == pytest.approx([1, 2.5, 3.7, 4])


def test_the_interval_of_a_known_sample() -> None:
    """Close to the normal approximation, the same each time, and of no width when all values are equal."""
    values = np.random.RandomState(1).normal(50, 5, 192)
    low, high = stats.mean_interval(values)
    half = 1.96 * values.std() / np.sqrt(values.size)
    assert [low, high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.05)
    assert stats.mean_interval(values) == (low, high)
    assert stats.mean_interval([3.0] * 10) == (3.0, 3.0)


def test_the_interval_holds_the_mean_about_as_often_as_it_says() -> None:
    """Of 100 samples of 40, about 95; the seeds are fixed, so this cannot fail by chance."""
    random = np.random.RandomState(7)
    hits = 0
    for _ in range(100):
        low, high = stats.mean_interval(random.exponential(1.0, 40), resamples=300)
        hits += low <= 1.0 <= high
    assert 86 <= hits <= 99


def test_warm_up_ends_when_the_median_rests() -> None:
    """Not before six times, and not while they fall."""
    assert not benchmark_single.settled([1.0] * 5)
    assert benchmark_single.settled([1.0] * 6)
    assert not benchmark_single.settled([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    assert benchmark_single.settled([6.0, 5.0] + [1.0] * 6)


def test_the_headline_is_the_first_pass() -> None:
    """Two passes over two photos: the line of the log is about the first, the statistics about both."""
    samples = benchmark_single.Samples()
    for total in (1.0, 2.0, 3.0, 4.0):
        samples.add(benchmark_single.Sample((0.1, 0.1, 0.1, total - 0.4, 0.1), 2))
    found = benchmark_single.results(samples, 2)
    assert found["headline"]["photos"] == 2 and found["boxes"] == 4
    assert (found["headline"]["total_s"], found["headline"]["mean_s"]) == pytest.approx((3.0, 1.5))
    assert found["per_photo_s"]["mean"] == pytest.approx(2.5)
    assert found["photos_per_s"] == pytest.approx(0.4)
    assert found["outside_forward"] == pytest.approx(0.16)
    assert sum(stage["total"] for stage in found["stages_s"].values()) == pytest.approx(10.0)


# ---- photos ---------------------------------------------------------------------------------------------------------


def test_made_photos_have_the_known_pixels() -> None:
    """The same everywhere, in various sizes."""
    found = [photos.pixels(number) for number in range(4)]
    assert [hashlib.sha256(image.tobytes()).hexdigest()[:12] for image in found] == PIXELS
    assert len({image.shape for image in found}) == 4


def test_whole_photos_are_kept_and_damaged_ones_drawn_again(tmp_path: Path) -> None:
    """Each file is checked against the list; a smaller count leaves the others alone."""
    first = photos.make(tmp_path, 3)
    whole = {path: path.read_bytes() for path in first.paths}
    times = {path: path.stat().st_mtime_ns for path in first.paths}
    photos.make(tmp_path, 1)
    assert photos.make(tmp_path, 3) == first
    assert {path: path.stat().st_mtime_ns for path in first.paths} == times
    first.paths[1].write_bytes(whole[first.paths[1]][:-10])
    first.paths[2].unlink()
    assert photos.make(tmp_path, 3) == first
    assert {path: path.read_bytes() for path in first.paths} == whole
    assert first.paths[0].stat().st_mtime_ns == times[first.paths[0]]
    (tmp_path / photos.LIST_NAME).write_text("{ damaged", encoding="ascii")
    assert photos.make(tmp_path, 3) == first


def test_given_photos_come_in_order(tmp_path: Path) -> None:
    """Only files that look like pictures, by name."""
    for name in ("b.JPG", "a.png", "notes.txt", "c.jpeg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "d.jpg").mkdir()
    assert [path.name for path in photos.given(tmp_path).paths] == ["a.png", "b.JPG", "c.jpeg"]
    assert [path.name for path in photos.given(tmp_path, 2).paths] == ["a.png", "b.JPG"]
    with pytest.raises(UsageError, match="holds no photo"):
        photos.given(tmp_path / "d.jpg")
    with pytest.raises(UsageError, match="no folder"):
        photos.given(tmp_path / "e")


# ---- the report -----------------------------------------------------------------------------------------------------


def test_a_whole_run(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line of the log, the stages that add up, the proof of correctness, and the environment."""
    target = tmp_path / "deep" / "report.json"
    assert bench(work, "--count", "3", "--passes", "2", "--json", str(target), "--progress") == 0
    report = json.loads(target.read_text("utf-8"))
    (entry,) = report["models"]
    assert report["schema"] == 1 and report["complete"] and entry["complete"] and report["stopped_by"] is None
    assert report["photos"]["kind"] == "made" and report["photos"]["count"] == 3
    assert entry["weights"]["kind"] == "synthetic"
    assert entry["weights"]["sha256"] == models.facts_of("yolov4-tiny")["synthetic"]["sha256"]
    assert entry["gate"]["passed"] and max(entry["gate"]["rel2"]) <= entry["gate"]["limit"]
    assert entry["photos_timed"] == len(entry["samples_s"]["total"]) == 6
    total = sum(entry["stages_s"][name]["total"] for name in benchmark_single.STAGES)
    assert (
        total
        == pytest.approx(entry["per_photo_s"]["total"])
        == pytest.approx(sum(entry["samples_s"]["total"]), abs=1e-5)
    )
    assert entry["load_s"] > 0 and entry["first_forward_s"] > 0 and entry["warm_up"]["runs"] >= 3
    assert entry["usage"]["wall_s"] >= total
    assert {"opencv", "cpu", "opencv_threads", "load_average_before"} <= set(report["environment"])
    out, err = capsys.readouterr()
    seconds = entry["headline"]["total_s"]
    assert out.startswith(
        f"[INFO] 3 photos in {seconds:.2f} s ({seconds / 3:.3f} s each): yolov4-tiny at 64 on cpu, synthetic"
    )
    assert "Quadro P2000 0.039 s each" in out
    assert "yolov4-tiny on cpu: 6 of 6" in err and "\r" not in err


def test_an_interrupted_run_leaves_a_valid_report(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle: exit 130, what was measured is kept and marked as incomplete."""
    real, calls = benchmark_single.time_photo, []

    def until_the_third(detector: Any, path: Path) -> Any:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(detector, path)

    monkeypatch.setattr(benchmark_single, "time_photo", until_the_third)
    monkeypatch.setattr(benchmark_single, "warm_up", lambda *_: {"runs": 0, "seconds": 0.0, "settled": False})
    target = tmp_path / "report.json"
    assert bench(work, "--count", "4", "--json", str(target)) == 130
    report = json.loads(target.read_text("utf-8"))
    assert report["complete"] is False and report["stopped_by"] == "interrupt"
    (entry,) = report["models"]
    assert entry["complete"] is False and entry["photos_timed"] == 2
    assert entry["headline"]["photos"] == 2


def test_a_device_that_is_not_there_is_told_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No photo drawn, no weight made, nothing timed, exit 7, and the report says why."""
    target = tmp_path / "report.json"
    assert bench(tmp_path / "work", "--device", "cuda", "--json", str(target)) == 7
    assert not (tmp_path / "work").exists()
    report = json.loads(target.read_text("utf-8"))
    assert report["complete"] is False and "CUDA" in report["stopped_by"] and report["models"] == []
    assert "--device cpu" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["single", "offline", "both"])
def test_a_damaged_photo_is_set_aside_by_name(
    mode: str, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bad picture in the user's folder: the others are measured, it is named, and the exit code is 1."""
    whole = photos.make(tmp_path / "photos", 4)
    whole.paths[1].write_bytes(whole.paths[1].read_bytes()[:500])
    target = tmp_path / "report.json"
    assert bench(work, "--photos", str(tmp_path / "photos"), "--mode", mode, "--json", str(target)) == 1
    err = capsys.readouterr().err
    assert "photo-001.jpg is cut off" in err and "1 of 4 photos could not be used" in err
    report = json.loads(target.read_text("utf-8"))
    assert report["complete"] and report["models"][0]["photos_timed"] == 3
    assert report["photos"]["unusable"]["count"] == 1
    assert report["photos"]["unusable"]["first"][0]["photo"].endswith("photo-001.jpg")


def test_every_picture_of_a_folder_is_measured_or_named(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By ending: other kinds, a link into nothing, a pipe; a name cannot move the cursor."""
    whole = photos.make(tmp_path / "made", 1)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jfif", "b.JPE", "c\x1b[2J.png"):
        (folder / name).write_bytes(whole.paths[0].read_bytes())
    (folder / "d\x1b[2J.gif").write_bytes(b"GIF89a" + b"\0" * 40)
    (folder / "e.avif").write_bytes(b"\0\0\0\x20ftypavif")
    (folder / "f.jpg").symlink_to("nowhere")
    os.mkfifo(str(folder / "g.jpg"))
    (folder / "h.jpg").symlink_to("h.jpg")
    (folder / "notes.txt").write_text("not a picture", encoding="ascii")
    target = tmp_path / "report.json"
    assert bench(work, "--photos", str(folder), "--json", str(target)) == 1
    err = capsys.readouterr().err
    assert "\x1b" not in err and "5 of 8 photos could not be used" in err
    for name in ("e.avif", "f.jpg", "g.jpg", "h.jpg"):
        assert name in err
    assert json.loads(target.read_text("utf-8"))["models"][0]["photos_timed"] == 3


@pytest.mark.parametrize("mode", ["single", "offline"])
def test_no_usable_photo_is_a_mistake(
    mode: str, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """When every picture is bad there is nothing to measure: the last one is named, exit 2."""
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes(b"no picture")
    assert bench(work, "--photos", str(tmp_path), "--mode", mode) == 2
    assert "is not a picture" in capsys.readouterr().err


MISTAKES: Dict[str, List[str]] = {
    "no model 'yolov9'": ["--model", "yolov9"],
    "'probe'|probe is not a model": ["--model", "probe"],
    "input size": ["--size", "100"],
    "no device 'tpu'": ["--device", "tpu"],
    "--count": ["--count", "0"],
    "--passes": ["--passes", "-1"],
    "--batch": ["--batch", "0"],
    "'abacus'": ["--baseline", "abacus"],
    "no folder": ["--photos", "nowhere"],
    "that holds the published": ["--weights-dir", "nowhere"],
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_users_mistake_ends_with_2(message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One paragraph, no traceback, no work done."""
    assert bench(tmp_path / "work", *MISTAKES[message]) == 2
    err = capsys.readouterr().err
    assert any(part in err for part in message.split("|")) and "Traceback" not in err
    assert not list(tmp_path.glob("work/*.weights"))


def test_a_work_folder_that_cannot_be_made_ends_with_7(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file stands in its place."""
    (tmp_path / "file").write_bytes(b"")
    assert bench(tmp_path / "file") == 7
    assert "error:" in capsys.readouterr().err


def test_no_command_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the commands."""
    assert commands.main([]) == 2
    assert "bench, detect, devices, prepare" in capsys.readouterr().err


def test_prepare_makes_what_bench_uses(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Network, weights and photos, named on the output."""
    arguments = ["prepare", "--model", "yolov4-tiny", "--size", "64", "--count", "2", "--work", str(work)]
    assert commands.main(arguments) == 0
    assert "synthetic weights" in capsys.readouterr().out
    assert (work / "yolov4-tiny-64.cfg").is_file() and (work / "photos" / "photo-001.jpg").is_file()


def test_the_device_table_from_outside() -> None:
    """As a user starts it: JSON on the output, nothing else there."""
    done = subprocess.run(
        [sys.executable, "-m", "gpuhost.yolo", "devices", "--json"],
        env={"PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        check=True,
    )
    rows = json.loads(done.stdout)["devices"]
    assert [(row["name"], row["available"]) for row in rows if row["name"] == "cpu"] == [("cpu", True)]


def test_without_opencv_the_message_says_so(tmp_path: Path) -> None:
    """A Python that lacks it ends with 7 and the environment's name."""
    (tmp_path / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file')\n", encoding="ascii"
    )
    done = subprocess.run(
        [sys.executable, "-m", "gpuhost.yolo", "devices"],
        env={"PYTHONPATH": f"{tmp_path}:{SOURCE}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 7
    assert b"libGL.so.1" in done.stdout and b"opencv_cuda" in done.stdout and b"Traceback" not in done.stdout


# ---- environment and progress ---------------------------------------------------------------------------------------


def test_readings_of_proc() -> None:
    """The CPU's name and the stolen time, or nothing where a system does not say."""
    assert environment.cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz: fast\n") == "Some CPU @ 2 GHz: fast"
    assert environment.cpu_model("CPU part : 0xd0c\n") is None
    assert environment.steal_ticks("cpu  1 2 3 4 5 6 7 88 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n") == 88
    assert environment.steal_ticks("") is None


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar() -> None:
    """And a message does not run into it."""
    stream = Terminal()
    progress = Progress(stream)
    progress.tick("photos", 1, 2)
    progress.say("next")
    progress.tick("photos", 2, 2)
    assert stream.getvalue().split("\n")[0] == "\rphotos [" + "#" * 15 + "." * 15 + "] 1/2"
    assert stream.getvalue().split("\n")[1] == "next"
    assert stream.getvalue().endswith("2/2\n")


def test_progress_elsewhere_is_silent_or_a_line_now_and_then() -> None:
    """Without --progress nothing; with it a line every ten seconds and at the end."""
    silent, lines = io.StringIO(), io.StringIO()
    seconds = iter([0.0, 4.0, 11.0, 12.0, 13.0])
    progress = Progress(lines, True, lambda: next(seconds))
    for done in range(1, 6):
        Progress(silent).tick("photos", done, 5)
        progress.tick("photos", done, 5)
    assert silent.getvalue() == ""
    assert lines.getvalue() == "photos: 3 of 5\nphotos: 5 of 5\n"
