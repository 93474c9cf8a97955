"""The detection service as a host runs it, started here: its tree, gunicorn, one worker, a loopback port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from gpuhost.host import store
from gpuhost.shipping import tree

ROOT = Path(__file__).resolve().parents[2]
#: Another Python that has the service's packages, as 3.8 with the newest that it can have, tries the same.
OTHER = "GPUHOST_SERVICE_PYTHON"
PYTHON = Path(os.environ.get(OTHER) or ROOT / ".venv-service" / "bin" / "python")
MODEL = {"name": "yolov4-tiny", "kind": "published", "weights": "synthetic", "size": 160}
PATIENCE_S = 120.0
BOUNDARY = "----of-a-test"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def environment() -> Path:
    """See that the service's own environment is there; its Python."""
    if not os.environ.get(OTHER):
        subprocess.run(["./run", "true"], cwd=str(ROOT), env={**os.environ, "GPUHOST_SET": "service"}, check=True)
    return PYTHON


def form(*parts: Tuple[str, bytes]) -> bytes:
    """A form of parts, each with its header after "Content-Disposition: form-data; "."""
    mark = f"--{BOUNDARY}".encode()
    head = b"\r\nContent-Disposition: form-data; "
    return (
        b"".join(mark + head + name.encode() + b"\r\n\r\n" + data + b"\r\n" for name, data in parts) + mark + b"--\r\n"
    )


def photo_form(photo: bytes, **fields: str) -> bytes:
    """A form with a photo and some fields, as curl makes it."""
    rest = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    return form(('name="image"; filename="photo.jpg"\r\nContent-Type: image/jpeg', photo), *rest)


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Service:
    """A service that runs; ended with the block."""

    def __init__(self, folder: Path, work: Path, staged: str = "", **settings: Any) -> None:
        """Start it with settings that differ from the usual ones; `staged` is a program that runs in it before."""
        self.folder, self._staged = folder, staged
        made = tree.program("service")
        self.tree = folder / "service"
        store.write_tree(self.tree, made["files"], made["digest"])
        self.settings = folder / "settings.json"
        usual = {
            "schema": 1, "device": "cpu", "models": [MODEL], "default_model": MODEL["name"], "work": str(work),
            "keys": None, "records": str(folder / "records"),
        }  # fmt: skip
        self.settings.write_text(json.dumps({**usual, **settings}))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / "log"
        self.errors = folder / "errors"
        with self.log.open("wb") as log, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*self.launcher(), "serve", "--settings", str(self.settings), "--bind", f"127.0.0.1:{self.port}"],
                stdout=log,
                stderr=errors,
                cwd=str(folder),
            )

    def launcher(self) -> List[str]:
        """The start of the program's command line."""
        launcher = self.tree / tree.SERVICE_LAUNCHER
        if not self._staged:
            return [str(PYTHON), "-I", "-B", str(launcher)]
        program = (
            f"import runpy, sys\nsys.path.insert(0, {str(self.tree)!r})\n{self._staged}\nrunpy.run_path(sys.argv[0])"
        )
        return [str(PYTHON), "-I", "-B", "-c", f"import sys; sys.argv[0] = {str(launcher)!r}\n{program}"]

    def __enter__(self) -> Service:
        """Wait until its state is known."""
        self.until(lambda: self.state() not in ("", "starting"))
        return self

    def __exit__(self, *_: Any) -> None:
        """End it, gently first."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def until(self, done: Any) -> None:
        """Wait until something is so, as long as the service lives."""
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline, self.log.read_text() + self.errors.read_text()
            time.sleep(0.05)

    def state(self) -> str:
        """What /readyz says; empty while nobody listens."""
        try:
            return str(self.ask("GET", "/readyz").json["state"])
        except OSError:
            return ""

    def ask(
        self, method: str, path: str, body: Optional[bytes] = None, headers: Optional[Dict[str, str]] = None
    ) -> Answer:
        """Ask, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, headers or {})
            return answer_of(connection.getresponse())
        finally:
            connection.close()

    def detect(self, photo: bytes, path: str = "/v1/detect", **fields: str) -> Answer:
        """Send a photo in a form."""
        return self.ask("POST", path, photo_form(photo, **fields), {"Content-Type": FORM})

    def raw(self, *pieces: bytes) -> Answer:
        """Send bytes as they are, and read one answer."""
        with self.connected() as wire:
            for piece in pieces:
                wire.sendall(piece)
            return read_answer(wire)

    def connected(self) -> socket.socket:
        """Return a connection."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    def count(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)

    def worker(self) -> int:
        """The process that holds the networks."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def peak_mb(self) -> float:
        """The most memory that the worker has held."""
        return _status_mb(self.worker(), "VmHWM")

    def forget_peak(self) -> float:
        """Let the peak begin at what is held now, which is returned."""
        Path(f"/proc/{self.worker()}/clear_refs").write_text("5")
        return _status_mb(self.worker(), "VmRSS")

    def cpu_s(self) -> float:
        """What the worker has used of the CPU."""
        fields = Path(f"/proc/{self.worker()}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def lines(self) -> List[Any]:
        """The log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def _status_mb(process: int, name: str) -> float:
    """A figure of /proc/PID/status in MB."""
    text = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(name + ":"))


def answer_of(response: http.client.HTTPResponse) -> Answer:
    """An answer whole."""
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def read_answer(wire: socket.socket) -> Answer:
    """Read one answer from a connection."""
    response = http.client.HTTPResponse(wire)
    response.begin()
    return answer_of(response)


def head(method: str, path: str, headers: Iterable[Tuple[str, str]], version: str = "HTTP/1.1") -> bytes:
    """A request's head as bytes, nothing added."""
    rows = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{method} {path} {version}\r\n{rows}\r\n".encode("latin-1")
