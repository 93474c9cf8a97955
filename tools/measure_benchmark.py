"""The figures of docs/reference/benchmarks.md: measure them on a machine, and write the page from the reports.

python tools/measure_benchmark.py measure --out DIR      every model on every device that works here
python tools/measure_benchmark.py write REPORT.json ...  the page and its pictures from such reports
python tools/measure_benchmark.py write --check ...      only say whether they are up to date (exit 1)

Measuring needs nothing but a Python with NumPy and OpenCV (--python), so it also runs on a machine without gpuhost.
Each run holds one photo at a time, the pipeline and the reference loop, in turns, so that each ratio is from one run.
The loop runs on the same device where that is OpenCV's, else on OpenCV's processor code, as the reference setup did.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "benchmarks.md"
START, END = "<!-- figures -->", "<!-- end of figures -->"
MODELS = ("yolov4-tiny", "yolov3-tiny", "yolov4", "yolov3")
OPENCV = ("cpu", "cuda", "cuda_fp16")
HEAD = (
    "model",
    "device",
    "precision",
    "loop",
    "single",
    "p50",
    "p95",
    "outside forward",
    "pipeline",
    "pipeline / loop",
)


def run_yolo(python: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A command of the detector with this Python; what it says goes to the error stream as it comes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
    line = [python, "-m", "gpuhost.yolo", *arguments]
    return subprocess.run(  # noqa: S603 - a list, from the maintainer's own command line
        line, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )


def offered(python: str) -> List[str]:
    """The devices that really work here."""
    done = run_yolo(python, ["devices", "--json"])
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    return [str(row["name"]) for row in json.loads(done.stdout)["devices"] if row["available"]]


def measure(given: argparse.Namespace) -> int:
    """One report for each device, with every model in it."""
    devices = given.device or offered(given.python)
    given.out.mkdir(parents=True, exist_ok=True)
    codes = []
    for device in devices:
        path, started = given.out / f"{given.name}-{device}.json", time.monotonic()
        print(f"{device}: {', '.join(given.model)}", file=sys.stderr, flush=True)
        line = ["bench", "--device", device, "--mode", "both", "--baseline", device if device in OPENCV else "cpu"]
        line += ["--work", str(given.work), "--count", str(given.count), "--passes", str(given.passes)]
        line += [part for model in given.model for part in ("--model", model)]
        done = run_yolo(given.python, [*line, "--progress", "--json", str(path)])
        print(done.stdout, end="")
        print(f"{device}: exit code {done.returncode}, {time.monotonic() - started:.0f} s, {path}", file=sys.stderr)
        codes.append(done.returncode)
    return max(codes, default=0)


def in_words(ratio: Any) -> str:
    """A ratio with its interval, or without one what there is."""
    if ratio is None:
        return "-"
    ends = ratio["ci95"]
    return f"{ratio['ratio']:.2f}" + ("" if ends is None else f" ({ends[0]:.2f} to {ends[1]:.2f})")


def row_of(entry: Dict[str, Any]) -> Tuple[str, ...]:
    """One line of the table; times in milliseconds, rates in photos a second."""
    each = entry["per_photo_s"]
    return (
        entry["model"],
        entry["device"],
        entry["precision"],
        f"{entry['baseline']['photos_per_s']:.1f} ({entry['baseline']['device']})",
        f"{entry['photos_per_s']:.1f}",
        f"{1e3 * each['p50']:.1f}",
        f"{1e3 * each['p95']:.1f}",
        f"{1e2 * entry['outside_forward']:.1f} %",
        f"{entry['offline']['photos_per_s']:.1f} (batch {entry['offline']['batch']})",
        in_words(entry["faster"]["offline/baseline"]),
    )


def attention(entry: Dict[str, Any]) -> List[str]:
    """What a reader must know of one measurement."""
    found = [name for name, up in sorted(entry["sampled"]["flags"].items()) if up]
    found += [] if entry["complete"] else ["cut short"]
    return [f"{entry['model']} on {entry['device']}: {', '.join(found)}"] if found else []


def section(reports: Sequence[Dict[str, Any]]) -> List[str]:
    """The lines about one machine."""
    first = reports[0]
    seen, photos = first["environment"], first["photos"]
    entries = [entry for report in reports for entry in report["models"] if "offline" in entry and "headline" in entry]
    cards = sorted({card["name"] for entry in entries for card in entry["sampled"]["cards"]})
    peaks = [entry["usage"]["peak_memory_mib"] for entry in entries if entry["usage"]["peak_memory_mib"] is not None]
    lines = [
        f"## {cards[0] if cards else seen['cpu']}",
        "",
        f"{seen['cpus_allowed']} processors ({seen['cpu']}), {seen['memory_mib']} MiB, {seen['system']}; OpenCV "
        f"{seen['opencv']}, Python {seen['python']}; {photos['count']} {photos['kind']} photos, input 416, "
        f"{entries[0]['weights']['kind']} weights; {first['started'][:10]}."
        + (f" Peak memory {max(peaks)} MiB." if peaks else ""),
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
        *("| " + " | ".join(row_of(entry)) + " |" for entry in entries),
        "",
    ]
    notes = [note for entry in entries for note in attention(entry)]
    return lines + ([f"Attention: {'; '.join(notes)}.", ""] if notes else [])


def page(reports: Dict[Path, Dict[str, Any]], text: str) -> Tuple[str, Dict[str, str]]:
    """The page with its figures renewed, and its pictures by file name. Reports of one machine have one name before
    the last hyphen.
    """
    from gpuhost.report.bench_picture import svg

    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    lines, pictures = [START, ""], {}
    for name in sorted({path.stem.rpartition("-")[0] for path in reports}):
        ours = {path: found for path, found in reports.items() if path.stem.rpartition("-")[0] == name}
        lines += section(list(ours.values()))
        pictures[f"benchmarks-{name}.svg"] = svg(
            [(path.stem.rpartition("-")[2], found) for path, found in ours.items()]
        )
        lines += [f"![Time per photo](benchmarks-{name}.svg)", ""]
    return before + "\n".join([*lines, END]) + after, pictures


def write(given: argparse.Namespace) -> int:
    """Write the page and the pictures, or compare them with what is there."""
    reports = {path: json.loads(path.read_text(encoding="utf-8")) for path in given.reports}
    text, pictures = page(reports, PAGE.read_text(encoding="utf-8"))
    files = {PAGE: text, **{PAGE.with_name(name): picture for name, picture in pictures.items()}}
    stale = [path for path, content in files.items() if not path.exists() or path.read_text("utf-8") != content]
    for path in stale:
        print(f"{'out of date' if given.check else 'written'}: {path.relative_to(ROOT)}")
        if not given.check:
            path.write_text(files[path], encoding="utf-8")
    return 1 if given.check and stale else 0


def main() -> int:
    """The command line."""
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure", help="measure on this machine")
    one.add_argument("--out", type=Path, required=True, help="folder for the reports")
    one.add_argument("--name", default="machine", help="what this machine is called in the files' names")
    one.add_argument("--python", default=sys.executable, help="a Python with NumPy and OpenCV")
    one.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gpuhost-measure", help="work folder")
    one.add_argument("--device", action="append", help="may be repeated (default: all that work)")
    one.add_argument("--model", action="append", help=f"may be repeated (default: {', '.join(MODELS)})")
    one.add_argument("--count", type=int, default=96, help="photos (default: 96)")
    one.add_argument("--passes", type=int, default=1)
    two = commands.add_parser("write", help="write docs/reference/benchmarks.md from reports")
    two.add_argument("reports", nargs="+", type=Path)
    two.add_argument("--check", action="store_true")
    given = top.parse_args()
    if given.command == "measure":
        given.model = given.model or list(MODELS)
        return measure(given)
    return write(given)


if __name__ == "__main__":
    sys.exit(main())
