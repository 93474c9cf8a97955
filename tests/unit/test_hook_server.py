"""The hook in the real service: gunicorn, uvicorn and a network on the CPU, asked by curl and by motionEye."""

from __future__ import annotations

import concurrent.futures
import json
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import cv2
import numpy as np
import pytest

from gpuhost.service import hook_forms

from .loopback import Loopback
from .serving import FORM, PYTHON, Answer, Service, environment, form
from .test_hook_motioneye import METHODS, filled_in, motioneye, told_to  # noqa: F401 - a fixture
from .test_service_live import write_keys

pytestmark = pytest.mark.install

PATH = "/hooks/motioneye"
KEY, PHONE, BOTH = "the-key-of-the-door", "the-key-of-the-phone", "the-key-of-both"


class Hooked(Service):
    """A service with hooks; every noise that its synthetic weights find is told to `receiver`."""

    def __init__(self, folder: Path, receiver: Loopback) -> None:
        """Start it."""
        self.receiver = receiver
        write_keys(
            folder / "keys.json",
            ("door", KEY, ["hook"]),
            ("phone", PHONE, ["detect"]),
            ("both", BOTH, ["detect", "hook"]),
        )
        hooks = {
            "database": str(folder / "counts.db"),
            "rule": {"score": 0, "cooldown_s": 0},
            "cameras": {"door/never": {"labels": ["kar"]}},
            "alerts": [{"url": receiver.url, "secret": "a secret of enough bytes"}],
        }
        super().__init__(folder, folder / "work", keys=str(folder / "keys.json"), confidence=0.0, hooks=hooks)

    def metric(self, name: str) -> int:
        """A number of the hooks."""
        return int(self.count(f"gpuhost_service_hook_{name}"))

    def sent(self, data: bytes, **changed: Optional[str]) -> Answer:
        """What a form is answered with."""
        fields: Dict[str, Optional[str]] = {"key": KEY, "camera": "1", "event": "1", **changed}
        rows = [(f'name="{name}"', text.encode("utf-8")) for name, text in fields.items() if text is not None]
        return self.ask("POST", PATH, form(*rows, ('name="image"; filename="a.jpg"', data)), {"Content-Type": FORM})

    def counted(self, query: str = "", key: str = PHONE) -> Answer:
        """What is answered about the counts."""
        return self.ask("GET", f"/v1/counts{query}", None, {"X-API-Key": key} if key else {})


