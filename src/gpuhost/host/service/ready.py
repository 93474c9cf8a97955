"""Asking the detection service by its socket, without the proxy. Runs on the target: Python 3.6, standard library."""

import http.client
import socket
from typing import NamedTuple, Optional, Tuple

from ... import strict_json
from ...text import printable
from ...types import Json
from .places import SOCKET_FILE

#: What `state` says in the answer of a service whose device was not proved, or whose networks cannot be opened.
REFUSED = "refused"
_LARGEST = 64 << 10


class Answer(NamedTuple):
    """The status of an answer and its JSON object; None where it is none."""

    status: int
    body: Optional[Json]


class Local(http.client.HTTPConnection):
    """A connection over a socket in the file system."""

    def __init__(self, path: str, timeout: float) -> None:
        """Keep the path."""
        super().__init__("gpuhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(timeout: float, path: str = SOCKET_FILE, route: str = "/readyz") -> Answer:
    """Ask a route of the service; an OSError or http.client.HTTPException where it does not answer."""
    status, data = fetch(timeout, path, route)
    try:
        body = strict_json.loads(data, _LARGEST)
    except ValueError:
        body = None
    return Answer(status, body if isinstance(body, dict) else None)


def fetch(timeout: float, path: str, route: str) -> Tuple[int, bytes]:
    """Return the status and the bytes of an answer; the same errors as `ask`."""
    connection = Local(path, timeout)
    try:
        connection.request("GET", route, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(_LARGEST)
    finally:
        connection.close()


def reason(answer: Answer) -> str:
    """Return in words why a service that answers is not ready: its diagnosis, reason and remedy."""
    told = answer.body or {}
    words = [printable(told[key], 300) for key in ("diagnosis", "reason", "remedy") if isinstance(told.get(key), str)]
    return " ".join(words) or f"it answers with status {answer.status}"
