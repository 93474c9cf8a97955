"""When a host may be restarted by an update: the hours, and who uses its card."""

from __future__ import annotations

import concurrent.futures
import http.server
import os
import socketserver
import subprocess
import threading
import time
from pathlib import Path
from typing import Dict, Iterator, Sequence, Tuple

import pytest

from gpuhost.errors import RefusedError
from gpuhost.host import store
from gpuhost.host.edges import Edges
from gpuhost.host.isolated import start
from gpuhost.host.pairs import quiet
from gpuhost.host.service.places import SOCKET_FILE

ROOT = "/opt/gpuhost"


@pytest.mark.parametrize(
    ("text", "now", "left"),
    [
        ("02:00-05:00", (2, 0), 180),
        ("02:00-05:00", (4, 59), 1),
        ("02:00-05:00", (5, 0), 0),
        ("02:00-05:00", (1, 59), 0),
        ("23:30-00:30", (0, 10), 20),
        ("23:30-00:30", (23, 45), 45),
        ("23:30-00:30", (12, 0), 0),
        ("3:00-3:00", (2, 59), 1),
    ],
)
def test_the_hours(text: str, now: Tuple[int, int], left: int) -> None:
    """Over midnight too; the same time twice is the whole day."""
    assert quiet.window(text).left(60 * now[0] + now[1]) == left
    clock = time.struct_time((2026, 11, 30, *now, 0, 0, 334, 0))
    assert bool(quiet.outside(text, 30, clock)) == (left < 30)
    assert quiet.outside(text, 30, clock) == "" or f"it is {now[0]:02}:{now[1]:02}" in quiet.outside(text, 30, clock)


@pytest.mark.parametrize("text", ["", "2-5", "25:00-03:00", "02:60-03:00", "02:00", "at night"])
def test_what_is_no_hours(text: str) -> None:
    """Is refused with how to write it."""
    with pytest.raises(RefusedError, match="such as 02:00-05:00"):
        quiet.window(text)


class Host:
    """A host with a service, and programs on its card."""

    def __init__(self, folder: Path) -> None:
        """Nobody does anything."""
        self.apps, self.pid = "", "0"
        self.edges = Edges(str(folder), self.run)

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """systemctl and nvidia-smi."""
        return (0, self.apps, "") if argv[0] == "nvidia-smi" else (0, f"MainPID={self.pid}\n", "")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """An idle one."""
    return Host(tmp_path)


def test_who_computes(host: Host) -> None:
    """The service itself holds the card all the time; whoever else does is named."""
    assert quiet.busy(host.edges, ROOT) == []
    host.pid = "7"
    host.apps = "7, /opt/gpuhost/current/venvs/opencv_cuda/bin/python\n91, train\x1b[2J\n"
    told = quiet.busy(host.edges, ROOT)
    assert len(told) == 1 and "process 91" in told[0] and "\x1b" not in told[0]


def test_a_benchmark_of_the_cpu(host: Host) -> None:
    """It uses no card; other programs of the same kind are not benchmarks."""
    for pid, words in (("8", ["bench", "--device", "cpu"]), ("9", ["detect", "x.jpg"]), ("self", ["bench"])):
        path = host.edges.path(f"/proc/{pid}/cmdline")
        path.parent.mkdir(parents=True)
        path.write_bytes("\0".join([*start("/usr/bin/python3", "/yolo", "gpuhost.yolo"), *words, ""]).encode())
    assert quiet.busy(host.edges, ROOT) == ["a benchmark runs (process 8)"]


def test_a_build_on_the_cpu(host: Host) -> None:
    """It uses no card; whoever builds or installs holds the host's lock, also after its own end."""
    root = host.edges.path(ROOT)
    assert quiet.busy(host.edges, ROOT) == []
    with store.changing(root, "building OpenCV"):
        assert quiet.busy(host.edges, ROOT) == [], "a run does not wait for itself"
        with concurrent.futures.ThreadPoolExecutor(1) as pool:  # the lock is a thread's
            (told,) = pool.submit(quiet.busy, host.edges, ROOT).result()
        assert f"building OpenCV (process {os.getpid()})" in told
        left = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert len(quiet.busy(host.edges, ROOT)) == 1, "what the run has started goes on"
    finally:
        left.kill()
        left.wait()
    assert quiet.busy(host.edges, ROOT) == []


@pytest.fixture
def metrics(host: Host) -> Iterator[Dict[str, bytes]]:
    """The service's socket, and what it answers."""
    answer = {"body": b""}

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answer each request alike."""

        def do_GET(self) -> None:
            """The metrics."""
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer["body"])

        def address_string(self) -> str:
            """A socket's other end has no address."""
            return ""

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    path = host.edges.path(SOCKET_FILE)
    path.parent.mkdir(parents=True)
    with socketserver.UnixStreamServer(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield answer
        server.shutdown()


def test_requests_inside_the_service(host: Host, metrics: Dict[str, bytes]) -> None:
    """Are counted as it tells them; one that does not tell is not taken for idle."""
    metrics["body"] = b"gpuhost_service_inside 0\n"
    assert quiet.busy(host.edges, ROOT) == []
    host.pid = "7"
    assert quiet.busy(host.edges, ROOT) == []
    metrics["body"] = b"# x\ngpuhost_service_inside 3\ngpuhost_service_depth 8\n"
    assert quiet.busy(host.edges, ROOT) == ["the detection service has 3 requests inside"]
    metrics["body"] = b"{}"
    assert "does not say" in quiet.busy(host.edges, ROOT)[0]
