"""The service as a host runs it, under gunicorn and uvicorn: right answers, and answers to everything hostile."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from gpuhost.service.health import has_no_card
from gpuhost.yolo import photos

from .hostile_pictures import JPEG, PIXELS, REFUSED, TAKEN, encoded
from .serving import BOUNDARY, FORM, MODEL, PYTHON, Answer, Service, environment, form, head, photo_form, read_answer

pytestmark = pytest.mark.install
KEY = "k" * 43
KEYED = {"Content-Type": FORM, "X-API-Key": KEY}
LOW = "0.1"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the synthetic weights, for every service of this file."""
    environment()
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, work: Path) -> Iterator[Service]:
    """A service that asks for no key."""
    with Service(tmp_path_factory.mktemp("open"), work) as started:
        assert started.state() == "ready"
        yield started


def write_keys(path: Path, *rows: Tuple[str, str, List[str]]) -> None:
    """Write a file of keys: name, text, kinds."""
    keys = [
        {"name": name, "sha256": hashlib.sha256(text.encode()).hexdigest(), "created": "2026-11-29", "kinds": kinds}
        for name, text, kinds in rows
    ]
    path.write_text(json.dumps({"schema": 1, "keys": keys}))


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, work: Path) -> Iterator[Service]:
    """A service that takes the key KEY, two requests at once, bodies of 2 MiB, and gives 3 boxes to DeepStack's own."""
    folder = tmp_path_factory.mktemp("locked")
    write_keys(folder / "keys.json", ("phone", KEY, ["detect"]), ("camera", "c" * 43, ["hook"]))
    settings: Dict[str, Any] = {
        "keys": str(folder / "keys.json"),
        "depth": 2,
        "body_bytes": 2 << 20,
        "max_predictions": 3,
    }
    with Service(folder, work, **settings) as started:
        yield started


# Right answers


