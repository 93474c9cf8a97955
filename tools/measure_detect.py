#!/usr/bin/env python3
"""Measure `detect`: its memory over a folder of photos and over a long video, and its pace against the bare network.

    ./run python tools/measure_detect.py --photos 2000 --minutes 10 --work FOLDER

The memory is that of `python -m gpuhost.yolo detect` in a process of its own, read each second. The pace is that of the
pipeline, from files to boxes, in turns with forward passes alone of the same network in the same process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import cv2

from gpuhost.yolo import photos, pipeline
from gpuhost.yolo.benchmark import decoder_threads
from gpuhost.yolo.detector import Detector

RATE = 25


def resident_mb(process: int) -> float:
    """Return the resident memory of a process in MB, 0 when it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(found[0]) / 1e3 if found else 0.0


def memory(label: str, words: List[str], work: Path, model: str) -> None:
    """Run `detect` on something and print its memory over the time."""
    line = [sys.executable, "-m", "gpuhost.yolo", "detect", "--work", str(work), "--model", model, "--size", "64"]
    line += ["--weights", "synthetic"]
    begun = time.monotonic()
    readings: List[float] = []
    with (work / "rows").open("wb") as rows:
        process = subprocess.Popen([*line, "--format", "jsonl", *words], stdout=rows, stderr=subprocess.DEVNULL)  # noqa: S603 - a list, nothing is expanded
        while process.poll() is None:
            readings.append(resident_mb(process.pid))
            time.sleep(1)
    seconds = time.monotonic() - begun
    count = len((work / "rows").read_bytes().splitlines())
    quarters = [readings[max(0, len(readings) * part // 4 - 2)] for part in (1, 2, 3, 4)]
    told = ", ".join(f"{value:.0f}" for value in quarters)
    print(f"{label}: {count} pictures, {seconds:.0f} s, exit {process.returncode}")
    print(f"  resident MB at 1/4, 2/4, 3/4 and the end: {told}; most {max(readings):.0f}", flush=True)


def pace(folder: Path, work: Path, model: str, size: int, rounds: int, count: int) -> None:
    """Print the pictures a second of the pipeline over those of the forward passes alone, round by round."""
    detector = Detector(model, "cpu", work, size, weights="synthetic")
    paths = sorted(folder.iterdir())[:count]
    blob = detector.blob(photos.pixels(0))
    ratios = []
    for number in range(rounds + 1):
        begun = time.perf_counter()
        for _ in paths:
            detector.network.forward(blob)
        bare = time.perf_counter() - begun
        begun = time.perf_counter()
        for _ in pipeline.detect_all(detector, paths, 1, decoder_threads()):
            pass
        whole = time.perf_counter() - begun
        if number:  # the first is the warm-up
            ratios.append(bare / whole)
            print(
                f"  round {number}: bare {count / bare:.2f}/s, from files {count / whole:.2f}/s, ratio {ratios[-1]:.3f}"
            )
    print(f"{model} at {size}: ratio {sorted(ratios)[len(ratios) // 2]:.3f} (median of {rounds})", flush=True)


def main() -> None:
    """Make what is to be looked at, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="yolov4-tiny")
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--paced", type=int, default=60, help="photos in a round of the pace")
    given = parser.parse_args()
    made = photos.make(given.work / "made", 64)
    folder = given.work / "many"
    folder.mkdir(exist_ok=True)
    for number in range(given.photos):
        path = folder / f"{number:05d}.jpg"
        if not path.exists():
            path.symlink_to(made.paths[number % len(made.paths)])
    pace(folder, given.work, given.model, given.size, given.rounds, given.paced)
    memory("folder", [str(folder)], given.work, given.model)
    film = given.work / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (320, 240))
    frames = [cv2.resize(photos.pixels(number), (320, 240)) for number in range(16)]
    for number in range(int(given.minutes * 60 * RATE)):
        writer.write(frames[number % len(frames)])
    writer.release()
    memory(f"video of {given.minutes:g} minutes", [str(film)], given.work, given.model)


if __name__ == "__main__":
    main()
