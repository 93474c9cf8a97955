"""The routes of motion events: POST /hooks/motioneye, answered in milliseconds, and GET /v1/counts."""

import asyncio
import re
import time
from typing import Any, Callable, Dict, Optional, Sequence

from starlette.requests import Request
from starlette.responses import Response

from ..errors import EnvironmentProblem
from ..text import printable
from ..types import Json
from . import asked, described, form, hook_forms, hook_settings
from .answers import Refused
from .counts import HOUR_S, LAST, CountsProblem
from .decode import limits_of
from .health import READY, STARTING, Health
from .hook_work import Hooks
from .jobs import Done, Dropped, Failed, Jobs
from .keys import DETECT, HOOK, Keys
from .log import Log
from .metrics import lines_of
from .settings import SYNTHETIC, Settings
from .wire import answer, body_of, check_length, client_of, key_of

PATH, COUNTS = "/hooks/motioneye", "/v1/counts"
#: The device of a picture where nobody needs a key.
NOBODY = "open"
#: An answer stays below a megabyte or two.
MOST_ROWS = 10000
_SECONDS = re.compile(r"[0-9]{1,12}")
#: While the service is full or starting, a picture looks for a place so often.
AGAIN_S = 0.1
_NOW = "The service is not ready."
_TAKEN: Json = {
    "type": "object",
    "required": ["accepted", "waiting"],
    "properties": {"accepted": {"const": True}, "waiting": {"type": "integer", "minimum": 1}},
}
_ROW: Json = {
    "type": "object",
    "required": ["hour", "device", "camera", "label", "how", "direction", "objects"],
    "properties": {
        "hour": {"type": "integer", "description": "when the hour began, in seconds since 1970"},
        "device": {"type": "string"},
        "camera": {"type": "string"},
        "label": {"type": "string"},
        "how": {"enum": ["passed", "stood", "unsure"]},
        "direction": {"enum": ["left", "right", "up", "down", ""]},
        "objects": {"type": "integer", "minimum": 1},
    },
}
_COUNTED: Json = {
    "type": "object",
    "required": ["schema", "counts", "more"],
    "properties": {
        "schema": {"const": 1},
        "counts": {"type": "array", "items": _ROW},
        "more": {"type": ["integer", "null"], "description": "since= this goes on, where there are more"},
    },
}


class Door:
    """Takes the requests. `close` ends what runs behind it."""

    def __init__(self, settings: Settings, jobs: Jobs, health: Health, keys: Keys, log: Log) -> None:
        """Start nothing yet. UsageError for settings of the hooks that are not possible."""
        self._settings, self._jobs, self._health, self._keys = settings, jobs, health, keys
        found = hook_settings.of(settings)
        self.is_open, self._found, self._say_unknown = found.enabled, found, True
        wanted = found.model or settings.default_model
        made_up = any(one.name == wanted and one.weights == SYNTHETIC for one in settings.models)

        def say(text: str) -> None:
            log.write(event="hook", why=text)

        self._say = say
        self.hooks = Hooks(found, self._look, say, limits_of(settings), meaningful=not made_up)

    async def post(self, request: Request) -> Response:
        """Take a picture, or say what to type instead."""
        note, headers = request.scope["gpuhost"], request.headers
        try:
            query = request.scope["query_string"].decode("latin-1")
            kind, agent = headers.get("content-type", ""), headers.get("user-agent", "")
            hook_forms.refuse_web_hook(request.method, query, kind, agent)
            sent_key = key_of(headers)
            if sent_key is not None:
                note["client"] = client_of(self._keys, sent_key, HOOK) or None
            check_length(request, self._settings)
            if self._health.state not in (STARTING, READY):
                raise Refused(503, _NOW, "GET /readyz says why.", {"Retry-After": "1"})
            body = await body_of(request, self._settings)
            note["bytes"] = len(body)
            sent_form = form.parse(body, kind, hook_forms.FIELDS)
            if sent_key is None and self._keys.are_needed:
                note["client"] = client_of(self._keys, hook_forms.key_of(sent_form), HOOK)
            sent = await asyncio.get_running_loop().run_in_executor(None, self.hooks.checked, sent_form)
            note.update(camera=sent.camera, motion_event=sent.event)
            waiting = self.hooks.take(note.get("client") or NOBODY, sent)
        except form.Unfit as problem:
            allowed = {"Allow": "POST"} if problem.status == 405 else {}
            raise Refused(problem.status, problem.problem, problem.next_step, allowed) from problem
        return answer({"accepted": True, "waiting": waiting}, 202)

    async def counts(self, request: Request) -> Response:
        """Answer the counts per hour, the oldest first; where there are too many, `more` is the hour to go on from."""
        query = asked.query_of(request.scope["query_string"], ("since", "until"))
        request.scope["gpuhost"]["client"] = client_of(self._keys, key_of(request.headers), DETECT) or None
        since, until = _second_of(query, "since", 0), _second_of(query, "until", LAST)
        try:
            read = self.hooks.counts.by_hour
            rows = await asyncio.get_running_loop().run_in_executor(None, read, since, until, MOST_ROWS + 1)
        except CountsProblem as problem:
            raise Refused(503, problem.message, problem.next_step) from problem
        more = None
        if len(rows) > MOST_ROWS:
            more = rows[-1].hour if rows[-1].hour > rows[0].hour else rows[0].hour + HOUR_S
            rows = [row for row in rows if row.hour < more]
        return answer({"schema": 1, "counts": [row._asdict() for row in rows], "more": more})

    def metrics(self) -> str:
        """Return what was done so far, in Prometheus' text format."""
        return lines_of("hook", self.hooks.numbers()) if self.is_open else ""

    async def close(self) -> None:
        """End what runs."""
        await self.hooks.close()

    async def _look(self, data: bytes, model: Optional[str]) -> Done:
        """Find the objects in a picture, as a request would; a full service is waited for until the deadline."""
        deadline = time.monotonic() + self._settings.deadline_s
        while not self._health.is_ready or not self._jobs.enter():
            if time.monotonic() >= deadline:
                raise EnvironmentProblem("The service was not ready, or full, until the deadline.")
            await asyncio.sleep(AGAIN_S)
        served = self._jobs.models[model or self._settings.default_model]
        self._check_labels(served.detector.labels)
        try:
            return await self._jobs.detect(data, served, self._settings.confidence, deadline)
        except (Failed, Dropped) as problem:
            raise EnvironmentProblem(f"It could not be looked at: {problem}.") from problem

    def _check_labels(self, labels: Sequence[str]) -> None:
        """Say once which labels of the rules the network does not have: they would never be reported."""
        if self._say_unknown:
            self._say_unknown = False
            rules = (self._found.rule, *self._found.cameras.values())
            unknown = sorted({name for rule in rules for name in rule.labels or ()} - set(labels))
            if unknown:
                names = printable(", ".join(unknown), 300)
                self._say(f"The network knows no {names}: GET /v1/models lists the labels.")


