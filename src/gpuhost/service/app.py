"""The routes. FastAPI routes and describes; bodies are read by `wire` and `form`, never by its own parser."""

import asyncio
import contextlib
import functools
import os
import threading
import time
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Optional, Tuple, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .. import __version__
from ..text import printable
from ..types import Json
from ..yolo import outputs
from ..yolo.images import ImageError
from . import asked, described, form, hooks
from .answers import Refused, deepstack, meaningful, own
from .health import REFUSED, STARTING, Health
from .jobs import GONE, Done, Dropped, Failed, Jobs
from .keys import DETECT, Keys
from .log import Log
from .metrics import CONTENT_TYPE, Metrics
from .models import Served, open_all
from .settings import Settings
from .wire import (
    CLOSE,
    Gone,
    answer,
    body_of,
    check_length,
    client_of,
    head_of,
    is_local,
    key_of,
    refused,
    request_id,
    until_gone,
)

#: The exit status of a process whose device is lost. A new one begins with a new context.
EXIT_DEVICE = 70
#: A process whose device was refused tries no second time, because CUDA remembers; a new one does, after this time.
RETRY_S = 300.0
WATCH_S = 1.0
#: A request that came before the networks were open asks so often whether they are.
STARTED_S = 0.05
#: Time for the answers that are on their way when a process ends itself.
LAST_WORDS_S = 0.5
#: Objects that are written in the event loop; what takes longer is written beside it.
FEW = 200
DEEPSTACK_PREFIX = "/v1/vision/"
RETRY_AFTER = {"Retry-After": "1"}
_NO_PICTURE = "No valid image file found"
_BAD_PICTURE = "invalid image file"
_CRASHED = "error occured on the server"
_LATE = "failed to process request before timeout"

Route = Callable[[Request], Awaitable[Response]]
Opener = Callable[[Settings], Dict[str, Served]]


