"""A real HTTP server on this machine that keeps what it is sent and answers as it is told."""

from __future__ import annotations

import http.server
import threading
from types import TracebackType
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Type


class Request(NamedTuple):
    """One request as it came: headers by their names in small letters."""

    method: str
    path: str
    headers: Dict[str, str]
    body: bytes


class Loopback:
    """Keeps `requests`; `answers` are used up, one a request, then it is 200. An answer may be a status, or a function
    that answers by itself.
    """

    def __init__(self) -> None:
        """Start on a free port."""
        self.requests: List[Request] = []
        self.answers: List[Any] = []
        self.arrived = threading.Condition()
        keeper = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with keeper.arrived:
                    keeper.requests.append(Request(self.command, self.path, headers, body))
                    answer = keeper.answers.pop(0) if keeper.answers else 200
                    keeper.arrived.notify_all()
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer)
                if 300 <= answer < 400:
                    self.send_header("Location", f"{keeper.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = answer

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Loopback:
        """Serve."""
        self.thread.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Stop."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def wait(self, count: int, seconds: float = 30.0) -> List[Request]:
        """Return the requests once there are so many of them."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests) >= count, seconds), self.requests
            return list(self.requests)


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]
