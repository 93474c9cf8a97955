"""uvicorn's HTTP with the two bounds that it lacks: how long a request's head may be, and how long it may take to come.

nginx has both. Without it, a head without an end would fill the memory, and one that never ends would hold its
connection for ever.
"""

from asyncio import TimerHandle
from typing import Any, Optional

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_BYTES = 1 << 16
HEAD_S = 10.0


class Protocol(HttpToolsProtocol):  # type: ignore[misc]
    """One connection."""

    _head_bytes = 0
    _in_head = False
    _began = False
    _timer: Optional[TimerHandle] = None

    def connection_made(self, transport: Any) -> None:
        """The first head has to come at once."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Nothing is waited for any longer."""
        self._came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head that has no end yet. Of the piece it begins in, what came before is unknown, so
        that piece does not count; it is no longer than what is read at once.
        """
        self._began = False
        super().data_received(data)
        if not self._in_head or self._began:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MOST_BYTES and not self.transport.is_closing():
            self._came()
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head, self._began, self._head_bytes = True, True, 0
        if self._timer is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """A head has ended."""
        self._in_head = False
        self._came()
        super().on_headers_complete()

    def _wait(self) -> None:
        """Close the connection unless a head comes in time."""
        self._timer = self.loop.call_later(HEAD_S, self.transport.close)

    def _came(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
