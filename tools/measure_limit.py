"""How near the CPU's devices come to what the CPU can do: measured, and put into the docs.

python tools/measure_limit.py measure --out REPORT.json    multiplications of matrices and forward passes, in turns
python tools/measure_limit.py write REPORT.json            their table in docs/reference/benchmarks.md
python tools/measure_limit.py write --check REPORT.json    only say whether it is up to date (exit 1)

Needs a Python with OpenCV, ONNX Runtime and OpenVINO, and a quiet machine. The limit is the highest rate that is seen
here, of multiplications of large float32 matrices and of the convolutions that multiply as often as their definition
says. OpenCV's (Winograd's) multiplies less often, so its rate is counted as if it did not, and is not a limit.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import measured_page
import numpy as np

START, END = "<!-- limit -->", "<!-- end of limit -->"
SIZE, SIDE = 416, 2048
DEVICES = ("cpu", "onnxruntime", "openvino")
WINOGRAD = "cpu"
MODELS = ("yolov3", "yolov4")


def products() -> Dict[str, Callable[[], Any]]:
    """The multiplication of two matrices of SIDE x SIDE float32 values, by each library that does one."""
    from gpuhost.yolo.engine import threads

    # Neither has types.
    openvino, opset = (importlib.import_module(name) for name in ("openvino", "openvino.opset13"))
    made = np.random.default_rng(1)
    one, two = (made.random((SIDE, SIDE), dtype=np.float32) for _ in range(2))
    given = opset.parameter([SIDE, SIDE], np.float32)
    model = openvino.Model([opset.matmul(given, opset.constant(two), False, False)], [given])
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads()}
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    return {"NumPy": lambda: one @ two, "OpenVINO": lambda: request.infer({0: one})}


def rate(operations: int, run: Callable[[], Any]) -> float:
    """Operations per second of one call, in 10^9."""
    begun = time.perf_counter()
    run()
    return operations / (time.perf_counter() - begun) / 1e9


def measure(given: argparse.Namespace) -> int:
    """The fastest of each over all rounds, each taken in turn in every round."""
    from gpuhost.yolo import devices, environment
    from gpuhost.yolo.darknet import count_flops
    from gpuhost.yolo.models import model_files

    blob, matrices = devices.noise_blob(SIZE), products()
    rows: List[Dict[str, Any]] = []
    for model in given.model or MODELS:
        files = model_files(model, SIZE, given.work)
        networks = {name: devices.open_network(files, name) for name in DEVICES}
        counted = count_flops(files.layers, SIZE)
        ways: Dict[str, Any] = {name: (2 * SIDE**3, run) for name, run in matrices.items()}
        ways.update({name: (counted, lambda n=network: n.forward(blob)) for name, network in networks.items()})
        seen: Dict[str, List[float]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, (operations, run) in ways.items():
                run()
                seen[name] += [rate(operations, run) for _ in range(3)]
        best = {name: max(rates) for name, rates in seen.items()}
        rows.append({"model": model, "gflop": counted / 1e9, "best": best})
        print(json.dumps(rows[-1]), flush=True)
    head = {"schema": 1, "side": SIDE, "started": time.strftime("%Y-%m-%d"), "environment": environment.describe()}
    given.out.write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


def section(found: Dict[str, Any]) -> List[str]:
    """The lines of the page."""
    machine = "{cpus_allowed} processors ({cpu}), {system}, OpenCV {opencv}, Python {python}".format(
        **found["environment"]
    )
    lines = [
        f"{machine}; input {SIZE}; the fastest of each, in 10^9 operations a second; {found['started']}.",
        "",
        f"| network | operations (10^9) | matrices of {found['side']} | {' | '.join(DEVICES)} | limit against cpu |",
        "|---|---|---|" + "---|" * (len(DEVICES) + 1),
    ]
    for row in found["rows"]:
        best = row["best"]
        limit = max(rate for name, rate in best.items() if name != WINOGRAD)
        matrices = max(rate for name, rate in best.items() if name not in DEVICES)
        shares = [f"{best[name]:.0f} ({best[name] / limit:.0%})" for name in DEVICES]
        cells = [row["model"], f"{row['gflop']:.1f}", f"{matrices:.0f}", *shares, f"{limit / best[WINOGRAD]:.2f} times"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> int:
    """The command line."""
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True)
    first = commands.add_parser("measure", help="measure on this machine")
    first.add_argument("--out", type=Path, required=True, help="the report")
    first.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gpuhost-measure", help="work folder")
    first.add_argument("--model", action="append", help=f"may be repeated (default: {', '.join(MODELS)})")
    first.add_argument("--rounds", type=int, default=8, help="how often to go over all (default: 8)")
    second = commands.add_parser("write", help="write the table in docs/reference/benchmarks.md")
    second.add_argument("report", type=Path)
    second.add_argument("--check", action="store_true")
    given = top.parse_args()
    if given.command == "measure":
        return measure(given)
    lines = section(json.loads(given.report.read_text(encoding="utf-8")))
    return measured_page.renew(measured_page.BENCHMARKS, START, END, lines, given.check)


if __name__ == "__main__":
    sys.exit(main())
