"""Whether servers can be reached: one connection to each, or to the proxy before it, and nothing is sent.

Runs on the target and on the controller: Python 3.6, standard library.
"""

import socket
import threading
from typing import Callable, Dict, List, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from ..text import printable
from ..types import Json
from . import https

Proxies = Dict[str, str]
Server = Tuple[str, int]
PORTS = {"http": 80, "https": 443}
CONNECT_S = 10.0
#: Looking up a name has no time limit of its own.
PATIENCE_S = 20.0


def server(url: str, proxies: Proxies) -> Optional[Server]:
    """Return the server that is spoken to for an address: its own or a proxy; None where it is not a server's."""
    try:
        parts = urlsplit(url)
        host, scheme = parts.hostname or "", parts.scheme
        proxy = proxies.get(scheme) or proxies.get("all")
        if proxy and not https.is_direct(host):
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            host, scheme = parts.hostname or "", parts.scheme
        return (host, parts.port or PORTS[scheme]) if host and scheme in PORTS else None
    except ValueError:
        return None  # what fetches from there has the words for an address that is none


def connect(to: Server) -> str:
    """Return why a server cannot be reached; '' where it can."""
    try:
        socket.create_connection(to, timeout=CONNECT_S).close()
    except (OSError, UnicodeError) as error:
        return printable(getattr(error, "strerror", None) or error, 200) or type(error).__name__
    return ""


def tried(servers: Sequence[Server], connect: Callable[[Server], str] = connect) -> Dict[Server, str]:
    """Return for each server why it cannot be reached; all are tried at once."""
    found = {to: f"no answer within {PATIENCE_S:.0f} seconds" for to in servers}

    def one(to: Server) -> None:
        found[to] = connect(to)

    workers = [threading.Thread(target=one, args=(to,), daemon=True) for to in found]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE_S)
    return dict(found)


def problems(asked: Sequence[Json], try_all: Callable[[Sequence[Server]], Dict[Server, str]] = tried) -> List[str]:
    """Return, for each of the downloads `asked` that cannot be fetched, the reason.

    A download has a name (`what`), alternative addresses (`urls`), and optionally `proxies`, to use instead of those
    that the environment variables name.
    """
    own = https.proxies()
    wanted: List[Tuple[str, List[Server]]] = []
    for row in asked:
        servers = [server(url, row.get("proxies", own)) for url in row["urls"]]
        # One that is asked for without a network, or by a way that is not known here, may well do.
        if None not in servers:
            wanted.append((row["what"], list(dict.fromkeys(filter(None, servers)))))
    why = try_all(list(dict.fromkeys(to for _, places in wanted for to in places)))
    missed: Dict[str, List[str]] = {}
    for what, places in wanted:
        if places and all(why[to] for to in places):
            told = ", ".join(f"{printable(to[0], 200)}, port {to[1]} ({why[to]})" for to in places)
            missed.setdefault(told, []).append(what)
    return [
        f"Not reached: {told}. From there come {' and '.join(dict.fromkeys(what))}." for told, what in missed.items()
    ]
