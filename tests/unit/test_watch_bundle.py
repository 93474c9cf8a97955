"""The support bundle: what must not be read in it is not in it, and what helps still is."""

from __future__ import annotations

import copy
import io
import json
import stat
import tarfile
from pathlib import Path
from typing import Any, Dict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuhost.redact import Redactor
from gpuhost.report import report
from gpuhost.report import support as report_bundle
from gpuhost.verification.collect import Host, Options

from .collected import gpu_host, judged

Json = Dict[str, Any]
SECRETS = {
    "host": "workstation7",
    "full name": "workstation7.corp.example",
    "inventory": "gpu-box-3",
    "user": "jdoe",
    "address": "10.20.30.41",
    "address 6": "fd00:1234::beef",
    "mapped": "::ffff:10.20.30.41",
    "uuid": "3f2b8c1e-1111-2222-3333-444455556666",
    "card": "GPU-9a8b7c6d-aaaa-bbbb-cccc-1234567890ab",
    "hardware": "52:54:00:12:34:56",
    "email": "jane.doe@corp.example",
    "server": "mirror.internal.corp",
    "password": "hunter2hunter2",
    "token": "ghp_abcdefghij0123456789",
    "serial": "1320217012345",
}
TEXTS = [
    "deb http://jdoe:hunter2hunter2@mirror.internal.corp/ubuntu bionic main",
    'Acquire::http::Proxy "http://jdoe:hunter2hunter2@10.20.30.41:3128/";',
    "machine mirror.internal.corp login jdoe password hunter2hunter2",
    "Authorization: Bearer ghp_abcdefghij0123456789",
    "export API_TOKEN=ghp_abcdefghij0123456789; PGPASSWORD='hunter2hunter2'",
    "https://mirror.internal.corp/x?token=ghp_abcdefghij0123456789&a=1",
    "/home/jdoe/models and jane.doe@corp.example on workstation7.corp.example (10.20.30.41, fd00:1234::beef)",
    "inet6 fd00:1234::beef/64 link/ether 52:54:00:12:34:56, ::ffff:10.20.30.41",
    "GPU-9a8b7c6d-aaaa-bbbb-cccc-1234567890ab, UUID=3f2b8c1e-1111-2222-3333-444455556666",
    "Serial Number: 1320217012345",
    "WORKSTATION7: gpu-box-3 says jdoe@workstation7:~$",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2hunter2\n-----END OPENSSH PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\nhunter2hunter2 cut off",
]
LATE, LATE_USER = "late.internal.corp", "mmuster"
KEPT = [
    "linux-generic 4.15.0.213.196",
    "cuDNN 8.6.0.163",
    "525.105.17-0ubuntu0.18.04.1",
    "0000:01:00.0 10de:1c30",
    "http://archive.ubuntu.com/ubuntu bionic main",
    "https://developer.download.nvidia.com/compute/x.run",
    "127.0.0.1 and ::1 and localhost",
    "2026-01-02T03:04:05Z, 12:34:56",
    "sha256 325f0273957f658571266f7c91be39f16130e3a7ff735c91c9dd618c8d4b464d",
    "store/cuda-11.8.0-0123456789ab",
    "./run ansible-playbook site.yml",
]


def redactor() -> Redactor:
    """One that knows what a bundle's knows."""
    return Redactor(["workstation7", "gpu-box-3"], ["jdoe"], ["8.6.0.163"])


def leaks(text: str) -> list[str]:
    """Which secrets can be read in a text."""
    return [name for name, secret in SECRETS.items() if secret.lower() in text.lower()]


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_of_it_is_left(text: str) -> None:
    """In the forms in which such things stand in files, logs and command lines."""
    clean = redactor().text(text)
    assert leaks(clean) == [], clean
    assert redactor().text(clean) == clean


@pytest.mark.parametrize("text", KEPT)
def test_what_helps_is_left(text: str) -> None:
    """Versions, PCI addresses, public servers, times, checksums."""
    assert redactor().text(text) == text


def test_the_same_thing_has_the_same_stand_in() -> None:
    """So that what belongs together can still be seen, in whatever case it is written."""
    clean = redactor()
    first = clean.text("10.20.30.41 10.20.30.42 10.20.30.41")
    assert first == "address-1 address-2 address-1"
    assert clean.text("WORKSTATION7") == clean.text("workstation7") == clean.text("workstation7.corp.example")
    assert clean.counts["address"] == 2