class Service:
    """Everything that lives as long as the process."""

    def __init__(self, settings: Settings, opener: Opener = open_all, log_to: int = 1) -> None:
        """Start nothing yet."""
        self.settings, self.metrics, self.keys = settings, Metrics(), Keys(settings.keys)
        self.health = Health(settings.records)
        self.log = Log(log_to, self.metrics.unlogged)
        self.jobs = Jobs(settings, self.health, self.metrics, opener, self.end)
        self.hooks = hooks.Door(settings, self.jobs, self.health, self.keys, self.log)
        self._ending = False

    def end(self, why: str) -> None:
        """End the process, so that a new one begins; the answers that are on their way still leave."""
        if self._ending:
            return
        self._ending = True
        self.log.write(event="end", why=why)
        timer = threading.Timer(LAST_WORDS_S, os._exit, (EXIT_DEVICE,))
        timer.daemon = True
        timer.start()

    async def watch(self) -> None:
        """End the process where it can do nothing more: a forward pass hangs, or its device was refused long ago."""
        told = ""
        while True:
            if self.health.state != told:
                told = self.health.state
                self.log.write(event="state", **self.health.answer(detail=True))
            if self.jobs.is_stuck():
                self.end("A forward pass does not end.")
            if told == REFUSED and time.monotonic() - self.health.since > RETRY_S:
                self.end("The device was refused; a new process tries again.")
            await asyncio.sleep(WATCH_S)

    # Detection

    async def detect(self, request: Request, like_deepstack: bool, name: Optional[str] = None) -> Response:
        """Answer a photo. What can be refused by the head alone is, before the body is read."""
        note = request.scope["gpuhost"]
        query = asked.query_of(request.scope["query_string"], None if like_deepstack else asked.FIELDS[:3])
        seconds = asked.seconds_of(request.headers.get("x-deadline-s"), self.settings.deadline_s)
        deadline = time.monotonic() + seconds
        sent = key_of(request.headers)
        if sent is not None:
            note["client"] = client_of(self.keys, sent, DETECT) or None
        check_length(request, self.settings)
        if self.health.state != STARTING:
            self._must_be_ready()
        if not self.jobs.enter():
            raise Refused(503, "The service is full.", "Send the photo again in a moment.", RETRY_AFTER)
        entered = True
        try:
            await self._started(deadline)
            self._must_be_ready()
            body = await body_of(request, self.settings)
            note["bytes"] = len(body)
            sent_form = self._parsed(body, request)
            del body
            field = sent_form.fields.get("api_key")
            if sent is None or field:
                note["client"] = client_of(self.keys, field, DETECT) or None
            wanted = {**query, **sent_form.fields}
            model = self._model(name if name is not None else wanted.get("model"), name is not None)
            confidence = asked.confidence_of(wanted.get("min_confidence"), self.settings.confidence, like_deepstack)
            labels = () if like_deepstack else asked.labels_of(wanted.get("labels"), model.detector.labels)
            if not sent_form.picture:
                raise Refused(
                    400, "The request has no picture.", "Send it in the form field image.", deepstack=_NO_PICTURE
                )
            entered = False  # from here on the job gives the place back
            done = await self._done(request, sent_form.picture, model, confidence, deadline)
        finally:
            if entered:
                self.jobs.leave()
        note.update(model=model.name, pixels=done.width * done.height, objects=len(done.found))
        note.update(decode_ms=_ms(done.decode_s), queue_ms=_ms(done.queue_s), forward_ms=_ms(done.forward_s))
        headers = dict(meaningful(model))

        def made() -> Response:
            if like_deepstack:
                return answer(deepstack(model, done, self.settings.max_predictions), headers=headers)
            return answer(own(model, done, sent_form.file_name, labels), headers=headers)

        if len(done.found) <= FEW:
            return made()
        return await asyncio.get_running_loop().run_in_executor(None, made)

    async def _started(self, deadline: float) -> None:
        """Return when the networks are open, or the deadline has passed: a new process takes over the callers of the
        one before, and none of them is to notice.
        """
        while self.health.state == STARTING and time.monotonic() < deadline:
            await asyncio.sleep(STARTED_S)

    def _must_be_ready(self) -> None:
        """Refuse what cannot be answered now. /readyz says the cause, to those who may see it."""
        if self.health.is_ready:
            return
        state = self.health.answer(detail=True)
        more = {"diagnosis": state.get("diagnosis")}
        raise Refused(
            503, f"The service is not ready ({state['state']}).", "GET /readyz says why.", RETRY_AFTER, "", more
        )

    def _parsed(self, body: bytes, request: Request) -> form.Form:
        """Return the body taken apart."""
        try:
            return form.parse(body, request.headers.get("content-type", ""), asked.FIELDS)
        except form.Unfit as problem:
            raise Refused(problem.status, problem.problem, problem.next_step) from problem

    def _model(self, name: Optional[str], by_path: bool) -> Served:
        """Return the network that is asked for."""
        found = self.jobs.models.get(name or self.settings.default_model)
        if found is None:
            problem = f"There is no network {printable(name, 80)}."
            raise Refused(404 if by_path else 400, problem, "GET /v1/models lists the networks.")
        return found

    async def _done(self, request: Request, picture: bytes, model: Served, confidence: float, deadline: float) -> Done:
        """Return what the photo shows, unless its client goes or its time passes before."""
        gone = asyncio.ensure_future(until_gone(request))
        try:
            return await self.jobs.detect(picture, model, confidence, deadline, gone)
        except ImageError as problem:
            raise Refused(400, problem.message, problem.next_step, deepstack=_BAD_PICTURE) from problem
        except Failed as problem:
            raise Refused(
                500, str(problem), "GET /readyz says whether the device is lost.", deepstack=_CRASHED
            ) from problem
        except Dropped as problem:
            if problem.why == GONE:
                raise Gone from problem
            status = 500 if request.scope["path"].startswith(DEEPSTACK_PREFIX) else 504
            raise Refused(
                status, "The deadline has passed.", "Send fewer photos at once.", deepstack=_LATE
            ) from problem
        finally:
            gone.cancel()

    # What is asked beside it

    def models(self, request: Request) -> Response:
        """Answer which networks there are."""
        asked.query_of(request.scope["query_string"])
        request.scope["gpuhost"]["client"] = client_of(self.keys, key_of(request.headers), DETECT) or None
        self._must_be_ready()
        rows = [
            {**_named(one), "labels": list(one.detector.labels), "batch": one.batch}
            for one in self.jobs.models.values()
        ]
        found = {
            "schema": 1,
            "default": self.settings.default_model,
            "device": self.settings.device,
            "generation": self.settings.generation,
            "models": rows,
        }
        return answer(found)

    def ready(self, request: Request) -> Response:
        """Answer whether photos are taken; to this machine, or with a key, also why not."""
        asked.query_of(request.scope["query_string"])
        found = self.health.answer(self._may_see(request))
        return answer(found, 200 if found["ready"] else 503, {} if found["ready"] else RETRY_AFTER)

    def alive(self, request: Request) -> Response:
        """Answer that the process lives."""
        return answer({"alive": True})

    def counted(self, request: Request) -> Response:
        """Answer the metrics, to this machine or with a key."""
        asked.query_of(request.scope["query_string"])
        if not is_local(request.scope):
            request.scope["gpuhost"]["client"] = client_of(self.keys, key_of(request.headers), DETECT) or None
        info = {
            "version": __version__,
            "device": self.settings.device,
            "generation": "" if self.settings.generation is None else str(self.settings.generation),
        }
        text = self.metrics.text(self.health.is_ready, self.jobs.inside, self.settings.depth, info)
        return Response(text + self.hooks.metrics(), 200, media_type=CONTENT_TYPE)

    def _may_see(self, request: Request) -> bool:
        """Return whether the asker may know what is wrong with the host."""
        if is_local(request.scope) or not self.keys.are_needed:
            return True
        try:
            return client_of(self.keys, key_of(request.headers), DETECT) != ""
        except Refused:
            return False


