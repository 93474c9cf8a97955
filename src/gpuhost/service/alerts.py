"""Post alerts to the receivers of the settings, signed, from a queue and a thread of their own.

An address comes from the settings alone. The signature is the HMAC-SHA256 of the time, a point and the body, so that a
receiver knows who sent it and can refuse what is old; the identifier in the body tells a second try from a new alert.
No redirect is followed: it would carry an alert to where nobody has allowed it. No proxy is used.
"""

import functools
import hashlib
import hmac
import http.client
import json
import secrets
import ssl
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence
from urllib.parse import urlsplit

from ..host import https
from ..text import printable
from .events import Told
from .hook_settings import Receiver
from .queues import NewestWins

TIMESTAMP, SIGNATURE = "X-Gpuhost-Timestamp", "X-Gpuhost-Signature"
TIMEOUT_S = 5.0
#: Before the second and the third try.
PAUSES_S = (1.0, 10.0)
#: Statuses that another try may change.
PASSING = (408, 425, 429, 500, 502, 503, 504)
#: Of an answer only the status counts.
LONGEST_ANSWER = 1 << 16
PER_CAMERA = 8
Say = Callable[[str], None]


class Alert(NamedTuple):
    """What a receiver gets; boxes are in fractions of the picture's sides."""

    device: str
    camera: str
    event: int
    episode: str
    at: float
    objects: Sequence[Told]
    meaningful: bool = True


def body_of(alert: Alert, identifier: str) -> bytes:
    """Return the JSON text of an alert."""
    told: Dict[str, Any] = {
        "schema": 1,
        "id": identifier,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(alert.at)),
        "device": alert.device,
        "camera": alert.camera,
        "event": alert.event,
        "episode": alert.episode,
        "meaningful": alert.meaningful,
        "objects": [
            {"label": row.label, "score": round(row.score, 4), "box": [round(side, 5) for side in row.box]}
            for row in alert.objects
        ],
    }
    return json.dumps(told, allow_nan=False).encode("ascii")


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of the header that signs a body at a time."""
    signed = hmac.new(secret.encode("utf-8"), timestamp.encode("ascii") + b"." + body, hashlib.sha256)
    return "sha256=" + signed.hexdigest()


class Sender:
    """Sends the alerts of one receiver, one after the other; `sent`, `failed` and `dropped` count them."""

    def __init__(
        self,
        receiver: Receiver,
        depth: int,
        say: Say,
        wall: Callable[[], float] = time.time,
        pause: Optional[Callable[[float], Any]] = None,
    ) -> None:
        """Start nothing yet. `pause` waits between tries; without one `close` ends the waiting."""
        self._receiver, self._say, self._wall = receiver, say, wall
        self._queue: NewestWins[Alert] = NewestWins(depth, PER_CAMERA)
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._pause = pause or self._ending.wait
        self._thread: Optional[threading.Thread] = None
        self.sent = self.failed = 0

    @property
    def dropped(self) -> int:
        """Return how many alerts had to make room for newer ones."""
        return self._queue.dropped

    @property
    def waiting(self) -> int:
        """Return how many wait."""
        return len(self._queue)

    def put(self, alert: Alert) -> None:
        """Have an alert sent; this waits for nothing."""
        with self._changed:
            self._queue.put(f"{alert.device}/{alert.camera}", alert)
            self._changed.notify()
            if self._thread is None and not self._ending.is_set():
                self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
                self._thread.start()

    def close(self, wait_s: float = TIMEOUT_S) -> None:
        """End after the alert that is under way."""
        self._ending.set()
        with self._changed:
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(wait_s)

    def _run(self) -> None:
        """Send until the end."""
        while True:
            with self._changed:
                while not len(self._queue) and not self._ending.is_set():
                    self._changed.wait()
                alert = None if self._ending.is_set() else self._queue.get()
            if alert is None:
                return
            if self.deliver(alert):
                self.sent += 1
            else:
                self.failed += 1

    def deliver(self, alert: Alert) -> bool:
        """Send one alert, in at most three tries; return whether the receiver has taken it."""
        body = body_of(alert, secrets.token_hex(16))
        problem = ""
        for pause in (*PAUSES_S, None):
            status = 0
            try:
                status = self._post(body)
            except (OSError, http.client.HTTPException, ValueError, https.TooSlow, https.TooMuch) as error:
                problem = https.said(error) or type(error).__name__
            else:
                if 200 <= status < 300:
                    return True
                moved = ", and no redirect is followed" if 300 <= status < 400 else ""
                problem = f"it answers {status}{moved}"
            if status and status not in PASSING:
                break
            if pause is not None:
                self._pause(pause)
                if self._ending.is_set():
                    break
        self._say(f"An alert of camera {alert.device}/{alert.camera} did not reach {self.shown}: {problem}.")
        return False

    @property
    def shown(self) -> str:
        """Return the receiver's address as it may be logged: its path may be a secret as well."""
        parts = urlsplit(self._receiver.url)
        return printable(f"{parts.scheme}://{parts.netloc}", 200)

    def _post(self, body: bytes) -> int:
        """Post a body once and return the status; each try is signed with its own time."""
        timestamp = str(int(self._wall()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "gpuhost",
            TIMESTAMP: timestamp,
            SIGNATURE: signature(self._receiver.secret, timestamp, body),
            "Connection": "close",
        }
        parts = urlsplit(self._receiver.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = self._connection(parts.scheme, parts.hostname or "", parts.port)
        try:
            connection.request("POST", path, body, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def _connection(self, scheme: str, host: str, port: Optional[int]) -> http.client.HTTPConnection:
        """Return a connection whose answer is bounded in bytes and in time."""
        made: http.client.HTTPConnection
        if scheme == "https":
            ca = self._receiver.ca
            context = ssl.create_default_context(cafile=None if ca is None else str(ca))
            made = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
        else:
            made = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        made.response_class = functools.partial(  # type: ignore[assignment]
            https.Answer, most=LONGEST_ANSWER, clock=time.monotonic
        )
        return made


def senders(receivers: Sequence[Receiver], depth: int, say: Say, wall: Callable[[], float] = time.time) -> List[Sender]:
    """Return one sender for each receiver, so that one that is away holds up no other."""
    return [Sender(receiver, depth, say, wall) for receiver in receivers]
