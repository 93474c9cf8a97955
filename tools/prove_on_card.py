"""What only a machine with a card can prove of an OpenCV that was built here, as one command that can be repeated.

    ./run python tools/prove_on_card.py --wheel FILE.whl --into VENV --work DIR -o FILE.json
        [--model yolov4] [--count 192] [--onnx FILE]

VENV is a virtual environment that the wheel is installed in (the role `opencv` makes it, or build/opencv_cmake.py with
--into). First the wheel's own proof: the card is counted, a round trip through its memory is exact, a network computes
there and gives not the CPU's bits. Then what is detected on the card, against the CPU: the face of a
photograph by a trained network, each family of Darknet's networks, ONNX models (made here in each layout, and those of
--onnx), and a video. Then each network on the CPU, on CUDA and on CUDA in half precision, through the detector,
whose gates hold each device's output against the reference before anything is timed. The last lines are tables, the
second for docs/reference/benchmarks.md. What the build cannot do on the CPU either, and what the ten minutes
leave no time for, is called "not run". Exit status: 0 all that ran is proved, 1 something was missed, 7 no card.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence

Json = Dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "build" / "opencv_cmake.py"
DEVICES = ("cpu", "cuda", "cuda_fp16")
NO_CARD, MISSED = 7, 1
LONGEST_S = 600.0
OUT_OF_TIME = "the ten minutes are over"
NOT_RUN, PASSED = "not run", "passed"
FACE = {"label": "face", "class_id": 0, "score": 0.972, "box": [163.4, 75.8, 115.4, 110.6]}
"""Where the trained network sees the one face of tests/data/face/astronaut.jpg."""
FRAMES = 12
#: Runs in VENV: a photo as a video that moves to the right, two pixels a frame.
WRITE_VIDEO = """
import sys
import cv2, numpy
photo = cv2.imread(sys.argv[1])
video = cv2.VideoWriter(sys.argv[2], cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), 5.0, photo.shape[1::-1])
for number in range(int(sys.argv[3])):
    video.write(numpy.roll(photo, 2 * number, axis=1))
video.release()
"""


class Tolerance(NamedTuple):
    """How far a box may be off, in pixels and in score."""

    pixels: float
    score: float


SINGLE, HALF = Tolerance(1.0, 0.005), Tolerance(4.0, 0.05)
ON_CARD = {"cuda": SINGLE, "cuda_fp16": HALF}


class Case(NamedTuple):
    """Something to detect in: its name, the options for `detect`, the file, and what must be found if that is known."""

    name: str
    options: List[str]
    file: Path
    known: Sequence[Json] = ()


def run(argv: Sequence[str], seconds: float = LONGEST_S) -> subprocess.CompletedProcess[str]:
    """A command, shown before it runs; status 124 when it took longer than that."""
    print("+ " + " ".join(argv), file=sys.stderr)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    if seconds <= 0:
        return subprocess.CompletedProcess(list(argv), 124, "", OUT_OF_TIME)
    try:
        return subprocess.run(  # noqa: S603 - made here
            list(argv), env=env, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(list(argv), 124, "", OUT_OF_TIME)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that failed said last, but for its advice."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip() and not line.startswith(" ")]
    return (lines or ["it said nothing"])[-1]


def card() -> str:
    """Name, driver, memory and capability as nvidia-smi tells them, '' where it does not answer."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"]
    try:
        done = run(asked)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def seen(python: Path, case: Case, device: str, work: Path, seconds: float) -> Any:
    """What `detect` finds on a device, a list of boxes for each picture; or why it finds nothing, as a text."""
    line = [str(python), "-B", "-m", "gpuhost.yolo", "detect", "--work", str(work), "--device", device]
    done = run([*line, "--format", "jsonl", *case.options, "--", str(case.file)], seconds)
    if done.returncode != 0:
        return OUT_OF_TIME if done.returncode == 124 else last_line(done)
    return [json.loads(row)["detections"] for row in done.stdout.splitlines()]


