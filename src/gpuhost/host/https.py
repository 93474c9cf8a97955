"""Open https addresses, and no others, at servers that may lie, stall or send without end.

Runs on the target and on the controller: Python 3.6, standard library. Whatever is read of an answer, headers included,
has to come at a least rate and is bounded. Redirects are few and lead only to https; one to another origin is followed,
because what is fetched here is protected by its sha256, but a login in the address is sent to its own origin alone.
"""

import base64
import functools
import http.client
import io
import re
import socket
import ssl
import string
import time
import urllib.request
from typing import Any, Callable, Dict, Optional, Tuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from ..credentials import without_secrets
from ..errors import ArtifactError, EnvironmentProblem
from ..text import printable

Clock = Callable[[], float]
TIMEOUT_S = 60
REDIRECTS = 5
MOVED = (301, 302, 303, 307, 308)
WINDOW_S, LEAST = 60.0, 600 * 1000  # a server that brings fewer bytes than that while it is waited for is given up
OVERHEAD = 1 << 20  # headers, and the lengths between chunks


class Interrupted(Exception):
    """The network ended a transfer; another try may go on from there."""


class TooSlow(Exception):
    """The server sends, and so slowly that it would never end."""


class TooMuch(Exception):
    """The server sends more than there can be."""


class Paced(io.RawIOBase):
    """The bytes of a connection, `most` of them, as long as they come at the least rate."""

    def __init__(self, raw: Any, most: int, clock: Clock) -> None:
        """Nothing is read yet."""
        super().__init__()
        self._raw, self._left, self._clock = raw, most, clock
        self._waited, self._came = 0.0, 0

    def readable(self) -> bool:
        """Return that this can be read, as io.BufferedReader asks."""
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        """Read once, and judge what has come so far; only the time spent waiting for the server counts."""
        before = self._clock()
        count: Optional[int] = self._raw.readinto(buffer)
        self._waited += self._clock() - before
        self._came += count or 0
        self._left -= count or 0
        if self._left < 0:
            raise TooMuch
        if self._waited >= WINDOW_S:
            if self._came * WINDOW_S < LEAST * self._waited:
                raise TooSlow
            self._waited, self._came = 0.0, 0
        return count

    def close(self) -> None:
        """Close the connection's file as well: the socket waits for that."""
        self._raw.close()
        super().close()


class Answer(http.client.HTTPResponse):
    """A response that is read through `Paced`."""

    def __init__(self, sock: socket.socket, *given: Any, most: int, clock: Clock, **more: Any) -> None:
        """Take the place of the file that http.client has made."""
        super().__init__(sock, *given, **more)
        self.fp.close()
        self.fp = io.BufferedReader(Paced(sock.makefile("rb", buffering=0), most, clock))


class Handler(urllib.request.HTTPSHandler):
    """Opens https addresses with the system's certificates, and reads the answers as `Answer`."""

    def __init__(self, most: int, clock: Clock) -> None:
        """Keep the bounds for each connection."""
        super().__init__()
        self._trusting = ssl.create_default_context()
        self._most, self._clock = most, clock

    def https_open(self, req: urllib.request.Request) -> Any:
        """Open one address."""
        return self.do_open(self._connection, req, context=self._trusting)

    def _connection(self, host: str, **given: Any) -> http.client.HTTPSConnection:
        """Return a connection whose answers are bounded."""
        made = http.client.HTTPSConnection(host, **given)
        made.response_class = functools.partial(  # type: ignore[assignment]
            Answer, most=self._most, clock=self._clock
        )
        return made


def opener(most: int, clock: Clock) -> urllib.request.OpenerDirector:
    """Return what opens https addresses, and no others, through the system's proxy; it follows no redirect."""
    made = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        Handler(most, clock),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        made.add_handler(handler)
    return made


def proxies() -> Dict[str, str]:
    """Return the proxies of this process's variables, by scheme."""
    return dict(urllib.request.getproxies())


def is_direct(host: str) -> bool:
    """Return whether the variables exempt a server from proxies."""
    return bool(urllib.request.proxy_bypass(host))


def shown(url: str) -> str:
    """Return an address as it may be shown: printable, of bounded length, without login and parameters."""
    return printable(without_secrets(url), 400)


def check_url(url: str) -> None:
    """Refuse an address that is not https, or not an address."""
    try:
        secure = urlsplit(url).scheme == "https" and (urlsplit(url).port or 443) > 0
    except ValueError as error:
        raise failed(url, error) from error
    if not secure:
        step = "Correct the address: the catalog's row, gpuhost_mirror_url, or pip's index."
        raise ArtifactError(f"{shown(url)} is not https, and only https is fetched.", step)


