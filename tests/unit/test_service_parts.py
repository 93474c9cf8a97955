"""What of the service needs no server: settings, keys, pixel budget, health, its tree, and what it may not use."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List

import pytest

from gpuhost.diagnoses import table
from gpuhost.errors import GpuhostError, UsageError
from gpuhost.host import store
from gpuhost.host.pairs import judge as pairs_judge
from gpuhost.host.watch import read as watch_read
from gpuhost.service import health as service_health
from gpuhost.service import keys as service_keys
from gpuhost.service import settings as service_settings
from gpuhost.service.answers import Refused
from gpuhost.service.asked import query_of, seconds_of
from gpuhost.service.decode import Budget
from gpuhost.service.health import Health
from gpuhost.shipping import tree
from gpuhost.yolo.native import Listener
from gpuhost.yolo.table import DeviceError

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "src" / "gpuhost" / "service"
MODEL = {"name": "yolov4-tiny", "kind": "published", "weights": "synthetic", "size": 416}
GOOD: Dict[str, Any] = {
    "schema": 1, "device": "cpu", "models": [MODEL], "default_model": "yolov4-tiny", "work": "/w", "keys": "/k",
}  # fmt: skip


def test_settings_that_are_right() -> None:
    found = service_settings.checked(GOOD)
    assert (found.depth, found.decoders, found.deadline_s, found.body_bytes) == (16, 2, 30.0, 16 << 20)
    assert (found.pixels, found.scans, found.confidence, found.max_predictions) == (25_000_000, 64, 0.4, 20)
    assert found.records == Path("/opt/gpuhost/state") and found.hooks == {} and found.keys == Path("/k")
    own = {
        "name": "mine",
        "kind": "cfg",
        "cfg": "/a.cfg",
        "weights": "/a.weights",
        "names": "/a.names",
        "size": [416, 320],
    }
    exported = {"name": "v8", "kind": "onnx", "onnx": "/v8.onnx", "sha256": {"/v8.onnx": "a" * 64}}
    found = service_settings.checked({**GOOD, "models": [MODEL, own, exported], "deadline_s": 2, "generation": 7})
    assert [one.size for one in found.models] == [416, (416, 320), None]
    assert (found.deadline_s, found.generation) == (2.0, 7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema 2"),
        ({"depth": 0}, "depth to be a whole number from 1 to 256"),
        ({"depth": True}, "depth"),
        ({"depth": 1.5}, "depth"),
        ({"confidence": 1.1}, "confidence to be a number from 0 to 1"),
        ({"work": "work"}, "absolute path"),
        ({"models": []}, "1 to 8 models"),
        ({"models": [MODEL, MODEL]}, "two models of one name"),
        ({"models": [{**MODEL, "name": "../x"}]}, "with the name"),
        ({"models": [{**MODEL, "kind": "torch"}]}, "of the kind 'torch'"),
        ({"models": [{**MODEL, "cfg": "/a.cfg"}]}, "with cfg"),
        ({"models": [{"name": "a", "kind": "cfg", "cfg": "/a.cfg"}]}, "without weights"),
        ({"models": [{"name": "a", "kind": "cfg", "cfg": "/a.cfg", "weights": "synthetic"}]}, "cannot be made"),
        ({"models": [{**MODEL, "size": 8}]}, "size"),
        ({"models": [{**MODEL, "sha256": {"/a": "short"}}]}, "no SHA-256"),
        ({"default_model": "x"}, "have no model x"),
        ({"device": "auto"}, "may be the CPU"),
        ({"generation": "1"}, "generation"),
        ({"hooks": []}, "hooks"),
        ({"depht": 4}, "depht"),
    ],
)
def test_settings_that_are_wrong(change: Dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        service_settings.checked({**GOOD, **change})


@pytest.mark.parametrize("name", sorted(GOOD))
def test_settings_that_lack_something(name: str) -> None:
    with pytest.raises(UsageError, match=f"lack {name}"):
        service_settings.checked({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": NaN}', '{"a": 1, "a": 2}'])
def test_settings_that_are_no_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"settings\.json"):
        service_settings.read(path)
    with pytest.raises(UsageError, match="There are no settings"):
        service_settings.read(tmp_path / "none")


def row(name: str, text: str, *kinds: str) -> Dict[str, Any]:
    """A key as the host keeps it."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"name": name, "sha256": digest, "created": "2026-11-29T00:00:00Z", "kinds": list(kinds)}