def difference(expected: Sequence[Json], found: Sequence[Json], within: Tolerance) -> str:
    """How the boxes of a picture differ from what was expected, "" when they agree."""
    if len(found) != len(expected):
        return f"{len(found)} boxes in place of {len(expected)}"
    rest = list(found)
    for box in expected:
        same = [one for one in rest if one["label"] == box["label"]]
        if not same:
            return f"no {box['label']} where one belongs"

        def off(one: Json, box: Json = box) -> float:
            return float(max(abs(a - b) for a, b in zip(one["box"], box["box"])))

        near = min(same, key=off)
        if off(near) > within.pixels or abs(near["score"] - box["score"]) > within.score:
            return f"a {box['label']} is {off(near):.2f} pixels and {near['score'] - box['score']:+.4f} off"
        rest.remove(near)
    return ""


def judged(case: Case, expected: Any, found: Any, within: Tolerance) -> str:
    """PASSED, NOT_RUN with its reason, or what is wrong. `expected` is what the CPU sees: what that cannot do the
    build cannot do.
    """
    if isinstance(expected, str):
        return f"{NOT_RUN}: {expected}"
    if isinstance(found, str):
        return f"{NOT_RUN if found == OUT_OF_TIME else 'MISSED'}: {found}"
    if len(found) != len(expected):
        return f"MISSED: {len(found)} pictures in place of {len(expected)}"
    pairs = list(zip(expected, found))
    if case.known:
        pairs += [(case.known, found[0])]
    wrong = [words for words in (difference(*pair, within) for pair in pairs) if words]
    if wrong:
        return f"MISSED: {wrong[0]}"
    return f"{PASSED}: {sum(len(boxes) for boxes in expected)} boxes" if any(expected) else "MISSED: nothing was found"


def cases(folder: Path, onnx: Sequence[Path]) -> Iterator[Case]:
    """What is detected in; its files are made in `folder` by what the tests make theirs with."""
    sys.path.insert(0, str(ROOT))
    made_by = ("test_yolo_face", "small_networks", "test_yolo_exports")
    face, small, exports = (importlib.import_module("tests.unit." + name) for name in made_by)
    folder.mkdir(parents=True, exist_ok=True)
    photo, weights = ROOT / "tests" / "data" / "face" / "astronaut.jpg", folder / "face.weights"
    weights.write_bytes(face.converted())
    trained = ["--cfg", str(face.DATA / "face.cfg"), "--names", str(face.DATA / "face.names")]
    trained += ["--weights", str(weights)]
    yield Case("face", trained, photo, [FACE])
    yield Case("video", trained, folder / "face.mp4")
    for name, text in small.NETWORKS.items():
        own = folder / name.replace(" ", "-")
        own.mkdir(exist_ok=True)
        cfg = own / "network.cfg"
        cfg.write_text(text, encoding="utf-8")
        values = small.weights_for(own, small.read(text))
        yield Case(f"Darknet: {name}", ["--cfg", str(cfg), "--weights", str(values), "--confidence", "0.3"], photo)
    for layout in exports.onnx_network.LAYOUTS:
        model = folder / f"{layout}.onnx"
        # Scores grow with the brightness of the picture, which is that of this photograph.
        model.write_bytes(exports.model(exports.rows(layout), {"names": exports.NAMES}))
        yield Case(f"ONNX: {layout}", ["--onnx", str(model), "--confidence", "0.1"], photo)
    for path in onnx:
        yield Case(f"ONNX: {path.name}", ["--onnx", str(path), "--confidence", "0.25"], photo)


def detected(
    python: Path, work: Path, onnx: Sequence[Path], deadline: float, devices: Dict[str, Tolerance]
) -> List[List[str]]:
    """Rows of case, device and result. Half precision is asked of the face alone, because the boxes of random networks
    lie around every threshold.
    """

    def left() -> float:
        return deadline - time.monotonic()

    found: List[List[str]] = []
    for case in cases(work / "cases", onnx):
        if case.file.suffix == ".mp4":
            photo = ROOT / "tests" / "data" / "face" / "astronaut.jpg"
            run([str(python), "-c", WRITE_VIDEO, str(photo), str(case.file), str(FRAMES)], left())
        expected = seen(python, case, "cpu", work, left())
        for device, within in devices.items():
            if within is SINGLE or case.known:
                # What the build cannot do at all is not tried again.
                there = expected if isinstance(expected, str) else seen(python, case, device, work, left())
                found.append([case.name, device, judged(case, expected, there, within)])
    return found