def origin(url: str) -> str:
    """Return the server and port of an address."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def split_login(url: str) -> Tuple[str, str]:
    """Return an address without its login, and the login ("" where there is none)."""
    parts = urlsplit(url)
    login, _, server = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, server, *parts[2:])), login


def with_login(url: str, source: str) -> str:
    """Return an address with the login of another one of the same origin; unchanged at any other origin."""
    bare, login = split_login(url)[0], split_login(source)[1]
    if not login or origin(bare) != origin(source) or urlsplit(bare).scheme != urlsplit(source).scheme:
        return bare
    return bare.replace("://", f"://{login}@", 1)


def request(url: str, headers: Dict[str, str]) -> urllib.request.Request:
    """Return the request for an address, whose login becomes a header."""
    bare, login = split_login(url)
    sent = {"User-Agent": "gpuhost", "Accept-Encoding": "identity", **headers}
    made = urllib.request.Request(bare, headers=sent)  # noqa: S310 - check_url has seen that it is https
    if login:
        user, _, password = login.partition(":")
        told = f"{unquote(user)}:{unquote(password)}".encode()
        made.add_header("Authorization", "Basic " + base64.b64encode(told).decode("ascii"))
    return made


def led_to(error: HTTPError, url: str) -> Optional[str]:
    """Return the address that an answer leads to, or None where it is not a redirect."""
    where = error.headers.get("Location") if error.code in MOVED else None
    if where is None:
        return None
    try:
        # http.client reads headers as ISO-8859-1; what is not ASCII in them goes back as the bytes that they were.
        return with_login(urljoin(url, quote(where, safe=string.punctuation, encoding="iso-8859-1")), url)
    except ValueError as problem:
        raise failed(url, problem) from problem


def opened(url: str, headers: Dict[str, str], most: int, clock: Optional[Clock] = None) -> Any:
    """Open an address and return its answer, of which at most `most` bytes can be read.

    An answer that is an error is an `HTTPError`. Raises `Interrupted` where another try may help, else `ArtifactError`
    or `EnvironmentProblem`.
    """
    present = url
    for _ in range(REDIRECTS + 1):
        try:
            check_url(present)
            answer = opener(most + OVERHEAD, clock or time.monotonic).open(request(present, headers), timeout=TIMEOUT_S)
        except HTTPError as error:
            further = led_to(error, present)
            if further is None:
                raise
            error.close()
            present = further
        except (OSError, http.client.HTTPException, ValueError, TooSlow, TooMuch) as error:
            raise failed(url, error) from error
        else:
            length(answer, url)
            return answer
    raise absurd(url, f"it leads on more than {REDIRECTS} times")


def failed(url: str, error: Exception) -> Exception:
    """Return what an error of the network means for the user."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(error, TooSlow):
        rate = f"{LEAST / WINDOW_S / 1000:.0f} kB/s"
        step = "Try again later, or set a mirror: gpuhost_mirror_url. What has come is kept."
        return EnvironmentProblem(f"{shown(url)} is given up: the server sends less than {rate}.", step)
    if isinstance(error, TooMuch):
        return absurd(url, "it does not end")
    if isinstance(reason, ssl.SSLError) and "CERTIFICATE" in str(reason):
        step = "Correct the clock, or put the site's certificate into the system's trust store."
        text = f"{shown(url)} has no certificate that this machine trusts: {said(reason)}."
        return EnvironmentProblem(text, step)
    if isinstance(reason, (ValueError, http.client.InvalidURL)):
        return ArtifactError(f"{shown(url)} is not an address, or leads to none.", "Correct the address.")
    return Interrupted(said(reason) or type(reason).__name__)


def said(error: object) -> str:
    """Return the words of an error, which may be the server's, as they may be shown."""
    return printable(without_secrets(str(error)), 200)


def absurd(url: str, what: str) -> ArtifactError:
    """Return the refusal of an answer that contradicts itself or what was asked."""
    step = "Nothing of it was kept. Try again; if it stays so, do not use that source."
    return ArtifactError(f"The answer of {shown(url)} is refused: {what}.", step)


def length(answer: Any, url: str) -> Optional[int]:
    """Return how many bytes an answer says that it has, or None where it does not say."""
    found = answer.headers.get_all("Content-Length") or []
    if not found or answer.headers.get("Transfer-Encoding"):
        return None
    if len(found) > 1 or not re.match(r"[0-9]{1,15}\Z", found[0]):
        answer.close()
        raise absurd(url, f"its Content-Length is {printable(', '.join(found), 60)}")
    return int(found[0])


def page(url: str, accept: str, most: int) -> Tuple[str, str, str]:
    """Return the text of an address, its kind, and the address that it was found at in the end."""
    data, kind, found = body(url, accept, most)
    return data.decode("utf-8", "replace"), kind, found


def body(url: str, accept: str, most: int) -> Tuple[bytes, str, str]:
    """Return what is at an address, at most `most` bytes, its kind, and the address that it was found at in the end."""
    try:
        answer = opened(url, {"Accept": accept}, most)
        with answer:
            data = answer.read(most + 1)
            found = with_login(answer.geturl(), url)
    except HTTPError as error:
        error.close()
        step = "Check the address."
        raise ArtifactError(
            f"{shown(url)} cannot be fetched: the server answers {error.code} {said(error.reason)}.", step
        ) from error
    except (OSError, http.client.HTTPException, TooSlow, TooMuch) as error:
        raise failed(url, error) from error
    if len(data) > most:
        raise absurd(url, f"it has more than {most} bytes")
    return data, answer.headers.get("Content-Type", ""), found