IN_PROCESS = """
import json, pathlib, sys
sys.path.append(sys.argv[1])
from gpuhost.yolo import images, outputs
from gpuhost.yolo.detector import Detector
detector = Detector("yolov4-tiny", weights="synthetic", size=160, work=sys.argv[2], confidence=0.1)
names = sorted(pathlib.Path(sys.argv[3]).iterdir())
print(json.dumps([outputs.boxes(detector.detect(images.read(name))) for name in names]))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> List[bytes]:
    """Twelve photos."""
    return [encoded(".jpg", photos.pixels(number)) for number in range(12)]


@pytest.fixture(scope="module")
def expected(
    service: Service, work: Path, pictures: List[bytes], tmp_path_factory: pytest.TempPathFactory
) -> List[Any]:
    """What the detector itself finds in them, with the same Python and files."""
    folder = tmp_path_factory.mktemp("photos")
    for number, data in enumerate(pictures):
        (folder / f"{number:02d}.jpg").write_bytes(data)
    line = [str(PYTHON), "-I", "-B", "-c", IN_PROCESS, str(service.tree), str(work), str(folder)]
    found = json.loads(subprocess.run(line, stdout=subprocess.PIPE, check=True).stdout)
    assert len({json.dumps(one) for one in found}) == 12 and all(found)
    return list(found)


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.full)])
def test_answers_are_the_detectors_own_under_load(
    service: Service, pictures: List[bytes], expected: List[Any], count: int
) -> None:
    """Eight clients, twelve photos: one network that two threads use answers wrongly, and says 200."""

    def ask(number: int) -> Tuple[int, Answer]:
        which = number % len(pictures)
        return which, service.detect(pictures[which], min_confidence=LOW)

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        found = list(clients.map(ask, range(count)))
    assert Counter(answer.status for _, answer in found) == {200: count}
    assert [which for which, answer in found if answer.json["detections"] != expected[which]] == []


def test_our_own_answer(service: Service, expected: List[Any], pictures: List[bytes]) -> None:
    """The JSON of `gpuhost detect --json`, the times, and whether it means anything; in one piece."""
    answer = service.detect(pictures[1], min_confidence=LOW)
    found = answer.json
    assert found.pop("timings_ms").keys() == {"decode", "queue", "forward"}
    assert found.pop("weights")["kind"] == "synthetic"
    assert found == {
        "schema": 1, "model": "yolov4-tiny", "size": 160, "device": "cpu", "meaningful": False, "photo": "photo.jpg",
        "width": 768, "height": 576, "detections": expected[1],
    }  # fmt: skip
    assert answer.headers["x-gpuhost-meaningful"] == "false"
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert "transfer-encoding" not in answer.headers


def test_the_body_alone_and_parameters_in_the_address(
    service: Service, expected: List[Any], pictures: List[bytes]
) -> None:
    jpeg = {"Content-Type": "image/jpeg"}
    found = service.ask("POST", f"/v1/detect?min_confidence={LOW}&model=yolov4-tiny", pictures[0], jpeg).json
    assert (found["detections"], found["photo"]) == (expected[0], "-")
    label = expected[0][0]["label"]
    found = service.ask(
        "POST", f"/v1/detect?min_confidence={LOW}&labels={label.replace(' ', '+')}", pictures[0], jpeg
    ).json
    assert found["detections"] == [row for row in expected[0] if row["label"] == label]


def test_deepstacks_answer(locked: Service, expected: List[Any], pictures: List[bytes]) -> None:
    """The surest first, no more than the setting allows, corners as whole numbers."""
    answer = locked.ask(
        "POST", "/v1/vision/detection", photo_form(pictures[1], min_confidence=LOW, api_key=KEY), {"Content-Type": FORM}
    )
    surest = sorted(expected[1], key=lambda row: -row["score"])[:3]
    assert [(row["label"], row["confidence"]) for row in answer.json["predictions"]] == [
        (row["label"], row["score"]) for row in surest
    ]
    rest = {key: value for key, value in answer.json.items() if key != "predictions"}
    assert isinstance(rest.pop("duration"), int)
    assert rest == {"success": True, "meaningful": False}
    for row in answer.json["predictions"]:
        assert all(isinstance(row[name], int) for name in ("x_min", "y_min", "x_max", "y_max"))
        assert 0 <= row["x_min"] < row["x_max"] <= 768 and 0 <= row["y_min"] < row["y_max"] <= 576
    assert int(answer.headers["content-length"]) == len(answer.body)


# Clients, as they were recorded


KEY_PART, LEAST_PART = ('name="api_key"', KEY.encode()), ('name="min_confidence"', b"0.45")
IMAGE_PART = ('name="image"; filename="image"', JPEG)
CLIENTS = {
    # requests, files={"image": bytes}: a file name, no Content-Type; api_key is empty where none is configured.
    "Frigate": (form(KEY_PART, IMAGE_PART), FORM),
    "deepstack-python, Home Assistant": (form(KEY_PART, LEAST_PART, IMAGE_PART), FORM),
    # MultipartFormDataContent of .NET: the name without quotation marks, the boundary with them.
    "AITool": (
        form(
            ("name=image; filename=cam.jpg; filename*=utf-8''cam.jpg", JPEG),
            ("name=min_confidence", b"0.45"),
            ("name=api_key", KEY.encode()),
        ),
        f'multipart/form-data; boundary="{BOUNDARY}"',
    ),
    "curl": (photo_form(JPEG, api_key=KEY), FORM),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/vision/detection", "/v1/vision/custom/yolov4-tiny"])
@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_clients_of_deepstack(locked: Service, client: str, path: str) -> None:
    body, kind = CLIENTS[client]
    answer = locked.ask("POST", path, body, {"Content-Type": kind})
    assert (answer.status, answer.json["success"]) == (200, True)


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"min_confidence": "0"}, 200, None),
        ({"min_confidence": "1"}, 200, None),
        ({"min_confidence": "-1"}, 200, None),
        ({"min_confidence": ""}, 400, "Invalid value for min_confidence"),
        ({"min_confidence": "1.1"}, 400, "min_confidence cannot be greater than 1"),
        ({"min_confidence": "1e309"}, 400, "min_confidence cannot be greater than 1"),
        ({"min_confidence": "nan"}, 400, "Invalid value for min_confidence"),
        ({"min_confidence": "inf"}, 400, "Invalid value for min_confidence"),
        ({"min_confidence": "0,5"}, 400, "Invalid value for min_confidence"),
        ({"min_confidence": "1_0"}, 400, "Invalid value for min_confidence"),
        ({"min_confidence": "9" * 4096}, 400, "Invalid value for min_confidence"),
        ({"api_key": "wrong"}, 401, "Incorrect api key"),
    ],
)
def test_deepstacks_own_words(locked: Service, fields: Dict[str, str], status: int, error: Any) -> None:
    answer = locked.ask(
        "POST", "/v1/vision/detection", photo_form(JPEG, **{"api_key": KEY, **fields}), {"Content-Type": FORM}
    )
    assert answer.status == status
    if error is not None:
        assert answer.json == {"success": False, "error": error, "duration": 0}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (form(('name="api_key"', KEY.encode())), "No valid image file found"),
        (photo_form(b"", api_key=KEY), "No valid image file found"),
        (photo_form(b"an apple", api_key=KEY), "invalid image file"),
    ],
)
def test_deepstack_without_a_picture(locked: Service, body: bytes, error: str) -> None:
    answer = locked.ask("POST", "/v1/vision/detection", body, {"Content-Type": FORM})
    assert (answer.status, answer.json) == (400, {"success": False, "error": error, "duration": 0})


def test_a_network_that_there_is_not(locked: Service) -> None:
    answer = locked.ask("POST", "/v1/vision/custom/dogs", photo_form(JPEG), KEYED)
    assert (answer.status, answer.json["success"]) == (404, False)
    assert locked.ask("POST", "/v1/detect?model=dogs", photo_form(JPEG), KEYED).status == 400


@pytest.mark.parametrize(
    "query",
    [
        "min_confidence=-1",
        "min_confidense=1",
        "min_confidence=0.1&min_confidence=0.2",
        "labels=unicorn",
        "a&b&c" * 30,
        "model=%ff",
    ],
)
def test_parameters_that_nobody_means(service: Service, query: str) -> None:
    answer = service.ask("POST", f"/v1/detect?{query}", JPEG, {"Content-Type": "image/jpeg"})
    assert answer.status == 400 and answer.json["next_step"]


# Keys


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-API-Key": KEY}, 200),
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"Authorization": f"bearer  {KEY} "}, 200),
        ({}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": KEY[:-1]}, 401),
        ({"X-API-Key": KEY.upper()}, 401),
        ({"X-API-Key": "c" * 43}, 401),  # a key for hooks
        ({"X-API-Key": "k" * 60_000}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": "Bearer no", "X-API-Key": KEY}, 401),
        ({"Authorization": f"Bearer {KEY}", "X-API-Key": "no"}, 401),
        ({"Authorization": f"Bearer {KEY}", "X-API-Key": KEY}, 200),
    ],
)
def test_keys_in_the_head(locked: Service, headers: Dict[str, str], status: int) -> None:
    answer = locked.ask("POST", "/v1/detect", photo_form(JPEG), {"Content-Type": FORM, **headers})
    assert answer.status == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("name", ["api_key", "key", "TOKEN", "access_token"])
@pytest.mark.parametrize("path", ["/v1/detect", "/v1/vision/detection", "/v1/models", "/readyz", "/metrics"])
def test_a_key_in_the_address_is_refused_and_not_logged(locked: Service, path: str, name: str) -> None:
    method = "GET" if path in ("/v1/models", "/readyz", "/metrics") else "POST"
    answer = locked.ask(method, f"{path}?{name}={KEY}", photo_form(JPEG) if method == "POST" else None, KEYED)
    assert answer.status == 400 and KEY not in answer.body.decode()
    assert KEY not in locked.log.read_text() + locked.errors.read_text()


def test_a_wrong_key_is_told_before_the_body_is_sent(locked: Service) -> None:
    rows = [("Host", "x"), ("Content-Type", FORM), ("Content-Length", "1000000"), ("X-API-Key", "no")]
    assert locked.raw(head("POST", "/v1/detect", rows)).status == 401


def test_a_wrong_key_in_the_form_is_refused_beside_a_right_one(locked: Service) -> None:
    assert locked.ask("POST", "/v1/detect", photo_form(JPEG, api_key="no"), KEYED).status == 401
    assert locked.ask("POST", "/v1/detect", photo_form(JPEG, api_key=""), KEYED).status == 200


def test_a_key_that_was_revoked_opens_nothing_from_the_next_request_on(locked: Service) -> None:
    path = locked.folder / "keys.json"
    before = path.read_bytes()
    try:
        write_keys(path, ("other", "o" * 43, ["detect"]))
        assert locked.ask("GET", "/v1/models", headers={"X-API-Key": KEY}).status == 401
        assert locked.ask("GET", "/v1/models", headers={"X-API-Key": "o" * 43}).status == 200
        path.write_text("{")
        answer = locked.ask("GET", "/v1/models", headers={"X-API-Key": "o" * 43})
        assert answer.status == 503 and "cannot be read" in answer.json["error"]
    finally:
        path.write_bytes(before)
    assert locked.ask("GET", "/v1/models", headers={"X-API-Key": KEY}).status == 200


@pytest.mark.parametrize(
    "headers",
    [{"X-Forwarded-For": "192.0.2.7"}, {"X-Real-IP": "192.0.2.7"}, {"X-Forwarded-For": "127.0.0.1, 192.0.2.7"}],
)
def test_metrics_are_for_this_machine_or_a_key(locked: Service, headers: Dict[str, str]) -> None:
    assert locked.ask("GET", "/metrics", headers=headers).status == 401
    assert locked.ask("GET", "/metrics", headers={**headers, "X-API-Key": KEY}).status == 200
    assert locked.ask("GET", "/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status == 200
    assert locked.ask("GET", "/readyz", headers=headers).json == {"ready": True, "state": "ready"}


# Full, gone, late


def test_full_is_told_before_the_body_is_read_and_passes(locked: Service) -> None:
    """Two uploads that do not go on take both places."""
    rows = [("Host", "x"), ("Content-Type", FORM), ("X-API-Key", KEY)]
    body = photo_form(JPEG)
    begun = head("POST", "/v1/detect", [*rows, ("Content-Length", str(len(body)))])
    with locked.connected() as one, locked.connected() as two:
        for wire in (one, two):
            wire.sendall(begun + body[:100])
        locked.until(lambda: locked.count("gpuhost_service_inside") == 2)
        for path in ("/v1/detect", "/v1/vision/detection"):
            third = locked.raw(head("POST", path, [*rows, ("Content-Length", "1000000")]))
            assert (third.status, third.headers["retry-after"]) == (503, "1")
        assert third.json == {"success": False, "error": "The service is full.", "duration": 0}
        for wire in (one, two):
            wire.sendall(body[100:])
            assert read_answer(wire).status == 200
    assert locked.count("gpuhost_service_inside") == 0


def test_a_client_that_goes_while_it_sends_gives_its_place_back(locked: Service) -> None:
    rows = [("Host", "x"), ("Content-Type", FORM), ("X-API-Key", KEY), ("Content-Length", "1000000")]
    with locked.connected() as wire:
        wire.sendall(head("POST", "/v1/detect", rows) + b"--")
        locked.until(lambda: locked.count("gpuhost_service_inside") == 1)
    locked.until(lambda: locked.count("gpuhost_service_inside") == 0)
    locked.until(lambda: any(line.get("status") == 499 for line in locked.lines()))


def test_a_body_that_never_comes_is_ended(work: Path, tmp_path: Path) -> None:
    """Behind nginx it never gets here; alone it would wait for ever."""
    with Service(tmp_path, work, deadline_s=0.5) as service:
        rows = [("Host", "x"), ("Content-Type", FORM), ("Content-Length", "1000000")]
        answer = service.raw(head("POST", "/v1/detect", rows) + b"--")
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert service.count("gpuhost_service_inside") == 0


def test_a_deadline_that_has_passed(work: Path, tmp_path: Path) -> None:
    """A network that takes longer than the setting allows."""
    with Service(tmp_path, work, deadline_s=0.1, models=[{**MODEL, "size": 1536}]) as service:
        assert service.ask("POST", "/v1/detect", JPEG, {"Content-Type": "image/jpeg"}).status == 504
        answer = service.detect(JPEG, "/v1/vision/detection")
        assert (answer.status, answer.json["error"]) == (500, "failed to process request before timeout")
        service.until(lambda: service.count("gpuhost_service_inside") == 0)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon", "0.5"])
def test_a_deadline_that_is_none(service: Service, text: str) -> None:
    assert service.ask("POST", "/v1/detect", JPEG, {"Content-Type": "image/jpeg", "X-Deadline-S": text}).status == 400


# Hostile HTTP


HOST = ("Host", "x")
SIZED = ("Content-Length", "5")
HTTP: Dict[str, Tuple[bytes, int]] = {
    "a length and chunks": (head("POST", "/v1/detect", [HOST, SIZED, ("Transfer-Encoding", "chunked")]), 400),
    "two lengths": (head("POST", "/v1/detect", [HOST, SIZED, ("Content-Length", "6")]), 400),
    "a length with a sign": (head("POST", "/v1/detect", [HOST, ("Content-Length", "+5")]), 400),
    "a blank before the colon": (head("POST", "/v1/detect", [HOST, ("Transfer-Encoding ", "chunked")]), 400),
    "20 GB": (head("POST", "/v1/detect", [HOST, ("Content-Length", "20000000000")]), 413),
    "a header of 1 MB": (head("GET", "/healthz", [HOST, ("X", "x" * 1_000_000)]), 400),
    "a NUL in the path": (head("GET", "/healthz%00", [HOST]), 404),
    "dots in the path": (head("GET", "/v1/%2e%2e/%2e%2e/etc/passwd", [HOST]), 404),
    "dots as they are": (head("GET", "/v1/../healthz", [HOST]), 404),
    "another host's address": (head("GET", "http://192.0.2.7/healthz", [HOST]), 200),  # a proxy's form; not followed
    "a poisoned host": (head("GET", "/healthz", [("Host", "a/../b?")]), 200),
    "a slash too much": (head("GET", "/healthz/", [HOST]), 404),
    "GET where POST is meant": (head("GET", "/v1/detect", [HOST]), 405),
    "PUT where POST is meant": (head("PUT", "/v1/vision/detection", [HOST]), 405),
    "HTTP/1.0": (head("GET", "/healthz", [], "HTTP/1.0"), 200),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200, 400),
    "an id with a line feed": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\nb: c\r\n\r\n", 400),
    "no form at all": (head("POST", "/v1/detect", [HOST, SIZED]) + b"hello", 400),
    "a form without a boundary": (
        head("POST", "/v1/detect", [HOST, ("Content-Type", "multipart/form-data"), SIZED]) + b"hello", 400,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(HTTP))
def test_hostile_requests(service: Service, name: str) -> None:
    sent, status = HTTP[name]
    assert service.raw(sent).status == status
    assert service.state() == "ready"


def test_a_head_that_never_ends_is_ended(service: Service) -> None:
    """One that comes slowly, and a connection on which nothing comes, are closed."""
    with service.connected() as slow, service.connected() as silent:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
        assert (slow.recv(9), silent.recv(9)) == (b"", b"")


def test_a_head_without_a_bound_costs_no_memory(service: Service) -> None:
    before = service.forget_peak()
    with service.connected() as wire:
        wire.sendall(b"GET /healthz HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                wire.sendall(b"x" * 100_000)
    assert service.peak_mb() - before < 20
    assert service.state() == "ready"


def test_a_thousand_headers(service: Service) -> None:
    """Taken or refused, but answered."""
    assert service.raw(head("GET", "/healthz", [HOST, *[(f"X-{n}", "y") for n in range(1000)]])).status in (
        200,
        400,
        431,
    )


def test_ids_are_taken_where_they_are_plain(service: Service) -> None:
    assert service.ask("GET", "/healthz", headers={"X-Request-Id": "a" * 32}).headers["x-request-id"] == "a" * 32
    for wrong in ("a b", "x" * 65, "é", "<b>"):
        found = service.raw(head("GET", "/healthz", [HOST, ("X-Request-Id", wrong)])).headers["x-request-id"]
        assert len(found) == 16


def test_a_client_that_waits_for_leave_to_send(locked: Service) -> None:
    """A wrong key is told without the leave; a right one gets it."""
    body = photo_form(JPEG)
    rows = [HOST, ("Content-Type", FORM), ("Content-Length", str(len(body))), ("Expect", "100-continue")]
    assert locked.raw(head("POST", "/v1/detect", [*rows, ("X-API-Key", "no")])).status == 401
    with locked.connected() as wire:
        wire.sendall(head("POST", "/v1/detect", [*rows, ("X-API-Key", KEY)]))
        assert wire.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(body)
        assert read_answer(wire).status == 200


@pytest.mark.parametrize("sized", [True, False])
def test_a_body_over_the_limit(locked: Service, sized: bool) -> None:
    """By its length before it is sent; in chunks as soon as it is too long."""
    rows = [HOST, ("Content-Type", FORM), ("X-API-Key", KEY)]
    if sized:
        answer = locked.raw(head("POST", "/v1/detect", [*rows, ("Content-Length", str((2 << 20) + 1))]))
    else:
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        answer = locked.raw(head("POST", "/v1/detect", [*rows, ("Transfer-Encoding", "chunked")]), piece * 33)
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert locked.count("gpuhost_service_inside") == 0


def test_many_idle_connections_keep_nobody_out(service: Service) -> None:
    idle = [service.connected() for _ in range(400)]
    try:
        assert service.detect(JPEG).status == 200
    finally:
        for wire in idle:
            wire.close()


# Hostile bodies and pictures


SIZE = (16 << 20) - 400
PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\1\0\0\0\0" + bytes(4)
MARK = f"--{BOUNDARY}".encode()
BODIES: Dict[str, Tuple[bytes, int]] = {
    "line ends before the form": (b"\r\n" * (SIZE // 2), 400),
    "line ends behind the form": (photo_form(JPEG) + b"\r\n" * ((SIZE - len(JPEG) - 400) // 2), 200),
    "one header of 16 MB": (MARK + b"\r\nA: " + b"a" * SIZE, 400),
    "a million parts": (MARK + b"\r\n\r\n\r\n" * 1 + (MARK + b"\r\n\r\n\r\n") * (SIZE // (len(MARK) + 6)), 400),
    "near boundaries": (form(('name="image"', b"\r\n" + MARK[:-1] * (SIZE // len(MARK)))), 400),
    "zeros": (form(('name="image"', bytes(SIZE - 200))), 400),
    "the mark of a JPEG, then markers": (form(('name="image"', b"\xff\xd8" + b"\xff" * (SIZE - 200))), 400),
    "a JPEG of segments": (form(('name="image"', b"\xff\xd8" + b"\xff\xfe\0\2" * ((SIZE - 400) // 4))), 400),
    "a PNG of chunks": (
        form(('name="image"', PNG_START + (b"\0\0\0\0tEXt" + bytes(4)) * (SIZE // 13) + b"IEND")),
        400,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BODIES))
def test_hostile_bodies(service: Service, name: str) -> None:
    """Refused, and bounded: what this replaces took up to 22 s of the event loop, and 5 GB."""
    body, status = BODIES[name]
    before, spent = service.forget_peak(), service.cpu_s()
    assert service.ask("POST", "/v1/detect", body, {"Content-Type": FORM}).status == status
    assert service.peak_mb() - before < 300
    assert service.cpu_s() - spent < 2.0


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_pictures_that_are_refused(service: Service, name: str) -> None:
    before, spent = service.forget_peak(), service.cpu_s()
    answer = service.detect(REFUSED[name])
    assert answer.status == 400, answer.body
    assert answer.json["error"].startswith("The picture sent ") and answer.json["next_step"]
    assert service.peak_mb() - before < 100
    assert service.cpu_s() - spent < 2.0


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_pictures_that_are_taken(service: Service, name: str) -> None:
    data, size = TAKEN[name]
    before = service.forget_peak()
    answer = service.detect(data)
    assert answer.status == 200, answer.body
    assert [answer.json["width"], answer.json["height"]] == size
    assert service.peak_mb() - before < 400


def test_many_objects(service: Service) -> None:
    """Everything that the network has, without a bound of ours but the network's own."""
    assert len(service.detect(JPEG, min_confidence="0").json["detections"]) > 150
    assert len(service.detect(JPEG, "/v1/vision/detection", min_confidence="0").json["predictions"]) == 20


