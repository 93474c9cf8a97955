"""Alerts on a real server of this machine: signed, tried three times, bounded, led nowhere else."""

from __future__ import annotations

import json
import re
import socket
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from gpuhost.service import alerts
from gpuhost.service.alerts import Alert, Sender
from gpuhost.service.boxes import Box
from gpuhost.service.events import Told
from gpuhost.service.hook_settings import Receiver

from .loopback import Loopback, Request
from .vendor import certificate

SIGNING = "a secret of enough bytes"
NOW = 1796040000.0
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "service-cameras.md"


@pytest.fixture
def server() -> Iterator[Loopback]:
    """A receiver."""
    with Loopback() as made:
        yield made


def alert(camera: str = "1", event: int = 7) -> Alert:
    """An alert of a camera."""
    return Alert("door", camera, event, "e1", NOW, (Told("person", 0.87654321, Box(0.1, 0.2, 0.3, 0.4)),))


def sender(url: str, pauses: List[float], depth: int = 64, said: Any = None) -> Sender:
    """A sender whose pauses are noted and not waited."""
    return Sender(Receiver(url, SIGNING), depth, said or (lambda text: None), lambda: NOW, pauses.append)


def documented() -> Any:
    """The receiver's check, as the page of the cameras shows it."""
    block = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert block is not None
    names: Dict[str, Any] = {}
    exec(block.group(1), names)  # noqa: S102 - our own page
    return names["accepted"]


def parts(request: Request) -> Tuple[str, str, bytes]:
    """What a receiver checks."""
    return request.headers["x-gpuhost-timestamp"], request.headers["x-gpuhost-signature"], request.body


def test_a_receiver_can_tell_that_it_is_from_here_and_new(server: Loopback) -> None:
    """By the code of the page: another secret, body or time, and what is old or came before, are refused."""
    accepted, seen = documented(), set()  # type: Tuple[Any, Any]
    assert sender(server.url + "/a?b=c", []).deliver(alert())
    request = server.requests[0]
    stamp, signature, body = parts(request)
    assert (request.method, request.path) == ("POST", "/a?b=c")
    assert json.loads(body) == {
        "schema": 1,
        "id": json.loads(body)["id"],
        "at": "2026-11-30T12:00:00Z",
        "device": "door",
        "camera": "1",
        "event": 7,
        "episode": "e1",
        "meaningful": True,
        "objects": [{"label": "person", "score": 0.8765, "box": [0.1, 0.2, 0.3, 0.4]}],
    }
    assert SIGNING not in str(request)
    assert not accepted("another secret of it", stamp, signature, body, NOW, set())
    assert not accepted(SIGNING, stamp, signature, body.replace(b"door", b"yard"), NOW, set())
    assert not accepted(SIGNING, str(int(NOW) + 1), signature, body, NOW, set())
    assert not accepted(SIGNING, stamp, signature, body, NOW + 301, set())
    assert not accepted(SIGNING, stamp, "", body, NOW, set())
    assert accepted(SIGNING, stamp, signature, body, NOW + 299, seen)
    assert not accepted(SIGNING, stamp, signature, body, NOW + 299, seen), "a replay"


@pytest.mark.parametrize(
    ("answers", "asked", "taken"),
    [([], 1, True), ([503], 2, True), ([429, 500], 3, True), ([502, 504, 500], 3, False), ([204], 1, True)],
)
def test_it_is_tried_three_times(answers: List[int], asked: int, taken: bool, server: Loopback) -> None:
    """The same alert each time, which its identifier says, with a pause that grows."""
    server.answers, pauses = list(answers), []  # type: Tuple[Any, List[float]]
    assert sender(server.url, pauses).deliver(alert()) is taken
    assert len(server.requests) == asked and len({row.body for row in server.requests}) == 1
    assert pauses == list(alerts.PAUSES_S[: asked - 1])


@pytest.mark.parametrize("status", [400, 401, 404, 410, 301, 302, 307, 308])
def test_a_refusal_is_final_and_no_redirect_is_followed(status: int, server: Loopback) -> None:
    """Another try changes nothing, and another address was never allowed."""
    server.answers, pauses, said = [status], [], []  # type: Tuple[Any, List[float], List[str]]
    assert not sender(server.url + "/secret-path", pauses, said=said.append).deliver(alert())
    assert [row.path for row in server.requests] == ["/secret-path"] and pauses == []
    assert len(said) == 1 and str(status) in said[0] and "secret-path" not in said[0]


def test_a_receiver_that_is_away_is_tried_three_times_and_named() -> None:
    """Nobody listens there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        pauses, said = [], []  # type: Tuple[List[float], List[str]]
        assert not sender(url, pauses, said=said.append).deliver(alert())
    assert pauses == list(alerts.PAUSES_S) and url in said[0] and "refused" in said[0]


@pytest.mark.parametrize(
    "answer", [b"no http\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 3000000, b"HTTP/1.1 99999 \r\n\r\n"]
)
def test_a_receiver_that_answers_nonsense_is_one_that_did_not_take_it(answer: bytes, server: Loopback) -> None:
    """However long: of an answer only its beginning is read."""

    def nonsense(handler: Any) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    server.answers = [nonsense] * 3
    assert not sender(server.url, []).deliver(alert())


def test_https_is_checked_against_the_certificates_of_the_settings(tmp_path: Path) -> None:
    """A certificate that nobody vouches for gets no alert."""
    import ssl

    crt, key = certificate(tmp_path)
    server = Loopback()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(crt), str(key))
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    with server:
        assert Sender(Receiver(url, SIGNING, crt), 8, lambda text: None, pause=lambda s: None).deliver(alert())
        said: List[str] = []
        assert not Sender(Receiver(url, SIGNING), 8, said.append, pause=lambda s: None).deliver(alert())
    assert len(server.requests) == 1 and "certificate" in said[0].lower()


def test_the_queue_is_bounded_and_the_newest_of_a_camera_wins(server: Loopback) -> None:
    """While the receiver takes its time: what waits is bounded, and a storm leaves the other camera its place."""
    hold, held = threading.Event(), threading.Event()

    def slow(handler: Any) -> None:
        held.set()
        assert hold.wait(60)
        handler.send_response(200)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answers = [slow]
    made = sender(server.url, [], depth=10)
    made.put(alert("first"))
    assert held.wait(60)
    made.put(alert("quiet", 1))
    for number in range(500):
        made.put(alert("storm", number))
    assert made.waiting == 1 + alerts.PER_CAMERA and made.dropped == 500 - alerts.PER_CAMERA
    hold.set()
    rows = [json.loads(row.body) for row in server.wait(2 + alerts.PER_CAMERA)]
    made.close(60)
    assert [(row["camera"], row["event"]) for row in rows] == [
        ("first", 7),
        ("quiet", 1),
        *(("storm", number) for number in range(500 - alerts.PER_CAMERA, 500)),
    ]
    assert (made.sent, made.failed) == (len(rows), 0)


def test_closing_ends_a_pause(server: Loopback) -> None:
    """The service does not wait for a receiver that is away."""
    server.answers = [503] * 3
    made = Sender(Receiver(server.url, SIGNING), 8, lambda text: None)
    alerts_pauses, alerts.PAUSES_S = alerts.PAUSES_S, (3600.0, 3600.0)
    try:
        made.put(alert())
        server.wait(1)
        made.close(60)
    finally:
        alerts.PAUSES_S = alerts_pauses
    assert made._thread is not None and not made._thread.is_alive() and len(server.requests) == 1


def test_a_proxy_of_the_environment_gets_nothing(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would read every alert of a receiver without https."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert sender(server.url, []).deliver(alert())
