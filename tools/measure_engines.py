"""Measure the CPU's devices side by side: time of a forward pass, and peak memory of a whole run.

    python tools/measure_engines.py --work DIR [--model NAME ...] [--rounds 5] [--batch 8] [--photos 24]

Needs a Python with OpenCV, ONNX Runtime and OpenVINO. Times come from one process per model that goes over the
devices in turn, round after round, so that other work on the machine meets all of them alike; read the ratios.
Memory is the largest resident size of a process of its own that detects in photos with that device alone, on
a machine of the size of this one and as on one of 4 GB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np

from gpuhost.yolo import devices, environment, memory, photos
from gpuhost.yolo.detector import Detector
from gpuhost.yolo.models import model_files
from gpuhost.yolo.networks import MODELS

DEVICES = ("cpu", "onnxruntime", "openvino")
SIZE = 416
SMALL = 4 << 30
"""Bytes of the small machine that is spoken of."""


def timed(run: Callable[[], Any]) -> List[float]:
    """Wall and processor seconds of a call."""
    wall, busy = time.perf_counter(), time.process_time()
    run()
    return [time.perf_counter() - wall, time.process_time() - busy]


def times(model: str, work: Path, rounds: int, batch: int) -> Dict[str, Any]:
    """For each device its load time and the times of a forward pass, alone and as one of a batch, per picture."""
    files = model_files(model, SIZE, work)
    one = devices.noise_blob(SIZE)
    many = np.concatenate([np.roll(one, 7 * number, axis=3) for number in range(batch)])
    networks = {name: devices.open_network(files, name) for name in DEVICES}
    found: Dict[str, Any] = {name: {"single": [], "batch": []} for name in DEVICES}
    for _ in range(rounds):
        for name, network in networks.items():
            network.forward(one)
            found[name]["single"] += [timed(lambda n=network: n.forward(one)) for _ in range(3)]  # type: ignore[misc]
            network.forward_batch(many)
            wall, busy = timed(lambda n=network: n.forward_batch(many))  # type: ignore[misc]
            found[name]["batch"].append([wall / batch, busy / batch])
    for name, network in networks.items():
        found[name].update(load_s=network.load_s, rel2=network.proof.rel2 if network.proof else None)
    return found


def peak(model: str, device: str, work: Path, count: int, batch: int, small: bool) -> None:
    """In a process of its own: detect in the photos and print the largest resident size in MiB."""
    if small:
        setattr(memory, "machine_bytes", lambda: SMALL)  # noqa: B010 - a plain assignment is not a type for mypy
    detector = Detector(model, device, work, SIZE, weights="synthetic")
    made = photos.make(work / "photos", count, lambda done, of: None)
    seen = sum(1 for _ in detector.run(made.paths, batch))
    mib = environment.peak_mib(Path("/proc/self/status").read_text(encoding="ascii"))
    print(json.dumps({"photos": seen, "mib": mib, "settings": detector.network.settings}))


def peak_of(*arguments: str) -> int:
    """The MiB that a child with these arguments prints."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)  # noqa: S603 - this very script
    return int(json.loads(done.stdout.splitlines()[-1])["mib"])


def row(name: str, values: List[List[float]], base: List[List[float]]) -> str:
    """Median and fastest wall time, median processor time, and the ratios of the base's to them."""
    wall, busy = ([value[place] for value in values] for place in (0, 1))
    base_wall, base_busy = ([value[place] for value in base] for place in (0, 1))
    times_ms = [1e3 * statistics.median(wall), 1e3 * min(wall), 1e3 * statistics.median(busy)]
    base_ms = [1e3 * statistics.median(base_wall), 1e3 * min(base_wall), 1e3 * statistics.median(base_busy)]
    ratios = "".join(f" {one / other:5.2f}" for one, other in zip(base_ms, times_ms))
    return f"{name:24}" + "".join(f" {value:8.1f}" for value in times_ms) + "   " + ratios


def main() -> int:
    """Print a table of times and one of memory for each model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--work", type=Path, required=True, help="folder for networks, weights and photos")
    add("--model", action="append", choices=MODELS, help="may be repeated (default: all)")
    add("--rounds", type=int, default=5, help="how often to go over the devices (default: 5)")
    add("--batch", type=int, default=8, help="pictures in a batch (default: 8)")
    add("--photos", type=int, default=24, help="photos of the runs whose memory is measured (default: 24)")
    add("--peak", metavar="DEVICE", help=argparse.SUPPRESS)
    add("--small", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak(options.model[0], options.peak, options.work, options.photos, options.batch, options.small)
        return 0
    for model in options.model or MODELS:
        found = times(model, options.work, options.rounds, options.batch)
        print(f"{model:24} {'wall ms':>8} {'fastest':>8} {'cpu ms':>8}    cpu's time / this one's (the same three)")
        for kind, label in (("single", ""), ("batch", f" x{options.batch}")):
            for name in DEVICES:
                print(row(name + label, found[name][kind], found["cpu"]["single"]), flush=True)
        for name in DEVICES:
            same = ["--work", str(options.work), "--model", model, "--photos", str(options.photos), "--peak", name]
            sizes = [peak_of(*same, "--batch", "1", "--small"), peak_of(*same, "--batch", "1")]
            sizes.append(peak_of(*same, "--batch", str(options.batch)))
            print("{:24} peak MiB: {} as on 4 GB, {} here, {} here in batches".format(name, *sizes), flush=True)
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
