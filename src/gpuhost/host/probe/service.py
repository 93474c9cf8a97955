"""What the detection service of a host does, asked from outside: by its socket, and through nginx as a client does.

Runs on the target: Python 3.6, standard library. Changes nothing. Only root may read the key of verify/'s that the
photo is posted with; anybody else learns less.
"""

import http.client
import json
import os
import secrets
import ssl
from pathlib import Path
from typing import Any, Dict, List, Optional

from ... import strict_json
from ...text import printable
from ...types import Json
from .. import files
from ..answer import channel
from ..commands import run_command
from ..edges import Edges
from ..isolated import start
from ..service import photo, proxy, ready, running, site, sockets
from ..service.places import PROGRAM, RECORD, SERVICE, SETTINGS, SITE, SOCKET, SOCKET_FILE, VERIFY_KEY
from ..units import all_hold

_ASK_S = 120.0
_DETECT_S = 300.0
_LARGEST = 4 << 20
#: The part of the service's name in a process's cgroup.
_CGROUP = f"/{SERVICE}"


def main(arguments: Json) -> int:
    """Answer what the service of this host does; `arguments` name the store's folder."""
    answer = channel()
    answer(look(Edges("/", run_command), str(arguments["root"])))
    return 0


def look(edges: Edges, root: str) -> Json:
    """Return what is found; `asked` is None for a user who is not root, and has an `error` where nobody answers."""
    record = edges.record(f"{root}/{RECORD}")
    serving = running.serving(edges, root)
    found: Json = {
        "record": record,
        "enabled": all(all_hold(edges, ["is-enabled"], unit) for unit in (SOCKET, SERVICE)),
        "active": all_hold(edges, ["is-active"], SERVICE),
        "last_words": running.last_words(edges),
        "generation": None if serving is None else serving.generation,
        "ready": readiness(edges),
        "sockets": exposed(edges),
        "nginx": nginx(edges),
        "asked": None,
    }
    if os.geteuid() == 0 and record is not None:
        found["asked"] = asked(edges, root, record)
    return found


def readiness(edges: Edges) -> Json:
    """Return what the service says of itself, with the `status` of its answer; an `error` where it says nothing."""
    if not all_hold(edges, ["is-active"], SERVICE):
        return {"error": "it does not run"}  # asking would start it
    try:
        answer = ready.ask(_ASK_S, str(edges.path(SOCKET_FILE)))
    except PermissionError:
        return {"error": "only root and nginx may ask it", "denied": True}
    except (OSError, http.client.HTTPException) as error:
        return {"error": said(error)}
    return {"status": answer.status, "why": "" if answer.status == 200 else ready.reason(answer)}


def exposed(edges: Edges) -> Json:
    """Return at which TCP addresses nginx and the service listen. Which program has a socket only root can see."""
    rows = sockets.table(edges)
    holders = sockets.owners(edges, {row.inode for row in rows})
    own = [row for row in rows if any(is_service(edges, pid) for pid in holders.get(row.inode, ()))]
    return {
        "listening": [f"{row.address} {row.port}" for row in rows],
        "service": [f"{row.address} {row.port}" for row in own],
    }


def is_service(edges: Edges, pid: str) -> bool:
    """Return whether a process belongs to the service."""
    return _CGROUP in (edges.text(f"/proc/{pid}/cgroup") or "")


def nginx(edges: Edges) -> Json:
    """Return whether nginx runs, takes its configuration, has the site, and gets updates."""
    _, held, _ = edges.run(["apt-mark", "showhold", "nginx*"], _ASK_S)
    there = edges.exists(PROGRAM)
    return {
        "there": there,
        "active": all_hold(edges, ["is-active"], site.UNIT),
        "site": edges.exists(SITE),
        "complaint": site.complaint(edges) if there and os.geteuid() == 0 else None,
        "held": held.split(),
    }


