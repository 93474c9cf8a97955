"""A vendor on this machine: an https server with a certificate of its own, and the faults that downloads meet."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import ssl
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterable, List, Optional, Tuple, Type, Union

#: Enough that a dropped transfer has more than one block before it (artifacts.BLOCK is 1 MiB).
CONTENT = bytes(range(256)) * 4096 * 5


def certificate(folder: Path) -> Tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    crt, key = folder / "vendor.crt", folder / "vendor.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(crt)]
    subprocess.run(command, check=True, capture_output=True)
    return crt, key


class Vendor:
    """Serves `files` (path -> bytes); `faults` are used up, one a request; `asked` keeps (path, Range), `logins` the
    Authorization of each request. A fault of bytes is the whole answer as it stands, a list of them is sent one by one.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Start on a free port."""
        self.files: Dict[str, bytes] = {}
        self.faults: List[Union[str, bytes, Iterable[bytes]]] = []
        self.logins: List[Optional[str]] = []
        self.asked: List[Tuple[str, Optional[str]]] = []
        self.ranges = True
        self.gate = threading.Event()  # "hang" waits here, half way
        self.hanging = threading.Event()
        self.certificate = certificate
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(self.certificate), str(key))
        vendor = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                vendor.answer(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]

    def __enter__(self) -> Vendor:
        """Serve."""
        self.thread.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Stop."""
        self.gate.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """One request, with the next fault."""
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted))
        fault = self.faults.pop(0) if self.faults else ""
        self.logins.append(request.headers.get("Authorization"))
        content = self.files.get(request.path)
        if not isinstance(fault, str):
            with contextlib.suppress(OSError):  # the client has had enough
                for part in [fault] if isinstance(fault, bytes) else fault:
                    request.wfile.write(part)
            return
        if fault.startswith("http"):  # a redirect
            request.send_response(302)
            request.send_header("Location", fault)
            request.end_headers()
            return
        if fault.isdigit() or content is None:
            request.send_error(int(fault or 404))
            return
        begin = int(re.findall(r"\d+", wanted)[0]) if wanted and self.ranges else 0
        if wanted and self.ranges and begin >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if begin else 200)
        if begin:
            request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if fault != "nolength":
            request.send_header("Content-Length", str(len(content) - begin))
        request.end_headers()
        half = begin + (len(content) - begin) // 2
        if fault in ("drop", "hang"):
            request.wfile.write(content[begin:half])
            request.wfile.flush()
            if fault == "drop":
                return
            self.hanging.set()
            self.gate.wait(60)
        request.wfile.write(content[half if fault == "hang" else begin :])

    def offer(self, name: str = "tool.run", content: bytes = CONTENT, served: Optional[bytes] = None) -> Dict[str, Any]:
        """Have a file (`served` in its place, where that is given); its record as a catalog has it."""
        self.files["/v/" + name] = content if served is None else served
        sha = hashlib.sha256(content).hexdigest()
        return {"name": name, "url": f"{self.url}/v/{name}", "sha256": sha}
