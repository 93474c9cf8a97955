#!/usr/bin/env python3
"""Measure the detection service against the detector in one process, in turns, and print ratios.

    GPUHOST_SET=service ./run true && ./run python tools/measure_service.py --work FOLDER

With `--only cards alerts` only those are measured: what of an emulated card's pace arrives at clients, and how long an
alert takes beyond the forward pass of its picture. All of it takes about three minutes on a quiet machine.

The service is started as a host runs it: its tree, gunicorn, one worker, a loopback port. Processor time is the
worker's own (/proc), so other work on the machine moves it little; times of answers are moved by it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import http.server
import json
import os
import queue
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import cv2

from gpuhost.host import store
from gpuhost.shipping import tree
from gpuhost.yolo import photos

ROOT = Path(__file__).resolve().parents[1]
BOUNDARY = "----measured"
DISTINCT = 12
#: Places of the service, by default.
DEPTH = 16
LEAST = "0.1"
PARTS = ("photos", "cards", "alerts")
#: Decodes, forwards and makes boxes of every photo of a folder so many times; prints processor ms a photo, resident MB,
#: and the boxes of each.
IN_PROCESS = """
import json, pathlib, resource, sys, time
sys.path.append(sys.argv[1])
from gpuhost.yolo import images, outputs
from gpuhost.yolo.detector import Detector
work, folder, size, count = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
detector = Detector("yolov4-tiny", weights="synthetic", size=size, work=work, confidence=0.1)
data = [path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())]
found = [outputs.boxes(detector.detect(images.decode(one))) for one in data]
begun = time.process_time()
for number in range(count):
    detector.detect(images.decode(data[number % len(data)]))
spent = time.process_time() - begun
status = pathlib.Path("/proc/self/status").read_text()
resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
print(json.dumps({"ms": 1e3 * spent / count, "mb": resident / 1024, "found": found}))
"""


#: A card that takes so many seconds for a picture, and nothing of the CPU. It gives what the real one gave first.
CARD = """
import time
from gpuhost.yolo.network import OpenCvNetwork
real, said = OpenCvNetwork.forward_batch, {{}}
def forward_batch(self, blobs):
    if id(self) not in said:
        said[id(self)] = real(self, blobs)
    time.sleep({seconds})
    return said[id(self)]