def asked(edges: Edges, root: str, record: Json) -> Json:
    """Return what came of posting a photo, and of what has to be refused."""
    settings = edges.record(SETTINGS)
    key = (edges.text(VERIFY_KEY) or "").strip()
    if settings is None or not key:
        return {"error": f"{VERIFY_KEY} or {SETTINGS} is missing"}
    client = Client(record)
    right = {"Authorization": f"Bearer {key}"}
    picture = photo.made()
    try:
        return {
            "models": client.ask("GET", "/v1/models", right),
            "photo": client.ask("POST", "/v1/detect", {**right, "Content-Type": "image/png"}, picture),
            "no_key": client.ask("POST", "/v1/detect", {"Content-Type": "image/png"}, picture)["status"],
            "wrong_key": client.ask("GET", "/v1/models", {"X-API-Key": secrets.token_hex(16)})["status"],
            "too_large": client.said_large(right, int(settings["body_bytes"]) + 1),
            "bomb": client.ask("POST", "/v1/detect", {**right, "Content-Type": "image/webp"}, photo.bomb())["status"],
            "detector": detector(edges, root, settings, picture),
        }
    except (OSError, http.client.HTTPException, KeyError, ValueError) as error:
        return {"error": said(error)}


class Client:
    """Somebody who asks through nginx. Where nginx wants a certificate of its clients, which is not ours to have, the
    service itself is asked.
    """

    def __init__(self, record: Json) -> None:
        """Keep where nginx listens."""
        where, self._port = proxy.address(str(record["listen"]))
        self._where = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where, where)  # noqa: S104 - "all" is asked at this machine
        self._tls, self._certified = bool(record["tls"]), bool(record["clients"])

    def _connection(self) -> http.client.HTTPConnection:
        """Return a new connection. Whose certificate nginx shows is not the question here."""
        if self._certified:
            return ready.Local(SOCKET_FILE, _ASK_S)
        if self._tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return http.client.HTTPSConnection(self._where, self._port, timeout=_ASK_S, context=context)
        return http.client.HTTPConnection(self._where, self._port, timeout=_ASK_S)

    def ask(self, method: str, path: str, headers: Dict[str, str], body: Optional[bytes] = None) -> Json:
        """Return the status of an answer and its JSON."""
        connection = self._connection()
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read(_LARGEST)
        finally:
            connection.close()
        try:
            value: Any = strict_json.loads(data, _LARGEST)
        except ValueError:
            value = None
        return {"status": answer.status, "answer": value if isinstance(value, dict) else None}

    def said_large(self, headers: Dict[str, str], size: int) -> int:
        """Return the status for a body that is only said to be as large."""
        connection = self._connection()
        try:
            connection.putrequest("POST", "/v1/detect")
            for name, value in {**headers, "Content-Type": "image/png", "Content-Length": str(size)}.items():
                connection.putheader(name, value)
            connection.endheaders()
            return connection.getresponse().status
        finally:
            connection.close()


def detector(edges: Edges, root: str, settings: Json, picture: bytes) -> Json:
    """Return what the detector itself finds in the picture, with the service's network and device; or an `error`."""
    model = next(row for row in settings["models"] if row["name"] == settings["default_model"])
    with files.temporary() as folder:
        files.write_whole(folder / "photo.png", picture)
        # Darknet's networks are made for a folder; nothing is written beside the benchmark's.
        line = [
            *start(f"{root}/current/venvs/opencv_cuda/bin/python", f"{root}/current/yolo", "gpuhost.yolo"),
            "detect",
        ]
        line += [str(folder / "photo.png"), "--json", "--device", settings["device"], "--work", str(folder / "work")]
        line += ["--confidence", str(settings["confidence"]), *network(model)]
        code, out, err = edges.run(line, _DETECT_S)
    if code != 0:
        told = [text for text in err.splitlines() if text.startswith("error: ")] or err.splitlines()
        return {"error": printable(told[-1], 300) if told else f"it ended with status {code}"}
    try:
        value = strict_json.loads(out)
        return {"detections": value["detections"]}
    except (ValueError, KeyError, TypeError):
        return {"error": "its answer is not JSON"}


def network(model: Json) -> List[str]:
    """Return the detector's options for a network of the settings."""
    options: List[str] = []
    if model["kind"] == "published":
        options += ["--model", model["name"]]
        if model["weights"] == "synthetic":
            options += ["--weights", "synthetic"]
        else:
            options += ["--weights-dir", str(Path(model["weights"]).parent)]
    for part in ("cfg", "names", "onnx") + (("weights",) if model["kind"] == "cfg" else ()):
        options += [f"--{part}", model[part]] if model.get(part) else []
    size = model.get("size")
    if size:
        options += ["--size", "x".join(map(str, size)) if isinstance(size, list) else json.dumps(size)]
    return options


def said(error: Exception) -> str:
    """Return an error in one line."""
    return printable(error, 200) or type(error).__name__
