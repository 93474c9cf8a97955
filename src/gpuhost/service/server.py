"""gunicorn with one uvicorn worker: the arbiter holds the socket, the worker the networks."""

import sys
from typing import Any, ClassVar, Dict

from gunicorn.app.base import BaseApplication
from uvicorn_worker import UvicornWorker

from .protocol import Protocol
from .settings import Settings

#: gunicorn's control socket, of releases that have one: nobody here speaks to it.
_OFF = {"control_socket_disable": True}
#: How long a thread may keep the interpreter while another waits for it. By default it is 5 ms, which the inference
#: thread would lose after a forward pass whenever a decoder or the event loop is at work: half a pass of a fast card.
_SWITCH_S = 0.0005


class Worker(UvicornWorker):  # type: ignore[misc]
    """The fastest event loop and parser, and no header of a proxy believed."""

    CONFIG_KWARGS: ClassVar[Dict[str, Any]] = {
        "loop": "uvloop",
        "http": Protocol,
        "lifespan": "on",
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
        "ws": "none",
    }

    def init_process(self) -> None:
        """Begin in the new process."""
        sys.setswitchinterval(_SWITCH_S)
        super().init_process()


class Server(BaseApplication):  # type: ignore[misc]
    """The service under gunicorn."""

    def __init__(self, settings: Settings, options: Dict[str, Any]) -> None:
        """Keep both; `options` are gunicorn's."""
        self._settings, self._options = settings, options
        super().__init__()

    def load_config(self) -> None:
        """Give gunicorn its settings."""
        self.cfg.set("worker_class", Worker)
        for name, value in self._options.items():
            self.cfg.set(name, value)
        for name, value in _OFF.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        """Return the application, in the worker: OpenCV is imported there, after the fork."""
        from .app import create

        return create(self._settings)