def _second_of(query: Dict[str, str], name: str, default: int) -> int:
    """Return a time in seconds since 1970 that is asked for."""
    text = query.get(name, "")
    if text and not _SECONDS.fullmatch(text):
        raise Refused(400, f"The parameter {name} is not a number of seconds since 1970.", "Write it as 1796040000.")
    return int(text) if text else default


def add(door: Door, route: Callable[..., None]) -> None:
    """Add the routes by `route`, if there are settings of the hooks. Only the one that takes pictures is described: GET
    is what motionEye's own web hook may send, and it always gets a sentence.
    """
    if not door.is_open:
        return
    errors: Dict[Any, Json] = described.answers({}, described.ERROR, (400, 401, 408, 413, 415, 500, 503))
    del errors[200]
    taken = described.json_answer(_TAKEN, "The picture waits to be looked at.")
    no_picture = described.json_answer(described.ERROR, "The request holds no picture: next_step says what to type.")
    text = {"type": "string"}
    fields = {
        "image": {"type": "string", "format": "binary"},
        "key": text,
        "camera": {**text, "pattern": f"^{hook_settings.CAMERA.pattern}$"},
        "event": {**text, "pattern": f"^{hook_forms.EVENT.pattern}$"},
        "frame": {**text, "pattern": f"^{hook_forms.FRAME.pattern}$"},
    }
    shape = {"schema": {"type": "object", "required": ["image", "camera", "event"], "properties": fields}}
    route(
        "POST",
        PATH,
        door.post,
        status_code=202,
        responses={202: taken, 422: no_picture, **errors},
        # The key stands in the head or, as curl's command of a camera has it, in the form.
        openapi_extra={
            "requestBody": {"required": True, "content": {"multipart/form-data": shape}},
            "security": [*described.KEY, {}],
        },
        summary="Take a picture of a motion event; what it comes to is reported and counted later.",
        operation_id="post_hooks_motioneye",
    )
    route("GET", PATH, door.post, include_in_schema=False)
    seconds = {"type": "integer", "minimum": 0, "maximum": 999999999999}
    route(
        "GET",
        COUNTS,
        door.counts,
        responses=described.answers(_COUNTED, described.ERROR, (400, 401, 503), "What the cameras saw, per hour."),
        openapi_extra={
            "security": described.KEY,
            "parameters": [
                {"name": name, "in": "query", "required": False, "schema": seconds} for name in ("since", "until")
            ],
        },
        summary="Count what the cameras saw, per hour.",
        operation_id="get_v1_counts",
    )