# The process


def test_a_signal_lets_what_has_begun_end(work: Path, tmp_path: Path) -> None:
    """SIGTERM: an upload that is under way is answered, then the service is gone with status 0."""
    body = photo_form(JPEG)
    with Service(tmp_path, work) as service, service.connected() as wire:
        wire.sendall(
            head("POST", "/v1/detect", [HOST, ("Content-Type", FORM), ("Content-Length", str(len(body)))]) + body[:50]
        )
        service.until(lambda: service.count("gpuhost_service_inside") == 1)
        service.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionError):
            while True:
                service.connected().close()
        wire.sendall(body[50:])
        assert read_answer(wire).status == 200
        assert service.process.wait(60) == 0
        assert service.lines()[-1] == {"event": "end", "why": "asked to"}


def test_a_worker_that_is_killed_is_replaced(work: Path, tmp_path: Path) -> None:
    with Service(tmp_path, work) as service:
        first = service.worker()
        subprocess.run(["kill", "-9", str(first)], check=True)
        service.until(lambda: service.state() == "ready" and service.worker() != first)
        assert service.detect(JPEG).status == 200


def test_a_device_that_is_not_proved_is_a_refusal_that_names_its_cause(work: Path, tmp_path: Path) -> None:
    """Asked for a card, an OpenCV without CUDA answers no photo at all; nothing runs on the CPU."""
    with Service(tmp_path, work, device="cuda") as service:
        found = service.ask("GET", "/readyz")
        assert found.status == 503
        assert (found.json["state"], found.json["diagnosis"]) == ("refused", "D18")
        assert "./run pytest verify/" in found.json["remedy"]
        assert service.ask("GET", "/readyz", headers={"X-Forwarded-For": "192.0.2.1"}).json == found.json
        answer = service.detect(JPEG)
        assert (answer.status, answer.json["diagnosis"]) == (503, "D18")
        assert service.ask("GET", "/healthz").json == {"alive": True}
        assert service.count("gpuhost_service_ready") == 0
        assert service.count("gpuhost_service_batches_total") == 0


