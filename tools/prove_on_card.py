"""What only a machine with a card can prove of an OpenCV that was built here, as one command that can be repeated.

    python tools/prove_on_card.py --wheel FILE.whl --into VENV --work DIR -o FILE.json [--model yolov4] [--count 192]

VENV is a virtual environment that the wheel is installed in (the role `opencv` makes it, or build/opencv_cmake.py with
--into). First the wheel's own proof: the card is counted, a round trip through its memory is exact, a network computes
there and gives not the processor's bits. Then each network on the processor, on CUDA and on CUDA in half precision,
through the detector, whose gates hold each device's output against the reference before anything is timed. The last
lines are a table for docs/reference/benchmarks.md. Exit status: 0 all proved, 1 a gate was missed, 7 no card.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

Json = Dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "build" / "opencv_cmake.py"
DEVICES = ("cpu", "cuda", "cuda_fp16")
NO_CARD, MISSED = 7, 1


def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A command, shown before it runs."""
    print("+ " + " ".join(argv), file=sys.stderr)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(list(argv), env=env, capture_output=True, text=True, check=False)  # noqa: S603 - made here


def card() -> str:
    """Name, driver, memory and capability as nvidia-smi tells them, '' where it does not answer."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"]
    try:
        done = run(asked)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def bench(python: Path, given: argparse.Namespace, device: str) -> Json:
    """The benchmark's report on a device for all networks (`given`: model, size, count, work), or its error."""
    line = [str(python), "-B", "-m", "gpuhost.yolo", "bench", "--device", device, "--mode", "both", "--json", "-"]
    line += ["--work", str(given.work), "--size", str(given.size), "--count", str(given.count)]
    for model in given.model:
        line += ["--model", model]
    done = run(line)
    start = done.stdout.find("{")
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


def verdict(reports: Dict[str, Json]) -> int:
    """0 when every network passed its gate on every device."""
    whole = all("error" not in r and all(x["gate"]["passed"] for x in r["models"]) for r in reports.values())
    return 0 if whole else MISSED


def main() -> int:
    """Prove, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--into", type=Path, required=True, metavar="VENV")
    parser.add_argument("--work", type=Path, required=True, help="networks, weights and photos are made there")
    parser.add_argument("--model", action="append")
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--count", type=int, default=192)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    given.model = given.model or ["yolov4", "yolov4-tiny"]
    python = given.into / "bin" / "python"
    found = card()
    proof = run([sys.executable, str(SCRIPT), "--prove", str(given.wheel), "--into", str(given.into)])
    print(proof.stderr, file=sys.stderr)
    if not found or "NOT PROVED" in proof.stderr:
        print("No card that OpenCV can use: nothing of what this is for was proved.", file=sys.stderr)
        return NO_CARD
    if proof.returncode != 0:
        return MISSED
    made: Json = {"card": found, "proof": proof.stderr.splitlines(), "reports": {}}
    for device in DEVICES:
        made["reports"][device] = bench(python, given, device)
        given.output.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(f"{found}\n" + "\n".join(rows(made["reports"])))
    return verdict(made["reports"])


if __name__ == "__main__":
    sys.exit(main())