OpenCvNetwork.forward_batch = forward_batch
"""
CARDS_S = (0.039, 0.010)
#: Turns with each card, of so many seconds; the median counts.
TURNS, TURN_S = 3, 6
#: Motion events, of cameras of their own, one after the other.
EVENTS = 100
SECRET = "measured-" * 4


def form(data: bytes, **fields: str) -> bytes:
    """Return a form with a picture and other fields."""
    head = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    ).encode()
    head += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'.encode()
    return head + data + f"\r\n--{BOUNDARY}--\r\n".encode()


class Service:
    """A service that runs."""

    def __init__(self, python: Path, folder: Path, work: Path, size: int, staged: str = "", **more: Any) -> None:
        """Start it; `staged` is a program that runs in it before, `more` are further settings."""
        self.tree = folder / "service"
        made = tree.program("service")
        store.write_tree(self.tree, made["files"], made["digest"])
        model = {"name": "yolov4-tiny", "kind": "published", "weights": "synthetic", "size": size}
        settings: Dict[str, Any] = {"schema": 1, "device": "cpu", "models": [model], "default_model": "yolov4-tiny"}
        settings.update(work=str(work), keys=None, records=str(folder), **more)
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        launcher = str(self.tree / tree.SERVICE_LAUNCHER)
        program = f"import runpy, sys\nsys.path.insert(0, {str(self.tree)!r})\n{staged}\nsys.argv[0] = {launcher!r}\n"
        line = [str(python), "-I", "-B", *(["-c", program + "runpy.run_path(sys.argv[0])"] if staged else [launcher])]
        line += ["serve", "--settings", str(folder / "settings.json"), "--bind", f"127.0.0.1:{self.port}"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(line, stdout=log, stderr=log)  # noqa: S603 - a list, nothing is expanded

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "") -> Tuple[int, bytes]:
        """Return the status and the body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, path, body, {"Content-Type": kind} if kind else {})
            found = connection.getresponse()
            return found.status, found.read()
        finally:
            connection.close()

    def detect(self, body: bytes) -> Tuple[int, bytes]:
        """Send a form."""
        return self.ask("POST", f"/v1/detect?min_confidence={LEAST}", body, f"multipart/form-data; boundary={BOUNDARY}")

    def wait(self) -> None:
        """Wait until it is ready."""
        while self.process.poll() is None:
            try:
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        sys.exit("error: the service has ended; its log is beside its settings.")

    def end(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def worker(self) -> Path:
        """Return the folder in /proc of the process that holds the network."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return Path("/proc", children.split()[0])

    def cpu_s(self) -> float:
        """Return what the worker has used of the CPU."""
        fields = (self.worker() / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, name: str) -> float:
        """Return a figure of the worker's memory."""
        lines = (self.worker() / "status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name + ":"))


def loaded(service: Service, bodies: List[bytes], count: int, clients: int) -> Tuple[float, List[float], List[Any]]:
    """Send photos by several clients; the worker's processor ms a request, the seconds of each answer, the answers."""

    def ask(number: int) -> Tuple[float, Any]:
        begun = time.monotonic()
        status, answer = service.detect(bodies[number % len(bodies)])
        return time.monotonic() - begun, (number % len(bodies), status, answer)

    before = service.cpu_s()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(ask, range(count)))
    spent = 1e3 * (service.cpu_s() - before) / count
    return spent, [seconds for seconds, _ in found], [answer for _, answer in found]


def refused(service: Service, body: bytes, count: int) -> float:
    """Send what is not a picture over one connection, as nginx does; the worker's processor ms a request."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=300)
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    before = service.cpu_s()
    for _ in range(count):
        connection.request("POST", "/v1/detect", body, kind)
        connection.getresponse().read()
    connection.close()
    return 1e3 * (service.cpu_s() - before) / count


def full(service: Service, body: bytes) -> float:
    """Take all places by uploads that do not go on; the seconds until one more is refused, the longest."""
    head = f"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    held, times = [], []
    for _ in range(DEPTH):
        held.append(socket.create_connection(("127.0.0.1", service.port)))
        held[-1].sendall(head.encode() + body[:10])
    while f"gpuhost_service_inside {DEPTH}" not in service.ask("GET", "/metrics")[1].decode():
        time.sleep(0.05)
    for _ in range(20):
        begun = time.monotonic()
        if service.detect(body)[0] != 503:
            sys.exit("error: it is not full.")
        times.append(time.monotonic() - begun)
    for one in held:
        one.close()
    return max(times)


def hostile() -> Dict[str, bytes]:
    """Return bodies of up to 16 MB that cost other servers most."""
    size = (16 << 20) - 400
    mark = f"--{BOUNDARY}".encode()
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, 8192, 8192, 1) + b"\x01\x11\x00"
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x00\x00\x01" + b"\0" * 300
    return {
        "line ends before the form": b"\r\n" * (size // 2),
        "line ends behind the form": form(b"x") + b"\r\n" * (size // 2),
        "one header": mark + b"\r\nA: " + b"a" * size,
        "many parts": (mark + b"\r\n\r\n\r\n") * (size // (len(mark) + 6)),
        "near boundaries": form(b"\r\n" + mark[:-1] * (size // len(mark))),
        "markers of a JPEG": form(b"\xff\xd8" + b"\xff" * size),
        "segments of a JPEG": form(b"\xff\xd8" + b"\xff\xfe\0\2" * (size // 4)),
        "1000 scans": form(b"\xff\xd8" + frame + scan * 1000 + b"\xff\xd9"),
        "WebP of 38 bytes": form(
            b"RIFF\x1e\0\0\0WEBPVP8L\x12\0\0\0\x2f" + struct.pack("<I", 16382 | 16382 << 14) + b"\0" * 13
        ),
    }


def main() -> int:
    """Measure, and print a line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for photos, weights and the service's tree")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-service" / "bin" / "python")
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--photos", type=int, default=60, help="in each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    given = parser.parse_args()
    folder, work, pictures = given.work / "run", given.work / "work", given.work / "photos"
    for one in (folder, work, pictures):
        one.mkdir(parents=True, exist_ok=True)
    bodies = []
    for number in range(DISTINCT):
        data = cv2.imencode(".jpg", photos.pixels(number))[1].tobytes()
        (pictures / f"{number:02d}.jpg").write_bytes(data)
        bodies.append(form(data))
    if "photos" in given.only:
        service = Service(given.python, folder, work, given.size)
        try:
            service.wait()
            measure(service, given, bodies, pictures, work)
        finally:
            service.end()
    for seconds in CARDS_S if "cards" in given.only else ():
        emulated(given, bodies, folder, work, seconds)
    if "alerts" in given.only:
        alerted(given, pictures, folder, work)
    return 0


def emulated(given: argparse.Namespace, bodies: List[bytes], folder: Path, work: Path, seconds: float) -> None:
    """Print what of a card's pace arrives at eight clients."""
    service = Service(given.python, folder, work, 96, CARD.format(seconds=seconds))
    try:
        service.wait()
        loaded(service, bodies, 2 * DISTINCT, 8)
        count, good = int(TURN_S / seconds), 0
        shares = []
        for _ in range(TURNS):
            begun = time.monotonic()
            _, _, answers = loaded(service, bodies, count, 8)
            shares.append(count * seconds / (time.monotonic() - begun))
            good += sum(status == 200 for _, status, _ in answers)
        told = f"{statistics.median(shares):.0%} of its pace ({', '.join(f'{one:.0%}' for one in shares)})"
        print(
            f"a card of {1e3 * seconds:.0f} ms, emulated: {told}, {good} of {TURNS * count} answered (goals 95 %, 90 %)"
        )
    finally:
        service.end()


class Receiver:
    """Receives alerts; `came` has the camera of each, and when."""

    def __init__(self) -> None:
        """Listen on a free port."""
        came: queue.Queue[Tuple[str, float]] = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Take one."""
                when = time.monotonic()
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204)
                self.end_headers()
                came.put((json.loads(body)["camera"], when))

            def log_message(self, *_words: Any) -> None:
                """Say nothing."""

        self.came = came
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def alerted(given: argparse.Namespace, pictures: Path, folder: Path, work: Path) -> None:
    """Print how long an alert takes from the picture's first byte on, beyond the forward pass of that very picture."""
    receiver = Receiver()
    url = f"http://127.0.0.1:{receiver.server.server_port}/"
    hooks = {
        "database": str(folder / "counts.db"),
        "rule": {"score": float(LEAST)},
        "alerts": [{"url": url, "secret": SECRET}],
    }
    (folder / "counts.db").unlink(missing_ok=True)
    service = Service(given.python, folder, work, given.size, confidence=float(LEAST), hooks=hooks)
    try:
        service.wait()
        photos_of = [path.read_bytes() for path in sorted(pictures.iterdir())]
        photos_of = [data for data in photos_of if json.loads(service.detect(form(data))[1])["detections"]]
        beyond, passes = [], []
        for number in range(EVENTS):
            camera, before = f"camera-{number}", forward_s(service)
            body = form(photos_of[number % len(photos_of)], camera=camera, event=str(number + 1))
            begun = time.monotonic()
            status, said = service.ask("POST", "/hooks/motioneye", body, f"multipart/form-data; boundary={BOUNDARY}")
            if status != 202:
                sys.exit(f"error: the picture was answered with {status}: {said.decode()}")
            told, when = receiver.came.get(timeout=120)
            passes.append(forward_s(service) - before)
            beyond.append(when - begun - passes[-1])
            if told != camera:
                sys.exit(f"error: the alert is of {told}, not of {camera}.")
        for name, rows, goal in (("forward pass", passes, ""), ("beyond it", beyond, " (goal 250 at p95)")):
            ordered = sorted(1e3 * one for one in rows)
            p95 = ordered[len(ordered) * 95 // 100]
            print(f"motion event to alert, {name}: p50 {ordered[len(ordered) // 2]:.0f} ms, p95 {p95:.0f} ms{goal}")
    finally:
        service.end()
        receiver.server.shutdown()


def forward_s(service: Service) -> float:
    """Return the seconds of all forward passes so far."""
    lines = service.ask("GET", "/metrics")[1].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("gpuhost_service_forward_seconds_sum"))


def measure(service: Service, given: argparse.Namespace, bodies: List[bytes], pictures: Path, work: Path) -> None:
    """Take turns, then what needs none."""
    line = [str(given.python), "-I", "-B", "-c", IN_PROCESS, str(service.tree), str(work), str(pictures)]
    line += [str(given.size), str(given.photos)]
    alone: List[float] = []
    served: List[float] = []
    seconds: List[float] = []
    wrong = 0
    resident = 0.0
    loaded(service, bodies, DISTINCT, given.clients)
    for _ in range(given.rounds):
        found = json.loads(subprocess.run(line, stdout=subprocess.PIPE, check=True).stdout)  # noqa: S603 - a list
        alone.append(found["ms"])
        resident = found["mb"]
        spent, times, answers = loaded(service, bodies, given.photos, given.clients)
        served.append(spent)
        seconds += times
        wrong += sum(
            status != 200 or json.loads(answer)["detections"] != found["found"][which]
            for which, status, answer in answers
        )
    ratio = statistics.median(mine / theirs for mine, theirs in zip(served, alone))
    rows = f"{', '.join(f'{one:.1f}' for one in served)} against {', '.join(f'{one:.1f}' for one in alone)} ms"
    print(f"CPU a photo: {ratio:.3f} x in-process ({rows}; goal 1.10)")
    print(f"wrong answers: {wrong} of {given.rounds * given.photos}")
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    print(f"answers: p50 {1e3 * p50:.0f} ms, p99 {1e3 * p99:.0f} ms, p99/p50 {p99 / p50:.2f} (goal 1.7)")
    now = service.memory_mb("VmRSS")
    print(f"resident: {now:.0f} MB, in-process {resident:.0f}, difference {now - resident:+.0f} (goal +70)")
    apple = form(b"an apple" * (75_000 // 8))
    spent = refused(service, apple.replace(b'name="image"', b'name="other"'), 1000)
    print(f"HTTP alone, a form of 75 kB without a picture: {spent:.2f} ms CPU a request (goal 0.5)")
    spent = refused(service, apple, 1000)
    print(f"the same with the way to a decoder and back: {spent:.2f} ms CPU a request")
    print(f"full: 503 after {1e3 * full(service, bodies[0]):.0f} ms, the longest of 20 (goal 50)")
    for name, body in hostile().items():
        (service.worker() / "clear_refs").write_text("5", encoding="ascii")
        before, used = service.memory_mb("VmRSS"), service.cpu_s()
        status, _ = service.detect(body)
        spent, more = service.cpu_s() - used, service.memory_mb("VmHWM") - before
        print(f"hostile, {name}: {status}, {spent:.2f} CPU s, {more:+.0f} MB (goals 0.5, +300)")


if __name__ == "__main__":
    sys.exit(main())