LOST = """
from pathlib import Path
from gpuhost.service import app, jobs
from gpuhost.yolo.network import OpenCvNetwork
app.RETRY_S, jobs.SOON_S = 0.5, 0.05
real = OpenCvNetwork.forward_batch
def forward_batch(self, blobs):
    if Path({flag!r}).exists():
        import cv2
        raise cv2.error("CUDA error: no CUDA-capable device is detected")
    return real(self, blobs)
OpenCvNetwork.forward_batch = forward_batch
"""


def test_the_watchs_record_names_the_cause(work: Path, tmp_path: Path) -> None:
    """What the watch of the host saw says more than the library's own words."""
    (tmp_path / "records").mkdir()
    record = {
        "schema": 1,
        "when": 1,
        "status": "broken",
        "findings": [{"id": "driver.match", "what": "the library is 2, loaded is 1"}],
    }
    (tmp_path / "records" / "watch.json").write_text(json.dumps(record))
    (tmp_path / "lost").touch()
    with Service(tmp_path, work, LOST.format(flag=str(tmp_path / "lost"))) as service:
        found = service.ask("GET", "/readyz").json
        assert found["diagnosis"] == "D01"
        assert found["watch"] == ["driver.match: the library is 2, loaded is 1"]


def test_a_card_that_is_lost_while_it_serves(work: Path, tmp_path: Path) -> None:
    """Staged: each forward pass fails. The photo is refused, a new process refuses the device, and one after it serves
    again once the card is back, without anybody's command.
    """
    flag = tmp_path / "lost"
    with Service(tmp_path, work, LOST.format(flag=str(flag))) as service:
        first = service.worker()
        flag.touch()
        answer = service.detect(JPEG, "/v1/vision/detection")
        assert (answer.status, answer.json["error"]) == (500, "error occured on the server")
        service.until(lambda: service.state() == "refused")
        assert service.worker() != first
        found = service.ask("GET", "/readyz").json
        assert "no CUDA-capable device" in found["reason"]
        assert found["diagnosis"] == ("D38" if has_no_card() else None)
        assert service.detect(JPEG).status == 503
        second = service.worker()
        service.until(lambda: service.state() == "refused" and service.worker() != second)
        flag.unlink()
        service.until(lambda: service.state() == "ready")
        assert service.detect(JPEG).status == 200
        told = [line["why"] for line in service.lines() if line.get("event") == "end"]
        assert told[0].startswith("3 forward passes in a row failed") and "tries again" in told[1]