def test_keys_and_fields_that_name_a_secret() -> None:
    """Whatever they hold."""
    found = redactor().value({"serial": 1320217012345, "workstation7": [{"password": "x y"}], "on": True, "n": None})
    assert "1320217012345" not in json.dumps(found) and "x y" not in json.dumps(found)
    assert found["on"] is True and found["n"] is None and "workstation7" not in json.dumps(found)


WORDS = st.text(alphabet=" \n\t,;()[]'\"", min_size=1, max_size=3)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    parts=st.lists(
        st.tuples(WORDS, st.sampled_from(sorted(set(SECRETS) - {"password", "token", "serial"}))), max_size=6
    )
)
def test_between_any_marks(parts: list[tuple[str, str]]) -> None:
    """Names and addresses between blanks, quotes and brackets."""
    text = "".join(mark + SECRETS[name] + mark for mark, name in parts)
    known = Redactor(["workstation7", "gpu-box-3", "mirror.internal.corp"], ["jdoe"])
    assert leaks(known.text(text)) == []


@settings(deadline=None, derandomize=True, max_examples=200)
@given(text=st.text(max_size=60))
def test_any_text_can_be_redacted_twice(text: str) -> None:
    """Total, and the second time nothing is left to do."""
    clean = redactor().text(text)
    assert Redactor(["workstation7", "gpu-box-3"], ["jdoe"], ["8.6.0.163"]).text(clean) == clean


def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle of a host whose every corner holds a secret."""
    monkeypatch.setenv("SUDO_USER", "jdoe")
    seen = copy.deepcopy(gpu_host())
    observation = seen["machine"]["observation"]
    observation["hostname"] = "workstation7"
    observation["gpus"][0]["uuid"] = SECRETS["card"]
    for text in TEXTS:
        observation["problems"].append({"what": text, "error": text})
        observation["apt"]["problems"].append({"file": text, "line": 1, "text": text, "error": text})
        seen["environments"]["dl4cv"]["packages"][text] = [text]
    # Learned from the last file, and met as a mere word in the first.
    observation["problems"].append({"what": LATE, "error": "It gave no answer."})
    seen["benchmark"]["yolov3"]["source"] = f"https://{LATE}/photos of /home/{LATE_USER}"
    observation["problems"].append({"what": "owner", "error": LATE_USER})
    seen["machine"]["installed"]["serial"] = SECRETS["serial"]
    host = Host("gpu-box-3", lambda command: (1, "", ""), tmp_path / "none.json", Options())
    host.seen = {**seen, "host": "gpu-box-3"}
    host.results = judged(host.seen)
    made = report.make(host, 0.0)
    report.write(made, tmp_path / "reports" / "gpu-box-3")
    return report_bundle.write(host, made, tmp_path / "reports" / "gpu-box-3")


def test_a_bundle_of_a_host_full_of_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them in any file or in the archive's own fields; every file is listed; only its owner reads it."""
    path = bundle(tmp_path, monkeypatch)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
        members = tar.getmembers()
        files = {m.name.partition("/")[2]: tar.extractfile(m).read().decode() for m in members}  # type: ignore[union-attr]
    assert [(m.uname, m.gname, m.uid, m.mtime) for m in members] == [("", "", 0, 0)] * len(members)
    assert set(files) == {report_bundle.README, *report_bundle.ABOUT}
    for name, text in files.items():
        assert leaks(text) == [], name
        assert LATE not in text and LATE_USER not in text, name
        if name != report_bundle.README:
            json.loads(text)
        assert name in files[report_bundle.README] or name == report_bundle.README
    machine = json.loads(files["machine.json"])
    assert machine["observation"]["kernel"]["boots"] == "4.15.0-213-generic"
    assert machine["installed"]["guard"]["stack"]["linux-generic"] == "4.15.0.213.196"
    assert json.loads(files["lock.json"])["plan"]["cudnn"]["version"] == "8.6.0.163"
    assert "x host" in files[report_bundle.README] and "x uuid" in files[report_bundle.README]


def test_the_same_bundle_twice_is_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells nothing of when and where it was packed."""
    first = bundle(tmp_path, monkeypatch).read_bytes()
    (tmp_path / "again").mkdir()
    assert bundle(tmp_path / "again", monkeypatch).read_bytes()[10:] == first[10:]
