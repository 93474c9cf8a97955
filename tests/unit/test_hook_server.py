"""The hook in the real service: gunicorn, uvicorn and a network on the processor, asked by curl and by motionEye."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np
import pytest

from gpuhost.service import hook_forms

from .loopback import Loopback
from .test_hook_motioneye import METHODS, filled_in, motioneye, told_to  # noqa: F401 - a fixture

pytestmark = pytest.mark.install

ROOT = Path(__file__).parents[2]
KEYS = {"door": ("the-key-of-the-door", ["hook"]), "phone": ("the-key-of-the-phone", ["detect"])}
KEY = KEYS["door"][0]


class Service(NamedTuple):
    """A running service, with what it writes and who gets its alerts."""

    url: str
    folder: Path
    receiver: Loopback

    @property
    def log(self) -> List[Dict[str, Any]]:
        """The lines of its log."""
        return [json.loads(line) for line in (self.folder / "log").read_text(encoding="utf-8").splitlines()]

    def asked(self, path: str, body: Optional[bytes] = None, **headers: str) -> Tuple[int, bytes]:
        """A status and what is answered."""
        request = urllib.request.Request(self.url + path, body, {k.replace("_", "-"): v for k, v in headers.items()})  # noqa: S310 - our own server
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own server
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def sent(self, picture: bytes, **changed: Optional[str]) -> Tuple[int, Dict[str, Any]]:
        """What a form is answered with."""
        fields: Dict[str, Optional[str]] = {"key": KEY, "camera": "1", "event": "1", **changed}
        rows = [f'--x\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items() if v]
        head = '--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        body = ("".join(rows) + head).encode("utf-8") + picture + b"\r\n--x--\r\n"
        status, answered = self.asked("/hooks/motioneye", body, Content_Type="multipart/form-data; boundary=x")
        return status, json.loads(answered)

    def metric(self, name: str) -> int:
        """A number of the hooks."""
        text = self.asked("/metrics")[1].decode("utf-8")
        rows = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return int(rows[f"gpuhost_service_hook_{name}"])

    def until(self, what: Any) -> None:
        """Wait for something that comes about behind an answer."""
        end = time.monotonic() + 120
        while not what():
            assert time.monotonic() < end, (self.folder / "log").read_text(encoding="utf-8")
            time.sleep(0.1)


def picture(number: int) -> bytes:
    """A small photo of noise; each number is another one."""
    pixels = np.random.RandomState(number).randint(0, 255, (120, 160, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", pixels)[1].tobytes())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with synthetic weights, which find noise; every noise is told."""
    folder = tmp_path_factory.mktemp("service")
    rows = [
        {"name": name, "sha256": hashlib.sha256(text.encode()).hexdigest(), "created": "2026-11-29", "kinds": kinds}
        for name, (text, kinds) in KEYS.items()
    ]
    (folder / "keys.json").write_text(json.dumps({"schema": 1, "keys": rows}), encoding="utf-8")
    with Loopback() as receiver, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        settings = {
            "schema": 1,
            "device": "cpu",
            "models": [{"name": "yolov4-tiny", "kind": "published", "weights": "synthetic", "size": 416}],
            "default_model": "yolov4-tiny",
            "work": str(folder / "work"),
            "keys": str(folder / "keys.json"),
            "confidence": 0.0,
            "hooks": {
                "database": str(folder / "counts.db"),
                "rule": {"score": 0, "cooldown_s": 0},
                "cameras": {"door/never": {"labels": ["kar"]}},
                "alerts": [{"url": receiver.url, "secret": "a secret of enough bytes"}],
            },
        }
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        program = (
            "import sys; sys.path.insert(0, sys.argv[1]); from gpuhost.service.run import main; main(sys.argv[2:])"
        )
        line = [str(ROOT / "run"), "python", "-c", program, str(ROOT / "src")]
        line += ["serve", "--settings", str(folder / "settings.json")]
        environment = {**os.environ, "GPUHOST_SET": "service"}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*line, "--bind", address], stdout=log, stderr=log, env=environment)
        made = Service(f"http://{address}", folder, receiver)
        try:
            made.until(lambda: process.poll() is not None or is_ready(made))
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            yield made
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def is_ready(service: Service) -> bool:
    """Whether it takes photos yet."""
    try:
        return service.asked("/readyz")[0] == 200
    except OSError:
        return False


def test_the_command_of_motion_ends_in_an_alert_and_in_the_counts(service: Service, tmp_path: Path) -> None:
    """Three pictures of an event by the real curl; synthetic weights find noise, and the alert says so."""
    before = service.metric("pictures_looked_at_total")
    for number in range(3):
        file = tmp_path / f"{number}.jpg"
        file.write_bytes(picture(number))
        line = (
            filled_in(service.url, file).replace("secret-of-door", KEY.replace(" ", "\\ ")).replace("-o /dev/null", "")
        )
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(done.stdout)["accepted"] is True
    service.until(lambda: service.metric("pictures_looked_at_total") == before + 3)
    told = json.loads(service.receiver.wait(1)[0].body)
    assert (told["device"], told["camera"], told["event"], told["meaningful"]) == ("door", "1", 7, False)
    service.until(lambda: service.metric("counts_waiting") == 0 and counted(service) > 0)
    said = [row["why"] for row in service.log if row.get("event") == "hook"]
    assert said == ["The network knows no kar: GET /v1/models lists the labels."]