def test_the_socket_of_systemd_outlives_the_service(service: Service, tmp_path: Path) -> None:
    """It is listened on as it is given, and stays where it is, so that clients wait while the service is replaced."""
    path = tmp_path / "detect.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(16)
        line = [*service.launcher(), "serve", "--settings", str(service.settings)]
        start = ["sh", "-c", 'exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', "sh", *line]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(start, stdin=listening, stdout=log, stderr=log)
        try:
            with socket.socket(socket.AF_UNIX) as wire:
                wire.settimeout(60)
                wire.connect(str(path))
                wire.sendall(head("GET", "/healthz", [HOST]))
                assert read_answer(wire).json == {"alive": True}
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert path.is_socket()
            with socket.socket(socket.AF_UNIX) as waiting:
                waiting.connect(str(path))
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({}, 0, "in order: 1 models on the device cpu"),
        ({"depht": 1}, 2, "depht"),
        ({"device": "gpu"}, 2, "There is no device 'gpu'"),
        ({"device": "auto"}, 2, "may be the CPU"),
        ({"models": [{**MODEL, "name": "yolov9"}], "default_model": "yolov9"}, 2, "no published network"),
        ({"models": [{**MODEL, "weights": "/nowhere"}]}, 2, "There is no file /nowhere"),
    ],
)
def test_settings_are_checked_before_anything_starts(
    service: Service, tmp_path: Path, change: Dict[str, Any], code: int, words: str
) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({**json.loads(service.settings.read_text()), **change}))
    line = [*service.launcher(), "check", "--settings", str(path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, words in done.stdout + done.stderr, "Traceback" in done.stderr) == (code, True, False)


def test_nobody_listens_without_a_socket(service: Service) -> None:
    done = subprocess.run(
        [*service.launcher(), "serve", "--settings", str(service.settings)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "no socket" in done.stderr


def test_the_log_holds_no_names_and_no_queries(service: Service) -> None:
    service.ask("POST", "/v1/detect?labels=person", photo_form(JPEG), {"Content-Type": FORM})
    service.until(lambda: service.lines()[-1].get("path") == "/v1/detect")
    line = service.lines()[-1]
    assert {"id", "method", "path", "status", "ms", "bytes", "pixels", "decode_ms", "queue_ms", "forward_ms"} <= set(
        line
    )
    assert "photo.jpg" not in service.log.read_text() and "labels" not in service.log.read_text()
    assert "Traceback" not in service.errors.read_text()


def test_metrics_are_prometheus_own_form(service: Service) -> None:
    text = service.ask("GET", "/metrics").body.decode()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(set(names)) == len(names)
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        assert line.startswith("# ") or any(name == one or name.startswith(one + "_") for one in names)
        assert line.startswith("# ") or float(line.rpartition(" ")[2]) >= 0


# The document


#: Tells schemathesis what no schema says: which bytes are a picture, and which labels the network has. The key is in
#: the header; another one in the form would open what is sent without it.
MEANT = """
import json, pathlib, schemathesis
from hypothesis import strategies as st
from schemathesis.transport.serialization import Binary

here = pathlib.Path(__file__).resolve().parent
pictures = {kind: (here / kind).read_bytes() for kind in ("jpeg", "png", "webp")}
labels = json.loads((here / "labels.json").read_text())
schemathesis.openapi.format("binary", st.sampled_from(sorted(pictures.values())).map(Binary))
for kind, data in pictures.items():
    schemathesis.openapi.media_type("image/" + kind, st.just(data))
schemathesis.openapi.format("labels", st.lists(st.sampled_from(labels), max_size=5).map(",".join))
schemathesis.openapi.format("password", st.just(""))
"""


@pytest.mark.parametrize("examples", [10, pytest.param(100, marks=pytest.mark.full)])
def test_schemathesis_finds_nothing(locked: Service, tmp_path: Path, examples: int) -> None:
    """Every answer to what the document allows, and to what it does not, is one that the document names; what it allows
    is taken.
    """
    for kind in ("jpeg", "png", "webp"):
        (tmp_path / kind).write_bytes(encoded(f".{kind}", PIXELS[:64, :64]))
    labels = locked.ask("GET", "/v1/models", None, {"X-API-Key": KEY}).json["models"][0]["labels"]
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    (tmp_path / "meant.py").write_text(MEANT)
    line = [
        str(PYTHON.with_name("schemathesis")), "run", f"http://127.0.0.1:{locked.port}/openapi.json",
        "--header", f"X-API-Key: {KEY}", "--max-examples", str(examples), "--workers", "1", "--no-color", "--seed", "1",
    ]  # fmt: skip
    env = {**os.environ, "SCHEMATHESIS_HOOKS": "meant", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(line, cwd=str(tmp_path), env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