def _ms(seconds: float) -> float:
    """Return seconds as milliseconds for the log."""
    return round(1e3 * seconds, 1)


def _named(served: Served) -> Json:
    """Return a network as /v1/models lists it."""
    found = outputs.head(served.detector, served.name)
    return {"name": served.name, **{key: found[key] for key in ("size", "weights", "meaningful")}}


class Told:
    """Around everything: gives each request its id, counts it and logs it, and answers what was refused."""

    def __init__(self, app: Any, service: Service) -> None:
        """Wrap the application."""
        self._app, self._service = app, service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        note: Dict[str, Any] = {}
        scope["gpuhost"] = note
        number, status = request_id(scope["headers"]), 0

        async def sent(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [(b"x-request-id", number), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            seconds = time.monotonic() - begun
            method, path = head_of(scope)
            route = note.pop("route", "other")
            status = status or 499  # nginx's number for a client that has gone
            self._service.metrics.request(route, status, seconds)
            row = {"id": number.decode("ascii"), "method": method, "path": path, "status": status, "ms": _ms(seconds)}
            self._service.log.write(**row, **note)


class Plain(APIRoute):  # type: ignore[misc]
    """A route whose endpoint takes the request and gives the answer: FastAPI has nothing to solve for it."""

    def get_route_handler(self) -> Route:
        """Return what answers."""
        return cast(Route, self.endpoint)


def create(settings: Settings, opener: Opener = open_all, log_to: int = 1) -> FastAPI:
    """Return the application."""
    service = Service(settings, opener, log_to)

    @contextlib.asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        service.jobs.start()
        watching = asyncio.ensure_future(service.watch())
        try:
            yield
        finally:
            service.health.stop()
            watching.cancel()
            await service.hooks.close()
            service.jobs.stop()
            service.log.write(event="end", why="asked to")

    app = FastAPI(
        title="gpuhost detection service",
        version=__version__,
        description="A photo in, boxes out.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=living,
    )
    app.router.route_class = Plain
    app.state.service = service
    _routes(app, service)
    hooks.add(service.hooks, functools.partial(_add, app))
    app.add_middleware(Told, service=service)
    app.add_exception_handler(HTTPException, _no_route)
    app.openapi = lambda: _document(app)
    return app


def _routes(app: FastAPI, service: Service) -> None:
    """Add every route with what the document says of it."""
    names = [model.name for model in service.settings.models]

    async def detect(request: Request) -> Response:
        return await service.detect(request, like_deepstack=False)

    async def vision(request: Request) -> Response:
        return await service.detect(request, like_deepstack=True)

    async def custom(request: Request) -> Response:
        return await service.detect(request, like_deepstack=True, name=request.scope["path_params"]["model"])

    usual = (400, 401, 408, 413, 415, 500, 503)
    like_deepstack = described.answers(described.DEEPSTACK, described.DEEPSTACK_ERROR, usual)
    missing = {404: described.json_answer(described.DEEPSTACK_ERROR, "There is no such network.")}
    by_path = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string", "enum": names}}]
    own_answers = described.answers(described.DETECTED, described.ERROR, (*usual, 504))
    metrics = {
        200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    }
    rows: Tuple[Tuple[str, str, Any, Dict[Any, Json], Json], ...] = (
        (
            "POST",
            "/v1/detect",
            detect,
            own_answers,
            {**described.form(names), "parameters": described.parameters(names), "security": described.KEY},
        ),
        ("POST", "/v1/vision/detection", vision, like_deepstack, {**described.form(()), "security": described.KEY}),
        (
            "POST",
            "/v1/vision/custom/{model}",
            custom,
            {**like_deepstack, **missing},
            {**described.form(()), "parameters": by_path, "security": described.KEY},
        ),
        (
            "GET",
            "/v1/models",
            service.models,
            described.answers(described.MODELS, described.ERROR, (400, 401, 503), "The networks."),
            {"security": described.KEY},
        ),
        (
            "GET",
            "/metrics",
            service.counted,
            {**metrics, **_errors(400, 401, 503)},
            {},
        ),
        ("GET", "/healthz", service.alive, {200: described.json_answer(described.ALIVE, "The process lives.")}, {}),
        (
            "GET",
            "/readyz",
            service.ready,
            {
                200: described.json_answer(described.READY, "Photos are taken."),
                503: described.json_answer(described.READY, "They are not."),
                **_errors(400),
            },
            {},
        ),
    )
    for method, path, endpoint, answers, extra in rows:
        name = (method + path).lower().translate({47: "_", 123: None, 125: None})
        more = {"openapi_extra": extra or None, "summary": described.SUMMARIES[path], "operation_id": name}
        _add(app, method, path, endpoint, responses=answers, **more)


def _add(app: FastAPI, method: str, path: str, endpoint: Any, **described_by: Any) -> None:
    """Add a route that answers what its endpoint refuses; `described_by` is what FastAPI takes for the document."""
    route = _answering(path, endpoint)
    app.add_api_route(path, route, methods=[method], response_model=None, response_class=Response, **described_by)


def _errors(*statuses: int) -> Dict[Any, Json]:
    """Return the answers of our own form for some errors."""
    found = described.answers({}, described.ERROR, statuses)
    return {status: found[status] for status in statuses}


def _answering(path: str, endpoint: Any) -> Route:
    """Return a route that answers what its endpoint refuses."""
    like_deepstack = path.startswith(DEEPSTACK_PREFIX)

    async def route(request: Request) -> Response:
        request.scope["gpuhost"]["route"] = path
        try:
            found = endpoint(request)
            return await found if asyncio.iscoroutine(found) else found
        except Refused as problem:
            request.scope["gpuhost"]["refused"] = problem.problem
            return refused(problem, like_deepstack)
        except Gone:
            request.scope["gpuhost"].update(refused="the client has gone")
            return Response(b"", 499, CLOSE)
        except Exception as problem:  # noqa: BLE001 - the client gets an answer and the log the cause, whatever it is
            request.scope["gpuhost"]["failure"] = printable(f"{type(problem).__name__}: {problem}", 300)
            return refused(
                Refused(500, "The service has failed.", "Look at its log.", deepstack=_CRASHED), like_deepstack
            )

    return route


async def _no_route(request: Request, problem: Any) -> Response:
    """Answer an address or a method that there is not."""
    said = "There is no such address." if problem.status_code == 404 else "The address does not take this method."
    found = Refused(problem.status_code, said, "GET /openapi.json lists the addresses.", dict(problem.headers or {}))
    return refused(found, request.scope["path"].startswith(DEEPSTACK_PREFIX))


def _document(app: FastAPI) -> Json:
    """Return the OpenAPI document, with the ways in which a key is sent."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        found.setdefault("components", {})["securitySchemes"] = described.SCHEMES
        app.openapi_schema = found
    return dict(app.openapi_schema)
