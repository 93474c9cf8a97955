"""A small file server for the imitated archive and the vendor mirror, with faults to order."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional
from urllib.parse import unquote, urlsplit

from .signing import Pair


class Fault(NamedTuple):
    """What goes wrong with a file: `kind` and its number or path; `times` says how often (None: always).

    "truncate": the answer says it is complete after `count` bytes. "drop": the connection breaks after `count`
    bytes. "corrupt": the byte at `count` is another one. "swap": the content of `other` comes instead.
    "absent": 404. "no-range": Range is ignored. "busy": 503.
    """

    kind: str
    count: int = 0
    other: Optional[Path] = None
    times: Optional[int] = None


class FileServer:
    """Serves a folder until close(), from threads of this process."""

    def __init__(self, folder: Path, address: str, tls: Optional[Pair] = None) -> None:
        """Start on a free port of the address."""
        self.requests: List[str] = []
        self.faults: Dict[str, Fault] = {}
        self._lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            """The handler of this server."""

            server_files = folder
            files = owner

        self._http = _Server((address, 0), Handler)
        self.port = int(self._http.server_address[1])
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(str(tls.certificate), str(tls.key))
            # The handshake belongs into the connection's own thread: a silent client must not stop the others.
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and free the port."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=10)

    def fault(self, path: str) -> Optional[Fault]:
        """The fault ordered for a path, counting it down."""
        with self._lock:
            found = self.faults.get(path)
            if found is not None and found.times is not None:
                if found.times <= 1:
                    del self.faults[path]
                else:
                    self.faults[path] = found._replace(times=found.times - 1)
            return found

    def asked(self, line: str) -> None:
        """Keep a request in the log."""
        with self._lock:
            self.requests.append(line)


class _Server(ThreadingHTTPServer):
    """One thread a connection, none of which outlives the process."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away half way is not news here."""


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of files below a folder."""

    protocol_version = "HTTP/1.1"
    server_files: Path
    files: FileServer
    timeout = 30

    def do_HEAD(self) -> None:
        """The headers alone."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """The file, or a part of it."""
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal: the log is `requests`."""

    def _answer(self, body: bool) -> None:
        """Answer one request, with the fault that was ordered for it."""
        name = unquote(urlsplit(self.path).path)
        wanted = self.headers.get("Range")
        self.files.asked(f"{self.command} {name}" + (f" {wanted}" if wanted else ""))
        path = (self.server_files / name.lstrip("/")).resolve()
        fault = self.files.fault(name)
        kind = fault.kind if fault else ""
        if fault and fault.other is not None:
            path = fault.other
        elif self.server_files.resolve() not in path.parents:
            kind = "absent"
        if kind == "absent" or not path.is_file():
            self._short(404)
            return
        if kind == "busy":
            self._short(503)
            return
        data = path.read_bytes()
        tag = '"' + hashlib.sha256(data).hexdigest()[:32] + '"'
        if fault and kind == "corrupt":
            data = data[: fault.count] + bytes([data[fault.count] ^ 0xFF]) + data[fault.count + 1 :]
        start, end, status = 0, len(data), 200
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
        if match and kind != "no-range" and self.headers.get("If-Range", tag) == tag:
            start = int(match.group(1))
            end = min(end, int(match.group(2)) + 1) if match.group(2) else end
            status = 206
            if start >= len(data):
                self._short(416, {"Content-Range": f"bytes */{len(data)}"})
                return
        part = data[start:end]
        if fault and kind == "truncate":
            part = part[: fault.count]
        self.send_response(status)
        if kind != "no-range":
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.send_header("ETag", tag)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if body and fault and kind == "drop":
            self.wfile.write(part[: fault.count])
            self.wfile.flush()
            # A reset, as of a cable pulled out, not an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif body:
            self.wfile.write(part)

    def _short(self, status: int, headers: Optional[Dict[str, str]] = None) -> None:
        """An answer without content."""
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
