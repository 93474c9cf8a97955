"""What clients send is taken apart as they mean it, and what nobody means is refused, in one pass over the bytes."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource

import pytest

from gpuhost.service import form
from gpuhost.service.asked import FIELDS

PHOTO = b"\xff\xd8 not really \r\n--other\r\n a photo \xff\xd9"
BOUNDARY = "x-1"


def body(*parts: tuple[str, bytes], boundary: str = BOUNDARY) -> bytes:
    """A form of parts, each with its header."""
    mark = b"--" + boundary.encode()
    whole = b"".join(mark + b"\r\n" + head.encode("utf-8") + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return whole + mark + b"--\r\n"


def parsed(data: bytes, kind: str = f"multipart/form-data; boundary={BOUNDARY}") -> form.Form:
    """The form that a body holds."""
    return form.parse(data, kind, FIELDS)


IMAGE = 'Content-Disposition: form-data; name="image"; filename="photo.jpg"'
KEY = 'Content-Disposition: form-data; name="api_key"'


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (IMAGE + "\r\nContent-Type: image/jpeg", "photo.jpg"),  # curl, Postman, Home Assistant
        ('Content-Disposition: form-data; name="image"; filename="image"', "image"),  # Frigate: no Content-Type
        ("Content-Disposition: form-data; name=image; filename=a.jpg; filename*=utf-8''b.jpg", "a.jpg"),  # .NET
        ('content-disposition:form-data;name="image"', ""),
        (
            'Content-Type: image/jpeg\r\nContent-Disposition: form-data; filename="C:\\tmp\\a.jpg"; name="image"',
            "C:\\tmp\\a.jpg",
        ),
        ('Content-Disposition: form-data; name="image"; filename="say \\"x\\".jpg"', 'say "x".jpg'),
        ('Content-Disposition: form-data; name="image"; filename="../../etc/passwd"', "../../etc/passwd"),
        ("Content-Disposition: form-data; junk; name=image", ""),
    ],
)
def test_the_picture_is_found_whoever_sends_it(head: str, name: str) -> None:
    found = parsed(body((KEY, b"secret"), (head, PHOTO)))
    assert found == form.Form(PHOTO, name, {"api_key": "secret"})


@pytest.mark.parametrize("boundary", ["a", "b" * 70, "a b", "'()+_,-./:=?"])
def test_boundaries_that_are_allowed(boundary: str) -> None:
    assert (
        parsed(body((IMAGE, PHOTO), boundary=boundary), f'multipart/form-data; boundary="{boundary}"').picture == PHOTO
    )


def test_a_part_without_a_header_and_fields_that_nobody_asked_for_are_passed_over() -> None:
    mark = b"--x-1\r\n"
    data = mark + b"\r\nloose\r\n" + body(('Content-Disposition: form-data; name="a\0b"', b"1"), (IMAGE, PHOTO))
    assert parsed(data) == form.Form(PHOTO, "photo.jpg", {})


@pytest.mark.parametrize("kind", ["image/jpeg", "IMAGE/PNG", "application/octet-stream", ""])
def test_a_picture_alone(kind: str) -> None:
    assert parsed(PHOTO, kind) == form.Form(PHOTO, "", {})


def test_what_stands_behind_the_end_is_not_looked_at() -> None:
    assert parsed(body((IMAGE, PHOTO)) + b"\r\n--x-1\r\n" * 10).picture == PHOTO


@pytest.mark.parametrize(
    ("data", "kind", "status", "words"),
    [
        (body((IMAGE, PHOTO)), "multipart/form-data", 400, "no boundary"),
        (body((IMAGE, PHOTO)), "multipart/form-data; boundary=" + "b" * 71, 400, "longer than 70"),
        (body((IMAGE, PHOTO)), 'multipart/form-data; boundary="a\nb"', 400, "has others than it may"),
        (body((IMAGE, PHOTO)), 'multipart/form-data; boundary="a "', 400, "has others than it may"),
        (b"\r\n" + body((IMAGE, PHOTO)), None, 400, "does not begin with its boundary"),
        (body((IMAGE, PHOTO))[:-8], None, 400, "cut off"),
        (b"--x-1\r\n" + IMAGE.encode(), None, 400, "no end of its header"),
        (b"--x-1 junk\r\n\r\n", None, 400, "damaged behind a boundary"),
        (body((IMAGE, PHOTO), (IMAGE, PHOTO)), None, 400, "image twice"),
        (body((KEY, b"1"), (KEY, b"2")), None, 400, "api_key twice"),
        (body((KEY, b"k" * 4097)), None, 400, "longer than 4096"),
        (body((KEY, b"\xff")), None, 400, "not UTF-8"),
        (body((IMAGE + "\r\nContent-Transfer-Encoding: base64", PHOTO)), None, 400, "is encoded"),
        (body(*[(KEY.replace("api_key", f"n{n}"), b"") for n in range(33)]), None, 400, "more than 32 parts"),
        (PHOTO, "application/x-www-form-urlencoded", 415, "form without files"),
        (PHOTO, "text/plain", 415, "is not taken"),
    ],
)
def test_what_nobody_means_is_refused(data: bytes, kind: str | None, status: int, words: str) -> None:
    with pytest.raises(form.Unfit, match=words) as caught:
        parsed(data, *([] if kind is None else [kind]))
    assert caught.value.status == status


SIZE = 16 << 20
HOSTILE = {
    "preamble": b"\r\n" * (SIZE // 2),
    "epilogue": body((IMAGE, PHOTO)) + b"\r\n" * (SIZE // 2),
    "header": b"--x-1\r\nA: " + b"a" * SIZE,
    "headers": b"--x-1\r\n" + b"a:b\r\n" * (SIZE // 5),
    "parts": b"--x-1\r\n\r\n\r\n" * (SIZE // 11),
    "near boundaries": b"--x-1\r\n" + IMAGE.encode() + b"\r\n\r\n" + b"\r\n--x-" * (SIZE // 7) + b"\r\n--x-1--",
    "carriage returns": b"--x-1\r\n" + IMAGE.encode() + b"\r\n\r\n" + b"\r" * SIZE,
    "blanks": b"--x-1" + b" " * SIZE,
}


HEADERS = ('multipart/form-data; boundary="' + "a" * 60000, "a;" + ";x=" * 20000, 'a; b="' + '\\"' * 30000)
#: Seconds of the CPU for all of them together. What this replaces took 5 to 22 for each.
LIMIT_S = 10


def take_all() -> None:
    """Take every hostile body and header apart."""
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
    for data in HOSTILE.values():
        with contextlib.suppress(form.Unfit):
            parsed(data)
    for header in HEADERS:
        form.value_of(header)


def test_hostile_bodies_and_headers_cost_one_pass() -> None:
    """The kernel ends a process that takes longer than its share of the CPU."""
    child = multiprocessing.get_context("fork").Process(target=take_all)
    child.start()
    child.join()
    assert child.exitcode == 0