def write(path: Path, *rows: Dict[str, Any]) -> None:
    """Write a file of keys whole, as the host does: a new file takes the name."""
    made = path.with_suffix(".new")
    made.write_text(json.dumps({"schema": 1, "keys": rows}))
    made.replace(path)


def test_keys_open_what_they_are_for(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write(path, row("phone", "one", "detect"), row("camera", "two", "hook", "detect"))
    keys = service_keys.Keys(path)
    assert keys.name_of("one", "detect") == "phone" and keys.name_of("one", "hook") is None
    assert keys.name_of("two", "hook") == keys.name_of("two", "detect") == "camera"
    for text in ("", "three", "ONE", row("phone", "one")["sha256"], "o" * 257, "\ud800"):
        assert keys.name_of(text, "detect") is None
    write(path, row("camera", "two", "detect"))
    assert keys.name_of("one", "detect") is None
    assert service_keys.Keys(None).are_needed is False


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 1, "keys": [{"name": "a"}]}', '{"schema": 2, "keys": []}'])
def test_a_file_of_keys_that_is_damaged_lets_nobody_in(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    write(path, row("phone", "one", "detect"))
    keys = service_keys.Keys(path)
    assert keys.name_of("one", "detect") == "phone"
    path.write_text(text)
    for _ in range(2):
        with pytest.raises(service_keys.KeysProblem, match="cannot be read"):
            keys.name_of("one", "detect")
    path.unlink()
    with pytest.raises(service_keys.KeysProblem):
        keys.name_of("one", "detect")


def test_every_key_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever is right: the time must not tell where it stands."""
    path = tmp_path / "keys.json"
    write(path, *[row(f"k{n}", f"text {n}", "detect") for n in range(5)])
    compared: List[Any] = []
    real = service_keys.hmac.compare_digest
    monkeypatch.setattr(service_keys.hmac, "compare_digest", lambda *pair: (compared.append(pair), real(*pair))[1])
    keys = service_keys.Keys(path)
    for number in (0, 4, 9):
        compared.clear()
        keys.name_of(f"text {number}", "detect")
        assert len(compared) == 5


def test_the_pixels_that_are_decoded_at_once_have_a_bound() -> None:
    budget, held, order = Budget(100), threading.Event(), []  # type: ignore[var-annotated]

    def second() -> None:
        held.wait()
        with budget.share(60):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with budget.share(60):
        held.set()
        with budget.share(40):  # beside the first
            thread.join(0.05)
            order.append("first")
    thread.join()
    assert order == ["first", "second"]
    with budget.share(10**9):  # more than all is all
        assert budget._free == 0


def test_who_has_to_be_alone_is_not_kept_out_by_callers_that_overlap() -> None:
    """Two callers of whom one is always inside, as each leaves only when the other has come back; a third whose picture
    is damaged is done again alone all the same.
    """
    listener, stop, turn, entered = Listener(), threading.Event(), threading.Condition(), [0, 0]

    def inside(own: int) -> None:
        with turn:
            entered[own] += 1
            turn.notify_all()
            turn.wait_for(lambda: entered[1 - own] >= entered[own] + own, 0.5)

    def overlap(own: int) -> None:
        while not stop.is_set():
            listener.call(lambda: inside(own))

    threads = [threading.Thread(target=overlap, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    done: List[str] = []
    damaged = threading.Thread(
        target=lambda: done.append(listener.call(lambda: os.write(2, b"Corrupt JPEG data: premature end\n"))[1])
    )
    damaged.start()
    damaged.join(20)
    kept_out = damaged.is_alive()
    stop.set()
    for thread in (*threads, damaged):
        thread.join()
    assert (kept_out, done) == (False, ["Corrupt JPEG data: premature end\n"])


# Health


@pytest.fixture
def diagnosed(tmp_path: Path) -> Path:
    """The table that travels with the service."""
    path = tmp_path / "diagnoses.json"
    path.write_text(json.dumps(tree.diagnoses()))
    return path


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        (DeviceError("not_built", "This OpenCV was built without CUDA.", "Build it."), "D18"),
        (DeviceError("no_card", "It finds no card (device count 0).", "Look."), "D29"),
        (
            DeviceError("refused", "OpenCV refuses: no kernel image is available for execution on the device", "?"),
            "D17",
        ),
        (DeviceError("refused", "CUDA driver version is insufficient for CUDA runtime version", "?"), "D15"),
        (DeviceError("wrong_output", "The output is 1e+00 away from the CPU's.", "Look."), None),
        (GpuhostError("There is no file.", "Copy it."), None),
    ],
)
def test_a_refusal_names_the_diagnosis(tmp_path: Path, diagnosed: Path, problem: GpuhostError, name: Any) -> None:
    health = Health(tmp_path, diagnosed)
    health.refuse(problem)
    found = health.answer(detail=True)
    assert (found["diagnosis"], found["reason"]) == (name, problem.message)
    assert service_health.VERIFY in found["remedy"]
    assert health.answer(detail=False) == {"ready": False, "state": "refused"}


def test_what_the_watch_found_comes_first(tmp_path: Path, diagnosed: Path) -> None:
    health = Health(tmp_path, diagnosed)
    health.fail("unknown error")
    record = {"findings": [{"id": "guard.holds", "what": "not on hold: a"}, {"id": "driver.match", "what": "\x1b[2J"}]}
    (tmp_path / "watch.json").write_text(json.dumps(record))
    found = health.answer(detail=True)
    assert found["diagnosis"] in ("D01", "D02") and len(found["watch"]) == 2 and "\x1b" not in str(found)
    health.prove()
    assert health.answer(detail=True) == {"ready": True, "state": "ready"}


def test_an_update_that_was_undone_is_told_to_those_who_may_know(tmp_path: Path, diagnosed: Path) -> None:
    """Of a service that is ready as well; a damaged record is passed over."""
    record = pairs_judge.fresh({"kernel": "6.1", "version": "550.1"}, {"kernel": "6.2", "version": "550.1"}, "1")
    record = pairs_judge.noted(record, pairs_judge.Step(pairs_judge.UNDO, "it did\x1b[2J not come up"), "2")
    place, health = tmp_path / "pair.json", Health(tmp_path, diagnosed)
    place.write_text(json.dumps(record))
    health.prove()
    told = health.answer(detail=True)["update"]
    assert "kernel 6.2" in told and "not come up" in told and "\x1b" not in told
    assert health.answer(detail=False) == {"ready": True, "state": "ready"}
    for damaged in ("", "[]", json.dumps({**record, "old": {}})):
        place.write_text(damaged)
        assert health.answer(detail=True) == {"ready": True, "state": "ready"}


def test_what_the_watch_names_itself_is_the_diagnosis(tmp_path: Path, diagnosed: Path) -> None:
    """However long the list of packages is that stands before it."""
    told = "; ".join(f"linux-modules-nvidia-525-5.4.0-15{n}-generic is {'9' * 20}, installed was 525" for n in range(4))
    follows = "so nvidia-smi and CUDA fail (D01: loaded is 525.105.17, the library is 525.125.06)"
    record = {"findings": [{"id": "driver.installed", "what": f"{told}; 20 more; {follows}"}]}
    (tmp_path / "watch.json").write_text(json.dumps(record))
    health = Health(tmp_path, diagnosed)
    health.refuse(DeviceError("no_card", "It finds no card (device count -1).", "Look."))
    found = health.answer(detail=True)
    assert found["diagnosis"] == "D01" and found["watch"][0].endswith(follows)
    record["findings"][0]["id"] = "service.ready"
    (tmp_path / "watch.json").write_text(json.dumps(record))
    assert health.answer(detail=True)["diagnosis"] == "D29", "its own words come back to it there"


@pytest.mark.parametrize(("is_gone", "name"), [(True, "D38"), (False, None)])
def test_no_device_is_named_by_the_bus_alone(
    tmp_path: Path, diagnosed: Path, monkeypatch: pytest.MonkeyPatch, is_gone: bool, name: Any
) -> None:
    """CUDA has the same words for a card that is gone, a module that is missing, nouveau, and more."""
    monkeypatch.setattr(service_health, "has_no_card", lambda: is_gone)
    health = Health(tmp_path, diagnosed)
    health.fail("no CUDA-capable device is detected")
    assert health.answer(detail=True)["diagnosis"] == name


def test_the_build_is_named_whatever_the_watch_saw(tmp_path: Path, diagnosed: Path) -> None:
    """A record of the time before the last boot must not hide that this OpenCV cannot use any card."""
    record = {"findings": [{"id": "driver.loaded", "what": "the nvidia module is not loaded"}]}
    (tmp_path / "watch.json").write_text(json.dumps(record))
    health = Health(tmp_path, diagnosed)
    health.refuse(DeviceError("not_built", "This OpenCV was built without CUDA.", "Build it."))
    assert health.answer(detail=True)["diagnosis"] == "D18"


@pytest.mark.parametrize("text", ["", "[]", '{"findings": 1}', '{"findings": [1, {}, {"id": "x"}]}'])
def test_a_damaged_record_still_gives_an_answer(tmp_path: Path, diagnosed: Path, text: str) -> None:
    (tmp_path / "watch.json").write_text(text)
    health = Health(tmp_path, diagnosed)
    health.fail("it burns")
    assert health.answer(detail=True)["diagnosis"] is None


def test_the_names_that_the_service_shares_with_the_host() -> None:
    assert Path(watch_read.RECORD).name == service_health.WATCHED
    named = {*service_health.OF_BUILD.values(), *service_health.OF_DEVICE.values(), service_health.OF_NONE}
    assert named <= set(table.BY_ID)
    assert service_health.OF_ANYTHING in table.BY_ID[service_health.OF_NONE].messages
    assert tree.diagnoses()["checks"]["driver.match"] == "D01"


# The tree


def test_the_tree_runs_alone(tmp_path: Path) -> None:
    """From a store, by a Python that sees nothing else of the project; without a server it says what is missing."""
    found = tree.program("service")
    store.write_tree(tmp_path / "service", found["files"], found["digest"])
    (tmp_path / "settings.json").write_text(json.dumps({**GOOD, "keys": None, "work": str(tmp_path)}))
    start = [sys.executable, "-I", "-B", str(tmp_path / "service" / tree.SERVICE_LAUNCHER)]
    rest = ["--settings", str(tmp_path / "settings.json")]
    done = subprocess.run([*start, "check", *rest], capture_output=True, text=True, check=False, cwd=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        [*start, "serve", *rest, "--bind", "127.0.0.1:1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 7 and "lacks what the service needs" in done.stderr and "Traceback" not in done.stderr
    rooms = {name.split("/")[1] for name in found["files"] if name.count("/") > 1}
    assert rooms == {"service", "yolo", "host", "data"}


# What it may not use


@pytest.mark.parametrize(
    "word",
    ["UploadFile", r"\.form()", "FileResponse", "StaticFiles", "request.url", "python_multipart", "import multipart"],
)
def test_what_has_holes_in_old_releases_is_not_used(word: str) -> None:
    """Each of these reaches a known hole of the newest starlette and python-multipart that Python 3.8 can have."""
    for path in SERVICE.glob("*.py"):
        assert word.replace("\\", "") not in path.read_text(encoding="utf-8"), path.name
    for path in (ROOT / "requirements").glob("service.*"):
        assert "multipart" not in path.read_text(encoding="utf-8")


# What is asked


@pytest.mark.parametrize("raw", [b"api_key=x", b"a=1&Token=x", b"a=1&a=2", b"%ff", b"\xff=1", b"&".join([b"a=1"] * 17)])
def test_queries_that_are_refused(raw: bytes) -> None:
    with pytest.raises(Refused) as caught:
        query_of(raw + b"&b=%ff" if raw == b"%ff" else raw)
    assert caught.value.status == 400


def test_a_deadline_is_never_longer_than_the_setting() -> None:
    assert seconds_of(None, 30) == seconds_of("", 30) == seconds_of("31", 30) == seconds_of("1e9", 30) == 30
    assert seconds_of("2.5", 30) == 2.5
