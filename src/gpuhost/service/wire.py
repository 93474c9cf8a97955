"""Between HTTP and the rest: the request's head, its body within its limits, who sent it, and the answer's bytes."""

import asyncio
import ipaddress
import re
import secrets
from typing import Any, Dict, Optional, Tuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from .answers import JSON, Refused, dumped, refusal
from .keys import Keys, KeysProblem
from .settings import Settings

_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_LENGTH = re.compile(r"[0-9]{1,15}")
NO_KEY = "Incorrect api key"
HOW = "Send the client's key as Authorization: Bearer KEY, as X-API-Key, or as the form field api_key."
CLOSE = {"Connection": "close"}


class Gone(Exception):
    """The client has gone; nobody reads an answer."""


def request_id(headers: Any) -> bytes:
    """Return the request's id: the one that nginx has given it if it is a plain one, else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and _ID.fullmatch(value):
            return bytes(value)
    return secrets.token_hex(8).encode("ascii")


def key_of(headers: Any) -> Optional[str]:
    """Return the key in a request's head; None where there is none. Two that differ are not a key, and neither is an
    Authorization of another scheme.
    """
    found = headers.getlist("x-api-key")
    for value in headers.getlist("authorization"):
        scheme, _, text = value.strip().partition(" ")
        found.append(text.strip() if scheme.lower() == "bearer" else "")
    if not found:
        return None
    return str(found[0]) if len(set(found)) == 1 else ""


def client_of(keys: Keys, text: Optional[str], kind: str) -> str:
    """Return the name of the client whose key this is, nothing where nobody needs one; Refused for any other text."""
    if not keys.are_needed:
        return ""
    try:
        name = keys.name_of(text or "", kind)
    except KeysProblem as problem:
        raise Refused(503, str(problem), "On the host: look at the file, or run site.yml again.") from problem
    if name is None:
        said = "The request has no key." if text is None else "The key is not one of this service, or was revoked."
        raise Refused(401, said, HOW, {"WWW-Authenticate": "Bearer"}, deepstack=NO_KEY)
    return name


def is_local(scope: Any) -> bool:
    """Return whether a request comes from this machine: over the socket or the loopback, and not on behalf of another
    one. What nginx passes on carries the address that it came from.
    """
    peer = scope.get("client")
    if peer is not None and peer[0] and not _is_loopback(peer[0]):
        return False
    passed = [value for name, value in scope["headers"] if name in (b"x-forwarded-for", b"x-real-ip")]
    return all(_is_loopback(part.strip()) for value in passed for part in value.decode("latin-1").split(","))


def _is_loopback(text: str) -> bool:
    """Return whether it is an address of this machine alone."""
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def check_length(request: Request, settings: Settings) -> None:
    """Refuse a body that is said to be too large, before any of it is read."""
    length = request.headers.get("content-length")
    if length is not None and (not _LENGTH.fullmatch(length) or int(length) > settings.body_bytes):
        raise _too_large(settings)


async def body_of(request: Request, settings: Settings) -> bytes:
    """Return the body; Refused where it is too large or does not come, Gone where its sender has gone."""

    body, late, task = bytearray(), False, asyncio.current_task()

    def end() -> None:
        nonlocal late
        late = True
        if task is not None:
            task.cancel()

    # asyncio.wait_for would make a task for each request, at a third of what one costs in all.
    timer = asyncio.get_running_loop().call_later(settings.deadline_s, end)
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > settings.body_bytes:
                raise _too_large(settings)
        return bytes(body)
    except asyncio.CancelledError as problem:
        if not late:
            raise
        if task is not None and hasattr(task, "uncancel"):
            task.uncancel()
        raise Refused(408, "The body did not come in time.", "Send it again.", CLOSE) from problem
    except ClientDisconnect as problem:
        raise Gone from problem
    finally:
        timer.cancel()


def _too_large(settings: Settings) -> Refused:
    """Return the refusal of a body; the connection is closed, because the rest of it is not read."""
    most = settings.body_bytes / (1 << 20)
    return Refused(413, f"The body is larger than {most:g} MiB.", "Send a smaller picture.", CLOSE)


async def until_gone(request: Request) -> None:
    """Return when the client has gone. The body has been read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def answer(value: Any, status: int = 200, headers: Optional[Dict[str, str]] = None) -> Response:
    """Return JSON as an answer in one piece."""
    return Response(dumped(value), status, headers, JSON)


def refused(problem: Refused, like_deepstack: bool) -> Response:
    """Return an error as an answer."""
    return answer(refusal(problem, like_deepstack), problem.status, problem.headers)


def head_of(scope: Any) -> Tuple[str, str]:
    """Return the method and the path of a request as they are logged."""
    return str(scope.get("method", "")), str(scope.get("path", ""))[:200]
