"""What motionEye and Motion send: a picture is taken, and every other form is answered with what to type instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuhost.service import hook_forms
from gpuhost.service.form import Form, Unfit

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "motioneye" / "webhook.json").read_text(encoding="utf-8"))
JPEG = b"\xff\xd8\xff\xe0 a picture"
GOOD = {"key": "k", "camera": "1", "event": "07", "frame": "2026112914030500"}


def form(picture: Optional[bytes] = JPEG, name: str = "14-03-05.jpg", **changed: Any) -> Form:
    """A good form with some fields replaced; None leaves one out."""
    fields = {key: value for key, value in {**GOOD, **changed}.items() if value is not None}
    return Form(picture, name, fields)


def refused(**changed: Any) -> Unfit:
    """The refusal of a form."""
    with pytest.raises(Unfit) as told:
        hook_forms.sent(form(**changed))
    return told.value


def test_a_picture_is_taken() -> None:
    """The number 07 and 7 are one event; the picture's own bytes say whether it came before."""
    found = hook_forms.sent(form())
    assert (found.camera, found.event, found.order, found.data) == ("1", 7, 2026112914030500, JPEG)
    again = hook_forms.sent(form(name="other.jpg", frame=None, event="7"))
    assert (again.frame, again.event, again.order) == (found.frame, 7, None)
    assert hook_forms.sent(form(picture=JPEG + b"x")).frame != found.frame


@pytest.mark.parametrize("name", list(RECORDED["requests"]))
def test_what_motioneye_sends_is_answered_with_the_command_to_type(name: str) -> None:
    """Its web hook never holds a picture. The recording is of motionEye itself (tests/unit/test_hook_motioneye.py)."""
    row: Dict[str, str] = RECORDED["requests"][name]
    path, _, query = row["path"].partition("?")
    with pytest.raises(Unfit) as told:
        hook_forms.refuse_web_hook(row["method"], query, row["content_type"] or "", row["agent"])
    assert path == "/hooks/motioneye"
    assert told.value.status == 422 and hook_forms.COMMAND in told.value.next_step


@pytest.mark.parametrize(
    ("method", "query", "kind", "status"),
    [
        ("GET", "", "", 405),
        ("GET", "camera=1", "", 422),
        ("PUT", "", "multipart/form-data; boundary=x", 405),
        ("POST", "", "image/jpeg", 415),
        ("POST", "", "", 415),
        ("POST", "", "Application/JSON; charset=utf-8", 422),
    ],
)
def test_other_forms_are_refused_by_their_status(method: str, query: str, kind: str, status: int) -> None:
    """Each says what to type."""
    with pytest.raises(Unfit) as told:
        hook_forms.refuse_web_hook(method, query, kind)
    assert told.value.status == status and hook_forms.COMMAND in told.value.next_step


def test_a_form_of_curl_is_not_refused() -> None:
    """As curl writes its header."""
    hook_forms.refuse_web_hook("POST", "", "multipart/form-data; boundary=------------------------d74496d66958873e")


@pytest.mark.parametrize("query", ["key=S3CRET", "camera=1&API_KEY=S3CRET", "a;token=S3CRET".replace(";", "&"), "key="])
def test_a_key_in_the_address_opens_nothing_and_is_not_repeated(query: str) -> None:
    """Also beside a good form: it stands in logs by now."""
    with pytest.raises(Unfit) as told:
        hook_forms.refuse_web_hook("POST", query, "multipart/form-data; boundary=x")
    assert "S3CRET" not in f"{told.value} {told.value.next_step}" and "Revoke" in told.value.next_step


@pytest.mark.parametrize("camera", ["../../x", "a/b", "..", "", "a" * 41, "1\n", "\u0661", "a\0", "-x", "%2e"])
def test_a_camera_is_a_name_and_never_a_path(camera: str) -> None:
    """It becomes part of records and of what a person reads."""
    assert "camera" in refused(camera=camera).problem


@pytest.mark.parametrize("event", ["", "x", "-1", "1.5", "1" * 11, "1" * 100000, "\u0661", " 1", "1\n"])
def test_an_event_is_a_number(event: str) -> None:
    """Of a bounded length: it goes into a database as an integer."""
    assert "event" in refused(event=event).problem


@pytest.mark.parametrize(("field", "text"), [("camera", "%t"), ("event", "%v"), ("frame", "%Y%m%d%H%M%S%q")])
def test_what_motion_has_not_replaced_is_named(field: str, text: str) -> None:
    """Somebody has tried the command in a shell."""
    told = refused(**{field: text})
    assert told.status == 422 and text in told.problem


@pytest.mark.parametrize("frame", ["x", "", "1" * 33, "-5"])
def test_a_frame_is_a_number(frame: str) -> None:
    """It orders the pictures of an event."""
    assert "frame" in refused(frame=frame).problem


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (JPEG, "14-03-05.mp4"),
        (JPEG, "x.MKV"),
        (b"\0\0\0\x20ftypisom", "x.jpg"),
        (b"\x1aE\xdf\xa3 matroska", ""),
    ],
)
def test_a_movie_is_refused_as_one(data: bytes, name: str) -> None:
    """motionEye runs one command for pictures and for movies."""
    told = refused(picture=data, name=name)
    assert told.status == 415 and "movie" in told.problem


def test_no_picture_is_told_apart_from_an_empty_one() -> None:
    """At the start of an event Motion has no file yet."""
    assert "no field image" in refused(picture=None).problem
    assert refused(picture=b"").status == 422


@pytest.mark.parametrize("key", [None, "", "k" * 100000, "\u00e9"])
def test_a_key_that_cannot_be_one_is_refused_without_being_repeated(key: Optional[str]) -> None:
    """A megabyte is not hashed."""
    with pytest.raises(Unfit) as told:
        hook_forms.key_of(form(key=key))
    assert "field key" in told.value.problem and len(told.value.problem) < 100


@given(st.dictionaries(st.sampled_from(["camera", "event", "frame"]), st.text(max_size=50)), st.binary(max_size=20))
def test_any_form_is_taken_or_refused_in_one_line(fields: Dict[str, str], picture: bytes) -> None:
    """Nothing else is raised, and what is taken is as narrow as promised."""
    try:
        found = hook_forms.sent(Form(picture, "", fields))
    except Unfit as told:
        assert told.problem.isprintable() and 400 <= told.status < 500
    else:
        assert found.camera.replace("-", "").replace("_", "").isalnum() and 0 <= found.event < 10**10


def test_the_command_is_one_that_both_motions_run_alike() -> None:
    """Motion 5 starts it without a shell; motionEye cuts at each ; and takes ` webhook ` for its own."""
    assert not set(hook_forms.COMMAND) & set("'\";&|$`\\<>()*?#~")
    assert " webhook " not in hook_forms.COMMAND and " sendmail " not in hook_forms.COMMAND


def test_the_page_has_the_command() -> None:
    """People copy it from there or from a refusal."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "service-cameras.md").read_text(encoding="utf-8")
    assert f"\n    {hook_forms.COMMAND}\n" in page
