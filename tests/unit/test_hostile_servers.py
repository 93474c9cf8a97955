"""Servers that lie, stall, send without end or lead astray: a real https server, hostile in each way."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

from gpuhost.cvbuild import sources
from gpuhost.errors import ArtifactError, EnvironmentProblem, GpuhostError
from gpuhost.host import download as artifacts
from gpuhost.host import https
from gpuhost.host.download import obtain, place

from .vendor import CONTENT, Vendor

MB = 1 << 20


@pytest.fixture
def other(signed: Tuple[Path, Path]) -> Iterator[Vendor]:
    """A server of another origin: the same machine, another port."""
    with Vendor(*signed) as made:
        yield made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache."""
    return tmp_path / "cache"


def answer(*headers: str, body: bytes = b"", status: str = "200 OK") -> bytes:
    """An answer as it goes over the wire."""
    return "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *headers, "", ""]).encode() + body


def endless(*headers: str, block: bytes = b"x" * MB) -> Iterator[bytes]:
    """An answer whose body has no end."""
    return itertools.chain([answer(*headers)], itertools.repeat(block))


def begun(cache: Path, file: Dict[str, Any], have: bytes) -> Path:
    """What an earlier run has left of a file."""
    part = place(cache, file).with_name(file["name"] + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(have)
    return part


def files(folder: Path) -> List[str]:
    """The files below a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Transfer-Encoding: chunked",),
        (f"Content-Length: {10**14}",),
        (f"Content-Length: {len(CONTENT) + 1}",),
        (f"Content-Length: {len(CONTENT) - 1}",),
    ],
    ids=["no length", "chunked", "absurd length", "one byte more", "one byte less"],
)
def test_the_size_of_the_lock_is_a_cap(vendor: Vendor, cache: Path, headers: Tuple[str, ...]) -> None:
    """A body without end is cut off, and nothing of it stays; more than the size is not even begun."""
    file = {**vendor.offer(), "size": len(CONTENT)}
    block = b"100000\r\n" + b"x" * MB + b"\r\n" if headers == ("Transfer-Encoding: chunked",) else b"x" * (MB - 7)
    written: List[int] = []

    def say(_: str) -> None:
        written.extend(path.stat().st_size for path in cache.rglob("*.part"))

    vendor.faults = [endless(*headers, block=block)]
    with pytest.raises(
        ArtifactError, match="is refused: it offers" if "Length" in "".join(headers) else "is not the file"
    ) as told:
        obtain(cache, file, say=say)
    assert told.value.exit_code == 6
    assert max(written, default=0) <= len(CONTENT)
    assert files(cache) == [] and len(vendor.asked) == 1


def test_a_file_whose_size_nobody_knows_has_a_cap_too(
    vendor: Vendor, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the lock nor the server says how much it is."""
    monkeypatch.setattr(artifacts, "LARGEST", 3 * MB)
    vendor.faults = [endless()]
    with pytest.raises(ArtifactError, match=f"it has {3 * MB} bytes and does not end"):
        obtain(cache, vendor.offer())
    vendor.faults = [endless(f"Content-Length: {4 * MB}")]
    with pytest.raises(ArtifactError, match=f"it offers {4 * MB} bytes"):
        obtain(cache, vendor.offer())
    assert files(cache) == []


@pytest.mark.parametrize("value", ["abc", "-1", "+5", "5 5", "", "0x10", "1" * 400, "5\r\nContent-Length: 6"])
def test_a_length_that_is_none(vendor: Vendor, cache: Path, value: str) -> None:
    """It is refused in one sentence, with no traceback; two of them as well."""
    vendor.faults = [answer(f"Content-Length: {value}", body=CONTENT)]
    with pytest.raises(ArtifactError, match="is refused: its Content-Length is") as told:
        obtain(cache, vendor.offer())
    assert len(str(told.value)) < 500 and files(cache) == []


HALF = len(CONTENT) // 2
REST, WHOLE = len(CONTENT) - HALF, len(CONTENT)


@pytest.mark.parametrize(
    "said",
    [
        f"bytes {HALF + 1}-{WHOLE - 1}/{WHOLE}",
        f"bytes 0-{WHOLE - 1}/{WHOLE}",
        f"bytes {HALF}-{WHOLE - 2}/{WHOLE}",
        f"bytes {HALF}-{WHOLE}/{WHOLE + 1}",
        f"bytes {HALF}-{WHOLE - 1}/*",
        f"bytes */{WHOLE}",
        f"pages {HALF}-{WHOLE - 1}/{WHOLE}",
        f"bytes {HALF}-{WHOLE - 1}/{WHOLE} x",
        "",
        None,
    ],
)
def test_a_part_that_was_not_asked_for(vendor: Vendor, cache: Path, said: Optional[str]) -> None:
    """206 of another range, of another total, or that does not say of what: refused, and the next run begins afresh."""
    file = {**vendor.offer(), "size": WHOLE}
    begun(cache, file, CONTENT[:HALF])
    ranged = [] if said is None else [f"Content-Range: {said}"]
    # Beside its range the answer agrees with itself.
    first, last = map(int, re.findall(r"(\d+)-(\d+)", said or "0-0")[0] if "-" in (said or "") else (HALF, WHOLE - 1))
    body = (CONTENT + b"x")[first : last + 1]
    vendor.faults = [answer(*ranged, f"Content-Length: {len(body)}", body=body, status="206 Partial Content")]
    with pytest.raises(ArtifactError, match=r"is refused: it is a(nother)? part of the file|it offers"):
        obtain(cache, file)
    assert len(vendor.asked) == 1 and files(cache) == []
    assert obtain(cache, file) is True
    assert [wanted for _, wanted in vendor.asked] == [f"bytes={HALF}-", None]


@pytest.mark.parametrize("length", [REST - 1, REST + 1])
def test_a_part_whose_length_is_not_its_range(vendor: Vendor, cache: Path, length: int) -> None:
    """The two must agree before a byte is taken."""
    file = vendor.offer()
    begun(cache, file, CONTENT[:HALF])
    ranged = (f"Content-Range: bytes {HALF}-{WHOLE - 1}/{WHOLE}", f"Content-Length: {length}")
    vendor.faults = [answer(*ranged, body=CONTENT[HALF:] + b"x", status="206 Partial Content")]
    with pytest.raises(ArtifactError, match="another part of the file"):
        obtain(cache, file)


def test_the_right_part_is_taken_and_joined_at_its_place(vendor: Vendor, cache: Path) -> None:
    """A 206 of exactly what was asked: the first half is not fetched again, and not written over."""
    file = {**vendor.offer(), "size": WHOLE}
    begun(cache, file, CONTENT[:HALF])
    assert obtain(cache, file) is True
    assert [wanted for _, wanted in vendor.asked] == [f"bytes={HALF}-"]
    assert place(cache, file).read_bytes() == CONTENT


def test_a_part_without_having_asked(vendor: Vendor, cache: Path) -> None:
    """206 to a request of everything."""
    said = f"Content-Range: bytes 0-{WHOLE - 1}/{WHOLE}"
    vendor.faults = [answer(said, body=CONTENT, status="206 Partial Content")]
    with pytest.raises(ArtifactError, match="a part of the file that was not asked for"):
        obtain(cache, vendor.offer())


@pytest.mark.parametrize("status", ["204 No Content", "203 Of Somebody Else", "299 Odd"])
def test_another_success_is_none(vendor: Vendor, cache: Path, status: str) -> None:
    """Only 200 and 206 bring a file."""
    vendor.faults = [answer(body=CONTENT, status=status)]
    with pytest.raises(ArtifactError, match=f"its status is {status[:3]}"):
        obtain(cache, vendor.offer())


class Hours:
    """A clock by which every look takes half an hour."""

    def __init__(self) -> None:
        """Midnight."""
        self.now = 0.0

    def __call__(self) -> float:
        """Half an hour later."""
        self.now += 1800.0
        return self.now


@pytest.mark.parametrize("slow", ["headers", "body"])
def test_a_slow_answer_is_given_up(vendor: Vendor, cache: Path, monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    """A byte now and then holds nobody for ever, in the headers or the body; what has come is kept for later."""
    monkeypatch.setattr(https.time, "monotonic", Hours())
    drip = (bytes([byte]) for byte in itertools.cycle(b"X-More: x\r\n"))
    vendor.faults = [itertools.chain([b"HTTP/1.1 200 OK\r\n"], drip) if slow == "headers" else [answer(body=b"12345")]]
    with pytest.raises(EnvironmentProblem, match="is given up: the server sends less than 10 kB/s"):
        obtain(cache, vendor.offer())
    assert len(vendor.asked) == 1


def test_a_slow_start_and_a_fast_rest_is_no_slow_answer() -> None:
    """Only what is waited for counts: the mean over each minute of waiting."""
    ticks = iter([0.0, 59.0, 59.0, 59.5, 59.5, 61.0, 61.0, 121.0])
    raw = io.BytesIO(b"x" * (2 * MB))
    paced = https.Paced(raw, 4 * MB, lambda: next(ticks))
    assert paced.readinto(bytearray(10)) == 10
    assert paced.readinto(bytearray(MB)) == MB
    assert paced.readinto(bytearray(10)) == 10
    with pytest.raises(https.TooSlow):
        paced.readinto(bytearray(10))


def test_a_server_that_drops_after_each_few_bytes(vendor: Vendor, cache: Path) -> None:
    """A little in each try is not progress: the tries end."""
    file = {**vendor.offer(), "size": WHOLE}

    def piece(begin: int) -> bytes:
        ranged = [f"Content-Range: bytes {begin}-{WHOLE - 1}/{WHOLE}"] if begin else []
        status = "206 Partial Content" if begin else "200 OK"
        return answer(*ranged, f"Content-Length: {WHOLE - begin}", body=CONTENT[begin : begin + 5], status=status)

    vendor.faults = [piece(5 * number) for number in range(50)]
    with pytest.raises(EnvironmentProblem, match="could not be fetched: the connection ended after"):
        obtain(cache, file)
    assert len(vendor.asked) == 3


def test_headers_without_end(vendor: Vendor, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 Continue again and again, which http.client reads through for ever."""
    monkeypatch.setattr(artifacts, "LARGEST", MB)
    vendor.faults = [itertools.repeat(b"HTTP/1.1 100 Continue\r\nX-More: " + b"x" * 60000 + b"\r\n\r\n")]
    with pytest.raises(ArtifactError, match="is refused: it does not end"):
        obtain(cache, vendor.offer())


def test_redirects_are_few_and_https(vendor: Vendor, cache: Path) -> None:
    """Five are followed, a sixth is not; never to http, nor to what is not an address."""
    file = vendor.offer()
    vendor.faults = [file["url"]] * https.REDIRECTS
    assert obtain(cache, file) is True
    shutil.rmtree(str(cache))
    vendor.asked.clear()
    vendor.faults = [file["url"]] * 100
    with pytest.raises(ArtifactError, match="it leads on more than 5 times"):
        obtain(cache, file)
    assert len(vendor.asked) == 6
    for where in ("http://127.0.0.1:1/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "//[::1", "https://h:port/"):
        vendor.faults = [answer(f"Location: {where}", status="302 Found")]
        with pytest.raises(ArtifactError, match=r"not https|leads to none"):
            obtain(cache, file)
    assert files(cache) == []


def test_a_redirects_own_body_is_not_read(vendor: Vendor, cache: Path) -> None:
    """It may be endless; only where it leads counts."""
    file = vendor.offer()
    vendor.faults = [endless(f"Location: {file['url']}")]
    vendor.faults[0] = itertools.chain(
        [answer(f"Location: {file['url']}", status="302 Found")], itertools.repeat(b"x" * MB)
    )
    assert obtain(cache, file) is True


def test_another_origin_gets_no_login(vendor: Vendor, other: Vendor, cache: Path) -> None:
    """The checksum protects the file wherever it comes from; the password is for the address's own server."""
    file = vendor.offer()
    basic = "Basic " + base64.b64encode(b"jo:pa:ss/1").decode()
    file["url"] = file["url"].replace("://", "://jo:pa%3Ass%2F1@")
    assert obtain(cache, file) is True
    assert vendor.logins == [basic]
    shutil.rmtree(str(cache))
    other.files["/elsewhere"] = CONTENT
    vendor.files["/same"] = CONTENT
    vendor.faults = ["/same", f"{other.url}/elsewhere"]
    vendor.faults[0] = answer("Location: /same", status="307 Temporary Redirect")
    vendor.logins.clear()
    assert obtain(cache, file) is True
    assert vendor.logins == [basic, basic] and other.logins == [None]


def test_a_connection_that_breaks_is_no_disk_that_cannot_be_written(vendor: Vendor, cache: Path) -> None:
    """What the socket says while it is opened is the network's word."""
    file = vendor.offer()
    vendor.faults = [b"", b"SSH-2.0-other\r\n", b"HTTP/1.1 two hundred\r\n\r\n"]
    with pytest.raises(EnvironmentProblem, match="could not be fetched"):
        obtain(cache, file)
    assert len(vendor.asked) == 3


def sdist(names: Tuple[str, ...] = ("a-1/opencv/CMakeLists.txt",)) -> bytes:
    """A tarball."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return packed.getvalue()


def listed(vendor: Vendor, monkeypatch: pytest.MonkeyPatch, login: str = "") -> Dict[str, Any]:
    """A source row that is found on the vendor as pip's index."""
    file = vendor.offer("a-1.tar.gz")
    page = json.dumps({"files": [{"filename": "a-1.tar.gz", "url": "/v/a-1.tar.gz#sha256=1"}]}).encode()
    kind = "Content-Type: application/vnd.pypi.simple.v1+json"
    vendor.faults = [answer(kind, f"Content-Length: {len(page)}", body=page)]
    monkeypatch.setenv("PIP_INDEX_URL", vendor.url.replace("://", f"://{login}") + "/simple")
    return {"kind": "sdist", "package": "a", "file": "a-1.tar.gz", "sha256": file["sha256"]}


def test_the_builders_sources_come_the_same_way(vendor: Vendor, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index with a login, then the file from it; a second call asks nobody."""
    row = listed(vendor, monkeypatch, "jo:secret@")
    path = sources.obtain(row, cache)
    assert path.read_bytes() == CONTENT and files(cache) == ["a-1.tar.gz"]
    assert [login is not None for login in vendor.logins] == [True, True]
    assert sources.obtain(row, cache) == path and len(vendor.asked) == 2


@pytest.mark.parametrize("at", ["index", "file"])
def test_the_builders_sources_are_not_led_to_http(
    vendor: Vendor, cache: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Neither by the index nor by the file."""
    row = listed(vendor, monkeypatch)
    vendor.faults = ["http://127.0.0.1:1/x"] if at == "index" else [*vendor.faults, "http://127.0.0.1:1/x"]
    with pytest.raises(GpuhostError, match=r"\[B-sources-not-fetched\].*not https"):
        sources.obtain(row, cache)
    assert files(cache) == []


def test_an_index_without_end(vendor: Vendor, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page has a largest size as well."""
    row = listed(vendor, monkeypatch)
    monkeypatch.setattr(sources, "LARGEST_PAGE", MB)
    vendor.faults = [endless()]
    with pytest.raises(GpuhostError, match=r"\[B-sources-not-fetched\].*has more than 1048576 bytes"):
        sources.obtain(row, cache)


def test_a_full_disk_keeps_nothing_of_the_builders_sources(
    vendor: Vendor, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room is given back, and it is told as a full disk."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifacts, "receive", full)
    with pytest.raises(OSError, match="No space left"):
        sources.obtain(listed(vendor, monkeypatch), cache)
    assert files(cache) == []


def test_the_builder_takes_no_other_file(vendor: Vendor, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another checksum has its own id, and what is not there another one."""
    row = listed(vendor, monkeypatch)
    vendor.files["/v/a-1.tar.gz"] = b"other"
    with pytest.raises(ArtifactError, match=r"\[B-sources-tampered\]"):
        sources.obtain(row, cache)
    vendor.files.clear()
    with pytest.raises(EnvironmentProblem, match=r"\[B-sources-not-fetched\].*404"):
        sources.obtain({**row, "url": vendor.url + "/gone/a-1.tar.gz"}, cache)
    assert files(cache) == []
