"""The route of motion events: POST /hooks/motioneye, answered in milliseconds, and what runs behind it."""

import asyncio
import time
from typing import Any, Callable, Dict, Optional

from starlette.requests import Request
from starlette.responses import Response

from ..errors import EnvironmentProblem
from ..types import Json
from . import described, form, hook_forms, hook_settings
from .answers import Refused
from .decode import limits_of
from .health import READY, STARTING, Health
from .hook_work import Hooks
from .jobs import Done, Dropped, Failed, Jobs
from .keys import HOOK, Keys
from .log import Log
from .metrics import lines_of
from .settings import SYNTHETIC, Settings
from .wire import answer, body_of, check_length, client_of, key_of

PATH = "/hooks/motioneye"
#: The device of a picture where nobody needs a key.
NOBODY = "open"
#: While the service is full or starting, a picture looks for a place so often.
AGAIN_S = 0.1
_NOW = "The service is not ready."
_TAKEN: Json = {
    "type": "object",
    "required": ["accepted", "waiting"],
    "properties": {"accepted": {"const": True}, "waiting": {"type": "integer", "minimum": 1}},
}


class Door:
    """Takes the requests. `close` ends what runs behind it."""

    def __init__(self, settings: Settings, jobs: Jobs, health: Health, keys: Keys, log: Log) -> None:
        """Start nothing yet. UsageError for settings of the hooks that are not possible."""
        self._settings, self._jobs, self._health, self._keys = settings, jobs, health, keys
        found = hook_settings.of(settings)
        self.is_open = found.enabled
        wanted = found.model or settings.default_model
        made_up = any(one.name == wanted and one.weights == SYNTHETIC for one in settings.models)

        def say(text: str) -> None:
            log.write(event="hook", why=text)

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
            sent = hook_forms.sent(sent_form)
            note.update(camera=sent.camera, motion_event=sent.event)
            waiting = self.hooks.take(note.get("client") or NOBODY, sent)
        except form.Unfit as problem:
            raise Refused(problem.status, problem.problem, problem.next_step) from problem
        return answer({"accepted": True, "waiting": waiting}, 202)

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
        try:
            return await self._jobs.detect(data, served, self._settings.confidence, deadline)
        except (Failed, Dropped) as problem:
            raise EnvironmentProblem(f"It could not be looked at: {problem}.") from problem


def add(app: Any, door: Door, answering: Callable[[str, Any], Any]) -> None:
    """Add the routes, if there are settings of the hooks. Only the one that takes pictures is described: GET is what
    motionEye's own web hook may send, and it always gets a sentence.
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
    shape = {"schema": {"type": "object", "required": ["image", "key", "camera", "event"], "properties": fields}}
    app.add_api_route(
        PATH,
        answering(PATH, door.post),
        methods=["POST"],
        response_model=None,
        response_class=Response,
        status_code=202,
        responses={202: taken, 422: no_picture, **errors},
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": shape}}},
        operation_id="post_hooks_motioneye",
    )
    app.add_api_route(PATH, answering(PATH, door.post), methods=["GET"], response_model=None, include_in_schema=False)
