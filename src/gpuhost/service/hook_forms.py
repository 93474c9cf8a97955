"""What motionEye and Motion send when something moves, and what each form is answered with. Pure.

motionEye's own "Call A Web Hook" never carries a picture, so its four forms are recognised and answered with the
command to type instead. That command is Motion's, run for each file it has saved: curl with the fields below.
docs/how-to/service-cameras.md shows both, tests/data/motioneye holds what motionEye 0.44.0 really sent.
"""

import hashlib
import re
from typing import NamedTuple, Optional
from urllib.parse import parse_qsl

from ..text import printable
from .asked import SECRETS
from .form import PICTURE, Form, Unfit
from .hook_settings import CAMERA

#: The command for motionEye's "Run A Command": no quotes, no spaces in values, no & and no ;, because Motion 5 starts
#: it without a shell and motionEye cuts it at each ;.
COMMAND = (
    "curl -sS -m 10 -o /dev/null -F key=KEY -F camera=%t -F event=%v -F frame=%Y%m%d%H%M%S%q -F image=@%f "
    "http://HOST:PORT/hooks/motioneye"
)
FIELDS = ("key", "camera", "event", "frame")
TYPE_THIS = f"In motionEye switch 'Call A Web Hook' off, and type under File Storage, 'Run A Command': {COMMAND}"
EVENT = re.compile(r"[0-9]{1,10}")
FRAME = re.compile(r"[0-9]{1,32}")
_UNREPLACED = re.compile(r"%[A-Za-z]")
_MOVIE_NAMES = (".mp4", ".mkv", ".avi", ".mov", ".flv", ".webm", ".mpg", ".ogg", ".swf")
_LONGEST_FIELD = 200
_WEBHOOK_KINDS = ("text/plain", "application/x-www-form-urlencoded", "application/json")


class Sent(NamedTuple):
    """A picture of one event of one camera. `frame` is what tells it from all others: two pictures of a camera never
    have the same bytes, and a picture that is sent again has. `order` is where it stands in its event, as far as the
    camera's clock can say; a device whose clock is years off still orders the pictures of one event.
    """

    camera: str
    event: int
    frame: str
    order: Optional[int]
    data: bytes


def refuse_keys_in_address(query: str) -> None:
    """Refuse an address that holds a key: it stands in the logs of the device and of every proxy by now."""
    names = {name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)}
    if names & SECRETS:
        message = "A key does not belong into an address, where every log keeps it."
        raise Unfit(message, f"Revoke this key and make another. {TYPE_THIS}", 422)


def refuse_web_hook(method: str, query: str, kind: str, agent: str = "") -> None:
    """Refuse the forms of motionEye's "Call A Web Hook", which hold no picture, and every other that is not multipart.

    `kind` is the value of Content-Type; with the method it tells GET, POST (query), POST (form) and POST (json) apart.
    """
    refuse_keys_in_address(query)
    bare = kind.partition(";")[0].strip().lower()
    if method == "GET" and not query and not agent.startswith("Python-urllib"):
        raise Unfit("This address takes pictures by POST.", TYPE_THIS, 405)
    if method == "GET" or (method == "POST" and bare in _WEBHOOK_KINDS):
        raise Unfit("motionEye's web hook says that something moved, and holds no picture to look at.", TYPE_THIS, 422)
    if method != "POST":
        raise Unfit("This address takes pictures by POST.", TYPE_THIS, 405)
    if bare != "multipart/form-data":
        raise Unfit("A picture is taken as a form (multipart/form-data).", TYPE_THIS, 415)


def key_of(form: Form) -> str:
    """Return the key in a form; the text is for comparing only, and no message repeats it."""
    return _text(form, "key")


def sent(form: Form) -> Sent:
    """Return the picture in a form whose key was found good; `Unfit` for every other form."""
    camera = _matching(form, "camera", CAMERA, "1 to 40 letters, digits, _ and -")
    event = _matching(form, "event", EVENT, "the number that Motion writes for %v")
    order = None
    if "frame" in form.fields:
        order = int(_matching(form, "frame", FRAME, "the number that Motion writes for %Y%m%d%H%M%S%q"))
    data = _picture(form)
    return Sent(camera, int(event), hashlib.sha256(data).hexdigest(), order, data)


def _text(form: Form, name: str) -> str:
    """Return the text of a short field."""
    text = form.fields.get(name, "")
    if not text:
        raise Unfit(f"The form has no field {name}.", TYPE_THIS)
    if len(text) > _LONGEST_FIELD or not text.isascii():
        raise Unfit(f"The field {name} must be at most {_LONGEST_FIELD} characters of ASCII.", TYPE_THIS)
    return text


def _matching(form: Form, name: str, pattern: "re.Pattern[str]", must: str) -> str:
    """Return the text of a field that has to look like `pattern`."""
    text = _text(form, name)
    if _UNREPLACED.search(text):
        message = f"Motion has not replaced {printable(text, 40)} in the field {name}."
        raise Unfit(message, f"The command belongs under File Storage. {TYPE_THIS}", 422)
    if not pattern.fullmatch(text):
        raise Unfit(f"The field {name} must be {must}.", TYPE_THIS)
    return text


def _picture(form: Form) -> bytes:
    """Return the picture; a movie is refused by name, because Motion runs the same command for both kinds of file."""
    if form.picture is None:
        raise Unfit(f"The form has no field {PICTURE}.", TYPE_THIS)
    movie = form.picture[4:8] == b"ftyp" or form.picture.startswith(b"\x1aE\xdf\xa3")
    if movie or form.file_name.lower().endswith(_MOVIE_NAMES):
        step = "Switch movies off for this camera in motionEye, or leave it as it is: the pictures are not affected."
        raise Unfit("The file is a movie, and only pictures are looked at.", step, 415)
    if not form.picture:
        step = f"At the start of an event there is no file yet: the command belongs under File Storage. {TYPE_THIS}"
        raise Unfit("The picture is empty.", step, 422)
    return form.picture