def bench(python: Path, given: argparse.Namespace, device: str, seconds: float = LONGEST_S) -> Json:
    """The benchmark's report on a device for all networks (`given`: model, size, count, work), or its error."""
    line = [str(python), "-B", "-m", "gpuhost.yolo", "bench", "--device", device, "--mode", "both", "--json", "-"]
    line += ["--work", str(given.work), "--size", str(given.size), "--count", str(given.count)]
    for model in given.model:
        line += ["--model", model]
    done = run(line, seconds)
    start = done.stdout.find("{")
    if done.returncode == 124:
        return {"error": f"{NOT_RUN}: {OUT_OF_TIME}"}
    if done.returncode != 0 or start < 0:
        return {"error": (done.stderr.strip().splitlines() or ["it said nothing"])[-1]}
    report: Json = json.loads(done.stdout[start:])
    return report


def rows(reports: Dict[str, Json]) -> List[str]:
    """The table: one line a network and device. Times are the median of single photos, in milliseconds."""
    lines = ["| network | device | gate | a photo, p50 | pipeline, photos/s |", "|---|---|---|---|---|"]
    for device, report in reports.items():
        if "error" in report:
            lines.append(f"| all | {device} | {report['error']} | | |")
            continue
        for result in report["models"]:
            gate = "passed" if result["gate"]["passed"] else "MISSED"
            gate += f": {max(result['gate']['rel2']):.1e} of {result['gate']['limit']:.0e}"
            single = result["per_photo_s"]["p50"] * 1000
            offline = result["offline"]["photos_per_s"]
            lines.append(f"| {result['model']} | {device} | {gate} | {single:.1f} ms | {offline:.1f} |")
    return lines


def verdict(reports: Dict[str, Json], found: Sequence[Sequence[str]] = ()) -> int:
    """0 when every network passed its gate on every device, and nothing that was detected was missed. What was not run
    does not pass for it where nothing else ran.
    """
    whole = all("error" not in r and all(x["gate"]["passed"] for x in r["models"]) for r in reports.values())
    results = [row[2].split(":")[0] for row in found]
    return 0 if whole and "MISSED" not in results and (PASSED in results or not results) else MISSED


def main() -> int:
    """Prove, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--into", type=Path, required=True, metavar="VENV")
    parser.add_argument("--work", type=Path, required=True, help="networks, weights and photos are made there")
    parser.add_argument("--model", action="append")
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--count", type=int, default=192)
    parser.add_argument("--onnx", type=Path, action="append", default=[], help="an exported model of your own")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    deadline = time.monotonic() + LONGEST_S
    given.model = given.model or ["yolov4", "yolov4-tiny"]
    python = given.into / "bin" / "python"
    found = card()
    proof = run([sys.executable, str(SCRIPT), "--prove", str(given.wheel), "--into", str(given.into)])
    print(proof.stderr, file=sys.stderr)
    if not found or "NOT PROVED" in proof.stderr:
        print("No card that OpenCV can use: nothing of what this is for was proved.", file=sys.stderr)
        for what in ("face", "Darknet's families", "ONNX", "video", "benchmark"):
            print(f"{NOT_RUN}: {what}", file=sys.stderr)
        return NO_CARD
    if proof.returncode != 0:
        return MISSED
    made: Json = {"card": found, "proof": proof.stderr.splitlines(), "reports": {}}
    made["detected"] = detected(python, given.work, given.onnx, deadline, ON_CARD)
    for device in DEVICES:
        made["reports"][device] = bench(python, given, device, deadline - time.monotonic())
        given.output.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(f"{found}\n| what | device | as on the CPU |\n|---|---|---|")
    print("\n".join("| " + " | ".join(row) + " |" for row in made["detected"]))
    print("\n" + "\n".join(rows(made["reports"])))
    return verdict(made["reports"], made["detected"])


if __name__ == "__main__":
    sys.exit(main())