def test_the_counts_are_answered(service: Service) -> None:
    """To who may ask for photos, by hours, and with the names of what is wrong."""
    assert service.sent(picture(60), event="60", camera="counted")[0] == 202
    bearer = {"Authorization": f"Bearer {KEYS['phone'][0]}"}

    def rows(query: str = "") -> List[Dict[str, Any]]:
        found = json.loads(service.asked(f"/v1/counts{query}", **bearer)[1])
        assert found["more"] is None
        return [row for row in found["counts"] if row["camera"] == "counted"]

    service.until(rows)
    hour = rows()[0]["hour"]
    assert {row["device"] for row in rows()} == {"door"} and hour % 3600 == 0 and time.time() - hour < 7200
    assert rows(f"?since={hour}&until={hour + 1}") == rows() and rows(f"?since={hour + 3600 * 2}") == []
    assert service.asked("/v1/counts")[0] == 401
    assert service.asked("/v1/counts", Authorization=f"Bearer {KEY}")[0] == 401, "a camera may not ask"
    for query in ("since=-1", "since=x", "until=1e9", "day=1", "since=1&since=2", "since=" + "9" * 13):
        assert service.asked(f"/v1/counts?{query}", **bearer)[0] == 400


def counted(service: Service) -> int:
    """How many objects the file has."""
    with sqlite3.connect(f"file:{service.folder / 'counts.db'}?mode=ro", uri=True) as file:
        found = file.execute("SELECT coalesce(sum(objects), 0) FROM counts").fetchone()[0]
    file.close()
    return int(found)


def test_a_replay_is_recognised(service: Service) -> None:
    """The same picture of the same event."""
    data = picture(50)
    before = service.metric("pictures_looked_at_total")
    assert service.sent(data, event="50")[0] == 202
    service.until(lambda: service.metric("pictures_looked_at_total") == before + 1)
    repeated = service.metric("pictures_repeated_total")
    assert service.sent(data, event="50")[0] == 202
    service.until(lambda: service.metric("pictures_repeated_total") == repeated + 1)
    assert service.metric("pictures_looked_at_total") == before + 1


@pytest.mark.parametrize("method", METHODS)
def test_motioneye_itself_is_told_what_to_type(method: str, service: Service, motioneye: Path, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    """Its four forms, by itself: the log of the service has its request with 422."""
    before = len(service.log)
    told_to(motioneye, method, f"{service.url}/hooks/motioneye?camera=1&event=07", tmp_path)
    rows = [row for row in service.log[before:] if row.get("path") == "/hooks/motioneye"]
    assert [(row["status"], row["method"]) for row in rows] == [(422, "GET" if method == "GET" else "POST")]
    assert "holds no picture" in rows[0]["refused"]


@pytest.mark.parametrize(
    ("changed", "status", "word"),
    [
        ({"key": "another key"}, 401, "key"),
        ({"key": None}, 400, "key"),
        ({"key": KEYS["phone"][0]}, 401, "key"),
        ({"camera": "../../x"}, 400, "camera"),
        ({"event": "-1"}, 400, "event"),
        ({"camera": "%t"}, 422, "replaced"),
    ],
)
def test_what_is_wrong_is_said(changed: Dict[str, Any], status: int, word: str, service: Service) -> None:
    """And nothing is taken."""
    taken = service.metric("pictures_taken_total")
    found, answered = service.sent(picture(1), **changed)
    assert found == status and word in answered["error"] and answered["next_step"]
    assert service.metric("pictures_taken_total") == taken


def test_pictures_that_no_decoder_should_see_are_refused(service: Service) -> None:
    """A movie, and 38 bytes that ask for 1.5 GB."""
    assert service.sent(b"\0\0\0\x20ftypisom" + b"\0" * 100)[0] == 415
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0" + b"\0" * 8
    status, answered = service.sent(webp)
    assert status == 400 and "picture" in answered["error"]


def test_a_key_in_the_address_opens_nothing_and_is_in_no_log(service: Service) -> None:
    """Nor is the one of the form."""
    data = b"--x--\r\n"
    form = "multipart/form-data; boundary=x"
    status, answered = service.asked("/hooks/motioneye?key=" + "S3CRET", data, Content_Type=form)
    assert status == 422 and b"Revoke" in answered and b"S3CRET" not in answered
    text = (service.folder / "log").read_text(encoding="utf-8")
    assert "S3CRET" not in text and KEY not in text


def test_a_storm_of_pictures_is_answered_and_bounded(service: Service) -> None:
    """200 at once, as Motion starts curl for each: every one is answered, and what does not fit makes room."""
    import concurrent.futures

    service.until(lambda: service.metric("pictures_waiting") == 0)
    taken, looked = (service.metric(f"pictures_{name}_total") for name in ("taken", "looked_at"))
    dropped = service.metric("pictures_dropped_total")
    data = [picture(number) for number in range(1000, 1200)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda one: service.sent(one, event="99")[0], data))
    assert found == [202] * 200
    service.until(lambda: service.metric("pictures_waiting") == 0)
    assert service.metric("pictures_taken_total") == taken + 200
    service.until(
        lambda: (
            service.metric("pictures_looked_at_total") - looked + service.metric("pictures_dropped_total") - dropped
            == 200
        )
    )


def test_the_document_names_the_route(service: Service) -> None:
    """With its fields and every status that it answers."""
    document = json.loads(service.asked("/openapi.json")[1])
    route = document["paths"]["/hooks/motioneye"]
    shape = route["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(shape["properties"]) == {*hook_forms.FIELDS, "image"} and list(route) == ["post"]
    assert {"202", "400", "401", "413", "415", "422", "503"} <= set(route["post"]["responses"])