def picture(number: int) -> bytes:
    """A small photo of noise; each number is another one."""
    pixels = np.random.RandomState(number).randint(0, 255, (120, 160, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", pixels)[1].tobytes())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooked]:
    """A service that runs."""
    environment()
    with Loopback() as receiver, Hooked(tmp_path_factory.mktemp("service"), receiver) as started:
        assert started.state() == "ready"
        yield started


def test_the_command_of_motion_ends_in_an_alert_and_in_the_counts(service: Hooked, tmp_path: Path) -> None:
    """Three pictures of an event by the real curl; synthetic weights find noise, and the alert says so."""
    before = service.metric("pictures_looked_at_total")
    for number in range(3):
        file = tmp_path / f"{number}.jpg"
        file.write_bytes(picture(number))
        url = f"http://127.0.0.1:{service.port}"
        line = filled_in(url, file).replace("secret-of-door", KEY).replace("-o /dev/null", "")
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(done.stdout)["accepted"] is True
    service.until(lambda: service.metric("pictures_looked_at_total") == before + 3)
    told = json.loads(service.receiver.wait(1)[0].body)
    assert (told["device"], told["camera"], told["event"], told["meaningful"]) == ("door", "1", 7, False)
    service.until(lambda: service.counted().json["counts"])
    with sqlite3.connect(f"file:{service.folder / 'counts.db'}?mode=ro", uri=True) as file:
        rows = file.execute("SELECT DISTINCT device, camera FROM counts").fetchall()
    file.close()
    assert rows == [("door", "1")]
    said = [row["why"] for row in service.lines() if row.get("event") == "hook"]
    assert said == ["The network knows no kar: GET /v1/models lists the labels."]


def test_the_counts_are_answered_to_who_may_ask_for_photos(service: Hooked) -> None:
    """By hours, and with the name of what is wrong."""
    assert service.sent(picture(60), event="60", camera="counted").status == 202

    def rows(query: str = "") -> List[Dict[str, Any]]:
        found = service.counted(query).json
        assert found["more"] is None
        return [row for row in found["counts"] if row["camera"] == "counted"]

    service.until(rows)
    hour = rows()[0]["hour"]
    assert {row["device"] for row in rows()} == {"door"} and hour % 3600 == 0 and time.time() - hour < 7200
    assert rows(f"?since={hour}&until={hour + 1}") == rows() and rows(f"?since={hour + 3600 * 2}") == []
    assert service.counted(key="").status == 401
    assert service.counted(key=KEY).status == 401, "a camera may not ask"
    for query in ("since=-1", "since=x", "until=1e9", "day=1", "since=1&since=2", "since=" + "9" * 13):
        assert service.counted(f"?{query}").status == 400


def test_a_replay_is_recognised(service: Hooked) -> None:
    """The same picture of the same event."""
    data = picture(50)
    before = service.metric("pictures_looked_at_total")
    assert service.sent(data, event="50").status == 202
    service.until(lambda: service.metric("pictures_looked_at_total") == before + 1)
    repeated = service.metric("pictures_repeated_total")
    assert service.sent(data, event="50").status == 202
    service.until(lambda: service.metric("pictures_repeated_total") == repeated + 1)
    assert service.metric("pictures_looked_at_total") == before + 1


@pytest.mark.parametrize("method", METHODS)
def test_motioneye_itself_is_told_what_to_type(
    method: str,
    service: Hooked,
    motioneye: Path,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    """Its four forms, by itself: the log of the service has its request with 422."""
    before = len(service.lines())
    told_to(motioneye, method, f"http://127.0.0.1:{service.port}{PATH}?camera=1&event=07", tmp_path)
    rows = [row for row in service.lines()[before:] if row.get("path") == PATH]
    assert [(row["status"], row["method"]) for row in rows] == [(422, "GET" if method == "GET" else "POST")]
    assert "holds no picture" in rows[0]["refused"]


@pytest.mark.parametrize(
    ("changed", "status", "word"),
    [
        ({"key": "another key"}, 401, "key"),
        ({"key": None}, 400, "key"),
        ({"key": PHONE}, 401, "key"),
        ({"key": "k" * (1 << 20)}, 400, "key"),
        ({"camera": "../../x"}, 400, "camera"),
        ({"event": "-1"}, 400, "event"),
        ({"camera": "%t"}, 422, "replaced"),
    ],
)
def test_what_is_wrong_is_said(changed: Dict[str, Any], status: int, word: str, service: Hooked) -> None:
    """And nothing is taken."""
    taken = service.metric("pictures_taken_total")
    found = service.sent(picture(1), **changed)
    assert found.status == status and word in found.json["error"] and found.json["next_step"]
    assert service.metric("pictures_taken_total") == taken


def test_a_key_may_stand_in_the_head(service: Hooked) -> None:
    """And is refused there before the body is read."""
    body = form(('name="camera"', b"1"), ('name="event"', b"70"), ('name="image"; filename="a.jpg"', picture(70)))
    good = service.ask("POST", PATH, body, {"Content-Type": FORM, "Authorization": f"Bearer {KEY}"})
    assert good.status == 202
    assert service.ask("POST", PATH, body, {"Content-Type": FORM, "X-API-Key": PHONE}).status == 401


def test_pictures_that_no_decoder_should_see_are_refused(service: Hooked) -> None:
    """A movie, and 38 bytes that ask for 1.5 GB."""
    assert service.sent(b"\0\0\0\x20ftypisom" + b"\0" * 100).status == 415
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0" + b"\0" * 8
    found = service.sent(webp)
    assert found.status == 400 and "picture" in found.json["error"]


def test_a_key_in_the_address_opens_nothing_and_no_key_is_in_the_log(service: Hooked) -> None:
    """Neither there nor in the answer."""
    found = service.ask("POST", f"{PATH}?key=S3CRET", b"--x--\r\n", {"Content-Type": FORM})
    assert found.status == 422 and b"Revoke" in found.body and b"S3CRET" not in found.body
    text = service.log.read_text(encoding="utf-8") + service.errors.read_text(encoding="utf-8")
    assert "S3CRET" not in text and not [key for key in (KEY, PHONE) if key in text]


def test_a_storm_of_pictures_is_answered_and_bounded(service: Hooked) -> None:
    """200 at once, as Motion starts curl for each: every one is answered, and what does not fit makes room."""
    service.until(lambda: service.metric("pictures_waiting") == 0)
    taken, before = service.metric("pictures_taken_total"), done(service)
    data = [picture(number) for number in range(1000, 1200)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda one: service.sent(one, event="99").status, data))
    assert found == [202] * 200 and service.metric("pictures_taken_total") == taken + 200
    service.until(lambda: done(service) == before + 200)


def done(service: Hooked) -> int:
    """How many pictures were looked at, or had to make room."""
    return service.metric("pictures_looked_at_total") + service.metric("pictures_dropped_total")


def test_the_document_names_the_routes(service: Hooked) -> None:
    """With the fields and every status that is answered."""
    document = service.ask("GET", "/openapi.json").json
    route = document["paths"][PATH]
    shape = route["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(shape["properties"]) == {*hook_forms.FIELDS, "image"} and list(route) == ["post"]
    assert {"202", "400", "401", "413", "415", "422", "503"} <= set(route["post"]["responses"])
    assert list(document["paths"]["/v1/counts"]) == ["get"]


def test_schemathesis_finds_nothing_in_the_hooks(service: Hooked, tmp_path: Path) -> None:
    """As for the other routes (test_service_live.py)."""
    line = [
        str(PYTHON.with_name("schemathesis")), "run", f"http://127.0.0.1:{service.port}/openapi.json",
        "--include-path", PATH, "--include-path", "/v1/counts", "--header", f"X-API-Key: {BOTH}",
        "--max-examples", "30", "--workers", "1", "--no-color", "--seed", "1",
        "--exclude-checks", "positive_data_acceptance",
    ]  # fmt: skip
    found = subprocess.run(line, cwd=str(tmp_path), capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-8000:]
