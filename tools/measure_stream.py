"""The benchmark over very many photos: is its memory constant, and does its bar move? Measured, and put into the docs.

python tools/measure_stream.py measure --out REPORT.json     a run over 50,000 photos
python tools/measure_stream.py write REPORT.json             its figures in docs/reference/benchmarks.md
python tools/measure_stream.py write --check REPORT.json     only say whether they are up to date (exit 1)

The photos are links to a few small made ones. The benchmark runs on a terminal, as a user sees it; its resident memory
is read whenever the bar passes one of the marks.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

import cv2
import measured_page

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- stream -->", "<!-- end of stream -->"
MARKS = (1_000, 10_000, 50_000)
DIFFERENT, SIDES = 8, (64, 48)


def links(folder: Path, count: int) -> None:
    """`count` photos in `folder`: links to a few small ones."""
    from gpuhost.yolo.photos import pixels

    small = [folder / f"small-{number}" for number in range(DIFFERENT)]
    for number, path in enumerate(small):
        _, data = cv2.imencode(".jpg", cv2.resize(pixels(number), SIDES))
        path.write_bytes(data.tobytes())
    for number in range(count):
        (folder / f"{number:06d}.jpg").symlink_to(small[number % DIFFERENT])


def resident_kib(pid: int) -> int:
    """A process's resident memory now, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def bar(command: Sequence[str], said: bytearray) -> Iterator[Any]:
    """Run a command on a terminal: (pid, pieces done) whenever its bar moves. What it says is kept in `said`."""
    screen, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
    with subprocess.Popen(  # noqa: S603 - a list, from the maintainer's own command line
        command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        rest = b""
        while True:
            try:
                part = os.read(screen, 65536)
            except OSError:  # Linux's way to say that the last program has left the terminal.
                break
            *lines, rest = (rest + part).replace(b"\n", b"\r").split(b"\r")
            for line in lines:
                found = re.search(rb" on \S+ \[[#.]+\] (\d+)/\d+$", line)
                if found:
                    yield process.pid, int(found[1])
                else:
                    said += line + b"\n"
    os.close(screen)
    if process.returncode != 0:
        raise SystemExit(f"exit code {process.returncode}: {said.decode('utf-8', 'replace')[-2000:]}")


def run(count: int, marks: Sequence[int], given: argparse.Namespace) -> Dict[str, Any]:
    """Measure over `count` photos; the resident memory at each of the marks."""
    left, seen, moved, said = sorted(marks), [], 0, bytearray()
    with tempfile.TemporaryDirectory() as folder:
        photos, report = Path(folder) / "photos", Path(folder) / "bench.json"
        photos.mkdir()
        links(photos, count)
        line = [given.python, "-m", "gpuhost.yolo", "bench", "--mode", given.mode, "--model", given.model]
        line += ["--device", given.device, "--size", str(given.size), "--work", str(given.work)]
        for pid, done in bar([*line, "--photos", str(photos), "--json", str(report)], said):
            moved += 1
            while left and done >= left[0]:
                seen.append({"photos": left.pop(0), "resident_kib": resident_kib(pid)})
        found = json.loads(report.read_text(encoding="utf-8"))
    entry = found["models"][0]
    return {
        "count": count,
        "complete": found["complete"],
        "bar_moved": moved,
        "marks": seen,
        "peak_mib": entry["usage"]["peak_memory_mib"],
        "started": found["started"],
        "environment": found["environment"],
    }


def measure(given: argparse.Namespace) -> int:
    """A run over all the photos, and one that ends at the first mark, to compare the peaks."""
    marks = [mark for mark in MARKS if mark < given.count] + [given.count]
    runs = [run(marks[0], marks[:1], given), run(given.count, marks, given)]
    head = {"schema": 1, "model": given.model, "device": given.device, "size": given.size, "mode": given.mode}
    given.out.write_text(json.dumps({**head, "runs": runs}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps([[one["count"], one["marks"], one["peak_mib"], one["bar_moved"]] for one in runs]))
    return 0


def section(found: Dict[str, Any]) -> List[str]:
    """The lines of the page."""
    short, whole = found["runs"]
    head = "{model} at {size} on {device}, `--mode {mode}`".format(**found)
    return [
        f"{head}, {SIDES[0]} x {SIDES[1]} pixels; OpenCV {whole['environment']['opencv']}; {whole['started'][:10]}. "
        f"The bar moved {whole['bar_moved']:,} times.",
        "",
        "| photos done | resident memory (MiB) |",
        "|---|---|",
        *(f"| {mark['photos']:,} | {mark['resident_kib'] / 1024:.1f} |" for mark in whole["marks"]),
        "",
        f"Peak of the run over {whole['count']:,} photos {whole['peak_mib']} MiB, of one over {short['count']:,} "
        f"{short['peak_mib']} MiB: the list of the files' names is held from the start.",
    ]


def write(given: argparse.Namespace) -> int:
    """Write the page, or compare it with what is there."""
    lines = section(json.loads(given.report.read_text(encoding="utf-8")))
    return measured_page.renew(measured_page.BENCHMARKS, START, END, lines, given.check)


def main() -> int:
    """The command line."""
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True)
    first = commands.add_parser("measure", help="measure on this machine")
    first.add_argument("--out", type=Path, required=True, help="the report")
    first.add_argument("--python", default=sys.executable, help="a Python with OpenCV")
    first.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gpuhost-measure", help="work folder")
    first.add_argument("--model", default="yolov3-tiny")
    first.add_argument("--device", default="cpu")
    first.add_argument("--mode", default="offline", help="as of gpuhost bench (default: offline, the pipeline)")
    first.add_argument("--size", type=int, default=32, help="input side (default: 32)")
    first.add_argument("--count", type=int, default=MARKS[-1], help=f"photos (default: {MARKS[-1]})")
    second = commands.add_parser("write", help="write the figures in docs/reference/benchmarks.md")
    second.add_argument("report", type=Path)
    second.add_argument("--check", action="store_true")
    given = top.parse_args()
    return measure(given) if given.command == "measure" else write(given)


if __name__ == "__main__":
    sys.exit(main())
